#pragma once

#include "topk/topk_kernel.h"

// Top k of V::kLanes rows at once without a branch on their values, for k up to kMaxListed, by
// sorted lists in registers: register i of a list holds the i-th largest of as many sets of columns
// as a register has lanes.
//
//   row 0   columns: lanes side by side, 4 or 8 registers deep, each lane sorted downwards \ lists
//   row 1   ...                                                                               /
//   merge   halves of two rows' lists into one of half as many lanes a row, which again holds the
//           largest of each; after log2(lanes) merges lane r of register i is the i-th largest of
//           row r, and the rest (weights) is vertical, too.
//
// What is sorted is one float a column, its value with the column in the lowest bits of the
// mantissa. So values that differ in those bits alone may be out of order: rows in which that could
// matter are reported, and so are all rows of the group when one holds NaN or an infinity.
// Static, as all of this is compiled for each ISA.

namespace switchyard {
namespace {

constexpr int kMaxListed = 8;
constexpr int kMaxListedColumns = 1024;

struct Columns {
  constexpr Columns() noexcept {
    for (int i = 0; i < kMaxListedColumns; ++i) at[i] = i;
  }
  alignas(64) std::int32_t at[kMaxListedColumns] = {};
};
constexpr Columns kColumns;

/// The lowest bits, enough for a column.
inline int column_mask_of(int num_columns) noexcept {
  int mask = 1;
  while (mask < num_columns - 1) mask = 2 * mask + 1;
  return mask;
}

/// Compares and exchanges: the larger into a.
template <class V>
inline void exchange(typename V::Floats& a, typename V::Floats& b) noexcept {
  const typename V::Floats larger = V::max(a, b);
  b = V::min(a, b);
  a = larger;
}

template <class V, int kDepth>
struct List {
  typename V::Floats value[kDepth];  ///< falling in each lane
  typename V::Floats beyond;         ///< at least the largest that was left out; of kTracked lists
};

template <class V>
inline void sort_falling(List<V, 4>& list) noexcept {
  typename V::Floats* v = list.value;
  exchange<V>(v[0], v[1]), exchange<V>(v[2], v[3]);
  exchange<V>(v[0], v[2]), exchange<V>(v[1], v[3]);
  exchange<V>(v[1], v[2]);
}

// The network of 19 exchanges and depth 6 (Knuth, volume 3, 5.3.4).
template <class V>
inline void sort_falling(List<V, 8>& list) noexcept {
  typename V::Floats* v = list.value;
  exchange<V>(v[0], v[2]), exchange<V>(v[1], v[3]), exchange<V>(v[4], v[6]);
  exchange<V>(v[5], v[7]), exchange<V>(v[0], v[4]), exchange<V>(v[1], v[5]);
  exchange<V>(v[2], v[6]), exchange<V>(v[3], v[7]), exchange<V>(v[0], v[1]);
  exchange<V>(v[2], v[3]), exchange<V>(v[4], v[5]), exchange<V>(v[6], v[7]);
  exchange<V>(v[2], v[4]), exchange<V>(v[3], v[5]), exchange<V>(v[1], v[4]);
  exchange<V>(v[3], v[6]), exchange<V>(v[1], v[2]), exchange<V>(v[3], v[4]);
  exchange<V>(v[5], v[6]);
}

/// a = the largest of both, by a bitonic merge whose smaller half is left out. Left out is
/// min(a[i], b[depth-1-i]) for every i; with fewer terms, each stands for several neighbours and is
/// at least their largest.
template <class V, int kTerms, int kDepth>
inline void merge(List<V, kDepth>& a, const List<V, kDepth>& b) noexcept {
  if constexpr (kTerms > 0) {
    typename V::Floats beyond = V::max(a.beyond, b.beyond);
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; i += kDepth / kTerms) {
      beyond = V::max(beyond, V::min(a.value[i], b.value[kDepth - i - kDepth / kTerms]));
    }
    a.beyond = beyond;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kDepth; ++i) a.value[i] = V::max(a.value[i], b.value[kDepth - 1 - i]);
#pragma GCC unroll 3
  for (int distance = kDepth / 2; distance > 0; distance /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; ++i) {
      if ((i & distance) == 0) exchange<V>(a.value[i], a.value[i + distance]);
    }
  }
}

/// Brings what comes after a block of rows into L2 while the block is worked on: as eight streams
/// side by side, since one at a time a core reads memory at two thirds of what it can.
class Ahead {
 public:
  static constexpr int kStreams = 8;

  Ahead(const float* from, std::int64_t floats) noexcept
      : at_(reinterpret_cast<const char*>(from)),
        stream_(floats * static_cast<std::int64_t>(sizeof(float)) / kStreams) {}

  /// Another row's worth.
  void fetch(int num_columns) noexcept {
    for (int e = 0; e < num_columns; e += kLine) {
      __builtin_prefetch(at_ + next_ % kStreams * stream_ + next_ / kStreams * 64, 0, kIntoL2);
      ++next_;
    }
  }

 private:
  static constexpr int kLine = 16;  // floats
  static constexpr int kIntoL2 = 2;
  const char* at_;
  std::int64_t stream_;
  unsigned next_ = 0;
};

/// The lists of V::kLanes rows of E columns.
template <class V, int kDepth, bool kTracked>
class RowLists {
 public:
  using L = List<V, kDepth>;
  using Floats = typename V::Floats;

  /// column_mask: 2^n - 1 >= E - 1
  RowLists(const float* x, std::int64_t row_stride, int num_columns, int column_mask,
           Ahead& ahead) noexcept
      : x_(x),
        row_stride_(row_stride),
        num_columns_(num_columns),
        keys_(column_mask),
        ahead_(ahead) {}

  /// Lane r for row r. Whether all was finite.
  bool make(L& out) noexcept {
    L part[4];
    for (int i = 0; i < 4; ++i) lists_of_part(i * kLeaves, part[i]);
    join<kLevels - 1>(part[0], part[1]);
    join<kLevels - 1>(part[2], part[3]);
    join<kLevels>(part[0], part[2]);
    out = part[0];
    return !V::any_nan(not_finite_);
  }

 private:
  static constexpr int kLevels = V::kLevels;         // log2(lanes)
  static constexpr int kLeaves = V::kLanes / 4;      // rows of a part
  static constexpr int kChunk = kDepth * V::kLanes;  // columns that are sorted at once

  // Few lanes seldom hold most of a row's largest: a rough bound of what they leave out will do.
  static constexpr int terms_of(int level) noexcept {
    if (!kTracked) return 0;
    return level <= kLevels - 3 ? 2 : level == kLevels - 2 ? 4 : kDepth;
  }

  // Leaf i is the row that ends in lane i of the joins' order.
  static int row_of_leaf(int leaf) noexcept { return leaf % kLeaves * 4 + leaf / kLeaves; }

  /// 0 in every lane while all that was added, times 0, was finite; two sums, as one would be a
  /// chain of additions longer than the sorting beside it.
  struct Finite {
    Floats sum[2] = {V::zero(), V::zero()};
  };

  [[gnu::noinline]] void lists_of_part(int leaf, L& out) noexcept {
    Finite finite;
    out = node<kLevels - 2>(leaf, finite);
    not_finite_ = V::add(not_finite_, V::add(finite.sum[0], finite.sum[1]));
  }

  template <int kLevel>
  [[gnu::always_inline]] inline L node(int leaf, Finite& finite) noexcept {
    if constexpr (kLevel == 0) {
      return list_of_row(x_ + row_of_leaf(leaf) * row_stride_, finite);
    } else {
      L a = node<kLevel - 1>(leaf, finite);
      const L b = node<kLevel - 1>(leaf + (1 << (kLevel - 1)), finite);
      join<kLevel>(a, b);
      return a;
    }
  }

  /// a = both, with half as many lanes a row.
  template <int kLevel>
  [[gnu::always_inline]] static inline void join(L& a, const L& b) noexcept {
    L low, high;
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; ++i) {
      low.value[i] = V::template low<kLevel>(a.value[i], b.value[i]);
      high.value[i] = V::template high<kLevel>(a.value[i], b.value[i]);
    }
    if constexpr (kTracked) {
      low.beyond = V::template low<kLevel>(a.beyond, b.beyond);
      high.beyond = V::template high<kLevel>(a.beyond, b.beyond);
    }
    merge<V, terms_of(kLevel)>(low, high);
    a = low;
  }

  [[gnu::always_inline]] inline L list_of_row(const float* x, Finite& finite) noexcept {
    ahead_.fetch(num_columns_);
    L list = num_columns_ >= kChunk ? chunk<true>(x, 0, finite) : chunk<false>(x, 0, finite);
    list.beyond = V::lowest();
    for (int begin = kChunk; begin < num_columns_; begin += kChunk) {
      L next = num_columns_ - begin >= kChunk ? chunk<true>(x, begin, finite)
                                              : chunk<false>(x, begin, finite);
      next.beyond = V::lowest();
      merge<V, terms_of(0)>(list, next);
    }
    return list;
  }

  template <bool kWhole>
  [[gnu::always_inline]] inline L chunk(const float* x, int begin, Finite& finite) noexcept {
    L list;
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; ++i) {
      const int at = begin + i * V::kLanes;
      const Floats v = kWhole ? V::load(x + at) : V::load_first(x + at, num_columns_ - at);
      finite.sum[i % 2] = V::add_zero_times(v, finite.sum[i % 2]);
      list.value[i] = keys_.of(v, at);
    }
    sort_falling<V>(list);
    return list;
  }

  const float* x_;
  std::int64_t row_stride_;
  int num_columns_;
  typename V::Keys keys_;
  Ahead& ahead_;
  Floats not_finite_ = V::zero();  ///< NaN in any lane when anything was not finite
};

// Chooses for V::kLanes rows from `row` on. Returns a bit for each row in which the choice is not
// certain; its columns are in range, too.
template <class V, int kDepth, bool kTracked>
unsigned choose_rows(const TopkArgs& args, std::int64_t row, Ahead& ahead) noexcept {
  const int column_mask = column_mask_of(args.num_columns);
  List<V, kDepth> list;
  RowLists<V, kDepth, kTracked> rows(args.x + row * args.row_stride, args.row_stride,
                                     args.num_columns, column_mask, ahead);
  const bool is_finite = rows.make(list);
  const typename V::Keys keys(column_mask);
  unsigned unclear = is_finite ? 0 : (1u << V::kLanes) - 1;
  typename V::Floats column[kDepth], here = keys.value(list.value[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kDepth; ++i) {
    const typename V::Floats next = keys.value(i + 1 < kDepth ? list.value[i + 1] : list.beyond);
    if (i < args.k) unclear |= V::equal(here, next);
    here = next;
    column[i] = keys.column(list.value[i], args.num_columns - 1);
  }
  V::template store_rows<kDepth>(column, args.k,
                                 reinterpret_cast<float*>(args.index + row * args.k));
  return unclear;
}

constexpr int kBlockRows = 64;

// Weighs what was chosen for rows [row, row + count). Values are fetched one by one: that takes
// half the time of gather instructions, and is done long before their vectors are read.
template <class V, int kDepth>
void weigh_rows(const TopkArgs& args, std::int64_t row, int count) noexcept {
  alignas(64) float value[kDepth][kBlockRows];
  const int k = args.k;
  const std::int32_t* column = args.index + row * k;
  const float* x = args.x + row * args.row_stride;
  for (int r = 0; r < count; ++r, x += args.row_stride, column += k) {
    for (int i = 0; i < k; ++i) value[i][r] = x[column[i]];
  }
  for (int r = 0; r < count; r += V::kLanes) {
    const typename V::Floats max = V::load(value[0] + r), scale = V::all(args.scale);
    typename V::Floats weight[kDepth], sum = V::zero();
    for (int i = 0; i < kDepth; ++i) weight[i] = sum;
    for (int i = 0; i < k; ++i) {
      weight[i] = V::exp(V::multiply(V::subtract(V::load(value[i] + r), max), scale));
      sum = V::add(sum, weight[i]);
    }
    if (args.share != nullptr) {
      const typename V::Floats factor =
          V::divide(V::all(args.share->factor), V::add(sum, V::all(args.share->epsilon)));
      for (int i = 0; i < k; ++i) weight[i] = V::multiply(weight[i], factor);
    }
    V::template store_rows<kDepth>(weight, k, args.weight + (row + r) * k);
    if (args.max != nullptr) V::store(args.max + row + r, max);
  }
}

// Rows [row, row + count), at most kBlockRows and a multiple of V::kLanes; those that are not
// certain by one(r), which returns whether it could. Returns the first it could not, or the end.
template <class V, int kDepth, bool kTracked, class One>
std::int64_t select_rows(const TopkArgs& args, std::int64_t row, int count, One& one) noexcept {
  unsigned unclear[kBlockRows / V::kLanes];
  Ahead ahead(args.x + (row + count) * args.row_stride, count * args.row_stride);
  for (int r = 0; r < count; r += V::kLanes) {
    unclear[r / V::kLanes] = choose_rows<V, kDepth, kTracked>(args, row + r, ahead);
  }
  weigh_rows<V, kDepth>(args, row, count);
  for (int r = 0; r < count; r += V::kLanes) {
    for (unsigned left = unclear[r / V::kLanes]; left != 0; left &= left - 1) {
      const std::int64_t unclear_row = row + r + __builtin_ctz(left);
      if (!one(unclear_row)) return unclear_row;
    }
  }
  return row + count;
}

/// Chooses for all rows, one(r) for those that lists cannot do, and calls done(begin, end) after
/// some of them. Returns as TopkKernel.
template <class V, class One, class Done>
std::int64_t select_all(const TopkArgs& args, One&& one, Done&& done) noexcept {
  const bool has_lists = args.k <= kMaxListed && args.num_columns <= kMaxListedColumns;
  for (std::int64_t row = 0; row < args.num_rows;) {
    const std::int64_t left = args.num_rows - row < kBlockRows ? args.num_rows - row : kBlockRows;
    const int count = static_cast<int>(left) / V::kLanes * V::kLanes;
    std::int64_t wanted = row + 1, end;
    if (!has_lists || count == 0) {
      end = one(row) ? wanted : row;
    } else {
      wanted = row + count;
      if (args.k < 4) {
        end = select_rows<V, 4, false>(args, row, count, one);
      } else if (args.k < 8) {
        end = select_rows<V, 8, false>(args, row, count, one);
      } else {
        end = select_rows<V, 8, true>(args, row, count, one);
      }
    }
    done(row, end);
    if (end < wanted) return end;
    row = end;
  }
  return args.num_rows;
}

}  // namespace
}  // namespace switchyard
