#include "gemm/epilogue_x86_avx512_bf16.h"
#include "gemm/quant_finish.h"

// Called for two rows at a time between tile products, where vector units idle
// (quant_kernel_x86_amx_bf16.cc).

namespace switchyard::gemm {
namespace {

struct Columns {
  Vec first, second;
};

template <class Act, class To>
struct Gated {
  static constexpr std::int64_t kBytes = 16 * To::kBytes;
  static inline void store(std::byte* out, Columns c) noexcept {
    To::store(out, Act::of(c.first) * c.second);
  }
};

struct Same {
  static inline Vec of(Vec x) noexcept { return x; }
};

template <class Act, class To>
struct Plain {
  static constexpr std::int64_t kBytes = 32 * To::kBytes;
  static inline void store(std::byte* out, Columns c) noexcept {
    store_two<To>(out, Act::of(c.first), Act::of(c.second));
  }
};

template <std::int64_t kBytes>
inline void stream(std::byte* out, const std::byte* from) noexcept {
  if constexpr (kBytes == 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(out),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  } else {
    for (std::int64_t i = 0; i < kBytes; i += 64) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i), _mm512_loadu_si512(from + i));
    }
  }
}

template <class Form, bool kStream>
void finish(const QuantArgs& q, const float* sums, std::int64_t row, std::int64_t rows) noexcept {
  const Finish& f = *q.finish;
  const auto* scales = reinterpret_cast<const float*>(q.stripe + q.depth * kStripeColumns);
  const Vec first = Vec::load(scales), second = Vec::load(scales + 16);
  std::byte* out = f.out + row * f.row_bytes;
  for (const std::int64_t end = row + rows; row < end; ++row, sums += kStripeColumns) {
    const Vec t = Vec::set(q.row_scale[row]);
    const __m512i zero = _mm512_set1_epi32(kZeroOfInt8 * q.row_sums[row * q.sums_stride]);
    const __m512i a = _mm512_add_epi32(_mm512_loadu_si512(sums), zero);
    const __m512i b = _mm512_add_epi32(_mm512_loadu_si512(sums + 16), zero);
    const Columns c{Vec{_mm512_cvtepi32_ps(a)} * (first * t),
                    Vec{_mm512_cvtepi32_ps(b)} * (second * t)};
    if constexpr (kStream) {
      std::byte own[Form::kBytes];
      Form::store(own, c);
      stream<Form::kBytes>(out, f.kept + row * Form::kBytes);
      stream<Form::kBytes>(out + Form::kBytes, own);
    } else if (f.columns == kStripeColumns) {
      Form::store(out, c);
    } else {
      std::byte partial[Form::kBytes];
      Form::store(partial, c);
      __builtin_memcpy(out, partial, static_cast<std::size_t>(Form::kBytes / 32 * f.columns));
    }
    out += f.row_bytes;
  }
}

template <class Act, class To>
FinishFn of_kind(EpilogueKind kind, bool stream) noexcept {
  if (kind == EpilogueKind::gated) {
    return stream ? finish<Gated<Act, To>, true> : finish<Gated<Act, To>, false>;
  }
  return stream ? finish<Plain<Act, To>, true> : finish<Plain<Act, To>, false>;
}

template <class To>
FinishFn find_finish(EpilogueKind kind, Activation act, bool stream) noexcept {
  if (kind == EpilogueKind::store) return of_kind<Same, To>(kind, stream);
  switch (act) {
    case Activation::silu: return of_kind<Silu, To>(kind, stream);
    case Activation::gelu: return of_kind<Gelu, To>(kind, stream);
    case Activation::relu: return of_kind<Relu, To>(kind, stream);
  }
  return nullptr;
}

}  // namespace

FinishFn find_finish_avx512_bf16(EpilogueKind kind, Activation act, DType element,
                                 bool stream) noexcept {
  switch (element) {
    case DType::f32: return find_finish<ToF32>(kind, act, stream);
    case DType::bf16: return find_finish<ToBf16>(kind, act, stream);
    case DType::f16: return find_finish<ToF16>(kind, act, stream);
  }
  return nullptr;
}

}  // namespace switchyard::gemm
