#include "workload/trace_builder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr std::int64_t kFewestWarmUpRows = 16;

/// The part of a counts layer's name that says which run it is: all but the layer.
std::string_view run_of(std::string_view name) {
  const auto slash = name.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : name.substr(0, slash);
}

bool ends_with_parts(std::string_view name, std::string_view parts) {
  return name.size() > parts.size() && name.ends_with(parts) &&
         name[name.size() - parts.size() - 1] == '/';
}

std::int64_t identical_rows_at_the_beginning(const Trace& trace) {
  const auto first = trace.expert.begin();
  std::int64_t rows = 1;
  while (rows < trace.tokens &&
         std::equal(first, first + trace.top_k, first + rows * trace.top_k)) {
    ++rows;
  }
  return rows;
}

void drop_rows(Trace& trace, std::int64_t rows) {
  const auto count = static_cast<std::ptrdiff_t>(rows * trace.top_k);
  trace.expert.erase(trace.expert.begin(), trace.expert.begin() + count);
  if (!trace.weight.empty()) {
    trace.weight.erase(trace.weight.begin(), trace.weight.begin() + count);
  }
  trace.tokens -= rows;
}

void drop_warm_up(Trace& trace) {
  const std::int64_t rows = identical_rows_at_the_beginning(trace);
  if (rows < kFewestWarmUpRows) return;
  if (rows == trace.tokens) {
    trace.notes.push_back(fmt::format("all {} rows are identical: kept", rows));
    return;
  }
  drop_rows(trace, rows);
  trace.notes.push_back(fmt::format("dropped {} identical warm-up rows", rows));
}

}  // namespace

TraceBuilder::TraceBuilder(const LineReader& lines, TraceFormat format, Keep keep,
                           std::string_view selector)
    : lines_(lines),
      format_(format),
      keep_(keep),
      selector_(selector),
      last_token_of_(static_cast<std::size_t>(kMaxExperts), -1) {}

void TraceBuilder::add_token(const std::string& layer, std::span<const std::int64_t> ids,
                             std::span<const double> weights) {
  check_ids(ids);
  check_weights(weights, ids.size());
  Layer& into = layer_of(layer);
  Trace& trace = into.trace;
  const auto top_k = static_cast<int>(ids.size());
  if (trace.top_k == 0) trace.top_k = top_k;
  if (trace.top_k != top_k) {
    lines_.fail(fmt::format("a token has {} experts: expected {} as earlier tokens of layer {}",
                            top_k, trace.top_k, layer));
  }
  if (!into.kept) return;
  if (trace.tokens > 0 && trace.weight.empty() != weights.empty()) {
    lines_.fail(fmt::format("a token has {} weights: earlier tokens of layer {} had {}",
                            weights.size(), layer, trace.weight.empty() ? 0 : top_k));
  }
  trace.expert.insert(trace.expert.end(), ids.begin(), ids.end());
  for (const double weight : weights) trace.weight.push_back(static_cast<float>(weight));
  ++trace.tokens;
}

void TraceBuilder::add_load(const std::string& layer, std::int64_t expert, std::int64_t count) {
  check_expert(expert);
  // The sum of all loads must fit 63 bits too.
  constexpr std::int64_t kMaxCount = std::numeric_limits<std::int64_t>::max() / kMaxExperts;
  if (count < 0 || count > kMaxCount) {
    lines_.fail(fmt::format("count is {}: expected 0 to {}", count, kMaxCount));
  }
  Layer& into = layer_of(layer);
  if (!into.kept) return;
  std::vector<std::int64_t>& load = into.trace.load;
  const auto e = static_cast<std::size_t>(expert);
  if (load.size() <= e) load.resize(e + 1, -1);  // -1: not seen
  if (load[e] >= 0) {
    lines_.fail(
        fmt::format("expert {} of layer {} has a second count: expected one", expert, layer));
  }
  load[e] = count;
}

void TraceBuilder::set_experts(std::int64_t experts) {
  if (experts < 1 || experts > kMaxExperts) {
    lines_.fail(fmt::format("the number of experts is {}: expected 1 to {}", experts, kMaxExperts));
  }
  experts_ = experts;
}

std::vector<Trace> TraceBuilder::finish() {
  if (layers_.empty()) {
    throw Error(
        ErrorCode::invalid_data,
        fmt::format("{}: holds no routing: expected at least one token or count", lines_.file()));
  }
  resolve_selection();
  std::vector<Trace> traces;
  for (Layer& layer : layers_) {
    if (!layer.kept) continue;
    finish_layer(layer.trace);
    traces.push_back(std::move(layer.trace));
  }
  return traces;
}

TraceBuilder::Layer& TraceBuilder::layer_of(const std::string& name) {
  if (const auto found = index_of_name_.find(name); found != index_of_name_.end()) {
    return layers_[found->second];
  }
  if (name != printable(name)) {
    lines_.fail(fmt::format("'{}' is no name: expected at most 60 printable ASCII characters",
                            printable(name)));
  }
  index_of_name_.emplace(name, layers_.size());
  Layer& layer = layers_.emplace_back();
  layer.name = name;
  layer.kept = keeps(name);
  layer.trace.file = lines_.file();
  layer.trace.format = format_;
  layer.trace.layer = name;
  return layer;
}

bool TraceBuilder::keeps(std::string_view name) const {
  switch (keep_) {
    case Keep::all: return true;
    case Keep::first: return layers_.size() == 1;
    case Keep::selected: return name == selector_ || ends_with_parts(name, selector_);
  }
  return false;
}

void TraceBuilder::check_expert(std::int64_t expert) const {
  const std::int64_t experts = experts_ == 0 ? kMaxExperts : experts_;
  if (expert < 0 || expert >= experts) {
    lines_.fail(fmt::format("expert is {}: expected 0 to {}", expert, experts - 1));
  }
}

void TraceBuilder::check_ids(std::span<const std::int64_t> ids) {
  if (ids.empty()) lines_.fail("a token has no experts: expected at least one");
  for (const std::int64_t id : ids) {
    check_expert(id);
    auto& last_token = last_token_of_[static_cast<std::size_t>(id)];
    if (last_token == num_tokens_) {
      lines_.fail(fmt::format("a token has expert {} twice: expected distinct experts", id));
    }
    last_token = num_tokens_;
  }
  ++num_tokens_;
}

void TraceBuilder::check_weights(std::span<const double> weights, std::size_t num_ids) const {
  if (weights.empty()) return;
  if (weights.size() != num_ids) {
    lines_.fail(fmt::format("a token has {} weights: expected one for each of its {} experts",
                            weights.size(), num_ids));
  }
  for (const double weight : weights) {
    if (!(weight >= 0) || !std::isfinite(static_cast<float>(weight))) {
      lines_.fail(fmt::format("a weight is {}: expected a finite number, 0 or more", weight));
    }
  }
}

std::string TraceBuilder::layer_names() const {
  constexpr std::size_t kMost = 60;
  std::vector<std::string_view> names;
  for (const Layer& layer : layers_) {
    if (names.size() < kMost) names.push_back(layer.name);
  }
  return fmt::format(
      "{}{}", fmt::join(names, ", "),
      layers_.size() > kMost ? fmt::format(" and {} more", layers_.size() - kMost) : "");
}

/// Leaves one layer kept, unless all are wanted.
void TraceBuilder::resolve_selection() {
  if (keep_ == Keep::all) return;
  if (keep_ == Keep::first) {
    std::set<std::string_view> runs;
    for (const Layer& layer : layers_) runs.insert(run_of(layer.name));
    require(format_ != TraceFormat::counts || runs.size() == 1,
            "trace {} holds several runs: expected a layer from {}", lines_.file(), layer_names());
    if (layers_.size() > 1) {
      layers_.front().trace.notes.push_back(fmt::format("took layer {}, the first of {} layers",
                                                        layers_.front().name, layers_.size()));
    }
    return;
  }
  if (const auto exact = index_of_name_.find(selector_); exact != index_of_name_.end()) {
    for (Layer& layer : layers_) layer.kept = &layer == &layers_[exact->second];
    return;
  }
  const auto matches =
      std::count_if(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.kept; });
  require(matches != 0, "trace {} has no layer '{}': expected one of {}", lines_.file(), selector_,
          layer_names());
  require(matches == 1, "trace {} has {} layers '{}': expected a whole name, one of {}",
          lines_.file(), matches, selector_, layer_names());
}

void TraceBuilder::finish_layer(Trace& trace) const {
  trace.notes.insert(trace.notes.end(), notes_.begin(), notes_.end());
  if (trace.is_loads_only()) {
    for (std::int64_t& count : trace.load) count = std::max<std::int64_t>(count, 0);
    trace.experts = static_cast<int>(trace.load.size());
    trace.notes.emplace_back("has loads only: tokens are drawn from them");
    return;
  }
  drop_warm_up(trace);
  if (trace.weight.empty()) {
    trace.notes.push_back(fmt::format("has no weights: every one is 1/{}", trace.top_k));
  }
  const std::int32_t largest = *std::max_element(trace.expert.begin(), trace.expert.end());
  trace.experts = std::max(static_cast<int>(experts_), largest + 1);
  trace.load.assign(static_cast<std::size_t>(trace.experts), 0);
  for (const std::int32_t e : trace.expert) ++trace.load[static_cast<std::size_t>(e)];
}

}  // namespace switchyard
