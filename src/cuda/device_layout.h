#pragma once

#include <cstdint>

#include "switchyard/device.h"

// How the arrays of a routing and of a plan share one buffer.

namespace switchyard::cuda {

/// Offsets of arrays that lie one behind the other, each 256-byte aligned.
class Pieces {
 public:
  template <class T>
  std::int64_t add(std::int64_t count) {
    const std::int64_t begin = bytes_;
    bytes_ += (count * static_cast<std::int64_t>(sizeof(T)) + 255) / 256 * 256;
    return begin;
  }
  std::int64_t bytes() const { return bytes_ > 0 ? bytes_ : 256; }

 private:
  std::int64_t bytes_ = 0;
};

template <class T>
T* at(std::byte* data, std::int64_t offset) {
  return reinterpret_cast<T*>(data + offset);
}

/// Tokens that one block selects, counts and places.
inline constexpr int kChunkTokens = 32;
constexpr std::int64_t num_chunks(std::int64_t num_tokens) {
  return (num_tokens + kChunkTokens - 1) / kChunkTokens;
}

/// Set the sizes and make room for the arrays; their content is left to be written.
void shape_routing(Context& context, std::int64_t num_tokens, int num_experts,
                   std::int64_t num_assignments, int per_token, DeviceRouting& routing);
void shape_plan(Context& context, std::int64_t num_tokens, int num_experts,
                std::int64_t num_assignments, std::int64_t max_rows, DevicePlan& plan);

}  // namespace switchyard::cuda
