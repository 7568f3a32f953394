#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace switchyard {

/// Uninitialised memory, 64-byte aligned; from 2 MiB up it asks for huge pages. Growing discards
/// the content; asking for no more than before allocates nothing.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t bytes) { reserve(bytes); }
  ~Buffer() { release(); }
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  /// Throws Error(out_of_memory) naming the bytes.
  void reserve(std::int64_t bytes);

  std::byte* data() const noexcept { return data_; }
  std::int64_t bytes() const noexcept { return bytes_; }

  /// The buffer as at least `count` elements of T.
  template <class T>
  T* elements(std::int64_t count) {
    reserve(count * static_cast<std::int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(data_);
  }

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

}  // namespace switchyard
