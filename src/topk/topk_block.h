#pragma once

#include <immintrin.h>

#include "topk/topk_kernel.h"

// What topk_lists.h does beside sorting for a block of rows: its memory fetched ahead, its values
// fetched and counted, its NaNs noticed. Static, as all of this is compiled for each ISA.

namespace switchyard {
namespace {

/// Brings what comes after a block of rows nearer while the block is worked on: as eight streams
/// side by side, since one at a time a core reads memory at two thirds of what it can, and as
/// evenly as the work allows, since a core waits for few lines at a time. Making lists only, which
/// is half of the work, took a tenth longer. Into L1; or into L2 only, from where RowLists fetches
/// what it reads next: two blocks overflow an L1, and where working on one takes longer than
/// reading it that is 2% faster, but where it does not, 1% slower.
template <bool kIntoL1>
class Ahead {
 public:
  static constexpr int kStreams = 8;

  Ahead(const float* from, std::int64_t floats) noexcept
      : at_(reinterpret_cast<const char*>(from)),
        stream_(floats * static_cast<std::int64_t>(sizeof(float)) / kStreams) {}

  /// As much as `num_columns` more.
  void fetch(int num_columns) noexcept {
    constexpr int kColumnsOfLines = kStreams * 16, kLevel = kIntoL1 ? 3 : 2;
    for (owed_ += num_columns; owed_ >= kColumnsOfLines; owed_ -= kColumnsOfLines, at_ += 64) {
      const char* line = at_;
#pragma GCC unroll 8
      for (int i = 0; i < kStreams; ++i, line += stream_) __builtin_prefetch(line, 0, kLevel);
    }
  }

 private:
  const char* at_;
  std::int64_t stream_;
  int owed_ = 0;  // columns
};

constexpr int kBlockRows = 64;

/// What was chosen of a block's rows, in L1: who reads args.index at once would wait for its lines.
template <int kDepth>
struct Chosen {
  alignas(64) std::int32_t column[kDepth][kBlockRows];
  alignas(64) float value[kDepth][kBlockRows];
};

/// Fetches the values of what was chosen for some rows of a block, from `r` on, and counts it. One
/// by one: gathers save 2% of the time, but are slow where the microcode guards them.
template <int kDepth>
struct ValueFetch {
  int k;
  std::int32_t* num_chosen;  ///< of TopkArgs
  Chosen<kDepth>* chosen;
  const float* x = nullptr;  ///< row r; null: nothing to fetch
  std::int64_t row_stride = 0;
  int r = 0;

  [[gnu::always_inline]] void row(int i) const noexcept {
    const float* from = x + i * row_stride;
#pragma GCC unroll 8
    for (int j = 0; j < kDepth; ++j) chosen->value[j][r + i] = from[chosen->column[j][r + i]];
    if (num_chosen != nullptr) count(r + i, 1);
  }

  [[gnu::always_inline]] void count(int row_of_block, int change) const noexcept {
#pragma GCC unroll 8
    for (int j = 0; j < kDepth; ++j) {
      if (j < k) num_chosen[chosen->column[j][row_of_block]] += change;
    }
  }
};

/// Tells whether an operation met a NaN since it was made, by the flag of invalid operations, which
/// it leaves as it was. The empty asm keep memory accesses, and so what they feed, between them.
class NanWatch {
 public:
  NanWatch() noexcept : before_(_mm_getcsr()) {
    if ((before_ & _MM_EXCEPT_INVALID) != 0) _mm_setcsr(before_ & ~_MM_EXCEPT_INVALID);
    asm volatile("" : : : "memory");
  }
  ~NanWatch() {
    if ((before_ & _MM_EXCEPT_INVALID) != 0) _mm_setcsr(_mm_getcsr() | _MM_EXCEPT_INVALID);
  }
  NanWatch(const NanWatch&) = delete;
  NanWatch& operator=(const NanWatch&) = delete;

  bool met_one() const noexcept {
    asm volatile("" : : : "memory");
    return (_mm_getcsr() & _MM_EXCEPT_INVALID) != 0;
  }

 private:
  unsigned before_;
};

}  // namespace
}  // namespace switchyard
