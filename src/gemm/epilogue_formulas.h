// Included by each epilogue_*.cc after it has defined the vector type `Vec` in an anonymous
// namespace: kLanes (8 or 16) floats with load, set, + - *, fma (a b + c, fused or not), min, max,
// scale (x 2^n), reciprocal, the three stores, the three past the caches, and end_streams.
// Everything here has internal linkage, so that no copy compiled for one ISA can serve another.
//
// A row of 16 gated outputs takes about 30 instructions. They do not hide behind the tile products
// beside them (measured: spread over the steps of the next rows they cost what they cost alone), so
// each counts: 16 cycles a row beside the 64 that a row of depth 2048 takes in tiles.

namespace switchyard::gemm {
namespace {

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^7 leaves r^8/8! < 6e-9.
inline Vec exp_of(Vec x) noexcept {
  // min and max return their second operand when one is NaN: NaN passes.
  x = max(Vec::set(-87.0f), min(Vec::set(87.0f), x));
  const Vec magic = Vec::set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = fma(x, Vec::set(1.44269504f), magic) - magic;
  const Vec r = fma(n, Vec::set(2.12194440e-4f), fma(n, Vec::set(-0.693359375f), x));
  Vec p = Vec::set(1.0f / 5040);
  p = fma(p, r, Vec::set(1.0f / 720));
  p = fma(p, r, Vec::set(1.0f / 120));
  p = fma(p, r, Vec::set(1.0f / 24));
  p = fma(p, r, Vec::set(1.0f / 6));
  p = fma(p, r, Vec::set(0.5f));
  p = fma(p, r, Vec::set(1.0f));
  p = fma(p, r, Vec::set(1.0f));
  return scale(p, n);
}

struct Silu {
  static inline Vec of(Vec x) noexcept {
    return x * reciprocal(Vec::set(1.0f) + exp_of(Vec::set(0.0f) - x));
  }
};

// erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
struct Gelu {
  static inline Vec of(Vec x) noexcept {
    const Vec zero = Vec::set(0.0f);
    const Vec negated = zero - x;
    const Vec z = max(negated, x) * Vec::set(0.70710678f);
    const Vec t = reciprocal(fma(Vec::set(0.3275911f), z, Vec::set(1.0f)));
    Vec p = Vec::set(1.061405429f);
    p = fma(p, t, Vec::set(-1.453152027f));
    p = fma(p, t, Vec::set(1.421413741f));
    p = fma(p, t, Vec::set(-0.284496736f));
    p = fma(p, t, Vec::set(0.254829592f));
    const Vec erfc = p * t * exp_of(zero - z * z);  // of |x| / sqrt 2
    // x/2 (1 + erf) = max(x, 0) - |x|/2 erfc
    return max(zero, x) - max(negated, x) * Vec::set(0.5f) * erfc;
  }
};

struct Relu {
  static inline Vec of(Vec x) noexcept { return max(Vec::set(0.0f), x); }
};

struct ToF32 {
  static constexpr std::int64_t kBytes = 4;
  static inline void store(std::byte* out, Vec x) noexcept { store_f32(out, x); }
  static inline void stream(std::byte* out, Vec x) noexcept { stream_f32(out, x); }
};
struct ToBf16 {
  static constexpr std::int64_t kBytes = 2;
  static inline void store(std::byte* out, Vec x) noexcept { store_bf16(out, x); }
  static inline void stream(std::byte* out, Vec x) noexcept { stream_bf16(out, x); }
};
struct ToF16 {
  static constexpr std::int64_t kBytes = 2;
  static inline void store(std::byte* out, Vec x) noexcept { store_f16(out, x); }
  static inline void stream(std::byte* out, Vec x) noexcept { stream_f16(out, x); }
};

inline std::byte* row_of(const EpilogueArgs& e, std::int64_t r) noexcept {
  return e.out + r / 16 * e.tile_bytes + r % 16 * e.row_bytes;
}

template <class To>
void stream_rows(const EpilogueArgs& e) noexcept {
  for (std::int64_t r = 0; r < e.rows; ++r) {
    std::byte* out = row_of(e, r);
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes) {
      const float* acc = e.acc + s * e.stripe_acc + r * 32;
      for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
        To::stream(out + j * To::kBytes, Vec::load(acc + j));
      }
    }
  }
  end_streams();
}

template <class To>
void store(const EpilogueArgs& e) noexcept {
  if (e.stream) return stream_rows<To>(e);
  std::byte partial[2 * 32 * 4];
  const bool whole = e.columns == 32 * e.stripes;
  for (std::int64_t r = 0; r < e.rows; ++r) {
    std::byte* out = whole ? row_of(e, r) : partial;
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes) {
      const float* acc = e.acc + s * e.stripe_acc + r * 32;
      for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
        To::store(out + j * To::kBytes, Vec::load(acc + j));
      }
    }
    if (!whole) {
      __builtin_memcpy(row_of(e, r), partial, static_cast<std::size_t>(e.columns * To::kBytes));
    }
  }
}

template <class Act, class To>
void gated(const EpilogueArgs& e) noexcept {
  for (std::int64_t r = 0; r < e.rows; ++r) {
    std::byte* out = row_of(e, r);
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 16 * To::kBytes) {
      const float* acc = e.acc + s * e.stripe_acc + r * 32;
      for (std::int64_t j = 0; j < 16; j += Vec::kLanes) {
        To::store(out + j * To::kBytes, Act::of(Vec::load(acc + j)) * Vec::load(acc + 16 + j));
      }
    }
  }
}

template <class Act, class To>
void plain(const EpilogueArgs& e) noexcept {
  for (std::int64_t r = 0; r < e.rows; ++r) {
    std::byte* out = row_of(e, r);
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes) {
      const float* acc = e.acc + s * e.stripe_acc + r * 32;
      for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
        To::store(out + j * To::kBytes, Act::of(Vec::load(acc + j)));
      }
    }
  }
}

template <class Act, class To>
EpilogueFn of_kind(EpilogueKind kind) noexcept {
  return kind == EpilogueKind::gated ? gated<Act, To> : plain<Act, To>;
}

template <class To>
EpilogueFn find(EpilogueKind kind, Activation act) noexcept {
  if (kind == EpilogueKind::store) return store<To>;
  switch (act) {
    case Activation::silu: return of_kind<Silu, To>(kind);
    case Activation::gelu: return of_kind<Gelu, To>(kind);
    case Activation::relu: return of_kind<Relu, To>(kind);
  }
  return nullptr;
}

inline EpilogueFn find(EpilogueKind kind, Activation act, DType element) noexcept {
  switch (element) {
    case DType::f32: return find<ToF32>(kind, act);
    case DType::bf16: return find<ToBf16>(kind, act);
    case DType::f16: return find<ToF16>(kind, act);
  }
  return nullptr;
}

}  // namespace
}  // namespace switchyard::gemm
