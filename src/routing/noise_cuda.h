#pragma once

#include <cstdint>

#include "cuda/simt.h"
#include "routing/noise.h"
#include "routing/select_device.h"

// noisy_topk's noise, before the selection: a thread takes four neighbouring experts of a token,
// whose noise comes from one block of Philox.

namespace switchyard::select_cuda {

struct NoiseKernel {
  static constexpr int kThreads = 256;
  using Args = NoiseArgs;
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t groups = (args.num_experts + 3) / 4;
    const std::int64_t step = simt::num_blocks() * kThreads;
    for (std::int64_t i = simt::block_index() * kThreads + simt::thread_index();
         i < args.num_tokens * groups; i += step) {
      add_noise(args, i / groups, static_cast<int>(i % groups));
    }
  }

 private:
  static SWITCHYARD_DEVICE void add_noise(const Args& args, std::int64_t t, int group) {
    double normal[4];
    noise::draw_normals(args.seed, t, group, normal);
    const float* x = args.logits + t * args.row_stride;
    float* noisy = args.noisy + t * args.num_experts;
    SWITCHYARD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int e = group * 4 + i;
      if (e >= args.num_experts) break;
      double std = args.noise_std;
      bool is_finite = true;
      if (args.noise != nullptr) {
        const float z = args.noise[t * args.noise_stride + e];
        is_finite = z - z == 0.0f;
        std = noise::softplus(z);
      }
      noisy[e] = is_finite ? noise::add_to(x[e], normal[i] * std) : simt::float_of(0x7fc00000u);
    }
  }
};

}  // namespace switchyard::select_cuda
