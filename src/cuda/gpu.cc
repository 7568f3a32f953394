#include "cuda/gpu.h"

#include <algorithm>

#include "base/check.h"
#include "base/context.h"

namespace switchyard::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;
constexpr std::int64_t kSmallestBlock = 1 << 20;

}  // namespace

DeviceArena::~DeviceArena() {
  for (const Block& block : blocks_) gpu_.free(block.data);
}

std::byte* DeviceArena::take(std::int64_t bytes) {
  bytes = std::max<std::int64_t>(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const std::int64_t last = blocks_.empty() ? 0 : blocks_.back().bytes;
    const std::int64_t size = std::max({bytes, last, kSmallestBlock});
    blocks_.reserve(blocks_.size() + 1);
    blocks_.push_back({gpu_.allocate(size), size});
    used_ = 0;
  }
  std::byte* at = blocks_[block_].data + used_;
  used_ += bytes;
  return at;
}

Gpu& gpu_of(Context& context) {
  require(context.impl().gpu != nullptr,
          "context computes on the CPU: expected one made with ContextOptions::device cuda");
  return *context.impl().gpu;
}

}  // namespace switchyard::cuda
