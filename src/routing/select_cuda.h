#pragma once

#include <cstdint>

#include "cuda/simt.h"
#include "routing/draw.h"
#include "routing/select_device.h"
#include "topk/exp.h"

// Scores, groups, the K best, their weights and the count of experts, in one kernel: a warp takes a
// token, a lane every 32nd column. Arithmetic and its order are the CPU's, so are the bits.

namespace switchyard::select_cuda {

/// For at most 32 * kPerLane experts, which are drawn where kDraws.
template <int kPerLane, bool kDraws = false>
struct SelectKernel {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;
  static constexpr int kMostExperts = kPerLane * simt::kWarp;
  using Args = SelectArgs;

  struct Shared {
    std::int32_t count[kMostExperts];
    std::uint8_t keeps_group[kWarps][kMostExperts];
    std::int32_t bad_token;
  };

  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    for (int e = simt::thread_index(); e < args.num_experts; e += kThreads) shared.count[e] = 0;
    if (simt::thread_index() == 0) shared.bad_token = kNoBadToken;
    simt::sync_threads();
    const std::int64_t chunk = simt::block_index();
    const std::int64_t begin = chunk * kChunkTokens;
    const std::int64_t end =
        begin + kChunkTokens < args.num_tokens ? begin + kChunkTokens : args.num_tokens;
    for (std::int64_t t = begin + simt::warp_index(); t < end; t += kWarps) {
      if constexpr (kDraws) {
        draw_token(args, t, shared);
      } else {
        select_token(args, t, shared);
      }
    }
    simt::sync_threads();
    for (int e = simt::thread_index(); e < args.num_experts; e += kThreads) {
      args.count_of_chunk[chunk * args.num_experts + e] = shared.count[e];
    }
    if (simt::thread_index() == 0) {
      args.bad_token_of_chunk[chunk] = shared.bad_token == kNoBadToken ? -1 : shared.bad_token;
    }
    const std::int64_t token = begin + simt::thread_index();
    if (token < end) args.token_begin[token] = token * args.rule.k;
    if (token == args.num_tokens - 1) args.token_begin[token + 1] = (token + 1) * args.rule.k;
  }

 private:
  static constexpr std::int32_t kNoBadToken = 0x7fffffff;
  static constexpr std::uint32_t kTaken = 0;  // below every key, also that of -inf
  static constexpr std::uint32_t kNoColumn = 0xffffffffu;
  static constexpr std::uint32_t kInfinity = 0x7f800000u;
  static constexpr std::uint32_t kSign = 0x80000000u;

  /// Keys are in the order of the values, -0 beside 0.
  static SWITCHYARD_DEVICE std::uint32_t key_of(float value) {
    const std::uint32_t bits = simt::bits_of(value + 0.0f);
    return (bits & kSign) != 0 ? ~bits : bits | kSign;
  }
  static SWITCHYARD_DEVICE float value_of(std::uint32_t key) {
    return simt::float_of((key & kSign) != 0 ? key & ~kSign : ~key);
  }

  static SWITCHYARD_DEVICE float sigmoid(float x) {
    const float e = exp_nonpositive(x >= 0.0f ? -x : x);
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
  }

  /// Column of value i of this lane.
  static SWITCHYARD_DEVICE int column_of(int i) { return i * simt::kWarp + simt::lane_index(); }

  /// Calls visit(j, key, column) for j = 0 .. k-1 on all lanes: the largest keys by falling value,
  /// equal ones by rising column. Keys that were taken become kTaken.
  template <class Visit>
  static SWITCHYARD_DEVICE void take_largest(std::uint32_t (&key)[kPerLane], int k, Visit visit) {
    std::uint32_t mine = kTaken;  // the largest of this lane's
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) mine = key[i] > mine ? key[i] : mine;
    for (int j = 0; j < k; ++j) {
      const std::uint32_t best = simt::reduce_max(mine);
      std::uint32_t column = kNoColumn;
      SWITCHYARD_UNROLL
      for (int i = kPerLane - 1; i >= 0; --i) {
        if (key[i] == best) column = static_cast<std::uint32_t>(column_of(i));
      }
      column = simt::reduce_min(column);
      mine = kTaken;
      SWITCHYARD_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        if (column == static_cast<std::uint32_t>(column_of(i))) key[i] = kTaken;
        mine = key[i] > mine ? key[i] : mine;
      }
      visit(j, best, static_cast<int>(column));
    }
  }

  static SWITCHYARD_DEVICE void select_token(const Args& args, std::int64_t t, Shared& shared) {
    const SelectRule& rule = args.rule;
    const float* x = args.logits + t * args.row_stride;
    std::uint32_t key[kPerLane];
    bool is_nan = false;
    std::uint32_t largest = kTaken;  // of the logits
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) {
      const int e = column_of(i);
      key[i] = kTaken;
      if (e >= args.num_experts) continue;
      const float logit = x[e];
      is_nan |= logit != logit;
      const std::uint32_t of_logit = key_of(logit);
      largest = of_logit > largest ? of_logit : largest;
      key[i] = rule.is_sigmoid ? key_of(biased(args, logit, e)) : of_logit;
    }
    const float max = value_of(simt::reduce_max(largest));
    if (has_no_largest(is_nan, max)) return refuse(args, t, shared);
    const bool is_infinite = simt::bits_of(max) == kInfinity;
    float sum = 1.0f;
    if (rule.weights == SelectWeights::over_all) sum = sum_of_exp(key, max, is_infinite);
    if (rule.groups_kept < rule.groups) drop_groups(args, key, shared);

    std::uint32_t my_key = kTaken;
    int my_expert = 0;
    take_largest(key, rule.k, [&](int j, std::uint32_t best, int column) {
      if (simt::lane_index() != j) return;
      my_key = best;
      my_expert = column;
    });
    const bool has_one = simt::lane_index() < rule.k;
    float weight = 0;
    if (has_one) weight = weight_of(rule, x[my_expert], value_of(my_key), max, is_infinite);
    if (rule.normalise) {
      sum = 0;
      for (int j = 0; j < rule.k; ++j) sum += simt::shuffle(weight, j);
      sum += rule.epsilon;
    }
    if (!has_one) return;
    if (rule.weights != SelectWeights::uniform) weight *= rule.factor / sum;
    const std::int64_t a = t * rule.k + simt::lane_index();
    args.expert[a] = my_expert;
    args.weight[a] = weight;
    simt::atomic_add(&shared.count[my_expert], 1);
  }

  static SWITCHYARD_DEVICE bool has_no_largest(bool is_nan, float max) {
    return simt::ballot(is_nan) != 0 || simt::bits_of(max) == (kInfinity | kSign);
  }

  /// Floyd's sampling (draw.h): lane j draws word j, and what a lane below holds already becomes
  /// the last expert it could have drawn.
  static SWITCHYARD_DEVICE void draw_token(const Args& args, std::int64_t t, Shared& shared) {
    const float* x = args.logits + t * args.row_stride;
    bool is_nan = false;
    std::uint32_t largest = kTaken;
    for (int e = simt::lane_index(); e < args.num_experts; e += simt::kWarp) {
      is_nan |= x[e] != x[e];
      const std::uint32_t key = key_of(x[e]);
      largest = key > largest ? key : largest;
    }
    if (has_no_largest(is_nan, value_of(simt::reduce_max(largest)))) return refuse(args, t, shared);
    const SelectRule& rule = args.rule;
    const int lane = simt::lane_index(), last = args.num_experts - rule.k + lane;
    const bool has_one = lane < rule.k;
    const std::int64_t id = args.token_ids != nullptr ? args.token_ids[t] : t;
    std::int32_t mine = -1;
    if (has_one)
      mine = draw_word(rule.seed, rule.draws, static_cast<std::uint64_t>(id), lane, last);
    for (int j = 1; j < rule.k; ++j) {
      const std::int32_t drawn = simt::shuffle(mine, j);
      const bool repeats = simt::ballot(lane < j && mine == drawn) != 0;
      if (repeats && lane == j) mine = last;
    }
    if (!has_one) return;
    const std::int64_t a = t * rule.k + lane;
    args.expert[a] = mine;
    args.weight[a] = rule.factor;
    simt::atomic_add(&shared.count[mine], 1);
  }

  /// The score that chooses; infinite logits go before and after all others, whatever the bias.
  static SWITCHYARD_DEVICE float biased(const Args& args, float logit, int e) {
    if (simt::bits_of(logit) == kInfinity) return kForcedScore;
    if (simt::bits_of(logit) == (kInfinity | kSign)) return kMaskedScore;
    return sigmoid(logit) + (args.bias != nullptr ? args.bias[e] : 0.0f);
  }

  static SWITCHYARD_DEVICE float weight_of(const SelectRule& rule, float logit, float value,
                                           float max, bool is_infinite) {
    if (rule.weights == SelectWeights::uniform) return rule.factor;
    if (rule.is_sigmoid) return sigmoid(logit);
    if (is_infinite) return value == max ? 1.0f : 0.0f;
    return exp_nonpositive((value - max) * rule.scale);
  }

  /// In the order of the CPU: column e into partial sum e mod 16, then the upper halves of the
  /// partial sums onto the lower.
  static SWITCHYARD_DEVICE float sum_of_exp(const std::uint32_t (&key)[kPerLane], float max,
                                            bool is_infinite) {
    static_assert(kSumLanes * 2 == simt::kWarp);
    float sum = 0;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) {
      float term = 0;
      if (key[i] != kTaken) {
        const float value = value_of(key[i]);
        term = is_infinite ? (value == max ? 1.0f : 0.0f) : exp_nonpositive(value - max);
      }
      sum += term;
      sum += simt::shuffle_xor(term, kSumLanes);
    }
    for (int half = kSumLanes / 2; half > 0; half /= 2) sum += simt::shuffle_xor(sum, half);
    return simt::shuffle(sum, 0);
  }

  /// Takes the keys of all groups but the best.
  static SWITCHYARD_DEVICE void drop_groups(const Args& args, std::uint32_t (&key)[kPerLane],
                                            Shared& shared) {
    const SelectRule& rule = args.rule;
    const int size = args.num_experts / rule.groups;
    std::uint32_t key_of_group[kPerLane];  // of group column_of(i)
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) key_of_group[i] = kTaken;
    for (int g = 0; g < rule.groups; ++g) {
      const std::uint32_t score = score_of_group(key, g * size, size, rule.best_two);
      SWITCHYARD_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        if (column_of(i) == g) key_of_group[i] = score;
      }
    }
    std::uint8_t* keeps = shared.keeps_group[simt::warp_index()];
    simt::sync_warp();  // the previous token's groups have been read
    for (int g = simt::lane_index(); g < rule.groups; g += simt::kWarp) keeps[g] = 0;
    simt::sync_warp();
    take_largest(key_of_group, rule.groups_kept, [&](int, std::uint32_t, int group) {
      if (simt::lane_index() == 0) keeps[group] = 1;
    });
    simt::sync_warp();
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) {
      if (column_of(i) < args.num_experts && keeps[column_of(i) / size] == 0) key[i] = kTaken;
    }
  }

  /// The key of a group's largest score, or of the sum of its largest two.
  static SWITCHYARD_DEVICE std::uint32_t score_of_group(const std::uint32_t (&key)[kPerLane],
                                                        int begin, int size, bool best_two) {
    std::uint32_t best = kTaken, second = kTaken;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kPerLane; ++i) {
      if (column_of(i) < begin || column_of(i) >= begin + size) continue;
      const std::uint32_t lower = key[i] < best ? key[i] : best;
      second = lower > second ? lower : second;
      best = key[i] > best ? key[i] : best;
    }
    const std::uint32_t largest = simt::reduce_max(best);
    if (!best_two || size == 1) return largest;
    const std::uint32_t owners = simt::ballot(best == largest);
    const bool is_owner = best == largest && (owners & simt::lanes_below()) == 0;
    return key_of(value_of(largest) + value_of(simt::reduce_max(is_owner ? second : best)));
  }

  /// A token without a largest logit: experts 0, 1, ... with weights NaN.
  static SWITCHYARD_DEVICE void refuse(const Args& args, std::int64_t t, Shared& shared) {
    if (simt::lane_index() == 0) {
      simt::atomic_min(&shared.bad_token, static_cast<std::int32_t>(t));
    }
    if (simt::lane_index() >= args.rule.k) return;
    const std::int64_t a = t * args.rule.k + simt::lane_index();
    args.expert[a] = simt::lane_index();
    args.weight[a] = simt::float_of(0x7fc00000u);
    simt::atomic_add(&shared.count[simt::lane_index()], 1);
  }
};

}  // namespace switchyard::select_cuda
