#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"

namespace switchyard {

/// Scratch memory that a call takes piece by piece and gives back whole. Keeps what it has seen, so
/// that the second call of a size allocates nothing. Take from one thread only.
class Arena {
 public:
  /// Everything taken during a scope goes back at its end; scopes nest.
  class Scope {
   public:
    explicit Scope(Arena& arena) noexcept : arena_(arena), mark_(arena.used_) { ++arena_.depth_; }
    ~Scope() {
      arena_.used_ = mark_;
      if (--arena_.depth_ == 0) arena_.consolidate();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    /// `count` uninitialised elements, 64-byte aligned.
    template <class T>
    std::span<T> take(std::int64_t count) {
      auto* data = arena_.take_bytes(count * static_cast<std::int64_t>(sizeof(T)));
      return {reinterpret_cast<T*>(data), static_cast<std::size_t>(count)};
    }

   private:
    Arena& arena_;
    std::int64_t mark_;
  };

  /// The most bytes that were taken at once.
  std::int64_t high_water() const noexcept { return high_water_; }

 private:
  std::byte* take_bytes(std::int64_t bytes);
  void consolidate() noexcept;

  // The first buffer is the arena proper; the rest are overflow of the current outermost scope,
  // folded into a larger first buffer when it ends.
  std::vector<Buffer> buffers_;
  std::int64_t used_ = 0;
  std::int64_t high_water_ = 0;
  int depth_ = 0;
};

}  // namespace switchyard
