#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/gpu.h"

namespace switchyard::cuda {

/// *sum += the 32-bit words of `data`, modulo 2^32. Every byte passes through L2, which holds none
/// of what was there before where `bytes` exceeds it by far, and nothing that must be written back.
/// `data` and `bytes` are multiples of 16; `sum` is on the device.
void read_all(Gpu& gpu, const std::byte* data, std::int64_t bytes, std::int32_t* sum);

}  // namespace switchyard::cuda
