#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "workload/trace.h"
#include "workload/trace_lines.h"

namespace switchyard {

/// Gathers what a reader finds, checks it, and keeps the layers asked for. Errors name the line the
/// reader is at.
class TraceBuilder {
 public:
  enum class Keep { all, first, selected };

  /// Experts beyond this many are taken for a damaged file.
  static constexpr std::int64_t kMaxExperts = 1 << 16;

  TraceBuilder(const LineReader& lines, TraceFormat format, Keep keep, std::string_view selector);

  /// One token's experts, best first, and their weights (empty: not recorded).
  void add_token(const std::string& layer, std::span<const std::int64_t> ids,
                 std::span<const double> weights);

  /// `count` more assignments of one expert. Throws when the expert had a count before.
  void add_load(const std::string& layer, std::int64_t expert, std::int64_t count);

  /// The file states E; ids beyond it are errors from here on.
  void set_experts(std::int64_t experts);

  void add_note(std::string note) { notes_.push_back(std::move(note)); }

  /// The layers kept: one or more. Throws as read_trace does.
  std::vector<Trace> finish();

 private:
  struct Layer {
    std::string name;
    bool kept = false;
    Trace trace;
  };

  Layer& layer_of(const std::string& name);
  bool keeps(std::string_view name) const;
  void check_ids(std::span<const std::int64_t> ids);
  void check_weights(std::span<const double> weights, std::size_t num_ids) const;
  void check_expert(std::int64_t expert) const;
  std::string layer_names() const;
  void resolve_selection();
  void finish_layer(Trace& trace) const;

  const LineReader& lines_;
  TraceFormat format_;
  Keep keep_;
  std::string selector_;
  std::vector<Layer> layers_;
  std::map<std::string, std::size_t, std::less<>> index_of_name_;
  std::vector<std::string> notes_;
  std::int64_t experts_ = 0;                 // stated, 0: not
  std::vector<std::int64_t> last_token_of_;  // [kMaxExperts]: finds duplicates within a token
  std::int64_t num_tokens_ = 0;
};

}  // namespace switchyard
