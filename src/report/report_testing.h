#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "bench/record.h"

namespace switchyard::test {

/// A record of the target layer: `tokens` tokens in `ms` milliseconds, known to 10%.
inline Record layer_record(const std::string& impl, std::int64_t tokens, double ms) {
  return Record{{"schema", "switchyard/1"},
                {"bench", "layer"},
                {"impl", impl},
                {"strategy", "topk_softmax"},
                {"layout", "compact"},
                {"device", "cpu"},
                {"isa", "avx512"},
                {"dtype", "bf16"},
                {"weights", "bf16"},
                {"threads", 2},
                {"tokens", tokens},
                {"hidden", 64},
                {"experts", 8},
                {"top_k", 2},
                {"capacity_factor", 0.0},
                {"routing", "uniform"},
                {"seed", 17},
                {"ok", true},
                {"check_rel_err", 1e-3},
                {"check_tol", 1e-2},
                {"samples_ms", {ms, ms}},
                {"median_ms", ms},
                {"ci95_low_ms", 0.9 * ms},
                {"ci95_high_ms", 1.1 * ms},
                {"t_select_ms", 0.1 * ms},
                {"t_experts_ms", 0.8 * ms},
                {"tokens_per_s", 1e3 * static_cast<double>(tokens) / ms},
                {"flops", 1e6 * static_cast<double>(tokens)},
                {"bytes", 1e6},
                {"limit_ms", 0.5 * ms},
                {"limit_kind", "memory"},
                {"fraction_of_limit", 0.5},
                {"git_sha", "0123456789abcdef"},
                {"cpu", "a CPU"},
                {"host", "here"},
                {"command", "switchyard bench layer"}};
}

inline Record failed_record(const std::string& impl, std::int64_t tokens,
                            const std::string& error) {
  Record record = layer_record(impl, tokens, 1);
  for (const char* field : {"samples_ms", "median_ms", "ci95_low_ms", "ci95_high_ms", "t_select_ms",
                            "t_experts_ms", "tokens_per_s", "fraction_of_limit"}) {
    record.erase(field);
  }
  record["ok"] = false;
  record["error"] = error;
  record["error_code"] = "out_of_memory";
  return record;
}

inline bool has_gnuplot() { return std::system("gnuplot --version >/dev/null 2>&1") == 0; }

}  // namespace switchyard::test
