#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "cuda/simt.h"

// pack_kernel.h on a device: a warp copies a row, 16 bytes a lane where everything is aligned to
// that.

namespace switchyard {

template <bool kAligned>
struct PackKernelCuda {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / simt::kWarp;

  struct Args {
    const std::byte* in;
    std::int64_t in_stride;  ///< bytes between rows
    const std::int32_t* token_of_row;
    const std::int64_t* num_rows;  ///< [1]
    std::byte* out;
    std::int64_t out_stride;  ///< bytes between rows
    std::int64_t row_bytes;
  };
  struct Shared {};

  static SWITCHYARD_DEVICE void run(const Args& args, Shared&) {
    const std::int64_t rows = *args.num_rows;
    const std::int64_t step = simt::num_blocks() * kWarps;
    for (std::int64_t r = simt::block_index() * kWarps + simt::warp_index(); r < rows; r += step) {
      const std::int32_t token = args.token_of_row[r];
      std::byte* out = args.out + r * args.out_stride;
      if (token < 0) {
        copy_row<false>(nullptr, out, args.row_bytes);
      } else {
        copy_row<true>(args.in + token * args.in_stride, out, args.row_bytes);
      }
    }
  }

 private:
  /// 16 bytes, or 2: the smallest element.
  using Unit = std::conditional_t<kAligned, simt::Vector16, std::uint16_t>;
  static constexpr int kUnroll = 4;  // loads in flight for each lane

  template <bool kCopy>
  static SWITCHYARD_DEVICE void copy_row(const std::byte* in, std::byte* out, std::int64_t bytes) {
    const auto* from = reinterpret_cast<const Unit*>(in);
    auto* to = reinterpret_cast<Unit*>(out);
    const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(Unit));
    std::int64_t i = simt::lane_index();
    for (; i + (kUnroll - 1) * simt::kWarp < count; i += kUnroll * simt::kWarp) {
      Unit unit[kUnroll] = {};
      if constexpr (kCopy) {
        for (int j = 0; j < kUnroll; ++j) unit[j] = from[i + j * simt::kWarp];
      }
      for (int j = 0; j < kUnroll; ++j) store(to + i + j * simt::kWarp, unit[j]);
    }
    for (; i < count; i += simt::kWarp) {
      Unit unit = {};
      if constexpr (kCopy) unit = from[i];
      store(to + i, unit);
    }
  }

  static SWITCHYARD_DEVICE void store(Unit* at, const Unit& unit) {
    if constexpr (kAligned) {
      simt::store_once(at, unit);
    } else {
      *at = unit;
    }
  }
};

}  // namespace switchyard
