#include "layer/layer_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/philox.h"

namespace switchyard {
namespace {

double element(const std::byte* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::f32: return to_float(reinterpret_cast<const float*>(data)[i]);
    case DType::bf16: return to_float(reinterpret_cast<const bf16*>(data)[i]);
    case DType::f16: return to_float(reinterpret_cast<const f16*>(data)[i]);
  }
  return 0;
}

template <class T>
double dot_of(const T* row, std::span<const double> x) {
  // Eight partial sums: a single one would wait for each addition, and this runs before every
  // timed cell of a benchmark.
  std::array<double, 8> sums{};
  std::size_t j = 0;
  for (; j + 8 <= x.size(); j += 8) {
    for (std::size_t i = 0; i < 8; ++i)
      sums[i] += static_cast<double>(to_float(row[j + i])) * x[j + i];
  }
  for (; j < x.size(); ++j) sums[j % 8] += static_cast<double>(to_float(row[j])) * x[j];
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

double dot(const std::byte* row, DType dtype, std::span<const double> x) {
  switch (dtype) {
    case DType::f32: return dot_of(reinterpret_cast<const float*>(row), x);
    case DType::bf16: return dot_of(reinterpret_cast<const bf16*>(row), x);
    case DType::f16: return dot_of(reinterpret_cast<const f16*>(row), x);
  }
  return 0;
}

std::vector<double> row_of(ConstMatrixView m, std::int64_t i) {
  std::vector<double> out(static_cast<std::size_t>(m.cols));
  for (std::int64_t j = 0; j < m.cols; ++j) {
    out[static_cast<std::size_t>(j)] = element(m.row(i), m.dtype, j);
  }
  return out;
}

/// m x
std::vector<double> product(ConstMatrixView m, std::span<const double> x) {
  std::vector<double> out(static_cast<std::size_t>(m.rows));
  for (std::int64_t i = 0; i < m.rows; ++i) {
    out[static_cast<std::size_t>(i)] = dot(m.row(i), m.dtype, x);
  }
  return out;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::silu: return x * sigmoid(x);
    case Activation::gelu: return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::relu: return std::max(x, 0.0);
  }
  return 0;
}

/// `chosen`, or every index below `count` when none is.
std::vector<std::int64_t> chosen_or_all(std::span<const std::int64_t> chosen, std::int64_t count) {
  std::vector<std::int64_t> out(chosen.begin(), chosen.end());
  if (out.empty()) {
    out.resize(static_cast<std::size_t>(count));
    std::iota(out.begin(), out.end(), std::int64_t{0});
  }
  return out;
}

void add_scaled(std::span<double> sum, double scale, std::span<const double> term) {
  for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += scale * term[j];
}

std::vector<double> reference_hidden(const ExpertWeights& weights, std::int64_t e,
                                     std::span<const double> x) {
  std::vector<double> hidden = product(weights.up[e], x);
  if (weights.is_gated()) {
    const std::vector<double> gate = product(weights.gate[e], x);
    for (std::size_t f = 0; f < hidden.size(); ++f) {
      hidden[f] *= activate(weights.activation, gate[f]);
    }
  } else {
    for (double& value : hidden) value = activate(weights.activation, value);
  }
  return hidden;
}

double stored_as(DType dtype, double value) {
  const auto x = static_cast<float>(value);
  switch (dtype) {
    case DType::f32: return x;
    case DType::bf16: return to_float(from_float<bf16>(x));
    case DType::f16: return to_float(from_float<f16>(x));
  }
  return value;
}

std::vector<double> rounded_to_steps(std::span<const double> x) {
  double most = 0;
  for (const double value : x) most = std::max(most, std::abs(value));
  std::vector<double> out(x.begin(), x.end());
  if (most == 0) return out;
  for (double& value : out) value = std::nearbyint(value * 127 / most) * (most / 127);
  return out;
}

}  // namespace

std::vector<double> reference_logits(ConstMatrixView x, const RouterWeights& router,
                                     std::span<const std::int64_t> tokens) {
  std::vector<double> out;
  for (const std::int64_t t : chosen_or_all(tokens, x.rows)) {
    std::vector<double> in = row_of(x, t);
    if (router.arch != RouterArch::linear) {
      std::vector<double> inner = product(router.up, in);
      for (double& value : inner) value = activate(Activation::gelu, value);
      if (router.arch == RouterArch::mlp_hadamard) {
        inner = product(router.down, inner);
        for (std::size_t j = 0; j < in.size(); ++j) inner[j] *= in[j];
      }
      in = std::move(inner);
    }
    const std::vector<double> logits = product(router.out, in);
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

double logits_tolerance(const RouterWeights& router, DType tokens) {
  // Products are exact in f32 sums, which round once per term; terms are as often up as down.
  const auto sum = [](std::int64_t depth) {
    return 4 * epsilon_of(DType::f32) * std::sqrt(static_cast<double>(depth));
  };
  const double rounding = epsilon_of(tokens);
  switch (router.arch) {
    case RouterArch::linear: return sum(router.hidden());
    case RouterArch::mlp: return sum(router.hidden()) + sum(router.width()) + rounding;
    case RouterArch::mlp_hadamard:
      return 2 * sum(router.hidden()) + sum(router.width()) + 2 * rounding;
  }
  return 0;
}

std::vector<double> reference_expert(const ExpertWeights& weights, std::int64_t e,
                                     std::span<const double> x) {
  return product(weights.down[e], reference_hidden(weights, e, x));
}

std::vector<double> reference_quantized_expert(const ExpertWeights& weights, std::int64_t e,
                                               std::span<const double> x, DType activations) {
  std::vector<double> hidden = reference_hidden(weights, e, rounded_to_steps(x));
  for (double& value : hidden) value = stored_as(activations, value);
  return product(weights.down[e], rounded_to_steps(hidden));
}

namespace {

void add_shared(const LayerWeights& weights, std::span<const double> token, std::span<double> sum) {
  if (weights.shared.up.data == nullptr) return;
  double scale = 1;
  if (weights.shared_gate.data != nullptr) scale = sigmoid(product(weights.shared_gate, token)[0]);
  add_scaled(sum, scale, reference_expert(weights.shared, 0, token));
}

}  // namespace

std::vector<double> reference_layer(ConstMatrixView x, const Routing& routing,
                                    const DispatchPlan& plan, const LayerWeights& weights,
                                    std::span<const std::int64_t> tokens) {
  std::vector<double> out;
  for (const std::int64_t t : chosen_or_all(tokens, x.rows)) {
    const std::vector<double> token = row_of(x, t);
    std::vector<double> sum(token.size(), 0.0);
    for (std::int64_t a = routing.token_begin[static_cast<std::size_t>(t)];
         a < routing.token_begin[static_cast<std::size_t>(t) + 1]; ++a) {
      const auto i = static_cast<std::size_t>(a);
      if (plan.row_of_assignment[i] < 0) continue;
      add_scaled(sum, plan.weight_of_assignment[i],
                 reference_expert(weights.experts, routing.expert[i], token));
    }
    add_shared(weights, token, sum);
    out.insert(out.end(), sum.begin(), sum.end());
  }
  return out;
}

std::vector<double> reference_slot(ConstMatrixView x, const SoftRouting& routing, std::int64_t s) {
  std::vector<double> slot(static_cast<std::size_t>(x.cols), 0.0);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    add_scaled(slot, routing.dispatch[static_cast<std::size_t>(s * x.rows + t)], row_of(x, t));
  }
  return slot;
}

std::vector<double> reference_mixed(ConstMatrixView x, const SoftRouting& routing,
                                    std::span<const double> slots, const LayerWeights& weights,
                                    std::span<const std::int64_t> tokens) {
  const auto hidden = static_cast<std::size_t>(x.cols);
  std::vector<double> out;
  for (const std::int64_t t : chosen_or_all(tokens, x.rows)) {
    std::vector<double> sum(hidden, 0.0);
    for (std::int64_t s = 0; s < routing.num_slots(); ++s) {
      const float weight = routing.combine[static_cast<std::size_t>(t * routing.num_slots() + s)];
      add_scaled(sum, weight, slots.subspan(static_cast<std::size_t>(s) * hidden, hidden));
    }
    add_shared(weights, row_of(x, t), sum);
    out.insert(out.end(), sum.begin(), sum.end());
  }
  return out;
}

std::vector<std::int64_t> covering_tokens(const Routing& routing, const DispatchPlan& plan,
                                          std::int64_t at_least, std::uint64_t seed) {
  const std::int64_t num_tokens = routing.num_tokens;
  std::vector<std::int64_t> order = chosen_or_all({}, num_tokens);
  const Philox random(seed, 0);
  for (std::int64_t i = num_tokens - 1; i > 0; --i) {
    const auto j = random.word(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(i + 1);
    std::swap(order[static_cast<std::size_t>(i)], order[j]);
  }

  std::vector<bool> expert_is_covered(static_cast<std::size_t>(routing.num_experts), false);
  const auto covers_another = [&](std::int64_t t) {
    bool another = false;
    for (std::int64_t a = routing.token_begin[static_cast<std::size_t>(t)];
         a < routing.token_begin[static_cast<std::size_t>(t) + 1]; ++a) {
      const auto i = static_cast<std::size_t>(a);
      const auto e = static_cast<std::size_t>(routing.expert[i]);
      if (plan.row_of_assignment[i] < 0 || expert_is_covered[e]) continue;
      expert_is_covered[e] = another = true;
    }
    return another;
  };
  const auto rest = std::stable_partition(order.begin(), order.end(), covers_another);
  const std::int64_t needed = std::max<std::int64_t>(rest - order.begin(), at_least);
  order.resize(static_cast<std::size_t>(std::min(needed, num_tokens)));
  std::sort(order.begin(), order.end());
  return order;
}

double relative_error(ConstMatrixView out, std::span<const double> ref,
                      std::span<const std::int64_t> rows) {
  const std::vector<std::int64_t> compared = chosen_or_all(rows, out.rows);
  require(ref.size() == compared.size() * static_cast<std::size_t>(out.cols),
          "ref has {} elements: expected {} rows of {}", ref.size(), compared.size(), out.cols);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double error = 0, norm = 0;
  std::size_t i = 0;
  for (const std::int64_t r : compared) {
    for (std::int64_t j = 0; j < out.cols; ++j, ++i) {
      const double difference = element(out.row(r), out.dtype, j) - ref[i];
      error += difference * difference;
      norm += ref[i] * ref[i];
    }
  }
  if (!std::isfinite(error) || !std::isfinite(norm)) return kInfinity;
  if (norm == 0) return error == 0 ? 0 : kInfinity;
  return std::sqrt(error / norm);
}

double layer_tolerance(DType dtype, DType weights, std::int64_t hidden, std::int64_t ffn) {
  const double storage = 2 * std::max(epsilon_of(dtype), epsilon_of(weights));
  const double sums = 2 * std::sqrt(static_cast<double>(hidden + ffn)) * epsilon_of(DType::f32);
  return storage + sums;
}

}  // namespace switchyard
