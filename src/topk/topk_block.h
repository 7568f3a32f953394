#pragma once

#include <immintrin.h>

#include "topk/topk_kernel.h"

// What topk_lists.h does beside sorting for a block of rows: its memory fetched ahead, its values
// fetched and counted, its NaNs noticed. Static, as all of this is compiled for each ISA.

namespace switchyard {
namespace {

// Who brings what will be read nearer while a block of rows is worked on: one of two, which a
// kernel is compiled for. To ask for each line which it is took a tenth (k = 8) to a third (k = 2)
// of the time of rows in L2.

/// What comes after the block: as eight streams side by side, since one at a time a core reads
/// memory at two thirds of what it can, and as evenly as the work allows, since a core waits for
/// few lines at a time. Making lists only, which is half of the work, took a tenth longer. Into L1;
/// or into L2 only, from where each line read fetches one of the rows after it: two blocks overflow
/// an L1, and where working on one takes longer than reading it that is 2% faster, but where it
/// does not, 1% slower.
template <bool kIntoL1>
class AheadInStreams {
 public:
  static constexpr int kStreams = 8;

  /// Of `count` rows from `row` on, `at_once` of which are sorted together.
  AheadInStreams(const TopkArgs& args, std::int64_t row, int count, int at_once) noexcept
      : at_(reinterpret_cast<const char*>(args.x + (row + count) * args.row_stride)),
        stream_(count * args.row_stride * static_cast<std::int64_t>(sizeof(float)) / kStreams),
        next_rows_(at_once * args.row_stride) {}

  /// As much as `num_columns` more of what comes after the block.
  void fetch(int num_columns) noexcept {
    constexpr int kColumnsOfLines = kStreams * 16, kLevel = kIntoL1 ? 3 : 2;
    for (owed_ += num_columns; owed_ >= kColumnsOfLines; owed_ -= kColumnsOfLines, at_ += 64) {
      const char* line = at_;
#pragma GCC unroll 8
      for (int i = 0; i < kStreams; ++i, line += stream_) __builtin_prefetch(line, 0, kLevel);
    }
  }

  /// beside<V>(column) goes with the read of what lies `column` columns after x, a line's first.
  class Reads {
   public:
    Reads(const AheadInStreams& ahead, const float* x) noexcept : next_(x + ahead.next_rows_) {}
    template <class V>
    void beside(int column) const noexcept {
      if (!kIntoL1) __builtin_prefetch(next_ + column);
    }

   private:
    const float* next_;
  };

 private:
  const char* at_;
  std::int64_t stream_;     // bytes
  std::int64_t next_rows_;  // floats
  // Columns. Not an int: counting into args.num_chosen would be taken to change it.
  std::int64_t owed_ = 0;
};

/// Where memory is best read in order (CpuFeatures::reads_in_order): each line read asks for the
/// one 12 KiB after it into L2, as rows are read in the order they lie in, and for the one 2 KiB
/// after it into L1. Zen 4, of the time of the eight streams: k = 2 0.70 to 0.87, k = 8 0.88 to
/// 0.97; compiled for it and with those into L1 0.93 to 0.96 and 0.91 to 0.92 of that. 4 and 16 KiB
/// ahead are as good as 12, 1 and 8 KiB not as 2; not asking at all takes as long for k = 2 and
/// 1.15 to 1.3 times as long for k = 8.
class AheadInOrder {
 public:
  AheadInOrder(const TopkArgs& args, std::int64_t, int, int) noexcept
      : into_l2_(rows_of(3072, args)), into_l1_(rows_of(512, args)) {}

  void fetch(int) noexcept {}

  class Reads {
   public:
    Reads(const AheadInOrder& ahead, const float* x) noexcept
        : far_(x + ahead.into_l2_), near_(x + ahead.into_l1_) {}
    template <class V>
    void beside(int column) const noexcept {
      V::keep_reads_in_order();
      __builtin_prefetch(far_ + column, 0, 2);
      __builtin_prefetch(near_ + column, 0, 3);
    }

   private:
    const float *far_, *near_;
  };

 private:
  // Whole rows, just more than so many floats.
  static std::int64_t rows_of(int floats, const TopkArgs& args) noexcept {
    return (floats / args.num_columns + 1) * args.row_stride;
  }

  std::int64_t into_l2_, into_l1_;  // floats
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
