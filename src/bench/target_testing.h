#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "bench/target.h"
#include "bench/weight_cache.h"

namespace switchyard::testing {

/// A machine of round numbers.
inline Ceilings some_ceilings() {
  Ceilings c;
  c.threads = 2;
  c.read_bw = 30e9;
  c.copy_bw = 40e9;
  c.gather_bw = 20e9;
  for (const Isa isa : kAllIsas) {
    c.peak_flops[std::string(name_of(isa)) + "/f32"] = 1e11;
    c.peak_flops[std::string(name_of(isa)) + "/bf16"] = 4e11;
  }
  return c;
}

inline constexpr RunOptions kQuick = {.warmup = 1, .iters = 3, .cold = false};

inline Cell small_cell(std::string_view bench, std::string_view impl) {
  Cell cell;
  cell.bench = bench;
  cell.impl = impl;
  cell.threads = 2;
  cell.tokens = 37;
  cell.hidden = 72;
  cell.ffn = 40;
  cell.experts = 6;
  cell.top_k = cell.router.top_k = 2;
  return cell;
}

inline std::vector<Record> run(const std::vector<Cell>& cells) {
  WeightCache weights;
  return find_target(cells[0].bench).run(cells, kQuick, some_ceilings(), weights, [] {
    return false;
  });
}

/// An implementation that this build lacks is a failure that says so.
inline bool is_unavailable(const Record& record) {
  const std::string impl = record["impl"];
  return (impl == "loop" || impl == "padded") && record.value("error_code", "") == "unavailable";
}

inline void expect_measured(const Record& record) {
  SCOPED_TRACE(record.dump());
  if (is_unavailable(record)) return;
  ASSERT_TRUE(record["ok"].get<bool>());
  EXPECT_FALSE(record.contains("error"));
  EXPECT_LE(record["check_rel_err"].get<double>(), record["check_tol"].get<double>());
  EXPECT_EQ(record["samples_ms"].size(), 3u);
  EXPECT_EQ(record["threads"], 2);
  EXPECT_EQ(record["schema"], "switchyard/1");
  for (const char* field : {"isa", "median_ms", "tokens_per_s", "bytes", "limit_ms", "limit_kind",
                            "fraction_of_limit", "load_cv", "experts_active", "drop_rate",
                            "padding_rows", "gate_entropy", "peak_rss_bytes"}) {
    EXPECT_TRUE(record.contains(field)) << field;
  }
}

}  // namespace switchyard::testing
