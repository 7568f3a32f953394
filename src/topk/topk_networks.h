#pragma once

// Sorting networks over registers, each lane for itself, and lists that they make: for
// topk_lists.h, which names the operations of V. Always inline, which keeps the elements in
// registers. Static, as all of this is compiled for each ISA.

namespace switchyard {
namespace {

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
  typename V::Floats beyond;         ///< at least the largest that was left out
};

template <class V>
[[gnu::always_inline]] inline void sort_falling(typename V::Floats (&v)[4]) noexcept {
  exchange<V>(v[0], v[1]), exchange<V>(v[2], v[3]);
  exchange<V>(v[0], v[2]), exchange<V>(v[1], v[3]);
  exchange<V>(v[1], v[2]);
}

// The network of 19 exchanges and depth 6 (Knuth, volume 3, 5.3.4).
template <class V>
[[gnu::always_inline]] inline void sort_falling(typename V::Floats (&v)[8]) noexcept {
  exchange<V>(v[0], v[2]), exchange<V>(v[1], v[3]), exchange<V>(v[4], v[6]);
  exchange<V>(v[5], v[7]), exchange<V>(v[0], v[4]), exchange<V>(v[1], v[5]);
  exchange<V>(v[2], v[6]), exchange<V>(v[3], v[7]), exchange<V>(v[0], v[1]);
  exchange<V>(v[2], v[3]), exchange<V>(v[4], v[5]), exchange<V>(v[6], v[7]);
  exchange<V>(v[2], v[4]), exchange<V>(v[3], v[5]), exchange<V>(v[1], v[4]);
  exchange<V>(v[3], v[6]), exchange<V>(v[1], v[2]), exchange<V>(v[3], v[4]);
  exchange<V>(v[5], v[6]);
}

/// The end of a bitonic merge: v[0 .. kDepth) rises and then falls, or is that turned round.
template <class V, int kDepth>
[[gnu::always_inline]] inline void sort_bitonic(typename V::Floats* v) noexcept {
#pragma GCC unroll 3
  for (int distance = kDepth / 2; distance > 0; distance /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; ++i) {
      if ((i & distance) == 0) exchange<V>(v[i], v[i + distance]);
    }
  }
}

/// The largest kOut of both: all of them, or half. Of a half, left out is min(a[i], b[depth-1-i])
/// for every i; with fewer terms, each stands for several neighbours and is at least their largest.
template <class V, int kTerms, int kOut, int kDepth>
[[gnu::always_inline]] inline List<V, kOut> merged(const List<V, kDepth>& a,
                                                   const List<V, kDepth>& b) noexcept {
  List<V, kOut> out;
#pragma GCC unroll 8
  for (int i = 0; i < kDepth; ++i) out.value[i] = V::max(a.value[i], b.value[kDepth - 1 - i]);
  sort_bitonic<V, kDepth>(out.value);
  if constexpr (kOut > kDepth) {
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; ++i) {
      out.value[kDepth + i] = V::min(a.value[i], b.value[kDepth - 1 - i]);
    }
    sort_bitonic<V, kDepth>(out.value + kDepth);
    out.beyond = V::max(a.beyond, b.beyond);
  } else {
    out.beyond = V::max(a.beyond, b.beyond);
#pragma GCC unroll 8
    for (int i = 0; i < kDepth; i += kDepth / kTerms) {
      const typename V::Floats left_out = V::min(a.value[i], b.value[kDepth - i - kDepth / kTerms]);
      out.beyond = V::max(out.beyond, left_out);
    }
  }
  return out;
}

}  // namespace
}  // namespace switchyard
