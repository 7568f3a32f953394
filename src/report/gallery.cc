#include "report/gallery.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/check.h"
#include "report/fields.h"
#include "report/plot.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostPictures = 12;

using Indices = std::vector<std::int64_t>;

void refer_to(std::int64_t& record, const Indices& indices) {
  if (record != kNoRecord) record = indices[static_cast<std::size_t>(record)];
}

/// Makes points refer to the list that `indices` were taken from.
void refer_to(Picture& picture, const Indices& indices) {
  for (Panel& panel : picture.panels) {
    if (auto* chart = std::get_if<Chart>(&panel.content)) {
      for (Series& series : chart->series) {
        for (Point& point : series.points) refer_to(point.record, indices);
      }
    } else if (auto* bars = std::get_if<Bars>(&panel.content)) {
      for (Bar& bar : bars->bars) refer_to(bar.record, indices);
    }
  }
}

class Painter {
 public:
  Painter(std::span<const Record> records, const TargetRecords& target)
      : all_(records), target_(target) {}

  Gallery gallery();

 private:
  const Record& at(std::int64_t i) const { return all_[static_cast<std::size_t>(i)]; }

  Indices with(std::initializer_list<std::string_view> fields) const {
    Indices some;
    for (const std::int64_t i : target_.records) {
      const bool has_all = std::all_of(fields.begin(), fields.end(),
                                       [&](auto field) { return at(i).contains(field); });
      if (is_ok(at(i)) && has_all) some.push_back(i);
    }
    return some;
  }

  void add(PlotKind kind, const Indices& indices, const PlotOptions& options = {});
  void add_load();
  std::optional<std::string> baseline() const;
  std::optional<std::string> splitting_field(const Indices& indices) const;

  std::span<const Record> all_;
  const TargetRecords& target_;
  Gallery gallery_;
};

/// One picture, or one for each value of a field when it would hold too much.
void Painter::add(PlotKind kind, const Indices& indices, const PlotOptions& options) {
  if (indices.empty()) return;
  std::vector<Record> some;
  for (const std::int64_t i : indices) some.push_back(at(i));
  try {
    Picture picture = picture_of(kind, some, options);
    if (gallery_.pictures.size() >= kMostPictures) {
      gallery_.notes.push_back(fmt::format("Left out after {} pictures: {} ({}).", kMostPictures,
                                           picture.title, picture.subtitle));
      return;
    }
    refer_to(picture, indices);
    gallery_.pictures.push_back(std::move(picture));
  } catch (const Error& error) {
    const auto field = splitting_field(indices);
    if (!field) {
      gallery_.notes.push_back(fmt::format("Not drawn: {}.", error.what()));
      return;
    }
    std::map<std::string, Indices> parts;
    for (const std::int64_t i : indices) parts[text_of(at(i), *field)].push_back(i);
    for (const auto& [value, part] : parts) add(kind, part, options);
  }
}

/// The field with the fewest values of those that vary, but for the implementation and the axis,
/// which are to be compared.
std::optional<std::string> Painter::splitting_field(const Indices& indices) const {
  const std::string axis = widest_axis(all_, indices, "tokens");
  std::optional<std::string> best;
  std::size_t fewest = SIZE_MAX;
  for (const std::string_view field : naming_fields()) {
    if (field == "impl" || field == axis || field == "timestamp") continue;
    std::set<std::string> values;
    for (const std::int64_t i : indices) values.insert(text_of(at(i), field));
    if (values.size() > 1 && values.size() < fewest) {
      fewest = values.size();
      best = field;
    }
  }
  return best;
}

/// What people start with, where it ran; else what was asked for first.
std::optional<std::string> Painter::baseline() const {
  std::vector<std::string> impls;
  for (const std::int64_t i : with({"median_ms"})) {
    const std::string impl = text_of(at(i), "impl");
    if (std::find(impls.begin(), impls.end(), impl) == impls.end()) impls.push_back(impl);
  }
  if (impls.size() < 2) return std::nullopt;
  for (const char* name : {"loop", "naive_topk", "sort"}) {
    if (std::find(impls.begin(), impls.end(), name) != impls.end()) return name;
  }
  return impls[0];
}

/// The most and the least even load, which say more than all of them.
void Painter::add_load() {
  Indices some = with({"expert_load", "load_max_over_mean"});
  if (some.empty()) return;
  const auto unevenness = [&](std::int64_t i) { return *number_of(at(i), "load_max_over_mean"); };
  const auto [least, most] = std::minmax_element(
      some.begin(), some.end(),
      [&](std::int64_t a, std::int64_t b) { return unevenness(a) < unevenness(b); });
  add(PlotKind::load, *least == *most ? Indices{*most} : Indices{*most, *least});
}

Gallery Painter::gallery() {
  const Indices timed = with({"median_ms"});
  const bool has_stages = std::any_of(timed.begin(), timed.end(), [&](std::int64_t i) {
    return at(i).contains("t_experts_ms") || at(i).contains("t_select_ms");
  });
  if (has_stages) add(PlotKind::latency, timed);
  const Indices strict = with({"median_ms", "bw_GiBps_strict"});
  if (!strict.empty()) {
    add(PlotKind::perm, strict);
  } else if (timed.size() > 1) {
    add(PlotKind::throughput, with({"tokens_per_s"}));
  }
  const Indices limited = with({"fraction_of_limit"});
  if (limited.size() > 1 && strict.empty()) add(PlotKind::efficiency, limited);
  if (const auto impl = baseline()) {
    PlotOptions options;
    options.baseline = {{"impl", *impl}};
    add(PlotKind::speedup, timed, options);
  }
  Indices dropping = with({"drop_rate", "capacity_factor"});
  std::erase_if(dropping, [&](std::int64_t i) { return number_of(at(i), "capacity_factor") == 0; });
  if (dropping.size() > 1) add(PlotKind::drop, dropping);
  add_load();
  return std::move(gallery_);
}

}  // namespace

Gallery gallery_of(std::span<const Record> records, const TargetRecords& target) {
  return Painter(records, target).gallery();
}

}  // namespace switchyard
