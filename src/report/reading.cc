#include "report/reading.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"
#include "bench/identity.h"
#include "report/fields.h"
#include "report/series.h"

namespace switchyard {
namespace {

constexpr std::size_t kMostNamed = 6;   // cells that a sentence lists
constexpr double kWideInterval = 0.10;  // half width over median, from which we warn
constexpr double kPassedLimit = 1.05;   // of the limit, from which the limit is doubted

class Reader {
 public:
  Reader(std::span<const Record> records, const TargetRecords& target)
      : all_(records), target_(target) {
    for (const std::int64_t i : target.records) {
      if (is_ok(at(i))) ok_.push_back(i);
    }
    const Grouping grouping = group_records(all_, ok_, "", {});
    by_ = grouping.by;
  }

  std::vector<Sentence> sentences() {
    say_dominating_stage();
    say_limit();
    say_winners();
    say_noise();
    say_drops();
    say_load();
    say_failures();
    return std::move(out_);
  }

 private:
  const Record& at(std::int64_t i) const { return all_[static_cast<std::size_t>(i)]; }

  /// What tells this record from the others of the target, without `left_out`.
  std::string name_of(std::int64_t i, std::string_view left_out = "") const {
    std::vector<std::string> fields = by_;
    std::erase(fields, left_out);
    const std::string name = named_values(at(i), fields);
    return name.empty() ? text_of(at(i), "impl") : name;
  }

  void say_dominating_stage();
  void say_limit();
  void say_winners();
  void say_noise();
  void say_drops();
  void say_load();
  void say_failures();

  std::span<const Record> all_;
  const TargetRecords& target_;
  std::vector<std::int64_t> ok_;
  std::vector<std::string> by_;
  std::vector<Sentence> out_;
};

std::string percent(double share) {
  return share < 0.0995 ? fmt::format("{:.2g}%", 100 * share) : fmt::format("{:.0f}%", 100 * share);
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 50);
}

std::string cells(std::size_t count) { return count == 1 ? "cell" : "cells"; }

void Reader::say_dominating_stage() {
  struct Share {
    double share;
    std::int64_t record;
  };
  std::map<std::string, std::vector<Share>> most_of;  // of the cells where the stage is the longest
  std::size_t num_cells = 0;
  for (const std::int64_t i : ok_) {
    double sum = 0, longest = 0;
    std::string stage;
    for (const RecordField& field : record_fields()) {
      if (!field.name.starts_with("t_") || field.name == "t_route_ms") continue;
      const double ms = number_of(at(i), field.name).value_or(0);
      sum += ms;
      if (ms > longest) stage = field.name.substr(2, field.name.size() - 5);
      longest = std::max(longest, ms);
    }
    if (!(sum > 0)) continue;
    ++num_cells;
    most_of[stage].push_back({longest / sum, i});
  }
  std::vector<std::pair<std::string, std::vector<Share>>> stages(most_of.begin(), most_of.end());
  std::stable_sort(stages.begin(), stages.end(),
                   [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  for (auto& [stage, shares] : stages) {
    std::sort(shares.begin(), shares.end(),
              [](const Share& a, const Share& b) { return a.share < b.share; });
    std::vector<double> values;
    for (const Share& share : shares) values.push_back(share.share);
    Sentence sentence = {
        {fmt::format("The stage {} takes the most time in {} of {} {}: {} of it", stage,
                     shares.size(), num_cells, cells(num_cells), percent(median_of(values)))}};
    if (shares.size() > 1) {
      sentence.push_back({" at the median, from "});
      sentence.push_back({percent(values.front()), shares.front().record});
      sentence.push_back({" to "});
      sentence.push_back({percent(values.back()), shares.back().record});
    }
    sentence.push_back({"."});
    out_.push_back(std::move(sentence));
  }
}

void Reader::say_limit() {
  std::map<std::string, std::vector<std::int64_t>> of_impl;
  std::size_t num_memory = 0, num_all = 0;
  for (const std::int64_t i : ok_) {
    if (!number_of(at(i), "fraction_of_limit")) continue;
    of_impl[text_of(at(i), "impl")].push_back(i);
    num_memory += text_of(at(i), "limit_kind") == "memory";
    ++num_all;
  }
  if (num_all == 0) return;
  const auto fraction = [&](std::int64_t i) { return *number_of(at(i), "fraction_of_limit"); };
  for (auto& [impl, records] : of_impl) {
    std::sort(records.begin(), records.end(),
              [&](std::int64_t a, std::int64_t b) { return fraction(a) > fraction(b); });
    std::vector<double> values;
    for (const std::int64_t i : records) values.push_back(fraction(i));
    Sentence sentence = {{fmt::format("{} reaches ", impl)},
                         {percent(values.front()), records.front()},
                         {" of the measured limit"}};
    if (records.size() > 1) {
      const std::string where = name_of(records.front(), "impl");
      sentence.push_back({fmt::format(" at best{}, {} at the median of {} cells",
                                      where.empty() ? "" : fmt::format(" ({})", where),
                                      percent(median_of(values)), values.size())});
    }
    sentence.push_back({"."});
    if (values.front() > kPassedLimit) {
      sentence.push_back(
          {" More than 105% means that the limit was measured too low, or that "
           "data came from caches."});
    }
    out_.push_back(std::move(sentence));
  }
  const std::size_t num_compute = num_all - num_memory;
  const std::string mixed = fmt::format("Memory is the limit in {} of {} cells, arithmetic in {}.",
                                        num_memory, num_all, num_compute);
  out_.push_back({{num_compute == 0  ? "Memory is the limit everywhere."
                   : num_memory == 0 ? "Arithmetic is the limit everywhere."
                                     : mixed}});
}

void Reader::say_winners() {
  const auto contests = contests_of(all_, target_);
  if (contests.empty()) return;
  std::map<std::string, std::vector<const Contest*>> won_by;
  std::vector<const Contest*> undecided;
  for (const Contest& contest : contests) {
    if (contest.is_decided) {
      won_by[text_of(at(contest.records[0]), "impl")].push_back(&contest);
    } else {
      undecided.push_back(&contest);
    }
  }
  const auto list = [&](Sentence& sentence, const std::vector<const Contest*>& some) {
    for (std::size_t c = 0; c < std::min(kMostNamed, some.size()); ++c) {
      const std::int64_t winner = some[c]->records[0];
      const std::string name = name_of(winner, "impl");
      if (contests.size() == 1) return;
      sentence.push_back({c == 0 ? ": " : "; "});
      sentence.push_back({name, winner});
    }
    if (some.size() > kMostNamed) {
      sentence.push_back({fmt::format("; and {} more", some.size() - kMostNamed)});
    }
  };
  for (const auto& [impl, won] : won_by) {
    double least = INFINITY, most = 0;
    for (const Contest* contest : won) {
      least = std::min(least, contest->lead);
      most = std::max(most, contest->lead);
    }
    const std::string lead = fmt::format("{:.2f}", least) == fmt::format("{:.2f}", most)
                                 ? fmt::format("{:.2f}", most)
                                 : fmt::format("{:.2f} to {:.2f}", least, most);
    Sentence sentence = {
        {fmt::format("{} wins in {} of {} {}, by a factor of {} over the next", impl, won.size(),
                     contests.size(), cells(contests.size()), lead)}};
    list(sentence, won);
    sentence.push_back({"."});
    out_.push_back(std::move(sentence));
  }
  if (!undecided.empty()) {
    Sentence sentence = {
        {fmt::format("No clear winner in {} of {} {}, where the intervals of the "
                     "medians overlap or are not known",
                     undecided.size(), contests.size(), cells(contests.size()))}};
    list(sentence, undecided);
    sentence.push_back({"."});
    out_.push_back(std::move(sentence));
  }
}

void Reader::say_noise() {
  std::size_t num_wide = 0, num_all = 0;
  double widest = 0;
  std::int64_t record = kNoRecord;
  for (const std::int64_t i : ok_) {
    const auto median = number_of(at(i), "median_ms");
    const auto low = number_of(at(i), "ci95_low_ms"), high = number_of(at(i), "ci95_high_ms");
    if (!median || !low || !high || !(*median > 0)) continue;
    const double half = (*high - *low) / (2 * *median);
    ++num_all;
    num_wide += half > kWideInterval;
    if (half > widest) {
      widest = half;
      record = i;
    }
  }
  if (num_wide == 0) return;
  out_.push_back({{fmt::format("In {} of {} {} the median is known to no better than {}; the worst "
                               "interval is ",
                               num_wide, num_all, cells(num_all), percent(kWideInterval))},
                  {fmt::format("\u00b1{} ({})", percent(widest), name_of(record)), record},
                  {". Longer runs on a quieter machine would narrow them."}});
}

void Reader::say_drops() {
  std::size_t num_dropping = 0;
  std::int64_t record = kNoRecord;
  double most = 0;
  for (const std::int64_t i : ok_) {
    const double rate = number_of(at(i), "drop_rate").value_or(0);
    num_dropping += rate > 0;
    if (rate > most) {
      most = rate;
      record = i;
    }
  }
  if (num_dropping == 0) return;
  out_.push_back({{fmt::format("Assignments are dropped in {} {}, at most ", num_dropping,
                               cells(num_dropping))},
                  {fmt::format("{} ({})", percent(most), name_of(record)), record},
                  {"."}});
}

void Reader::say_load() {
  std::int64_t record = kNoRecord;
  double most = 0;
  for (const std::int64_t i : ok_) {
    const double factor = number_of(at(i), "load_max_over_mean").value_or(0);
    if (factor > most) {
      most = factor;
      record = i;
    }
  }
  if (record == kNoRecord) return;
  out_.push_back({{"The busiest expert has at most "},
                  {fmt::format("{:.2f} times the mean load ({})", most, name_of(record)), record},
                  {"."}});
}

void Reader::say_failures() {
  std::map<std::string, std::vector<std::int64_t>> of_code;
  for (const std::int64_t i : target_.records) {
    if (is_ok(at(i))) continue;
    const std::string code = text_of(at(i), "error_code");
    of_code[code.empty() ? "unknown" : code].push_back(i);
  }
  for (const auto& [code, failed] : of_code) {
    const std::string what = code == "check_failed"    ? "gave an output that failed its check"
                             : code == "out_of_memory" ? "did not fit in memory"
                                                       : fmt::format("failed ({})", code);
    Sentence sentence = {{fmt::format("{} of {} {} {}", failed.size(), target_.records.size(),
                                      cells(target_.records.size()), what)}};
    for (std::size_t c = 0; c < std::min(kMostNamed, failed.size()); ++c) {
      sentence.push_back({c == 0 ? ": " : "; "});
      sentence.push_back({name_of(failed[c]), failed[c]});
    }
    sentence.push_back({"."});
    out_.push_back(std::move(sentence));
  }
}

}  // namespace

std::vector<TargetRecords> by_target(std::span<const Record> records) {
  std::vector<TargetRecords> targets;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::string bench = text_of(records[i], "bench");
    auto found = std::find_if(targets.begin(), targets.end(),
                              [&](const TargetRecords& target) { return target.bench == bench; });
    if (found == targets.end()) found = targets.insert(targets.end(), {bench, {}});
    found->records.push_back(static_cast<std::int64_t>(i));
  }
  return targets;
}

std::vector<Contest> contests_of(std::span<const Record> records, const TargetRecords& target) {
  const auto at = [&](std::int64_t i) -> const Record& {
    return records[static_cast<std::size_t>(i)];
  };
  std::map<std::string, std::map<std::string, std::int64_t>> cells_of_key;  // impl -> record
  std::vector<std::string> keys;
  for (const std::int64_t i : target.records) {
    if (!is_ok(at(i)) || !number_of(at(i), "median_ms")) continue;
    constexpr std::string_view kImpl[] = {"impl"};
    std::string key = cell_line(at(i), kImpl);
    for (const char* field : {"host", "cpu", "gpu", "version", "git_sha", "compiler"}) {
      key += fmt::format(" {}", text_of(at(i), field));
    }
    if (!cells_of_key.contains(key)) keys.push_back(key);
    cells_of_key[key][text_of(at(i), "impl")] = i;
  }
  std::vector<Contest> contests;
  for (const std::string& key : keys) {
    Contest contest;
    for (const auto& [impl, i] : cells_of_key[key]) contest.records.push_back(i);
    if (contest.records.size() < 2) continue;
    const auto median = [&](std::int64_t i) { return *number_of(at(i), "median_ms"); };
    std::stable_sort(contest.records.begin(), contest.records.end(),
                     [&](std::int64_t a, std::int64_t b) { return median(a) < median(b); });
    const auto high = number_of(at(contest.records[0]), "ci95_high_ms");
    contest.is_decided =
        high.has_value() &&
        std::all_of(contest.records.begin() + 1, contest.records.end(), [&](std::int64_t i) {
          const auto low = number_of(at(i), "ci95_low_ms");
          return low && *low > *high;
        });
    const double first = median(contest.records[0]);
    contest.lead = first > 0 ? median(contest.records[1]) / first : 1;
    contests.push_back(std::move(contest));
  }
  return contests;
}

std::vector<Sentence> reading_of(std::span<const Record> records, const TargetRecords& target) {
  return Reader(records, target).sentences();
}

std::string text_of(const Sentence& sentence) {
  std::string text;
  for (const Phrase& phrase : sentence) text += phrase.text;
  return text;
}

}  // namespace switchyard
