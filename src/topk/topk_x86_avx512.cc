#include <immintrin.h>

#include "topk/topk_insert.h"
#include "topk/topk_kernel.h"
#include "topk/topk_lists.h"

namespace switchyard {
namespace {

constexpr int kLanes = 16;
constexpr int kMaxCandidates = 4 * kLanes;
constexpr float kInfinity = __builtin_inff();

__m512 exp_nonpositive(__m512 x) noexcept {
  const __m512 round = _mm512_set1_ps(kRound);
  const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(kLog2e)), round);
  const __m512 n = _mm512_sub_ps(shifted, round);
  const __m512 r = _mm512_sub_ps(_mm512_sub_ps(x, _mm512_mul_ps(n, _mm512_set1_ps(kLn2High))),
                                 _mm512_mul_ps(n, _mm512_set1_ps(kLn2Low)));
  __m512 q = _mm512_set1_ps(kExpQ[4]);
  for (int i = 3; i >= 0; --i) {
    q = _mm512_add_ps(_mm512_mul_ps(q, r), _mm512_set1_ps(kExpQ[i]));
  }
  const __m512 mantissa =
      _mm512_add_ps(_mm512_add_ps(_mm512_mul_ps(q, _mm512_mul_ps(r, r)), r), _mm512_set1_ps(1.0f));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __m512i y = _mm512_add_epi32(_mm512_castps_si512(mantissa), exponent);
  const __mmask16 in_range = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kExpMin), _CMP_GE_OQ);
  return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(in_range, y));
}

__mmask16 first_lanes(std::int64_t count) noexcept {
  return static_cast<__mmask16>(count >= kLanes ? 0xffffu : (1u << count) - 1);
}

// Lanes past `count` read nothing and hold `fill`.
__m512 load(const float* x, std::int64_t count, float fill) noexcept {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(count), x);
}

// Integers in the order of the floats; its own inverse. -0 sorts below +0.
__m512i ordered(__m512i bits) noexcept {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  return _mm512_xor_epi32(bits, _mm512_and_epi32(_mm512_srai_epi32(bits, 31), magnitude));
}

// One stage of a bitonic network that sorts falling: lanes `Distance` apart, in runs of `Run`,
// alternately falling and rising.
template <int Run, int Distance>
__m512i sort_stage(__m512i v) noexcept {
  constexpr auto keep_smaller = [] {
    unsigned mask = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (((lane & Run) == 0) != ((lane & Distance) == 0)) mask |= 1u << lane;
    }
    return static_cast<__mmask16>(mask);
  }();
  __m512i other;
  if constexpr (Distance == 1) other = _mm512_shuffle_epi32(v, _MM_PERM_CDAB);
  if constexpr (Distance == 2) other = _mm512_shuffle_epi32(v, _MM_PERM_BADC);
  if constexpr (Distance == 4) other = _mm512_shuffle_i32x4(v, v, 0xb1);
  if constexpr (Distance == 8) other = _mm512_shuffle_i32x4(v, v, 0x4e);
  return _mm512_mask_min_epi32(_mm512_max_epi32(v, other), keep_smaller, v, other);
}

__m512i sort_falling(__m512i v) noexcept {
  v = sort_stage<2, 1>(v);
  v = sort_stage<4, 1>(sort_stage<4, 2>(v));
  v = sort_stage<8, 1>(sort_stage<8, 2>(sort_stage<8, 4>(v)));
  return sort_stage<16, 1>(sort_stage<16, 2>(sort_stage<16, 4>(sort_stage<16, 8>(v))));
}

// Rows in lanes, for topk_lists.h.
struct Vector {
  using Floats = __m512;
  static constexpr int kLanes = 16, kLevels = 4;

  static Floats zero() noexcept { return _mm512_setzero_ps(); }
  static Floats lowest() noexcept { return _mm512_set1_ps(-__FLT_MAX__); }
  static Floats load(const float* x) noexcept { return _mm512_loadu_ps(x); }
  static Floats load_first(const float* x, int count) noexcept {
    if (count <= 0) return lowest();
    return switchyard::load(x, count, -__FLT_MAX__);
  }
  static Floats min(Floats a, Floats b) noexcept { return _mm512_min_ps(a, b); }
  static Floats max(Floats a, Floats b) noexcept { return _mm512_max_ps(a, b); }
  static Floats all(float x) noexcept { return _mm512_set1_ps(x); }
  static void store(float* to, Floats x) noexcept { _mm512_storeu_ps(to, x); }
  /// GCC lets the prefetches of a row go before its loads: 1.05 of the time of k = 2, 1.1 where
  /// memory is fast.
  static void keep_reads_in_order() noexcept { asm volatile("" : : : "memory"); }
  static Floats add(Floats a, Floats b) noexcept { return _mm512_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) noexcept { return _mm512_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) noexcept { return _mm512_mul_ps(a, b); }
  static Floats divide(Floats a, Floats b) noexcept { return _mm512_div_ps(a, b); }
  static Floats exp(Floats x) noexcept { return exp_nonpositive(x); }
  /// A bit for each lane in which a >= b.
  static unsigned reaches(Floats a, Floats b) noexcept {
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
  }
  static Floats multiply_add(Floats a, Floats b, Floats sum) noexcept {
    return _mm512_fmadd_ps(a, b, sum);
  }
  static bool all_finite(Floats a) noexcept { return reaches(subtract(a, a), zero()) == 0xffff; }

  /// What the joins made of rows 0, 1, ..., whose lanes hold rows 0, 4, 8, 12, 1, 5, ...
  static Floats in_row_order(Floats v) noexcept {
    const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_ps(lanes, v);
  }
  template <int kLevel>
  static Floats low(Floats a, Floats b) noexcept {
    if constexpr (kLevel == 1) return _mm512_shuffle_f32x4(a, b, 0x44);
    if constexpr (kLevel == 2) return _mm512_shuffle_f32x4(a, b, 0x88);
    if constexpr (kLevel == 3) return unpack_pairs<0>(a, b);
    if constexpr (kLevel == 4) return _mm512_shuffle_ps(a, b, 0x88);
  }
  template <int kLevel>
  static Floats high(Floats a, Floats b) noexcept {
    if constexpr (kLevel == 1) return _mm512_shuffle_f32x4(a, b, 0xee);
    if constexpr (kLevel == 2) return _mm512_shuffle_f32x4(a, b, 0xdd);
    if constexpr (kLevel == 3) return unpack_pairs<1>(a, b);
    if constexpr (kLevel == 4) return _mm512_shuffle_ps(a, b, 0xdd);
  }
  template <int kHigh>
  static Floats unpack_pairs(Floats a, Floats b) noexcept {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_castpd_ps(kHigh ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
  }

  class Keys {
   public:
    explicit Keys(int column_mask) noexcept : mask_(_mm512_set1_epi32(column_mask)) {}
    Floats value(Floats key) const noexcept {
      return _mm512_castsi512_ps(_mm512_andnot_si512(mask_, _mm512_castps_si512(key)));
    }
    /// As bits, at most `last`.
    Floats column(Floats key, int last) const noexcept {
      const __m512i column = _mm512_and_si512(_mm512_castps_si512(key), mask_);
      return _mm512_castsi512_ps(_mm512_min_epu32(column, _mm512_set1_epi32(last)));
    }
    Floats of(Floats value, int column) const noexcept {
      const __m512i columns = _mm512_load_si512(kColumns.at + column);
      constexpr int kFirstButSecondOrThird = 0xba;
      return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(value), mask_,
                                                           columns, kFirstButSecondOrThird));
    }

   private:
    __m512i mask_;
  };

  // GCC merges an extraction and a masked store into vextracti32x4 m128{k}, which, unlike vmovdqu32
  // m128{k}, faults where a masked-out lane lies on a page that is not there. The empty asm keeps
  // them apart.
  static void store_first(float* out, __mmask8 first_k, __m128i v) noexcept {
    asm("" : "+v"(v));
    _mm_mask_storeu_epi32(out, first_k, v);
  }
  static void store_first(float* out, __mmask8 first_k, __m256i v) noexcept {
    asm("" : "+v"(v));
    _mm256_mask_storeu_epi32(out, first_k, v);
  }

  // out[r, 0..k) = lane r of list, k <= kDepth. Where whole vectors can be written they are: what
  // reads them soon need not wait then.
  template <int kDepth>
  static void store_rows(const Floats* list, int k, float* out) noexcept {
    if constexpr (kDepth == 2) {
      store_pairs(list, k, out);
    } else {
      store_quads<kDepth>(list, k, out);
    }
  }

  static void store_pairs(const Floats* list, int k, float* out) noexcept {
    if (k == 1) return store(out, list[0]);
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i last = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    store(out, _mm512_permutex2var_ps(list[0], first, list[1]));
    store(out + kLanes, _mm512_permutex2var_ps(list[0], last, list[1]));
  }

  template <int kDepth>
  static void store_quads(const Floats* list, int k, float* out) noexcept {
    const auto first_k = static_cast<__mmask8>((1u << k) - 1);
    // columns[h][j]: in 128-bit lane b, elements 4h .. 4h+3 of row 4b + j
    __m512i columns[kDepth / 4][4];
    for (int h = 0; h < kDepth / 4; ++h) {
      __m512i v[4];
      for (int i = 0; i < 4; ++i) v[i] = _mm512_castps_si512(list[4 * h + i]);
      const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
      const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
      columns[h][0] = _mm512_unpacklo_epi64(a, c);
      columns[h][1] = _mm512_unpackhi_epi64(a, c);
      columns[h][2] = _mm512_unpacklo_epi64(b, d);
      columns[h][3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int j = 0; j < 4; ++j, out += k) {
      if constexpr (kDepth == 4) {
        store_first(out, first_k, _mm512_castsi512_si128(columns[0][j]));
        store_first(out + 4 * k, first_k, _mm512_extracti32x4_epi32(columns[0][j], 1));
        store_first(out + 8 * k, first_k, _mm512_extracti32x4_epi32(columns[0][j], 2));
        store_first(out + 12 * k, first_k, _mm512_extracti32x4_epi32(columns[0][j], 3));
      } else {
        const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        const __m512i last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        const __m512i low = _mm512_permutex2var_epi64(columns[0][j], first, columns[1][j]);
        const __m512i high = _mm512_permutex2var_epi64(columns[0][j], last, columns[1][j]);
        if (k == kDepth) {
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(low));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * kDepth),
                              _mm512_extracti64x4_epi64(low, 1));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * kDepth),
                              _mm512_castsi512_si256(high));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 12 * kDepth),
                              _mm512_extracti64x4_epi64(high, 1));
          continue;
        }
        store_first(out, first_k, _mm512_castsi512_si256(low));
        store_first(out + 4 * k, first_k, _mm512_extracti64x4_epi64(low, 1));
        store_first(out + 8 * k, first_k, _mm512_castsi512_si256(high));
        store_first(out + 12 * k, first_k, _mm512_extracti64x4_epi64(high, 1));
      }
    }
  }
};

struct Maxima {
  __m512 lanes;  // over columns of equal e % 16; -inf where there is none
  bool nan;
};

Maxima maxima_of(const float* x, int num_columns) noexcept {
  __m512 even = _mm512_set1_ps(-kInfinity), odd = even;
  unsigned nan = 0;
  int e = 0;
  for (; e + 2 * kLanes <= num_columns; e += 2 * kLanes) {
    const __m512 a = _mm512_loadu_ps(x + e), b = _mm512_loadu_ps(x + e + kLanes);
    even = _mm512_max_ps(even, a);
    odd = _mm512_max_ps(odd, b);
    nan |= _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
  }
  for (; e < num_columns; e += kLanes) {
    const __m512 v = load(x + e, num_columns - e, -kInfinity);
    even = _mm512_max_ps(even, v);
    nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  }
  return {_mm512_max_ps(even, odd), nan != 0};
}

// The columns of a row that may be among its top k, by rising column.
struct Candidates {
  alignas(64) float value[kMaxCandidates + kLanes];
  alignas(64) std::int32_t column[kMaxCandidates + kLanes];
  int count;  // past kMaxCandidates the rest is lost
};

void collect(const float* x, int num_columns, __m512 bound, Candidates& out) noexcept {
  __m512i columns = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int count = 0;
  for (int e = 0; e < num_columns; e += kLanes) {
    const __mmask16 in_row = first_lanes(num_columns - e);
    const __m512 v = _mm512_maskz_loadu_ps(in_row, x + e);
    const __mmask16 reached = _mm512_mask_cmp_ps_mask(in_row, v, bound, _CMP_GE_OQ);
    const int at = count < kMaxCandidates ? count : kMaxCandidates;
    _mm512_storeu_ps(out.value + at, _mm512_maskz_compress_ps(reached, v));
    _mm512_storeu_si512(out.column + at, _mm512_maskz_compress_epi32(reached, columns));
    count += __builtin_popcount(reached);
    columns = _mm512_add_epi32(columns, _mm512_set1_epi32(kLanes));
  }
  out.count = count;
}

// Sends each candidate to its rank: the number of candidates that beat it, which are those that are
// larger, and those that are equal and come before.
void rank(const Candidates& candidates, int k, float max, float scale, std::int32_t* index,
          float* weight) noexcept {
  alignas(64) std::int32_t keys[kMaxCandidates];
  const int count = candidates.count;
  for (int begin = 0; begin < count; begin += kLanes) {
    // Adding +0 makes -0 equal to it as an integer, too.
    const __m512 v = _mm512_add_ps(_mm512_load_ps(candidates.value + begin), _mm512_setzero_ps());
    const __m512i key =
        _mm512_mask_mov_epi32(_mm512_set1_epi32(-0x7fffffff - 1), first_lanes(count - begin),
                              ordered(_mm512_castps_si512(v)));
    _mm512_store_si512(keys + begin, key);
  }
  const __m512i one = _mm512_set1_epi32(1);
  for (int begin = 0; begin < count; begin += kLanes) {
    const __m512i key = _mm512_load_si512(keys + begin);
    const __m512i key_below = _mm512_sub_epi32(key, one);
    __m512i beaten_by = _mm512_setzero_si512();
    for (int i = 0; i < begin; ++i) {
      const __mmask16 beats = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(keys[i]), key_below);
      beaten_by = _mm512_mask_add_epi32(beaten_by, beats, beaten_by, one);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const auto behind = static_cast<__mmask16>(0xfffeu << i);
      const __mmask16 beats = _mm512_cmpgt_epi32_mask(
          _mm512_set1_epi32(keys[begin + i]), _mm512_mask_mov_epi32(key, behind, key_below));
      beaten_by = _mm512_mask_add_epi32(beaten_by, beats, beaten_by, one);
    }
    for (int i = begin + kLanes; i < count; ++i) {
      const __mmask16 beats = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(keys[i]), key);
      beaten_by = _mm512_mask_add_epi32(beaten_by, beats, beaten_by, one);
    }
    const __mmask16 chosen =
        _mm512_mask_cmplt_epi32_mask(first_lanes(count - begin), beaten_by, _mm512_set1_epi32(k));
    const __m512 below_max =
        _mm512_sub_ps(_mm512_load_ps(candidates.value + begin), _mm512_set1_ps(max));
    const __m512 y = exp_nonpositive(_mm512_mul_ps(below_max, _mm512_set1_ps(scale)));
    _mm512_mask_i32scatter_epi32(index, chosen, beaten_by,
                                 _mm512_load_si512(candidates.column + begin), 4);
    _mm512_mask_i32scatter_ps(weight, chosen, beaten_by, y, 4);
  }
}

// For many candidates: rows of equal values, k > 16.
void insert_all(const float* x, int num_columns, float bound, int k, float max, float scale,
                std::int32_t* index, float* weight) noexcept {
  int count = 0;
  for (int e = 0; e < num_columns; ++e) {
    if (x[e] >= bound) count = topk_insert(x[e], e, weight, index, count, k);
  }
  for (int i = 0; i < k; i += kLanes) {
    const __m512 v = _mm512_sub_ps(load(weight + i, k - i, 0.0f), _mm512_set1_ps(max));
    _mm512_mask_storeu_ps(weight + i, first_lanes(k - i),
                          exp_nonpositive(_mm512_mul_ps(v, _mm512_set1_ps(scale))));
  }
}

float sum_of_exp(const float* x, int num_columns, float max, float scale) noexcept {
  static_assert(kSumLanes == kLanes);
  __m512 sums = _mm512_setzero_ps();
  for (int e = 0; e < num_columns; e += kLanes) {
    const __m512 v = load(x + e, num_columns - e, -kInfinity);
    sums = _mm512_add_ps(sums, exp_nonpositive(_mm512_mul_ps(_mm512_sub_ps(v, _mm512_set1_ps(max)),
                                                             _mm512_set1_ps(scale))));
  }
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Two passes over a row in L1, without a branch on its values: the k-th largest of 16 lane maxima
// is a lower bound of the k-th largest column; the columns that reach it, about 11 for k = 8, are
// packed into one register and ranked against each other. False for a NaN.
bool select_one(const TopkArgs& args, std::int64_t row, Candidates& candidates) noexcept {
  const int num_columns = args.num_columns, k = args.k;
  const float* x = args.x + row * args.row_stride;
  const Maxima maxima = maxima_of(x, num_columns);
  if (maxima.nan) return false;
  const __m512i sorted = sort_falling(ordered(_mm512_castps_si512(maxima.lanes)));
  const float max = _mm512_cvtss_f32(_mm512_castsi512_ps(ordered(sorted)));
  __m512 bound = _mm512_set1_ps(-kInfinity);
  if (k <= kLanes) {
    bound =
        _mm512_castsi512_ps(ordered(_mm512_permutexvar_epi32(_mm512_set1_epi32(k - 1), sorted)));
  }
  std::int32_t* index = args.index + row * k;
  float* weight = args.weight + row * k;
  collect(x, num_columns, bound, candidates);
  if (candidates.count <= kMaxCandidates) {
    rank(candidates, k, max, args.scale, index, weight);
  } else {
    insert_all(x, num_columns, _mm512_cvtss_f32(bound), k, max, args.scale, index, weight);
  }
  if (args.share != nullptr) take_share(*args.share, weight, k);
  if (args.max != nullptr) args.max[row] = max;
  return true;
}

void sum_rows(const TopkArgs& args, std::int64_t begin, std::int64_t end) noexcept {
  if (args.sum == nullptr) return;
  for (std::int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * args.row_stride;
    args.sum[r] = sum_of_exp(x, args.num_columns, x[args.index[r * args.k]], args.scale);
  }
}

}  // namespace

std::int64_t topk_avx512(const TopkArgs& args) noexcept {
  Candidates candidates;
  return select_all<Vector>(
      args, [&](std::int64_t row) { return select_one(args, row, candidates); },
      [&](std::int64_t begin, std::int64_t end) { sum_rows(args, begin, end); });
}

bool sigmoid_avx512(const float* x, std::int64_t count, float* y) noexcept {
  const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
  unsigned nan = 0;
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const __mmask16 in_row = first_lanes(count - i);
    const __m512 v = _mm512_maskz_loadu_ps(in_row, x + i);
    nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512 e = exp_nonpositive(_mm512_or_ps(v, sign));
    const __mmask16 above = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ);
    _mm512_mask_storeu_ps(y + i, in_row,
                          _mm512_div_ps(_mm512_mask_mov_ps(e, above, one), _mm512_add_ps(one, e)));
  }
  return nan != 0;
}

}  // namespace switchyard
