#include <immintrin.h>

#include "combine/combine_kernel.h"

namespace switchyard {
namespace {

constexpr std::int64_t kUnit = 64;  // bytes: a line is read, summed and written at once
constexpr int kUnrolled = 2;

// What a unit of each dtype is as f32, and back.
struct F32 {
  static constexpr std::int64_t kSize = 4;
  static constexpr int kParts = 1;
  static void widen(__m512i unit, __m512* part) noexcept { part[0] = _mm512_castsi512_ps(unit); }
  static __m512i narrow(const __m512* part) noexcept { return _mm512_castps_si512(part[0]); }
};

struct F16 {
  static constexpr std::int64_t kSize = 2;
  static constexpr int kParts = 2;
  static void widen(__m512i unit, __m512* part) noexcept {
    part[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(unit));
    part[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(unit, 1));
  }
  static __m512i narrow(const __m512* part) noexcept {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(part[0], kNearest)),
                              _mm512_cvtps_ph(part[1], kNearest), 1);
  }
};

// Even elements in one part, odd ones in the other: one instruction each way, where neighbours in
// order would have to cross lanes.
struct Bf16 {
  static constexpr std::int64_t kSize = 2;
  static constexpr int kParts = 2;
  static __m512i upper_half() noexcept { return _mm512_set1_epi32(-0x10000); }
  static void widen(__m512i unit, __m512* part) noexcept {
    part[0] = _mm512_castsi512_ps(_mm512_slli_epi32(unit, 16));
    part[1] = _mm512_castsi512_ps(_mm512_and_si512(unit, upper_half()));
  }
  // In integers: vcvtneps2bf16 would flush subnormals.
  static __m512i narrow(const __m512* part) noexcept {
    __m512i even = rounded(part[0]), odd = rounded(part[1]);
    if (__builtin_expect(_mm512_cmp_ps_mask(part[0], part[1], _CMP_UNORD_Q) != 0, 0)) {
      even = or_quiet_nan(even, part[0]);
      odd = or_quiet_nan(odd, part[1]);
    }
    constexpr int kSecondWhereFirst = 0xca;
    return _mm512_ternarylogic_epi32(upper_half(), odd, _mm512_srli_epi32(even, 16),
                                     kSecondWhereFirst);
  }

 private:
  /// In the upper halves.
  static __m512i rounded(__m512 x) noexcept {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  }
  static __m512i or_quiet_nan(__m512i rounded, __m512 x) noexcept {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, _mm512_castps_si512(x), _mm512_set1_epi32(0x400000));
  }
};

__mmask64 first_bytes(std::int64_t n) noexcept { return ~__mmask64{0} >> (kUnit - n); }

enum class Write { ordinary, streamed, part };

/// A token's rows: found once, not again for each unit.
struct Rows {
  static constexpr int kMost = 16;
  const std::byte* row[kMost];
  float weight[kMost];
  int count = 0;
  bool is_whole = true;  ///< false: there are more

  /// Of assignments [first, last).
  Rows(const CombineRows& job, std::int64_t first, std::int64_t last) noexcept {
    for (std::int64_t a = first; a < last; ++a) {
      if (job.row_of_assignment[a] < 0) continue;
      if (count == kMost) {
        is_whole = false;
        return;
      }
      row[count] = job.rows + job.row_of_assignment[a] * job.row_stride;
      weight[count++] = job.weight_of_assignment[a];
    }
  }

  template <class Add>
  void for_each(const Add& add) const noexcept {
    for (int i = 0; i < count; ++i) add(row[i], weight[i]);
  }
};

/// The rows of a token that has more.
struct ManyRows {
  const CombineRows& job;
  std::int64_t first, last;

  template <class Add>
  void for_each(const Add& add) const noexcept {
    for (std::int64_t a = first; a < last; ++a) {
      if (job.row_of_assignment[a] < 0) continue;
      add(job.rows + job.row_of_assignment[a] * job.row_stride, job.weight_of_assignment[a]);
    }
  }
};

// Units [at, at + kUnits * kUnit) of a token's `rows`, bytes; of a part only the first `bytes`.
template <class T, int kUnits, Write kWrite, class TokenRows>
void sum_units(const TokenRows& rows, bool accumulate, std::byte* out, std::int64_t at,
               std::int64_t bytes) noexcept {
  constexpr int kParts = T::kParts;
  const auto load = [&](const std::byte* from) {
    if constexpr (kWrite == Write::part) return _mm512_maskz_loadu_epi8(first_bytes(bytes), from);
    return _mm512_loadu_si512(from);
  };
  // -0, to which anything may be added without a change, a -0 too.
  __m512 sum[kUnits][kParts];
  for (int u = 0; u < kUnits; ++u) {
    for (int p = 0; p < kParts; ++p) sum[u][p] = _mm512_set1_ps(-0.0f);
    if (accumulate) T::widen(load(out + at + u * kUnit), sum[u]);
  }
  rows.for_each([&](const std::byte* row, float row_weight) {
    const __m512 weight = _mm512_set1_ps(row_weight);
    for (int u = 0; u < kUnits; ++u) {
      __m512 part[kParts];
      T::widen(load(row + at + u * kUnit), part);
      for (int p = 0; p < kParts; ++p) {
        sum[u][p] = _mm512_add_ps(sum[u][p], _mm512_mul_ps(weight, part[p]));
      }
    }
  });
  for (int u = 0; u < kUnits; ++u) {
    const __m512i unit = T::narrow(sum[u]);
    std::byte* to = out + at + u * kUnit;
    if constexpr (kWrite == Write::ordinary) _mm512_storeu_si512(to, unit);
    if constexpr (kWrite == Write::streamed) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), unit);
    }
    if constexpr (kWrite == Write::part) _mm512_mask_storeu_epi8(to, first_bytes(bytes), unit);
  }
}

/// Bytes [at, at + bytes) of the next token's rows, into L1 or L2. Rows lie anywhere: a core that
/// asks for one when it gets there waits for memory at the start of each.
void fetch(const Rows& next, bool is_near, std::int64_t at, std::int64_t bytes) noexcept {
  for (int i = 0; i < next.count; ++i) {
    const std::byte* row = next.row[i] + at;
    for (std::int64_t b = 0; b < bytes; b += kUnit) {
      if (is_near) {
        __builtin_prefetch(row + b, 0, 3);
      } else {
        __builtin_prefetch(row + b, 0, 2);
      }
    }
  }
}

template <class T, Write kWrite, class TokenRows>
void sum_token(const CombineRows& job, const TokenRows& rows, const Rows& next,
               std::byte* out) noexcept {
  constexpr std::int64_t kStep = kUnrolled * kUnit;
  const std::int64_t row_bytes = job.cols * T::kSize;
  const bool accumulate = job.accumulate, is_near = next.count * row_bytes <= job.near_bytes;
  std::int64_t at = 0;
  for (; at + kStep <= row_bytes; at += kStep) {
    fetch(next, is_near, at, kStep);
    sum_units<T, kUnrolled, kWrite>(rows, accumulate, out, at, 0);
  }
  for (; at + kUnit <= row_bytes; at += kUnit) {
    sum_units<T, 1, Write::ordinary>(rows, accumulate, out, at, 0);
  }
  if (at < row_bytes) {
    sum_units<T, 1, Write::part>(rows, accumulate, out, at, row_bytes - at);
  }
}

template <class T, Write kWrite>
void combine_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  const auto rows_of = [&](std::int64_t t) {
    return t < end ? Rows(job, job.token_begin[t], job.token_begin[t + 1]) : Rows(job, 0, 0);
  };
  Rows rows = rows_of(begin);
  for (std::int64_t t = begin; t < end; ++t) {
    const Rows next = rows_of(t + 1);
    std::byte* out = job.out + t * job.out_stride;
    if (!rows.is_whole) {
      const ManyRows many{job, job.token_begin[t], job.token_begin[t + 1]};
      sum_token<T, kWrite>(job, many, next, out);
    } else if (rows.count > 0) {
      sum_token<T, kWrite>(job, rows, next, out);
    } else if (!job.accumulate) {
      __builtin_memset(out, 0, static_cast<std::size_t>(job.cols * T::kSize));
    }
    rows = next;
  }
}

// Streaming stores need aligned rows; a hint may be ignored.
template <class T>
void combine_either(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  const bool is_aligned = ((reinterpret_cast<std::intptr_t>(job.out) | job.out_stride) & 63) == 0;
  if (!job.bypass_cache || !is_aligned) {
    return combine_avx512<T, Write::ordinary>(job, begin, end);
  }
  combine_avx512<T, Write::streamed>(job, begin, end);
  _mm_sfence();
}

}  // namespace

void combine_f32_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<F32>(job, begin, end);
}

void combine_bf16_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<Bf16>(job, begin, end);
}

void combine_f16_avx512(const CombineRows& job, std::int64_t begin, std::int64_t end) noexcept {
  combine_either<F16>(job, begin, end);
}

}  // namespace switchyard
