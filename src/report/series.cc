#include "report/series.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "report/fields.h"

namespace switchyard {
namespace {

using Indices = std::vector<std::int64_t>;

// Records that a grouping puts at one place: same values of `by`, same x.
std::vector<Indices> places(std::span<const Record> records, std::span<const std::int64_t> used,
                            std::string_view x, std::span<const std::string> by) {
  std::map<std::vector<std::string>, Indices> of_key;
  for (const std::int64_t i : used) {
    const Record& record = records[static_cast<std::size_t>(i)];
    std::vector<std::string> key = {text_of(record, x)};
    for (const std::string& field : by) key.push_back(text_of(record, field));
    of_key[key].push_back(i);
  }
  std::vector<Indices> all;
  for (auto& [key, indices] : of_key) all.push_back(std::move(indices));
  return all;
}

bool differ(std::span<const Record> records, const Indices& indices, std::string_view field) {
  return std::any_of(indices.begin(), indices.end(), [&](std::int64_t i) {
    return text_of(records[static_cast<std::size_t>(i)], field) !=
           text_of(records[static_cast<std::size_t>(indices[0])], field);
  });
}

bool all_have(std::span<const Record> records, const Indices& indices, std::string_view field) {
  return std::all_of(indices.begin(), indices.end(), [&](std::int64_t i) {
    return records[static_cast<std::size_t>(i)].contains(field);
  });
}

// The first naming field that tells records of one place apart, or "". One that all of them have
// goes before one whose absence would have to speak: a routing before a strategy that a trace
// lacks.
std::string_view telling_field(std::span<const Record> records, std::span<const Indices> all) {
  std::string_view found;
  for (const std::string_view field : naming_fields()) {
    for (const Indices& place : all) {
      if (place.size() < 2 || !differ(records, place, field)) continue;
      if (all_have(records, place, field)) return field;
      if (found.empty()) found = field;
    }
  }
  return found;
}

}  // namespace

Match parse_match(std::string_view text) {
  const auto equals = text.find('=');
  require(equals != std::string_view::npos && equals > 0,
          "'{}': expected FIELD=VALUE, for example impl=loop", text);
  Match match{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  if (find_record_field(match.field) == nullptr) {
    std::vector<std::string_view> names;
    for (const RecordField& field : record_fields()) names.push_back(field.name);
    const auto near = nearest(match.field, names);
    require(false, "'{}': records have no field {}{}", text, match.field,
            near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
  }
  return match;
}

bool matches(const Record& record, const Match& match) {
  return record.contains(match.field) && text_of(record, match.field) == match.value;
}

Grouping group_records(std::span<const Record> records, std::span<const std::int64_t> used,
                       std::string_view x, std::span<const std::string> by) {
  Grouping grouping;
  grouping.by.assign(by.begin(), by.end());
  std::vector<Indices> all = places(records, used, x, grouping.by);
  for (auto field = telling_field(records, all); !field.empty();
       field = telling_field(records, all)) {
    grouping.by.emplace_back(field);
    all = places(records, used, x, grouping.by);
  }
  // What all have in common is said once, above the picture.
  std::vector<std::string> named = grouping.by;
  std::erase_if(named, [&](const std::string& field) {
    return !differ(records, Indices(used.begin(), used.end()), field);
  });
  if (named.empty()) named = grouping.by;
  grouping.by = named;
  std::set<std::int64_t> standing;
  for (const Indices& place : all) standing.insert(place.back());
  std::map<std::vector<std::string>, std::size_t> group_of_values;
  for (const std::int64_t i : used) {
    if (!standing.contains(i)) continue;
    const Record& record = records[static_cast<std::size_t>(i)];
    std::vector<std::string> values;
    for (const std::string& field : named) values.push_back(text_of(record, field));
    const auto [place, is_new] = group_of_values.try_emplace(values, grouping.groups.size());
    if (is_new || x.empty()) {
      grouping.groups.push_back({named_values(record, named), {i}});
    } else {
      grouping.groups[place->second].records.push_back(i);
    }
  }
  const auto x_of = [&](std::int64_t i) {
    return number_of(records[static_cast<std::size_t>(i)], x).value_or(0);
  };
  for (auto& group : grouping.groups) {
    std::stable_sort(group.records.begin(), group.records.end(),
                     [&](std::int64_t a, std::int64_t b) { return x_of(a) < x_of(b); });
  }
  return grouping;
}

std::string widest_axis(std::span<const Record> records, std::span<const std::int64_t> used,
                        std::string_view preferred) {
  std::string widest(preferred);
  std::size_t most = 1;
  for (const std::string_view field : naming_fields()) {
    if (field == "seed") continue;
    std::set<double> values;
    for (const std::int64_t i : used) {
      const auto value = number_of(records[static_cast<std::size_t>(i)], field);
      if (value) values.insert(*value);
    }
    if (field == preferred && values.size() > 1) return widest;
    if (values.size() > most) {
      widest = field;
      most = values.size();
    }
  }
  return widest;
}

Axis axis_of(std::string label, std::span<const double> values) {
  constexpr std::size_t kMostTics = 16;
  const std::set<double> distinct(values.begin(), values.end());
  Axis axis{.label = std::move(label)};
  if (distinct.empty() || *distinct.begin() <= 0) return axis;
  if (*distinct.rbegin() < 8 * *distinct.begin()) return axis;
  axis.scale = Scale::log2;
  if (distinct.size() <= kMostTics) axis.tics.assign(distinct.begin(), distinct.end());
  return axis;
}

Axis measured_axis(std::string label, std::span<const Series> series) {
  double least = 0, most = 0;
  for (const Series& s : series) {
    for (const Point& point : s.points) {
      least = least == 0 ? point.y : std::min(least, point.y);
      most = std::max(most, point.y);
    }
  }
  Axis axis{.label = std::move(label)};
  if (least > 0 && most >= 20 * least) {
    axis.scale = Scale::log10;
  } else {
    axis.from_zero = true;
  }
  return axis;
}

}  // namespace switchyard
