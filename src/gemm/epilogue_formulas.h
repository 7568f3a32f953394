// Included by each epilogue_*.cc after it has defined the vector type `Vec` in an anonymous
// namespace: kLanes (8 or 16) floats with load, set, + - *, fma (a b + c, fused or not), min, max,
// above_floor (t - floor(t)), scale (x 2^floor(t)), reciprocal, the three stores, the three past
// the caches, and end_streams.
// Everything here has internal linkage, so that no copy compiled for one ISA can serve another.
//
// A row of 16 gated outputs takes about 20 instructions. With many rows they do not hide behind the
// tile products beside them (measured: spread over the steps of the next rows they cost what they
// cost alone), so each counts: some 11 cycles a row beside the 64 that a row of depth 2048 takes in
// tiles.

namespace switchyard::gemm {
namespace {

// 2^t = 2^floor(t) 2^f, f in [0, 1), by a minimax polynomial of degree 5: relative error 7.5e-8.
inline Vec power_of_2(Vec t) noexcept {
  // min and max return their second operand when one is NaN: NaN passes.
  t = max(Vec::set(-125.0f), min(Vec::set(125.0f), t));
  const Vec f = above_floor(t);
  Vec p = Vec::set(1.87757669e-3f);
  p = fma(p, f, Vec::set(8.98933969e-3f));
  p = fma(p, f, Vec::set(5.58263175e-2f));
  p = fma(p, f, Vec::set(2.40153611e-1f));
  p = fma(p, f, Vec::set(6.93153083e-1f));
  p = fma(p, f, Vec::set(9.99999940e-1f));
  return scale(p, t);
}

constexpr float kLog2e = 1.44269504f;

struct Silu {
  static inline Vec of(Vec x) noexcept {
    return x * reciprocal(Vec::set(1.0f) + power_of_2(x * Vec::set(-kLog2e)));
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
    const Vec erfc = p * t * power_of_2(z * z * Vec::set(-kLog2e));  // of |x| / sqrt 2
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
};
struct ToF16 {
  static constexpr std::int64_t kBytes = 2;
  static inline void store(std::byte* out, Vec x) noexcept { store_f16(out, x); }
  static inline void stream(std::byte* out, Vec x) noexcept { stream_f16(out, x); }
};

// Two vectors side by side: of bf16 a whole line with AVX-512.
template <class To>
inline void store_two(std::byte* out, Vec x, Vec y) noexcept {
  To::store(out, x);
  To::store(out + Vec::kLanes * To::kBytes, y);
}
template <class To>
inline void stream_two(std::byte* out, Vec x, Vec y) noexcept {
  To::stream(out, x);
  To::stream(out + Vec::kLanes * To::kBytes, y);
}
template <>
inline void store_two<ToBf16>(std::byte* out, Vec x, Vec y) noexcept {
  store_bf16(out, x, y);
}
template <>
inline void stream_two<ToBf16>(std::byte* out, Vec x, Vec y) noexcept {
  stream_bf16(out, x, y);
}

/// row(out, acc) of each row, acc of the first stripe.
template <class Row>
inline void each_row(const EpilogueArgs& e, Row row) noexcept {
  const float* acc_tile = e.acc;
  std::byte* out_tile = e.out;
  for (std::int64_t left = e.rows; left > 0; left -= e.tile_rows) {
    const float* acc = acc_tile;
    std::byte* out = out_tile;
    const std::int64_t rows = left < e.tile_rows ? left : e.tile_rows;
    for (std::int64_t r = 0; r < rows; ++r, acc += 32, out += e.row_bytes) row(out, acc);
    acc_tile += 16 * 32;
    out_tile += e.tile_bytes;
  }
}

template <class To>
void stream_rows(const EpilogueArgs& e) noexcept {
  each_row(e, [&](std::byte* out, const float* acc) {
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes, acc += e.stripe_acc) {
      for (std::int64_t j = 0; j < 32; j += 2 * Vec::kLanes) {
        stream_two<To>(out + j * To::kBytes, Vec::load(acc + j), Vec::load(acc + j + Vec::kLanes));
      }
    }
  });
  end_streams();
}

template <class To>
void store(const EpilogueArgs& e) noexcept {
  if (e.stream) return stream_rows<To>(e);
  std::byte partial[2 * 32 * 4];
  const bool whole = e.columns == 32 * e.stripes;
  each_row(e, [&](std::byte* row, const float* acc) {
    std::byte* out = whole ? row : partial;
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes, acc += e.stripe_acc) {
      for (std::int64_t j = 0; j < 32; j += 2 * Vec::kLanes) {
        store_two<To>(out + j * To::kBytes, Vec::load(acc + j), Vec::load(acc + j + Vec::kLanes));
      }
    }
    if (!whole) __builtin_memcpy(row, partial, static_cast<std::size_t>(e.columns * To::kBytes));
  });
}

template <class Act>
inline Vec gated_at(const float* acc) noexcept {
  return Act::of(Vec::load(acc)) * Vec::load(acc + 16);
}

template <class Act, class To>
void gated(const EpilogueArgs& e) noexcept {
  each_row(e, [&](std::byte* out, const float* acc) {
    if (Vec::kLanes == 16 && e.stripes == 2) {
      store_two<To>(out, gated_at<Act>(acc), gated_at<Act>(acc + e.stripe_acc));
      return;
    }
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 16 * To::kBytes, acc += e.stripe_acc) {
      for (std::int64_t j = 0; j < 16; j += Vec::kLanes) {
        To::store(out + j * To::kBytes, gated_at<Act>(acc + j));
      }
    }
  });
}

template <class Act, class To>
void plain(const EpilogueArgs& e) noexcept {
  each_row(e, [&](std::byte* out, const float* acc) {
    for (std::int64_t s = 0; s < e.stripes; ++s, out += 32 * To::kBytes, acc += e.stripe_acc) {
      for (std::int64_t j = 0; j < 32; j += Vec::kLanes) {
        To::store(out + j * To::kBytes, Act::of(Vec::load(acc + j)));
      }
    }
  });
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
