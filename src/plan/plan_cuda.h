#pragma once

#include <cstdint>

#include "cuda/simt.h"

// make_plan on a device: three kernels, none of which waits for another block.
//   count    assignments of each expert in each chunk of 32 tokens, unless the selection counted
//   scan     for each expert, where each chunk's rows begin, and their total
//   place    every block lays the experts out for itself, then places its chunk's assignments
// Drop policy probs places twice: first to list each expert's assignments, from which
// plan_drop_cuda.h picks those that are kept.
// An assignment's rank among its expert's follows the order of assignments, so the plan is the
// CPU's, whatever order blocks run in.

namespace switchyard::plan_cuda {

inline constexpr int kMaxExperts = 1024;
inline constexpr int kChunkTokens = 32;

/// What the kernels read of a routing.
struct Assignments {
  std::int64_t num_tokens;
  int num_experts;
  int per_token;                            ///< K, or 0
  const std::int64_t* token_begin;          ///< [T+1]
  const std::int32_t* token_of_assignment;  ///< [A], or null where per_token > 0
  const std::int32_t* expert;               ///< [A]
  const float* weight;                      ///< [A]

  SWITCHYARD_DEVICE std::int64_t begin_of(std::int64_t chunk) const {
    const std::int64_t token = chunk * kChunkTokens;
    return token_begin[token < num_tokens ? token : num_tokens];
  }
  SWITCHYARD_DEVICE std::int32_t token_of(std::int64_t a) const {
    return per_token > 0 ? static_cast<std::int32_t>(a / per_token) : token_of_assignment[a];
  }
};

struct CountKernel {
  static constexpr int kThreads = 256;
  struct Args {
    Assignments assignments;
    std::int32_t* count_of_chunk;  ///< [chunks, E]
  };
  struct Shared {
    std::int32_t count[kMaxExperts];
  };

  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    const int num_experts = args.assignments.num_experts;
    for (int e = simt::thread_index(); e < num_experts; e += kThreads) shared.count[e] = 0;
    simt::sync_threads();
    const std::int64_t chunk = simt::block_index();
    const std::int64_t end = args.assignments.begin_of(chunk + 1);
    for (std::int64_t a = args.assignments.begin_of(chunk) + simt::thread_index(); a < end;
         a += kThreads) {
      simt::atomic_add(&shared.count[args.assignments.expert[a]], 1);
    }
    simt::sync_threads();
    for (int e = simt::thread_index(); e < num_experts; e += kThreads) {
      args.count_of_chunk[chunk * num_experts + e] = shared.count[e];
    }
  }
};

/// A block takes 32 experts, one a lane; its warps share the chunks.
struct ScanKernel {
  static constexpr int kThreads = 1024;
  static constexpr int kWarps = kThreads / simt::kWarp;
  struct Args {
    const std::int32_t* count_of_chunk;  ///< [chunks, E]
    std::int64_t num_chunks;
    int num_experts;
    std::int32_t* base_of_chunk;  ///< [chunks, E] assignments in the chunks before
    std::int32_t* assigned;       ///< [E]
  };
  struct Shared {
    std::int32_t sum[kWarps][simt::kWarp];
  };

  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    const int warp = simt::warp_index(), lane = simt::lane_index();
    const std::int64_t e = simt::block_index() * simt::kWarp + lane;
    const bool has_expert = e < args.num_experts;
    const std::int64_t share = (args.num_chunks + kWarps - 1) / kWarps;
    const std::int64_t begin = warp * share;
    const std::int64_t end = begin + share < args.num_chunks ? begin + share : args.num_chunks;
    std::int32_t sum = 0;
    for (std::int64_t c = begin; has_expert && c < end; ++c) {
      sum += args.count_of_chunk[c * args.num_experts + e];
    }
    shared.sum[warp][lane] = sum;
    simt::sync_threads();
    std::int32_t base = 0;
    for (int w = 0; w < warp; ++w) base += shared.sum[w][lane];
    if (has_expert && warp == kWarps - 1) args.assigned[e] = base + sum;
    for (std::int64_t c = begin; has_expert && c < end; ++c) {
      const std::int32_t count = args.count_of_chunk[c * args.num_experts + e];
      args.base_of_chunk[c * args.num_experts + e] = base;
      base += count;
    }
  }
};

/// How many rows an expert owns.
struct Spacing {
  bool may_drop;
  std::int64_t capacity;    ///< C, where may_drop or fixed
  bool fixed;               ///< capacity layout: C rows whatever came
  std::int64_t block_rows;  ///< of the block layout, otherwise 1

  SWITCHYARD_DEVICE std::int32_t kept(std::int32_t assigned) const {
    return may_drop && assigned > capacity ? static_cast<std::int32_t>(capacity) : assigned;
  }
  SWITCHYARD_DEVICE std::int32_t rows(std::int32_t kept) const {
    if (fixed) return static_cast<std::int32_t>(capacity);
    return static_cast<std::int32_t>((kept + block_rows - 1) / block_rows * block_rows);
  }
};

struct PlaceKernel {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;
  struct Args {
    Assignments assignments;
    const std::int32_t* base_of_chunk;
    const std::int32_t* assigned;
    Spacing spacing;
    bool renormalise;
    const std::int32_t* rank;  ///< [A] among its expert's kept, -1: dropped; null: as they come
    bool lists_assignments;    ///< rows are given their assignment rather than its token
    std::int64_t* expert_begin;
    std::int64_t* expert_rows;
    std::int32_t* token_of_row;
    std::int32_t* row_of_assignment;
    float* weight_of_assignment;
    std::int64_t* token_begin;
  };
  struct Shared {
    std::int32_t begin[kMaxExperts];  ///< of an expert's rows
    std::int32_t kept[kMaxExperts];
    std::int32_t next[kWarps][kMaxExperts];  ///< the rank of a warp's next assignment
    std::int32_t sum[kWarps];
    std::int32_t num_rows;
  };

  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    lay_out(args, shared);
    clear_padding(args, shared);
    place(args, shared);
    copy_tokens(args);
  }

 private:
  static constexpr int kExpertsPerThread = kMaxExperts / kThreads;
  static constexpr std::uint32_t kNobody = 0xffffffffu;

  /// Running sums of the experts' rows, the same in every block; the first writes them out.
  static SWITCHYARD_DEVICE void lay_out(const Args& args, Shared& shared) {
    const int num_experts = args.assignments.num_experts;
    const int first = simt::thread_index() * kExpertsPerThread;
    std::int32_t rows[kExpertsPerThread], sum = 0;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kExpertsPerThread; ++i) {
      const int e = first + i;
      const std::int32_t kept = e < num_experts ? args.spacing.kept(args.assigned[e]) : 0;
      rows[i] = e < num_experts ? args.spacing.rows(kept) : 0;
      if (e < num_experts) shared.kept[e] = kept;
      sum += rows[i];
    }
    std::int32_t up_to = sum;  // inclusive, over the warp
    for (int distance = 1; distance < simt::kWarp; distance *= 2) {
      const std::int32_t below = simt::shuffle_up(up_to, distance);
      if (simt::lane_index() >= distance) up_to += below;
    }
    if (simt::lane_index() == simt::kWarp - 1) shared.sum[simt::warp_index()] = up_to;
    simt::sync_threads();
    std::int32_t begin = up_to - sum;
    for (int w = 0; w < simt::warp_index(); ++w) begin += shared.sum[w];
    const bool writes = simt::block_index() == 0;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kExpertsPerThread; ++i) {
      const int e = first + i;
      if (e >= num_experts) break;
      shared.begin[e] = begin;
      if (writes) {
        args.expert_begin[e] = begin;
        args.expert_rows[e] = shared.kept[e];
      }
      begin += rows[i];
      if (e == num_experts - 1) {
        shared.num_rows = begin;
        if (writes) args.expert_begin[num_experts] = begin;
      }
    }
    simt::sync_threads();
  }

  static SWITCHYARD_DEVICE void clear_padding(const Args& args, const Shared& shared) {
    const int num_experts = args.assignments.num_experts;
    for (std::int64_t e = simt::block_index(); e < num_experts; e += simt::num_blocks()) {
      const std::int32_t end = e + 1 < num_experts ? shared.begin[e + 1] : shared.num_rows;
      for (std::int32_t row = shared.begin[e] + shared.kept[e] + simt::thread_index(); row < end;
           row += kThreads) {
        args.token_of_row[row] = -1;
      }
    }
  }

  /// Calls visit(a, expert, lanes of the same expert) for every 32 assignments of the warp's share
  /// of the chunk, in order, on all lanes; lanes without an assignment see kNobody.
  template <class Visit>
  static SWITCHYARD_DEVICE void for_each_assignment(const Args& args, Visit visit) {
    const std::int64_t chunk = simt::block_index();
    const std::int64_t begin = args.assignments.begin_of(chunk);
    const std::int64_t end = args.assignments.begin_of(chunk + 1);
    constexpr std::int64_t kRound = kThreads;
    const std::int64_t share = (end - begin + kRound - 1) / kRound * simt::kWarp;
    const std::int64_t first = begin + simt::warp_index() * share;
    const std::int64_t last = first + share < end ? first + share : end;
    for (std::int64_t round = first; round < last; round += simt::kWarp) {
      const std::int64_t a = round + simt::lane_index();
      const std::uint32_t expert =
          a < last ? static_cast<std::uint32_t>(args.assignments.expert[a]) : kNobody;
      visit(a, expert, simt::match_any(expert));
    }
  }

  static SWITCHYARD_DEVICE bool is_first(std::uint32_t lanes) {
    return (lanes & simt::lanes_below()) == 0;
  }

  static SWITCHYARD_DEVICE void place(const Args& args, Shared& shared) {
    const int num_experts = args.assignments.num_experts;
    const std::int64_t chunk = simt::block_index();
    std::int32_t* next = shared.next[simt::warp_index()];
    for (int e = simt::lane_index(); e < num_experts; e += simt::kWarp) next[e] = 0;
    simt::sync_warp();
    for_each_assignment(args, [&](std::int64_t, std::uint32_t expert, std::uint32_t lanes) {
      if (expert != kNobody && is_first(lanes)) next[expert] += simt::count_ones(lanes);
      simt::sync_warp();
    });
    simt::sync_threads();
    if (chunk * kChunkTokens < args.assignments.num_tokens) {
      for (int e = simt::thread_index(); e < num_experts; e += kThreads) {
        std::int32_t rank = args.base_of_chunk[chunk * num_experts + e];
        SWITCHYARD_UNROLL
        for (int w = 0; w < kWarps; ++w) {
          const std::int32_t count = shared.next[w][e];
          shared.next[w][e] = rank;
          rank += count;
        }
      }
    }
    simt::sync_threads();
    for_each_assignment(args, [&](std::int64_t a, std::uint32_t expert, std::uint32_t lanes) {
      const bool mine = expert != kNobody;
      std::int32_t rank = mine ? next[expert] + simt::count_ones(lanes & simt::lanes_below()) : 0;
      simt::sync_warp();
      if (!mine) return;
      if (is_first(lanes)) next[expert] += simt::count_ones(lanes);
      if (args.rank != nullptr) rank = args.rank[a];
      const bool kept = rank >= 0 && rank < shared.kept[expert];
      const std::int32_t row = shared.begin[expert] + rank;
      args.row_of_assignment[a] = kept ? row : -1;
      args.weight_of_assignment[a] = kept ? args.assignments.weight[a] : 0.0f;
      if (!kept) return;
      args.token_of_row[row] =
          args.lists_assignments ? static_cast<std::int32_t>(a) : args.assignments.token_of(a);
    });
    simt::sync_threads();
  }

  static SWITCHYARD_DEVICE void copy_tokens(const Args& args) {
    const std::int64_t token = simt::block_index() * kChunkTokens + simt::thread_index();
    if (simt::thread_index() >= kChunkTokens || token > args.assignments.num_tokens) return;
    const std::int64_t begin = args.assignments.token_begin[token];
    args.token_begin[token] = begin;
    if (token == args.assignments.num_tokens) return;
    const std::int64_t end = args.assignments.token_begin[token + 1];
    if (token + 1 == args.assignments.num_tokens) args.token_begin[token + 1] = end;
    if (args.renormalise) renormalise(args, begin, end);
  }

  /// Scales a token's kept weights to the sum of all where some were dropped, in double as the CPU.
  static SWITCHYARD_DEVICE void renormalise(const Args& args, std::int64_t begin,
                                            std::int64_t end) {
    double all = 0, kept = 0;
    bool dropped = false;
    for (std::int64_t a = begin; a < end; ++a) {
      all += args.assignments.weight[a];
      kept += args.weight_of_assignment[a];
      if (args.row_of_assignment[a] < 0) dropped = true;
    }
    if (!dropped || !(kept > 0)) return;
    for (std::int64_t a = begin; a < end; ++a) {
      args.weight_of_assignment[a] =
          static_cast<float>(args.weight_of_assignment[a] * (all / kept));
    }
  }
};

}  // namespace switchyard::plan_cuda
