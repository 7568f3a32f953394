#pragma once

#include <cstdint>

#include "cuda/simt.h"

namespace switchyard::cuda {

struct ReadKernelCuda {
  static constexpr int kThreads = 256;
  static constexpr int kUnroll = 4;  // loads in flight for each thread

  struct Args {
    const simt::Vector16* data;
    std::int64_t count;
    std::int32_t* sum;  ///< [1], added to: what is never used would not be read
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t step = simt::num_blocks() * kThreads;
    std::int64_t i = simt::block_index() * kThreads + simt::thread_index();
    std::uint32_t sum = 0;
    for (; i + (kUnroll - 1) * step < args.count; i += kUnroll * step) {
      simt::Vector16 loaded[kUnroll];
      SWITCHYARD_UNROLL
      for (int j = 0; j < kUnroll; ++j) loaded[j] = args.data[i + j * step];
      SWITCHYARD_UNROLL
      for (int j = 0; j < kUnroll; ++j) sum += sum_of(loaded[j]);
    }
    for (; i < args.count; i += step) sum += sum_of(args.data[i]);
    sum = simt::reduce_add(sum);
    if (simt::lane_index() == 0) simt::atomic_add(args.sum, static_cast<std::int32_t>(sum));
  }

 private:
  static SWITCHYARD_DEVICE std::uint32_t sum_of(const simt::Vector16& v) {
    return v.word[0] + v.word[1] + v.word[2] + v.word[3];
  }
};

}  // namespace switchyard::cuda
