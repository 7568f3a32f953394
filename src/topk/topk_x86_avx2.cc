#include <immintrin.h>

#include "topk/topk_insert.h"
#include "topk/topk_kernel.h"
#include "topk/topk_lists.h"

namespace switchyard {
namespace {

constexpr int kLanes = 8;
constexpr float kInfinity = __builtin_inff();

__m256 exp_nonpositive(__m256 x) noexcept {
  const __m256 round = _mm256_set1_ps(kRound);
  const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(kLog2e)), round);
  const __m256 n = _mm256_sub_ps(shifted, round);
  const __m256 r = _mm256_sub_ps(_mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(kLn2High))),
                                 _mm256_mul_ps(n, _mm256_set1_ps(kLn2Low)));
  __m256 q = _mm256_set1_ps(kExpQ[4]);
  for (int i = 3; i >= 0; --i) {
    q = _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(kExpQ[i]));
  }
  const __m256 mantissa =
      _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(q, _mm256_mul_ps(r, r)), r), _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  const __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(mantissa), exponent));
  return _mm256_and_ps(y, _mm256_cmp_ps(x, _mm256_set1_ps(kExpMin), _CMP_GE_OQ));
}

// All ones in the first `count` lanes, 0 <= count.
__m256i first_lanes(int count) noexcept {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Lanes past `count` read nothing and hold `fill`.
__m256 load(const float* x, int count, float fill) noexcept {
  if (count >= kLanes) return _mm256_loadu_ps(x);
  const __m256i mask = first_lanes(count);
  return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(x, mask),
                          _mm256_castsi256_ps(mask));
}

void store(float* y, int count, __m256 value) noexcept {
  if (count >= kLanes) return _mm256_storeu_ps(y, value);
  _mm256_maskstore_ps(y, first_lanes(count), value);
}

// Rows in lanes, for topk_lists.h.
struct Vector {
  using Floats = __m256;
  static constexpr int kLanes = 8, kLevels = 3;

  static Floats zero() noexcept { return _mm256_setzero_ps(); }
  static Floats all(float x) noexcept { return _mm256_set1_ps(x); }
  static Floats lowest() noexcept { return all(-__FLT_MAX__); }
  static Floats load(const float* x) noexcept { return _mm256_loadu_ps(x); }
  static Floats load_first(const float* x, int count) noexcept {
    return count <= 0 ? lowest() : switchyard::load(x, count, -__FLT_MAX__);
  }
  static void store(float* to, Floats x) noexcept { _mm256_storeu_ps(to, x); }
  /// They are: with 16 registers GCC loads as it needs, and an asm between would take 1.2 of the
  /// time of rows in L2.
  static void keep_reads_in_order() noexcept {}
  static Floats min(Floats a, Floats b) noexcept { return _mm256_min_ps(a, b); }
  static Floats max(Floats a, Floats b) noexcept { return _mm256_max_ps(a, b); }
  static Floats add(Floats a, Floats b) noexcept { return _mm256_add_ps(a, b); }
  static Floats subtract(Floats a, Floats b) noexcept { return _mm256_sub_ps(a, b); }
  static Floats multiply(Floats a, Floats b) noexcept { return _mm256_mul_ps(a, b); }
  static Floats divide(Floats a, Floats b) noexcept { return _mm256_div_ps(a, b); }
  static Floats exp(Floats x) noexcept { return exp_nonpositive(x); }
  static Floats multiply_add(Floats a, Floats b, Floats sum) noexcept {
    return _mm256_fmadd_ps(a, b, sum);
  }
  static bool all_finite(Floats a) noexcept { return reaches(subtract(a, a), zero()) == 0xff; }
  /// A bit for each lane in which a >= b.
  static unsigned reaches(Floats a, Floats b) noexcept {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }

  /// What the joins made of rows 0, 1, ..., whose lanes hold rows 0, 2, 4, 6, 1, ...
  static Floats in_row_order(Floats v) noexcept {
    return _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  template <int kLevel>
  static Floats low(Floats a, Floats b) noexcept {
    if constexpr (kLevel == 1) return _mm256_permute2f128_ps(a, b, 0x20);
    if constexpr (kLevel == 2) return pairs<0x44>(a, b);
    if constexpr (kLevel == 3) return pairs<0x88>(a, b);
  }
  template <int kLevel>
  static Floats high(Floats a, Floats b) noexcept {
    if constexpr (kLevel == 1) return _mm256_permute2f128_ps(a, b, 0x31);
    if constexpr (kLevel == 2) return pairs<0xee>(a, b);
    if constexpr (kLevel == 3) return pairs<0xdd>(a, b);
  }
  template <int kWhich>
  static Floats pairs(Floats a, Floats b) noexcept {
    return _mm256_shuffle_ps(a, b, kWhich);
  }

  class Keys {
   public:
    explicit Keys(int column_mask) noexcept
        : mask_(_mm256_castsi256_ps(_mm256_set1_epi32(column_mask))) {}
    Floats of(Floats value, int column) const noexcept {
      return _mm256_or_ps(this->value(value),
                          _mm256_load_ps(reinterpret_cast<const float*>(kColumns.at + column)));
    }
    Floats value(Floats key) const noexcept { return _mm256_andnot_ps(mask_, key); }
    /// As bits, at most `last`.
    Floats column(Floats key, int last) const noexcept {
      const __m256i column = _mm256_castps_si256(_mm256_and_ps(key, mask_));
      return _mm256_castsi256_ps(_mm256_min_epu32(column, _mm256_set1_epi32(last)));
    }

   private:
    Floats mask_;
  };

  // out[r, 0..k) = lane r of list, k <= kDepth
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
    const Floats a = _mm256_unpacklo_ps(list[0], list[1]), b = _mm256_unpackhi_ps(list[0], list[1]);
    store(out, _mm256_permute2f128_ps(a, b, 0x20));
    store(out + kLanes, _mm256_permute2f128_ps(a, b, 0x31));
  }

  template <int kDepth>
  static void store_quads(const Floats* list, int k, float* out) noexcept {
    // columns[h][j]: in 128-bit lane b, elements 4h .. 4h+3 of row 4b + j
    Floats columns[2][4];
    for (int h = 0; h < kDepth / 4; ++h) {
      const Floats* v = list + 4 * h;
      const Floats a = _mm256_unpacklo_ps(v[0], v[1]), b = _mm256_unpackhi_ps(v[0], v[1]);
      const Floats c = _mm256_unpacklo_ps(v[2], v[3]), d = _mm256_unpackhi_ps(v[2], v[3]);
      columns[h][0] = pairs<0x44>(a, c);
      columns[h][1] = pairs<0xee>(a, c);
      columns[h][2] = pairs<0x44>(b, d);
      columns[h][3] = pairs<0xee>(b, d);
    }
    for (int j = 0; j < 4; ++j) {
      const Floats upper = columns[kDepth / 4 - 1][j];
      switchyard::store(out + j * k, k, _mm256_permute2f128_ps(columns[0][j], upper, 0x20));
      switchyard::store(out + (4 + j) * k, k, _mm256_permute2f128_ps(columns[0][j], upper, 0x31));
    }
  }
};

struct Maxima {
  __m256 lanes;  // over columns of equal e % 8; -inf where there is none
  bool nan;
};

Maxima maxima_of(const float* x, int num_columns) noexcept {
  __m256 lanes = _mm256_set1_ps(-kInfinity);
  __m256 nan = _mm256_setzero_ps();
  for (int e = 0; e < num_columns; e += kLanes) {
    const __m256 v = load(x + e, num_columns - e, -kInfinity);
    lanes = _mm256_max_ps(lanes, v);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  return {lanes, _mm256_movemask_ps(nan) != 0};
}

// At least k columns reach the k-th largest lane maximum, so nothing below it is among the top k.
float lower_bound_of(__m256 maxima, int k) noexcept {
  if (k > kLanes) return -kInfinity;
  alignas(32) float lanes[kLanes];
  _mm256_store_ps(lanes, maxima);
  float sorted[kLanes];
  std::int32_t unused[kLanes];
  int count = 0;
  for (int i = 0; i < kLanes; ++i) count = topk_insert(lanes[i], i, sorted, unused, count, k);
  return sorted[k - 1];
}

float sum_of_exp(const float* x, int num_columns, float max, float scale) noexcept {
  static_assert(kSumLanes == 2 * kLanes);
  const __m256 max_lanes = _mm256_set1_ps(max), scale_lanes = _mm256_set1_ps(scale);
  __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int e = 0; e < num_columns; e += kSumLanes) {
    for (int half = 0; half < 2; ++half) {
      const int begin = e + half * kLanes;
      if (begin >= num_columns) break;
      const __m256 v = load(x + begin, num_columns - begin, -kInfinity);
      const __m256 y = exp_nonpositive(_mm256_mul_ps(_mm256_sub_ps(v, max_lanes), scale_lanes));
      sums[half] = _mm256_add_ps(sums[half], y);
    }
  }
  const __m256 eight = _mm256_add_ps(sums[0], sums[1]);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Two passes over a row in L1: lane maxima give a lower bound of the k-th largest, then only the
// columns that reach it, a handful, enter the list. False for a NaN.
bool select_one(const TopkArgs& args, std::int64_t row) noexcept {
  const int num_columns = args.num_columns, k = args.k;
  const float* x = args.x + row * args.row_stride;
  const Maxima maxima = maxima_of(x, num_columns);
  if (maxima.nan) return false;
  std::int32_t* columns = args.index + row * k;
  float* values = args.weight + row * k;
  const __m256 bound = _mm256_set1_ps(lower_bound_of(maxima.lanes, k));
  int count = 0;
  for (int e = 0; e < num_columns; e += kLanes) {
    const __m256 v = load(x + e, num_columns - e, -kInfinity);
    unsigned reached =
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(v, bound, _CMP_GE_OQ)));
    if (num_columns - e < kLanes) reached &= (1u << (num_columns - e)) - 1;
    for (; reached != 0; reached &= reached - 1) {
      const int column = e + __builtin_ctz(reached);
      count = topk_insert(x[column], column, values, columns, count, k);
    }
  }
  const float max = values[0];
  for (int i = 0; i < k; i += kLanes) {
    const __m256 v = _mm256_sub_ps(load(values + i, k - i, 0.0f), _mm256_set1_ps(max));
    store(values + i, k - i, exp_nonpositive(_mm256_mul_ps(v, _mm256_set1_ps(args.scale))));
  }
  if (args.share != nullptr) take_share(*args.share, values, k);
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

std::int64_t topk_avx2(const TopkArgs& args) noexcept {
  return select_all<Vector>(
      args, [&](std::int64_t row) { return select_one(args, row); },
      [&](std::int64_t begin, std::int64_t end) { sum_rows(args, begin, end); });
}

bool sigmoid_avx2(const float* x, std::int64_t count, float* y) noexcept {
  const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
  __m256 nan = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const int left = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    const __m256 v = load(x + i, left, 0.0f);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256 e = exp_nonpositive(_mm256_or_ps(v, sign));
    const __m256 above = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ);
    store(y + i, left, _mm256_div_ps(_mm256_blendv_ps(e, one, above), _mm256_add_ps(one, e)));
  }
  return _mm256_movemask_ps(nan) != 0;
}

}  // namespace switchyard
