#include "base/arena.h"

#include <algorithm>

namespace switchyard {

std::byte* Arena::take_bytes(std::int64_t bytes) {
  const std::int64_t rounded = (bytes + 63) / 64 * 64;
  const std::int64_t begin = used_;
  used_ += rounded;
  high_water_ = std::max(high_water_, used_);
  if (buffers_.empty()) buffers_.emplace_back(std::max<std::int64_t>(rounded, 1 << 16));
  if (used_ <= buffers_.front().bytes()) return buffers_.front().data() + begin;
  return buffers_.emplace_back(std::max<std::int64_t>(rounded, 64)).data();
}

void Arena::consolidate() noexcept {
  if (buffers_.size() <= 1) return;
  buffers_.clear();
  try {
    buffers_.emplace_back(high_water_);
  } catch (...) {
    buffers_.clear();  // the next take asks again and reports
  }
}

}  // namespace switchyard
