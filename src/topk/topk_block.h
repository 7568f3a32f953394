#pragma once

#include <immintrin.h>

#include "topk/topk_kernel.h"

// What topk_lists.h does beside sorting for a block of rows: its memory fetched ahead, its values
// fetched and counted, its NaNs noticed. Static, as all of this is compiled for each ISA.

namespace switchyard {
namespace {

/// Brings what will be read nearer while a block of rows is worked on.
///
/// As a rule what comes after the block: as eight streams side by side, since one at a time a core
/// reads memory at two thirds of what it can, and as evenly as the work allows, since a core waits
/// for few lines at a time. Making lists only, which is half of the work, took a tenth longer. Into
/// L1; or into L2 only, from where each line read fetches one of the rows after it: two blocks
/// overflow an L1, and where working on one takes longer than reading it that is 2% faster, but
/// where it does not, 1% slower.
///
/// In order (CpuFeatures::reads_in_order): each line read asks for the one 12 KiB after it into L2,
/// as rows are read in the order they lie in. Zen 4, of the time of the eight streams: k = 2 0.70
/// to 0.87, k = 8 0.88 to 0.97. 4 and 16 KiB ahead are as good; not asking at all takes as long for
/// k = 2 and 1.15 to 1.3 times as long for k = 8.
template <bool kIntoL1>
class Ahead {
 public:
  static constexpr int kStreams = 8;
  static constexpr int kFloatsInOrder = 3072;

  /// `next_rows`: floats from a row to the one that a line read may fetch a part of into L1.
  Ahead(const TopkArgs& args, std::int64_t row, int count, std::int64_t next_rows) noexcept
      : at_(reinterpret_cast<const char*>(args.x + (row + count) * args.row_stride)),
        stream_(count * args.row_stride * static_cast<std::int64_t>(sizeof(float)) / kStreams),
        after_line_(next_rows),
        in_order_(args.in_order) {
    if (in_order_) after_line_ = (kFloatsInOrder / args.num_columns + 1) * args.row_stride;
  }

  /// As much as `num_columns` more of what comes after the block.
  void fetch(int num_columns) noexcept {
    if (in_order_) return;
    constexpr int kColumnsOfLines = kStreams * 16, kLevel = kIntoL1 ? 3 : 2;
    for (owed_ += num_columns; owed_ >= kColumnsOfLines; owed_ -= kColumnsOfLines, at_ += 64) {
      const char* line = at_;
#pragma GCC unroll 8
      for (int i = 0; i < kStreams; ++i, line += stream_) __builtin_prefetch(line, 0, kLevel);
    }
  }

  /// A line of a row is read.
  void read(const float* line) const noexcept {
    if (in_order_) {
      __builtin_prefetch(line + after_line_, 0, 2);
    } else if (!kIntoL1) {
      __builtin_prefetch(line + after_line_);
    }
  }

 private:
  const char* at_;
  std::int64_t stream_;      // bytes
  std::int64_t after_line_;  // floats
  bool in_order_;
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
