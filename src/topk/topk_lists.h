#pragma once

#include <type_traits>

#include "topk/topk_block.h"
#include "topk/topk_insert.h"
#include "topk/topk_kernel.h"
#include "topk/topk_networks.h"

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
// matter are reported, and so are all rows of the block when one holds NaN or an infinity, which
// the column turns into a NaN and the processor's flags tell of (0.97 of the time of looking).
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

/// The lists of V::kLanes rows of E columns, in steps of kRegisters registers of a row.
template <class V, int kDepth, int kRegisters, class Ahead>
class RowLists {
 public:
  using Floats = typename V::Floats;

  /// column_mask: 2^n - 1 >= E - 1. `fetch`, of as many rows, runs while these are sorted: right
  /// after their columns are chosen their values would be waited for (0.96 of the time so).
  RowLists(const float* x, std::int64_t row_stride, int num_columns, int column_mask,
           const ValueFetch<kDepth>& fetch, Ahead& ahead) noexcept
      : x_(x),
        row_stride_(row_stride),
        num_columns_(num_columns),
        keys_(column_mask),
        fetch_(fetch),
        ahead_(ahead) {}

  /// Lane r for row r. Whether all was finite, as far as no NanWatch tells.
  bool make(List<V, kDepth>& out) noexcept {
    List<V, kDepth> part[4];
    for (int i = 0; i < 4; ++i) {
      if (num_columns_ == kChunk) {
        lists_of_part<true>(i * kLeaves, part[i]);
      } else {
        lists_of_part<false>(i * kLeaves, part[i]);
      }
    }
    out = joined<kLevels>(joined<kLevels - 1>(part[0], part[1]),
                          joined<kLevels - 1>(part[2], part[3]));
    for (Floats& values : out.value) values = V::in_row_order(values);
    out.beyond = V::in_row_order(out.beyond);
    return V::all_finite(finite_);
  }

 private:
  static constexpr int kLevels = V::kLevels;             // log2(lanes)
  static constexpr int kLeaves = V::kLanes / 4;          // rows of a part
  static constexpr int kChunk = kRegisters * V::kLanes;  // columns that are sorted at once

  // Of the 8 largest columns one of 8 lanes holds more than 4 in one row of 70, and one of 16 lanes
  // in one of 1200: then the row is not certain.
  static constexpr int depth_of(int level) noexcept {
    return kDepth > 4 && (V::kLanes >> level) >= 8 ? 4 : kDepth;
  }

  // What is left out of half the columns is seldom among the largest of all: a rough bound will do.
  static constexpr int terms_of(int level) noexcept {
    return kDepth > 4 && level == kLevels - 1 ? kDepth / 2 : depth_of(level);
  }

  // kOneChunk: for rows of one, a quarter of the instructions, which come from memory, too.
  template <bool kOneChunk>
  [[gnu::noinline]] void lists_of_part(int leaf, List<V, kDepth>& out) noexcept {
    Floats finite = finite_;  // in a register
    out = node<kLevels - 2, kOneChunk>(leaf, finite);
    finite_ = finite;
  }

  template <int kLevel, bool kOneChunk>
  [[gnu::always_inline]] inline auto node(int leaf, Floats& finite) noexcept {
    if constexpr (kLevel == 0) {
      if (fetch_.x != nullptr) fetch_.row(leaf);
      return list_of_row<kOneChunk>(x_ + leaf * row_stride_, finite);
    } else {
      const auto a = node<kLevel - 1, kOneChunk>(leaf, finite);
      const auto b = node<kLevel - 1, kOneChunk>(leaf + (1 << (kLevel - 1)), finite);
      return joined<kLevel>(a, b);
    }
  }

  /// Both, with half as many lanes a row.
  template <int kLevel, int kIn>
  [[gnu::always_inline]] static inline auto joined(const List<V, kIn>& a,
                                                   const List<V, kIn>& b) noexcept {
    List<V, kIn> low, high;
#pragma GCC unroll 8
    for (int i = 0; i < kIn; ++i) {
      low.value[i] = V::template low<kLevel>(a.value[i], b.value[i]);
      high.value[i] = V::template high<kLevel>(a.value[i], b.value[i]);
    }
    low.beyond = V::template low<kLevel>(a.beyond, b.beyond);
    high.beyond = V::template high<kLevel>(a.beyond, b.beyond);
    return merged<V, terms_of(kLevel), depth_of(kLevel)>(low, high);
  }

  using Leaf = List<V, depth_of(0)>;

  template <bool kOneChunk>
  [[gnu::always_inline]] inline Leaf list_of_row(const float* x, Floats& finite) noexcept {
    ahead_.fetch((kOneChunk ? kChunk : num_columns_) / 2);
    if constexpr (kOneChunk) return chunk<true>(x, 0, finite);
    Leaf list = next_chunk(x, 0, finite);
    for (int begin = kChunk; begin < num_columns_; begin += kChunk) {
      const Leaf next = next_chunk(x, begin, finite);
      list = merged<V, terms_of(0), depth_of(0)>(list, next);
    }
    return list;
  }

  [[gnu::always_inline]] inline Leaf next_chunk(const float* x, int begin,
                                                Floats& finite) noexcept {
    return num_columns_ - begin >= kChunk ? chunk<true>(x, begin, finite)
                                          : chunk<false>(x, begin, finite);
  }

  template <bool kWhole>
  [[gnu::always_inline]] inline Leaf chunk(const float* x, int begin, Floats& finite) noexcept {
    Floats sorted[kRegisters];
    x += begin;
    const typename Ahead::Reads reads(ahead_, x);
#pragma GCC unroll 8
    for (int i = 0; i < kRegisters; ++i) {
      const int at = i * V::kLanes, left = num_columns_ - begin - at;
      const Floats v = kWhole ? V::load(x + at) : V::load_first(x + at, left);
      if (at % 16 == 0 && (kWhole || left > 0)) reads.template beside<V>(at);
      // Column 0 leaves an infinity as it is, and makes one of some NaN. Padding is larger than an
      // infinity below 0.
      if (!kWhole || i == 0) finite = V::multiply_add(v, V::zero(), finite);
      sorted[i] = keys_.of(v, begin + at);
    }
    sort_falling<V>(sorted);
    constexpr int kKept = depth_of(0);
    Leaf list;
#pragma GCC unroll 8
    for (int i = 0; i < kKept; ++i) list.value[i] = sorted[i];
    list.beyond = kRegisters > kKept ? sorted[kKept] : V::lowest();
    return list;
  }

  const float* x_;
  std::int64_t row_stride_;
  int num_columns_;
  typename V::Keys keys_;
  const ValueFetch<kDepth>& fetch_;
  Ahead& ahead_;
  Floats finite_ = V::all(1.0f);  ///< in each lane, while all that was read was
};

// Fetches what will be written of V::kLanes rows: a store to what no cache holds keeps all stores
// after it waiting, which took an eighth of the time of k = 8. Inline, as GCC drops calls of what
// only prefetches.
template <class V>
[[gnu::always_inline]] inline void expect_rows(const TopkArgs& args, std::int64_t row) noexcept {
  constexpr int kWrite = 1, kLine = 16;
  for (int i = 0; i < V::kLanes * args.k; i += kLine) {
    __builtin_prefetch(args.index + row * args.k + i, kWrite);
    __builtin_prefetch(args.weight + row * args.k + i, kWrite);
  }
}

// Chooses for V::kLanes rows from `row` on, which is row `r` of the block, running `fetch` on the
// way and leaving there what is to be fetched then. Returns a bit for each row in which the choice
// is not certain; its columns are in range, too.
template <class V, int kDepth, int kRegisters, class Ahead>
unsigned choose_rows(const TopkArgs& args, std::int64_t row, int r, Ahead& ahead,
                     ValueFetch<kDepth>& fetch) noexcept {
  using Floats = typename V::Floats;
  Chosen<kDepth>& chosen = *fetch.chosen;
  const int column_mask = column_mask_of(args.num_columns), k = args.k;
  const float* x = args.x + row * args.row_stride;
  List<V, kDepth> list;
  RowLists<V, kDepth, kRegisters, Ahead> rows(x, args.row_stride, args.num_columns, column_mask,
                                              fetch, ahead);
  unsigned unclear = rows.make(list) ? 0 : (1u << V::kLanes) - 1;
  const typename V::Keys keys(column_mask);
  Floats column[kDepth], here = keys.value(list.value[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kDepth; ++i) {
    column[i] = keys.column(list.value[i], args.num_columns - 1);
    V::store(reinterpret_cast<float*>(chosen.column[i] + r), column[i]);
    if (i >= k) continue;
    if (i == k - 1) unclear |= V::reaches(keys.value(list.beyond), here);
    if (i + 1 == kDepth) continue;
    const Floats next = keys.value(list.value[i + 1]);
    unclear |= V::reaches(next, here);
    here = next;
  }
  V::template store_rows<kDepth>(column, k, reinterpret_cast<float*>(args.index + row * k));
  expect_rows<V>(args, row + V::kLanes);
  fetch.x = x;
  fetch.row_stride = args.row_stride;
  fetch.r = r;
  return unclear;
}

// Weighs what was chosen for rows [row, row + count): long after the values were stored one by one,
// which a vector of them would wait for. kAll: k == kDepth.
template <class V, int kDepth, bool kAll, class Ahead>
void weigh_rows(const TopkArgs& args, std::int64_t row, int count, const Chosen<kDepth>& chosen,
                Ahead& ahead) noexcept {
  const int k = kAll ? kDepth : args.k, share_ahead = args.num_columns * V::kLanes / 4 / k;
  for (int r = 0; r < count; r += V::kLanes) {
    const typename V::Floats max = V::load(chosen.value[0] + r), scale = V::all(args.scale);
    typename V::Floats weight[kDepth], sum = V::all(1.0f);
    for (int i = 0; i < kDepth; ++i) weight[i] = sum;
    ahead.fetch(share_ahead);
#pragma GCC unroll 8
    for (int i = 1; i < k; ++i) {
      ahead.fetch(share_ahead);
      const typename V::Floats value = V::load(chosen.value[i] + r);
      weight[i] = V::exp(V::multiply(V::subtract(value, max), scale));
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
template <class V, int kDepth, int kRegisters, class Ahead, class One>
std::int64_t select_rows(const TopkArgs& args, std::int64_t row, int count, One& one) noexcept {
  unsigned unclear[kBlockRows / V::kLanes];
  Chosen<kDepth> chosen;
  ValueFetch<kDepth> fetch{.k = args.k, .num_chosen = args.num_chosen, .chosen = &chosen};
  Ahead ahead(args, row, count, V::kLanes);
  const NanWatch nan;
  for (int r = 0; r < count; r += V::kLanes) {
    unclear[r / V::kLanes] = choose_rows<V, kDepth, kRegisters>(args, row + r, r, ahead, fetch);
  }
  const unsigned all_unclear = nan.met_one() ? (1u << V::kLanes) - 1 : 0;
  for (int i = 0; i < V::kLanes; ++i) {
    ahead.fetch(count * args.num_columns / (4 * V::kLanes));
    fetch.row(i);
  }
  if (args.k == kDepth) {
    weigh_rows<V, kDepth, true>(args, row, count, chosen, ahead);
  } else {
    weigh_rows<V, kDepth, false>(args, row, count, chosen, ahead);
  }
  for (int r = 0; r < count; r += V::kLanes) {
    for (unsigned left = unclear[r / V::kLanes] | all_unclear; left != 0; left &= left - 1) {
      const int unclear_row = r + __builtin_ctz(left);
      if (args.num_chosen != nullptr) fetch.count(unclear_row, -1);
      if (!one(row + unclear_row)) return row + unclear_row;
      count_choice(args, row + unclear_row);
    }
  }
  return row + count;
}

/// select_rows with as many registers as the columns want.
template <class V, int kDepth, class Ahead, class One>
std::int64_t select_to_depth(const TopkArgs& args, std::int64_t row, int count, One& one) noexcept {
  if (args.num_columns <= 4 * V::kLanes) {
    return select_rows<V, kDepth, 4, Ahead>(args, row, count, one);
  }
  return select_rows<V, kDepth, 8, Ahead>(args, row, count, one);
}

/// The same with lists as deep as k wants.
template <class V, bool kInOrder, class One>
std::int64_t select_lists(const TopkArgs& args, std::int64_t row, int count, One& one) noexcept {
  using IntoL1 = std::conditional_t<kInOrder, AheadInOrder, AheadInStreams<true>>;
  using IntoL2 = std::conditional_t<kInOrder, AheadInOrder, AheadInStreams<false>>;
  if (args.k <= 2) return select_to_depth<V, 2, IntoL1>(args, row, count, one);
  if (args.k <= 4) return select_to_depth<V, 4, IntoL1>(args, row, count, one);
  return select_to_depth<V, kMaxListed, IntoL2>(args, row, count, one);
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
      if (end == wanted) count_choice(args, row);
    } else {
      wanted = row + count;
      end = args.in_order ? select_lists<V, true>(args, row, count, one)
                          : select_lists<V, false>(args, row, count, one);
    }
    done(row, end);
    if (end < wanted) return end;
    row = end;
  }
  return args.num_rows;
}

}  // namespace
}  // namespace switchyard
