// Included by each epilogue_*.cc after it has defined the vector type `Vec` in an anonymous
// namespace: kLanes (8 or 16) floats with load, set, + - * /, min, max, pow2 and the three stores.
// Everything here has internal linkage, so that no copy compiled for one ISA can serve another.

namespace switchyard::gemm {
namespace {

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2; Taylor to r^7 leaves r^8/8! < 6e-9.
inline Vec exp_of(Vec x) noexcept {
  // min and max return their second operand when one is NaN: NaN passes.
  x = max(Vec::set(-87.0f), min(Vec::set(88.0f), x));
  const Vec magic = Vec::set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = x * Vec::set(1.44269504f) + magic - magic;
  const Vec r = x - n * Vec::set(0.693359375f) - n * Vec::set(-2.12194440e-4f);
  Vec p = Vec::set(1.0f / 5040);
  p = p * r + Vec::set(1.0f / 720);
  p = p * r + Vec::set(1.0f / 120);
  p = p * r + Vec::set(1.0f / 24);
  p = p * r + Vec::set(1.0f / 6);
  p = p * r + Vec::set(0.5f);
  p = p * r + Vec::set(1.0f);
  p = p * r + Vec::set(1.0f);
  return p * pow2(n);
}

struct Silu {
  static inline Vec of(Vec x) noexcept {
    const Vec one = Vec::set(1.0f);
    return x / (one + exp_of(Vec::set(0.0f) - x));
  }
};

// erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
struct Gelu {
  static inline Vec of(Vec x) noexcept {
    const Vec zero = Vec::set(0.0f), one = Vec::set(1.0f);
    const Vec negated = zero - x;
    const Vec z = max(negated, x) * Vec::set(0.70710678f);
    const Vec t = one / (one + Vec::set(0.3275911f) * z);
    Vec p = Vec::set(1.061405429f);
    p = p * t + Vec::set(-1.453152027f);
    p = p * t + Vec::set(1.421413741f);
    p = p * t + Vec::set(-0.284496736f);
    p = p * t + Vec::set(0.254829592f);
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
};
struct ToBf16 {
  static constexpr std::int64_t kBytes = 2;
  static inline void store(std::byte* out, Vec x) noexcept { store_bf16(out, x); }
};
struct ToF16 {
  static constexpr std::int64_t kBytes = 2;
  static inline void store(std::byte* out, Vec x) noexcept { store_f16(out, x); }
};

inline std::byte* row_of(const EpilogueArgs& e, std::int64_t r) noexcept {
  return e.out + r / 16 * e.tile_bytes + r % 16 * e.row_bytes;
}

template <class To>
void store(const EpilogueArgs& e) noexcept {
  std::byte partial[32 * 4];
  for (std::int64_t r = 0; r < e.rows; ++r) {
    const float* acc = e.acc + r * 32;
    std::byte* out = e.columns == 32 ? row_of(e, r) : partial;
    for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
      To::store(out + j * To::kBytes, Vec::load(acc + j));
    }
    if (e.columns < 32) {
      __builtin_memcpy(row_of(e, r), partial, static_cast<std::size_t>(e.columns * To::kBytes));
    }
  }
}

template <class Act, class To>
void gated(const EpilogueArgs& e) noexcept {
  for (std::int64_t r = 0; r < e.rows; ++r) {
    const float* acc = e.acc + r * 32;
    std::byte* out = row_of(e, r);
    for (std::int64_t j = 0; j < 16; j += Vec::kLanes) {
      To::store(out + j * To::kBytes, Act::of(Vec::load(acc + j)) * Vec::load(acc + 16 + j));
    }
  }
}

template <class Act, class To>
void plain(const EpilogueArgs& e) noexcept {
  for (std::int64_t r = 0; r < e.rows; ++r) {
    const float* acc = e.acc + r * 32;
    std::byte* out = row_of(e, r);
    for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
      To::store(out + j * To::kBytes, Act::of(Vec::load(acc + j)));
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
