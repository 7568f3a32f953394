#include "workload/gate.h"

#include <cmath>

#include "base/check.h"
#include "base/context.h"
#include "workload/random.h"

namespace switchyard {
namespace {

constexpr int kDirections = 8;
constexpr std::int64_t kTokensAtOnce = 8;  // rows of x per pass over the router

constexpr auto kNormals = [](const Words& words) { return normals(words); };

/// u [kDirections, H]
void fill_directions(Context& context, std::uint64_t seed, std::int64_t hidden, float* directions) {
  const Philox random = philox_for(Use::gate_directions, seed);
  pool_of(context).for_ranges(kDirections * hidden, 4096,
                              [&](std::int64_t begin, std::int64_t end, int) {
                                for_elements(random, begin, end, kNormals,
                                             [&](std::int64_t i, float x) { directions[i] = x; });
                              });
}

/// router^T [H, E]
void fill_router_transposed(Context& context, std::uint64_t seed, std::int64_t hidden, int experts,
                            float* router) {
  const Philox random = philox_for(Use::gate_router, seed);
  const float scale = 1.0f / std::sqrt(static_cast<float>(hidden));
  pool_of(context).for_each(experts, [&](std::int64_t e, int) {
    for_elements(random, e * hidden, (e + 1) * hidden, kNormals, [&](std::int64_t i, float x) {
      router[(i - e * hidden) * experts + e] = x * scale;
    });
  });
}

/// Draws one row of x at a time.
class HiddenStates {
 public:
  HiddenStates(std::uint64_t seed, std::uint64_t draw, std::int64_t hidden, const float* directions)
      : noise_(philox_for(Use::gate_noise, seed, draw)),
        coefficients_(philox_for(Use::gate_coefficients, seed, draw)),
        hidden_(hidden),
        directions_(directions) {}

  void row(std::int64_t token, float* x) const noexcept {
    for_elements(noise_, token * hidden_, (token + 1) * hidden_, kNormals,
                 [&](std::int64_t i, float z) { x[i - token * hidden_] = kRootHalf * z; });
    for_elements(coefficients_, token * kDirections, (token + 1) * kDirections, kNormals,
                 [&](std::int64_t i, float normal) {
                   const auto d = static_cast<int>(i % kDirections);
                   add_direction(d, coefficient(d, normal), x);
                 });
  }

 private:
  static constexpr float kRootHalf = 0.70710678f;

  static float coefficient(int d, float normal) noexcept {
    const float root_mean_square = std::exp2(-0.5f * static_cast<float>(d + 1));
    return root_mean_square * (d == 0 ? kRootHalf * (1.0f + normal) : normal);
  }

  void add_direction(int d, float coefficient, float* x) const noexcept {
    const float* const direction = directions_ + d * hidden_;
    const float scaled = kRootHalf * coefficient;
    for (std::int64_t h = 0; h < hidden_; ++h) x[h] += scaled * direction[h];
  }

  Philox noise_;
  Philox coefficients_;
  std::int64_t hidden_;
  const float* directions_;
};

/// out [rows, E] = x [rows, H] router^T, rows <= kTokensAtOnce
void multiply(const float* x, std::int64_t rows, std::int64_t hidden, const float* router,
              int experts, float* out) noexcept {
  std::fill(out, out + rows * experts, 0.0f);
  for (std::int64_t h = 0; h < hidden; ++h) {
    const float* const router_row = router + h * experts;
    for (std::int64_t t = 0; t < rows; ++t) {
      const float factor = x[t * hidden + h];
      float* const out_row = out + t * experts;
      for (int e = 0; e < experts; ++e) out_row[e] += factor * router_row[e];
    }
  }
}

template <class T>
void store_row(const float* from, std::int64_t count, std::byte* to) noexcept {
  for (std::int64_t i = 0; i < count; ++i) reinterpret_cast<T*>(to)[i] = from_float<T>(from[i]);
}

void store_row(DType dtype, const float* from, std::int64_t count, std::byte* to) noexcept {
  switch (dtype) {
    case DType::f32: return store_row<float>(from, count, to);
    case DType::bf16: return store_row<bf16>(from, count, to);
    case DType::f16: return store_row<f16>(from, count, to);
  }
}

void require_matrix(std::string_view name, const MatrixView& view) {
  require(view.rows >= 0 && view.cols >= 1, "{} is [{}, {}]: expected at least one column", name,
          view.rows, view.cols);
  require_shape(name, view, view.rows, view.cols);
}

}  // namespace

void fill_gate_hidden(Context& context, MatrixView x, std::uint64_t seed, std::uint64_t draw) {
  require_matrix("x", x);
  Arena::Scope scope(arena_of(context));
  const auto directions = scope.take<float>(kDirections * x.cols);
  const auto rows = scope.take<float>(context.threads() * x.cols);
  fill_directions(context, seed, x.cols, directions.data());
  const HiddenStates states(seed, draw, x.cols, directions.data());
  pool_of(context).for_each(x.rows, [&](std::int64_t t, int thread) {
    float* const row = rows.data() + thread * x.cols;
    states.row(t, row);
    store_row(x.dtype, row, x.cols, x.row(t));
  });
}

void fill_gate_router(Context& context, MatrixView router, std::uint64_t seed) {
  require_matrix("router", router);
  Arena::Scope scope(arena_of(context));
  const auto rows = scope.take<float>(context.threads() * router.cols);
  const Philox random = philox_for(Use::gate_router, seed);
  const float scale = 1.0f / std::sqrt(static_cast<float>(router.cols));
  pool_of(context).for_each(router.rows, [&](std::int64_t e, int thread) {
    float* const row = rows.data() + thread * router.cols;
    for_elements(random, e * router.cols, (e + 1) * router.cols, kNormals,
                 [&](std::int64_t i, float x) { row[i - e * router.cols] = x * scale; });
    store_row(router.dtype, row, router.cols, router.row(e));
  });
}

void gate_logits(Context& context, std::uint64_t seed, std::uint64_t draw, std::int64_t tokens,
                 int experts, std::int64_t hidden, std::span<float> out) {
  require(tokens >= 0 && experts >= 1 && hidden >= 1,
          "gate logits of {} tokens, {} experts, hidden {}: expected at least 0, 1 and 1", tokens,
          experts, hidden);
  require(static_cast<std::int64_t>(out.size()) == tokens * experts,
          "out has {} elements: expected tokens * experts = {}", out.size(), tokens * experts);
  Arena::Scope scope(arena_of(context));
  const auto directions = scope.take<float>(kDirections * hidden);
  const auto router = scope.take<float>(hidden * experts);
  const auto rows = scope.take<float>(context.threads() * kTokensAtOnce * hidden);
  fill_directions(context, seed, hidden, directions.data());
  fill_router_transposed(context, seed, hidden, experts, router.data());
  const HiddenStates states(seed, draw, hidden, directions.data());
  const std::int64_t num_groups = (tokens + kTokensAtOnce - 1) / kTokensAtOnce;
  pool_of(context).for_each(num_groups, [&](std::int64_t group, int thread) {
    const std::int64_t begin = group * kTokensAtOnce;
    const std::int64_t count = std::min(kTokensAtOnce, tokens - begin);
    float* const x = rows.data() + thread * kTokensAtOnce * hidden;
    for (std::int64_t t = 0; t < count; ++t) states.row(begin + t, x + t * hidden);
    multiply(x, count, hidden, router.data(), experts, out.data() + begin * experts);
  });
}

}  // namespace switchyard
