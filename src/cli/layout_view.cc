#include "cli/layout_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "cli/text.h"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kPageWidth = 120;
constexpr std::int64_t kPageRows = 40;
constexpr std::int64_t kJsonCells = 65536;
constexpr std::int64_t kSvgCells = 16384;

std::int64_t num_rows(const LayoutView& view) { return view.matrix.mode(0).size(); }
std::int64_t num_columns(const LayoutView& view) { return view.matrix.mode(1).size(); }

std::string row_name(const LayoutView& view, std::int64_t i) {
  return view.row_name ? view.row_name(i) : fmt::format("{}", i);
}

std::string_view text_of(std::optional<bool> answer) {
  return answer ? (*answer ? "yes" : "no") : "not decided: too many ways to try";
}

std::string facts_of(const LayoutView& view) {
  const TensorLayout& layout = view.layout;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [label, text] : view.facts) rows.push_back({label, text});
  rows.push_back({"layout", to_string(layout)});
  rows.push_back({"size", fmt::format("{}", layout.size())});
  rows.push_back({"cosize", fmt::format("{}", layout.cosize())});
  rows.push_back({"injective", std::string(text_of(is_injective(layout)))});
  rows.push_back({"bijective", std::string(text_of(is_bijective(layout)))});
  return aligned(rows, "ll");
}

std::string offsets_of(const LayoutView& view) {
  const std::int64_t all_rows = num_rows(view), all_columns = num_columns(view);
  const std::int64_t rows = std::min(all_rows, kPageRows);
  std::size_t name_width = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    name_width = std::max(name_width, row_name(view, i).size());
  }
  const std::size_t cell = fmt::formatted_size("{}", view.layout.cosize() - 1) + 2;
  const auto fitting =
      static_cast<std::int64_t>((kPageWidth - std::min(name_width, kPageWidth / 2)) / cell);
  const std::int64_t columns = std::min(all_columns, std::max<std::int64_t>(fitting, 1));

  std::vector<std::vector<std::string>> cells = {{""}};
  for (std::int64_t j = 0; j < columns; ++j) cells[0].push_back(fmt::format("{}", j));
  for (std::int64_t i = 0; i < rows; ++i) {
    auto& row = cells.emplace_back();
    row.push_back(row_name(view, i));
    for (std::int64_t j = 0; j < columns; ++j) {
      row.push_back(fmt::format("{}", view.matrix(i, j)));
    }
  }
  std::string out = aligned(cells, "r");
  if (rows < all_rows || columns < all_columns) {
    out +=
        fmt::format("... {} of {} rows, {} of {} columns\n", rows, all_rows, columns, all_columns);
  }
  return out;
}

Json json_of(const IntTuple& tuple) {
  if (tuple.is_integer()) return tuple.value();
  Json out = Json::array();
  for (const IntTuple& item : tuple.items()) out.push_back(json_of(item));
  return out;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      // other control characters have no place in XML
      default: out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return out;
}

/// Light colours from blue over green and yellow to red, dark text readable on all: near in memory,
/// near in colour. `at` in [0, 1].
std::string colour(double at) {
  constexpr std::array<std::array<double, 3>, 4> kStops = {
      {{189, 215, 255}, {196, 240, 205}, {255, 241, 176}, {255, 199, 184}}};
  const double position = at * (kStops.size() - 1);
  const auto stop = std::min(static_cast<std::size_t>(position), kStops.size() - 2);
  const double part = position - static_cast<double>(stop);
  std::array<int, 3> rgb;
  for (std::size_t c = 0; c < 3; ++c) {
    rgb[c] = static_cast<int>(kStops[stop][c] + part * (kStops[stop + 1][c] - kStops[stop][c]));
  }
  return fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]);
}

/// Places and sizes of the picture, in pixels.
struct Grid {
  std::int64_t rows, columns;
  std::int64_t left, top;  ///< of the first cell
  std::int64_t cell_width, cell_height = 20;

  std::int64_t x(std::int64_t column) const { return left + column * cell_width; }
  std::int64_t y(std::int64_t row) const { return top + row * cell_height; }
};

constexpr std::int64_t kLetter = 7;  // width of one, at 11 pixels of a monospaced font
constexpr std::int64_t kMargin = 12;
constexpr std::int64_t kLine = 17;  // from a caption to the next

/// What stands above the picture: what it is, and how to read it.
std::vector<std::string> captions_of(const LayoutView& view) {
  const std::string layout = to_string(view.layout);
  std::vector<std::string> lines = {
      view.title == layout ? layout : fmt::format("{} = {}", view.title, layout)};
  for (const auto& [label, text] : view.facts) lines.push_back(fmt::format("{}: {}", label, text));
  lines.push_back(fmt::format("size {0}, cosize {1}: offsets, coloured from 0 to {2}",
                              view.layout.size(), view.layout.cosize(), view.layout.cosize() - 1));
  return lines;
}

Grid grid_of(const LayoutView& view, std::size_t num_captions) {
  const std::int64_t rows = num_rows(view), columns = num_columns(view);
  std::size_t names = 0;
  for (std::int64_t i = 0; i < rows; ++i) names = std::max(names, row_name(view, i).size());
  const std::size_t digits = std::max(fmt::formatted_size("{}", view.layout.cosize() - 1),
                                      fmt::formatted_size("{}", columns - 1));
  return {.rows = rows,
          .columns = columns,
          .left = 2 * kMargin + static_cast<std::int64_t>(names) * kLetter,
          .top = 3 * kMargin + kLine * static_cast<std::int64_t>(num_captions),
          .cell_width = static_cast<std::int64_t>(digits) * kLetter + 8};
}

std::string text_at(double x, std::int64_t y, std::string_view anchor, std::string_view text) {
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(text));
}

/// Lines where the innermost coordinate of an axis starts over: the tiles.
std::string tile_lines(const LayoutView& view, const Grid& grid) {
  std::string out;
  const std::int64_t tall = view.matrix.mode(0).leaves()[0].size;
  const std::int64_t wide = view.matrix.mode(1).leaves()[0].size;
  for (std::int64_t i = tall; tall > 1 && i < grid.rows; i += tall) {
    out += fmt::format("<path d=\"M{} {}H{}\"/>\n", grid.left, grid.y(i), grid.x(grid.columns));
  }
  for (std::int64_t j = wide; wide > 1 && j < grid.columns; j += wide) {
    out += fmt::format("<path d=\"M{} {}V{}\"/>\n", grid.x(j), grid.top, grid.y(grid.rows));
  }
  return out;
}

}  // namespace

TensorLayout as_matrix(const TensorLayout& layout) {
  if (layout.rank() == 2) return layout;
  if (layout.rank() == 1) return concatenate(TensorLayout(1, 0), layout);
  std::vector<TensorLayout> rest;
  for (int i = 1; i < layout.rank(); ++i) rest.push_back(layout.mode(i));
  return concatenate(layout.mode(0), concatenate(rest));
}

std::string table_of(const LayoutView& view) { return facts_of(view) + '\n' + offsets_of(view); }

Json json_of(const LayoutView& view) {
  const TensorLayout& layout = view.layout;
  Json out = {{"asked", view.title}};
  for (const auto& [label, text] : view.facts) {
    std::string key = label;
    std::replace(key.begin(), key.end(), ' ', '_');
    out[key] = text;
  }
  out["layout"] = to_string(layout);
  out["shape"] = json_of(layout.shape());
  out["stride"] = json_of(layout.stride());
  out["rank"] = layout.rank();
  out["depth"] = layout.depth();
  out["size"] = layout.size();
  out["cosize"] = layout.cosize();
  if (const auto injective = is_injective(layout)) out["injective"] = *injective;
  if (const auto bijective = is_bijective(layout)) out["bijective"] = *bijective;
  out["rows"] = num_rows(view);
  out["columns"] = num_columns(view);
  if (layout.size() <= kJsonCells) {
    Json& offsets = out["offsets"] = Json::array();
    for (std::int64_t i = 0; i < num_rows(view); ++i) {
      Json& row = offsets.emplace_back(Json::array());
      for (std::int64_t j = 0; j < num_columns(view); ++j) row.push_back(view.matrix(i, j));
    }
  }
  return out;
}

std::string svg_of(const LayoutView& view) {
  require(view.layout.size() <= kSvgCells,
          "--svg draws up to {} cells: {} has {}. Draw a part of it, such as one tile", kSvgCells,
          to_string(view.layout), view.layout.size());
  const std::vector<std::string> captions = captions_of(view);
  const Grid grid = grid_of(view, captions.size());
  std::size_t longest = 0;
  for (const std::string& caption : captions) longest = std::max(longest, caption.size());
  const std::int64_t width =
      std::max(grid.x(grid.columns), kMargin + static_cast<std::int64_t>(longest) * kLetter) +
      kMargin;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "viewBox=\"0 0 {0} {1}\" font-family=\"monospace\" font-size=\"11\" fill=\"#222\">\n"
      "<title>{2}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      width, grid.y(grid.rows) + kMargin, escaped(captions[0]));
  for (std::size_t i = 0; i < captions.size(); ++i) {
    const std::int64_t y = kMargin + kLine * static_cast<std::int64_t>(i) + 8;
    out += text_at(kMargin, y, "start", captions[i]);
  }
  for (std::int64_t j = 0; j < grid.columns; ++j) {
    out += text_at(static_cast<double>(grid.x(j)) + static_cast<double>(grid.cell_width) / 2,
                   grid.top - 5, "middle", fmt::format("{}", j));
  }
  const double last = static_cast<double>(std::max<std::int64_t>(view.layout.cosize() - 1, 1));
  for (std::int64_t i = 0; i < grid.rows; ++i) {
    out += text_at(static_cast<double>(grid.left - 6), grid.y(i) + 14, "end", row_name(view, i));
    for (std::int64_t j = 0; j < grid.columns; ++j) {
      const std::int64_t offset = view.matrix(i, j);
      out += fmt::format(
          "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"#fff\"/>",
          grid.x(j), grid.y(i), grid.cell_width, grid.cell_height,
          colour(static_cast<double>(offset) / last));
      out += text_at(static_cast<double>(grid.x(j)) + static_cast<double>(grid.cell_width) / 2,
                     grid.y(i) + 14, "middle", fmt::format("{}", offset));
    }
  }
  out += "<g stroke=\"#555\" stroke-width=\"1.5\">\n" + tile_lines(view, grid) + "</g>\n</svg>\n";
  return out;
}

}  // namespace switchyard::cli
