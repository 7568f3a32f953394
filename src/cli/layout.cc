// switchyard layout: prints and draws layouts, of an expression or of what the library really uses.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/replace_file.h"
#include "bench/axis.h"
#include "cli/formats.h"
#include "cli/layout_view.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "gemm/prepack_layout.h"
#include "gemm/quant_product.h"
#include "layout/expression.h"
#include "plan/plan_layout.h"
#include "switchyard/plan.h"

namespace switchyard::cli {
namespace {

/// Options of the library's own layouts, as typed.
class Given {
 public:
  void set(const std::string& name, const std::string& text) { text_of_[name] = text; }

  std::string name(const std::string& option, std::string_view otherwise) const {
    const auto found = text_of_.find(option);
    return found == text_of_.end() ? std::string(otherwise) : found->second;
  }
  std::vector<std::int64_t> counts(const std::string& option, std::string_view otherwise,
                                   std::int64_t least) const {
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    return integer_axis(option, name(option, otherwise), least, kMost);
  }
  std::int64_t count(const std::string& option, std::string_view otherwise) const {
    const auto values = counts(option, otherwise, 1);
    require(values.size() == 1, "{} takes one number: got '{}'", option, name(option, otherwise));
    return values[0];
  }
  bool has(const std::string& option) const { return text_of_.count(option) > 0; }

  /// Throws for an option that means nothing to what was asked for.
  void require_only(std::string_view what, const std::vector<std::string>& options) const {
    for (const auto& [option, text] : text_of_) {
      require(std::find(options.begin(), options.end(), option) != options.end(),
              "option {} means nothing to `layout {}`", option, what);
    }
  }

 private:
  std::map<std::string, std::string> text_of_;
};

std::string dimensions(std::int64_t rows, std::int64_t columns) {
  return fmt::format("[{}, {}]", rows, columns);
}

/// With a gate the third mode joins the rows: gate's columns first, then up's.
TensorLayout matrix_of_weights(const TensorLayout& layout) {
  if (layout.rank() == 2) return layout;
  return concatenate(concatenate(layout.mode(0), layout.mode(2)), layout.mode(1));
}

Isa isa_of(const Given& given) {
  return isa_from_name(given.name("--isa", name_of(default_isa())));
}

/// The fastest that reads weights of `format`.
std::string quant_kernel_name(Isa cap, QuantFormat format) {
  for (const gemm::QuantKernel& kernel : gemm::quant_kernels()) {
    if (kernel.isa > cap || kernel.weights != format) continue;
    return fmt::format("{} int8 rows x {}", name_of(kernel.isa), name_of(format));
  }
  return "none";
}

LayoutView quantized_view(const Given& given, QuantFormat format, std::int64_t rows,
                          std::int64_t cols) {
  const bool is_int8 = format == QuantFormat::int8;
  const QuantOptions options{.format = format};
  LayoutView view;
  view.layout = gemm::prepack_layout(options, rows, cols, given.has("--gated"));
  view.facts = {{"kernel", quant_kernel_name(isa_of(given), format)},
                {"unit", is_int8 ? "bytes" : "half bytes, the low half of a byte first"},
                {is_int8 ? "behind the codes" : "before the codes",
                 is_int8 ? "scales of each stripe of 32 columns, f32"
                         : "scales of each stripe of 32 columns, f16, one for 32 depths"}};
  return view;
}

LayoutView float_view(const Given& given, DType dtype, std::int64_t rows, std::int64_t cols) {
  const gemm::Kernel& kernel = gemm::find_kernel(isa_of(given), dtype, dtype);
  LayoutView view;
  view.layout = gemm::prepack_layout(dtype, rows, cols, given.has("--gated"));
  view.facts = {{"kernel", gemm::name_of(kernel)},
                {"unit", fmt::format("elements of {} bytes", size_of(dtype))}};
  return view;
}

LayoutView prepack_view(const Given& given) {
  given.require_only("prepack", {"--isa", "--dtype", "--rows", "--cols", "--gated"});
  const std::int64_t rows = given.count("--rows", "32"), cols = given.count("--cols", "32");
  const std::string dtype = given.name("--dtype", "bf16");
  const bool is_integer = dtype == "int8" || dtype == "int4";
  LayoutView view =
      is_integer ? quantized_view(given, dtype == "int8" ? QuantFormat::int8 : QuantFormat::int4,
                                  rows, cols)
                 : float_view(given, dtype_from_name(dtype), rows, cols);
  view.matrix = matrix_of_weights(view.layout);
  const std::int64_t padded_rows = view.layout.mode(0).size();
  view.facts.insert(
      view.facts.begin(),
      {"weights", fmt::format("{} {} of (n, k), padded to {}", dtype, dimensions(rows, cols),
                              dimensions(padded_rows, view.layout.mode(1).size()))});
  if (given.has("--gated")) {
    view.facts.insert(view.facts.begin() + 1, {"third mode", "0: gate, 1: up"});
    view.row_name = [padded_rows](std::int64_t i) {
      return fmt::format("{} {}", i < padded_rows ? "gate" : "up", i % padded_rows);
    };
  }
  return view;
}

LayoutView panel_view(const Given& given) {
  given.require_only("panel", {"--isa", "--dtype", "--rows", "--cols"});
  const std::int64_t rows = given.count("--rows", "16"), cols = given.count("--cols", "32");
  const DType dtype = dtype_from_name(given.name("--dtype", "bf16"));
  const gemm::Kernel& kernel = gemm::find_kernel(isa_of(given), dtype, dtype);
  const gemm::PanelShape shape(kernel, cols);
  const bool is_split = shape.format == gemm::PanelFormat::split_tiles;
  LayoutView view;
  view.layout = view.matrix = gemm::panel_layout(shape, rows);
  if (is_split) view.matrix = concatenate(view.layout.mode(0), view.layout.mode(1));
  view.facts = {
      {"activations", fmt::format("{} {} of (row, k), depth padded to {}", name_of(dtype),
                                  dimensions(rows, cols), shape.depth)},
      {"kernel", gemm::name_of(kernel)},
      {"unit", fmt::format("elements of {} bytes", is_split ? 2 : size_of(shape.element))}};
  if (is_split) view.facts.push_back({"third mode", "the bf16 parts that add up to an element"});
  return view;
}

LayoutView capacity_view(const Given& given) {
  given.require_only("capacity", {"--experts", "--capacity", "--hidden"});
  const std::int64_t capacity = given.count("--capacity", "4");
  LayoutView view;
  view.layout =
      capacity_layout(given.count("--experts", "4"), capacity, given.count("--hidden", "8"));
  view.matrix =
      concatenate(concatenate(view.layout.mode(1), view.layout.mode(0)), view.layout.mode(2));
  view.facts = {{"rows", "[E, C, H] of (expert, row, element)"}};
  view.row_name = [capacity](std::int64_t i) {
    return fmt::format("e{} c{}", i / capacity, i % capacity);
  };
  return view;
}

/// The block plan of a routing with these rows for each expert.
DispatchPlan block_plan(const std::vector<std::int64_t>& expert_rows, std::int64_t block_rows) {
  constexpr std::int64_t kMostRows = 1 << 20;
  Routing routing;
  routing.num_experts = static_cast<int>(expert_rows.size());
  routing.token_begin = {0};
  std::int64_t num_rows = 0;
  for (std::size_t e = 0; e < expert_rows.size(); ++e) {
    num_rows += gemm::round_up(expert_rows[e], block_rows);
    require(num_rows <= kMostRows, "the blocks of --expert-rows have more than {} rows in all",
            kMostRows);
    routing.num_tokens += expert_rows[e];
    for (std::int64_t i = 0; i < expert_rows[e]; ++i) {
      routing.expert.push_back(static_cast<std::int32_t>(e));
      routing.weight.push_back(1.0f);
      routing.token_begin.push_back(routing.num_assignments());
    }
  }
  Context context({.threads = 1, .isa = {}});
  DispatchPlan plan;
  make_plan(context, routing, {.layout = Layout::block, .block_rows = block_rows}, plan);
  return plan;
}

LayoutView block_view(const Given& given) {
  given.require_only("block", {"--expert-rows", "--block-rows", "--hidden"});
  const auto expert_rows = given.counts("--expert-rows", "5,0,3", 0);
  const std::int64_t block_rows = given.count("--block-rows", "4");
  const DispatchPlan plan = block_plan(expert_rows, block_rows);
  require(plan.num_rows() > 0, "--expert-rows {} are no rows: expected at least one",
          given.name("--expert-rows", ""));
  std::vector<std::string> names;
  for (std::size_t e = 0; e < expert_rows.size(); ++e) {
    for (std::int64_t row = plan.expert_begin[e]; row < plan.expert_begin[e + 1]; ++row) {
      const bool is_padding = plan.token_of_row[static_cast<std::size_t>(row)] < 0;
      names.push_back(fmt::format("e{} b{} r{}{}", e, row / block_rows, row % block_rows,
                                  is_padding ? " padding" : ""));
    }
  }
  LayoutView view;
  view.layout =
      block_layout(plan.num_rows() / block_rows, block_rows, given.count("--hidden", "8"));
  view.matrix =
      concatenate(concatenate(view.layout.mode(1), view.layout.mode(0)), view.layout.mode(2));
  view.facts = {{"rows", "[blocks, block rows, H] of (block, row, element)"}};
  view.row_name = [names](std::int64_t i) { return names[static_cast<std::size_t>(i)]; };
  return view;
}

struct Kind {
  std::string_view name;
  LayoutView (*view)(const Given& given);
};

constexpr Kind kKinds[] = {
    {"prepack", prepack_view},
    {"panel", panel_view},
    {"capacity", capacity_view},
    {"block", block_view},
};

LayoutView view_of(const std::string& asked, const Given& given) {
  for (const Kind& kind : kKinds) {
    if (kind.name != asked) continue;
    LayoutView view = kind.view(given);
    view.title = asked;
    return view;
  }
  const bool is_word = std::all_of(asked.begin(), asked.end(),
                                   [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
  if (is_word && !asked.empty()) {
    std::vector<std::string_view> names;
    for (const Kind& kind : kKinds) names.push_back(kind.name);
    throw Error(ErrorCode::invalid_argument, unknown_name("layout", asked, names));
  }
  given.require_only(asked, {});
  const TensorLayout layout = evaluate_layout(asked);
  return {asked, layout, as_matrix(layout), {}, {}};
}

Option own_option(Given& given, const std::string& name, std::string value, std::string help) {
  return {{name}, std::move(value), std::move(help), [&given, name](const std::string& text) {
            given.set(name, text);
          }};
}

std::vector<Option> own_options(Given& given) {
  return {own_option(given, "--isa", "NAME",
                     "prepack, panel: the highest ISA; none of it has to be on this machine "
                     "(the one chosen here)"),
          own_option(given, "--dtype", "DTYPE",
                     "prepack: f32, bf16, f16, int8 or int4 weights; panel: activations (bf16)"),
          own_option(given, "--rows", "N", "prepack: N of [N, K] (32); panel: rows (16)"),
          own_option(given, "--cols", "K", "prepack, panel: K (32)"),
          own_option(given, "--gated", "", "prepack: gate and up side by side in a stripe"),
          own_option(given, "--experts", "E", "capacity: experts (4)"),
          own_option(given, "--capacity", "C", "capacity: rows of each expert (4)"),
          own_option(given, "--expert-rows", "N,...", "block: rows of each expert (5,0,3)"),
          own_option(given, "--block-rows", "N", "block: rows of a block (4)"),
          own_option(given, "--hidden", "H", "capacity, block: elements of a row (8)")};
}

}  // namespace

Status run_layout(std::span<const std::string> args, const std::string&) {
  std::string asked, svg;
  Given given;
  PrintFormat format = PrintFormat::table;
  const CommandLine line{
      .verb = "layout",
      .summary =
          "Prints and draws a layout: the offset of every element of a tensor. EXPR is "
          "shape:stride "
          "as in '(4,(2,3)):(1,(4,8))' (column-major without the stride), A o B for a composition, "
          "or a function: coalesce(A), composition(A,B), complement(A,N), logical_divide(A,B), "
          "zipped_divide(A,B), logical_product(A,B), right_inverse(A), left_inverse(A). As B, "
          "composition and the divisions also take a tiler '<A,B>', which works mode by mode. Or "
          "EXPR is one of the library's own: prepack, panel, capacity, block.",
      .examples = {"layout '(4,8):(8,1)'", "layout '(6,2):(8,2) o (4,3):(3,1)'",
                   "layout 'zipped_divide((8,16):(16,1), <4,8>)' --svg tiles.svg",
                   "layout prepack --isa amx_bf16 --rows 64 --cols 64 -o json"},
      .positionals = {{"EXPR", "an expression, or prepack, panel, capacity or block", true,
                       [&](const std::string& text) { asked = text; }}},
      .groups = {{"Options",
                  {{{"--svg"},
                    "FILE",
                    "also draw it: one cell for each element, up to 16384",
                    [&](const std::string& text) { svg = text; }},
                   print_format_option(format)}},
                 {"Of the library's own layouts", own_options(given)}},
  };
  if (!parse(line, args)) {
    print(help_of(line));
    return kDone;
  }
  const LayoutView view = view_of(asked, given);
  if (!svg.empty()) replace_file(svg, svg_of(view));
  print(format == PrintFormat::json ? json_of(view).dump(2) + '\n' : table_of(view));
  return kDone;
}

}  // namespace switchyard::cli
