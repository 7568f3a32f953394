#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "combine/combine_kernel.h"
#include "cuda/simt.h"
#include "switchyard/dtype.h"

// combine_kernel.h on a device: a block sums a token, a thread kWidth neighbouring columns of it.

namespace switchyard {

/// kWidth elements of T are loaded at once; they lie aligned to that.
template <class T, int kWidth>
struct CombineKernelCuda {
  static constexpr int kThreads = 256;

  struct Args {
    CombineRows job;
    std::int64_t num_tokens;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    for (std::int64_t t = simt::block_index(); t < args.num_tokens; t += simt::num_blocks()) {
      for (std::int64_t column = std::int64_t{simt::thread_index()} * kWidth;
           column < args.job.cols; column += kThreads * kWidth) {
        sum_columns(args.job, t, column);
      }
    }
  }

 private:
  struct alignas(sizeof(T) * kWidth) Unit {
    T element[kWidth];
  };
  static constexpr int kInFlight = 4;  // rows whose loads are issued before the first is used

  static SWITCHYARD_DEVICE Unit load(const std::byte* at) {
    if constexpr (sizeof(Unit) == sizeof(simt::Vector16)) {
      const simt::Vector16 raw = simt::load_once(reinterpret_cast<const simt::Vector16*>(at));
      Unit unit;
      std::memcpy(static_cast<void*>(&unit), &raw, sizeof unit);
      return unit;
    } else {
      return *reinterpret_cast<const Unit*>(at);
    }
  }

  static SWITCHYARD_DEVICE void add(const Unit& unit, float weight, bool any, float* sum) {
    SWITCHYARD_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const float product = weight * to_float(unit.element[i]);
      sum[i] = any ? sum[i] + product : product;
    }
  }

  static SWITCHYARD_DEVICE void sum_columns(const CombineRows& job, std::int64_t token,
                                            std::int64_t column) {
    const std::int64_t offset = column * static_cast<std::int64_t>(sizeof(T));
    auto* out = reinterpret_cast<Unit*>(job.out + token * job.out_stride + offset);
    float sum[kWidth] = {};
    bool any = job.accumulate;
    if (any) {
      const Unit before = *out;
      SWITCHYARD_UNROLL
      for (int i = 0; i < kWidth; ++i) sum[i] = to_float(before.element[i]);
    }
    const std::int64_t end = job.token_begin[token + 1];
    for (std::int64_t a = job.token_begin[token]; a < end; a += kInFlight) {
      Unit unit[kInFlight] = {};
      float weight[kInFlight] = {};
      bool kept[kInFlight];
      SWITCHYARD_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        const std::int32_t row = a + j < end ? job.row_of_assignment[a + j] : -1;
        kept[j] = row >= 0;
        if (!kept[j]) continue;
        unit[j] = load(job.rows + row * job.row_stride + offset);
        weight[j] = job.weight_of_assignment[a + j];
      }
      SWITCHYARD_UNROLL
      for (int j = 0; j < kInFlight; ++j) {
        if (!kept[j]) continue;
        add(unit[j], weight[j], any, sum);
        any = true;
      }
    }
    if (!any && job.accumulate) return;
    Unit result;
    SWITCHYARD_UNROLL
    for (int i = 0; i < kWidth; ++i) result.element[i] = from_float<T>(sum[i]);
    *out = result;
  }
};

}  // namespace switchyard
