#include "base/buffer.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <utility>

#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t kHugePage = std::int64_t{2} << 20;

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void Buffer::reserve(std::int64_t bytes) {
  if (bytes <= bytes_) return;
  release();
  const std::int64_t unit = bytes >= kHugePage ? kHugePage : kCacheLine;
  // One line more than asked: kernels may load, never use, up to a vector past the end.
  const std::int64_t rounded = round_up(bytes + kCacheLine, unit);
  void* memory =
      std::aligned_alloc(static_cast<std::size_t>(unit), static_cast<std::size_t>(rounded));
  if (memory == nullptr) {
    throw Error(ErrorCode::out_of_memory, fmt::format("could not allocate {} bytes", bytes));
  }
  if (unit == kHugePage) madvise(memory, static_cast<std::size_t>(rounded), MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

void Buffer::release() noexcept {
  std::free(data_);
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace switchyard
