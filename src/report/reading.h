#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/record.h"
#include "report/picture.h"

namespace switchyard {

/// A piece of a sentence; the record it is about, if any.
struct Phrase {
  std::string text = {};
  std::int64_t record = kNoRecord;
};
using Sentence = std::vector<Phrase>;

/// The records of one target, as indices into a whole list.
struct TargetRecords {
  std::string bench;
  std::vector<std::int64_t> records;
};

/// In the order in which targets first occur.
std::vector<TargetRecords> by_target(std::span<const Record> records);

/// What the records of one target say, in plain words: what dominates the time, how far from the
/// limit, which implementation wins where, how sure that is, what was dropped, what failed. The
/// rules are in docs/reports.md.
std::vector<Sentence> reading_of(std::span<const Record> records, const TargetRecords& target);

/// The fastest implementation of a cell, or why none can be named.
struct Contest {
  std::vector<std::int64_t> records;  ///< one of each implementation, the lowest median first
  bool is_decided = false;            ///< the first one's interval lies below every other's
  double lead = 1;                    ///< median of the second over that of the first
};

/// The cells of a target that two implementations or more ran, on one machine and one commit.
std::vector<Contest> contests_of(std::span<const Record> records, const TargetRecords& target);

/// The sentence in one line, for tests and terminals.
std::string text_of(const Sentence& sentence);

}  // namespace switchyard
