#include "bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "base/check.h"
#include "base/philox.h"

namespace switchyard {
namespace {

constexpr int kResamples = 1000;
constexpr std::uint64_t kBootstrapStream = 0x626f6f74;  // apart from the streams that draw data
constexpr std::uint64_t kSecondBootstrapStream = 0x626f6f75;
constexpr double kZ95 = 1.959963984540054;  // 97.5% quantile of the standard normal

std::vector<double> sorted(std::span<const double> samples) {
  std::vector<double> ascending(samples.begin(), samples.end());
  std::sort(ascending.begin(), ascending.end());
  return ascending;
}

// Indices below n from `draws` random words: multiply and shift, whose bias of n / 2^32 is nothing.
void draw_indices(const Philox& random, std::uint64_t resample, std::vector<std::uint32_t>& out) {
  const std::uint64_t n = out.size();
  const std::uint64_t blocks = (n + 3) / 4;
  for (std::uint64_t b = 0; b < blocks; ++b) {
    const auto words = random.block(resample * blocks + b);
    for (std::uint64_t i = 4 * b; i < std::min(n, 4 * b + 4); ++i) {
      out[i] = static_cast<std::uint32_t>(words[i % 4] * n >> 32);
    }
  }
}

std::vector<double> resampled_medians(std::span<const double> samples, std::uint64_t seed,
                                      std::uint64_t stream) {
  require(!samples.empty(), "samples is empty: expected at least one");
  // Resampling ranks of the sorted samples leaves a median of integers to find.
  const std::vector<double> ascending = sorted(samples);
  const Philox random(seed, stream);
  std::vector<std::uint32_t> ranks(ascending.size());
  std::vector<double> medians(kResamples);
  const auto middle = ranks.begin() + static_cast<std::ptrdiff_t>(ranks.size() / 2);
  for (int r = 0; r < kResamples; ++r) {
    draw_indices(random, static_cast<std::uint64_t>(r), ranks);
    std::nth_element(ranks.begin(), middle, ranks.end());
    medians[r] = ascending[*middle];
    if (ranks.size() % 2 == 0) {
      medians[r] = (medians[r] + ascending[*std::max_element(ranks.begin(), middle)]) / 2;
    }
  }
  return medians;
}

}  // namespace

double percentile(std::span<const double> ascending, double p) noexcept {
  const double position = p / 100 * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, ascending.size() - 1);
  const double fraction = position - static_cast<double>(below);
  return ascending[below] + fraction * (ascending[above] - ascending[below]);
}

Interval bootstrap_median(std::span<const double> samples, std::uint64_t seed) {
  std::vector<double> medians = resampled_medians(samples, seed, kBootstrapStream);
  std::sort(medians.begin(), medians.end());
  return {percentile(medians, 2.5), percentile(medians, 97.5)};
}

Interval bootstrap_ratio(std::span<const double> a, std::span<const double> b, std::uint64_t seed) {
  const std::vector<double> below = resampled_medians(a, seed, kBootstrapStream);
  std::vector<double> ratios = resampled_medians(b, seed, kSecondBootstrapStream);
  for (std::size_t r = 0; r < ratios.size(); ++r) ratios[r] /= below[r];
  std::sort(ratios.begin(), ratios.end());
  return {percentile(ratios, 2.5), percentile(ratios, 97.5)};
}

Interval order_median_interval(std::span<const double> ascending) noexcept {
  if (ascending.empty()) return {};
  const auto n = static_cast<double>(ascending.size());
  const double half_width = kZ95 * std::sqrt(n) / 2;
  const auto low = static_cast<std::size_t>(std::max(0.0, std::floor(n / 2 - half_width) - 1));
  return {ascending[low], ascending[ascending.size() - 1 - low]};
}

MannWhitney mann_whitney(std::span<const double> a, std::span<const double> b) {
  const auto num_a = static_cast<double>(a.size()), num_b = static_cast<double>(b.size());
  if (a.empty() || b.empty()) return {};
  struct Tagged {
    double value;
    bool from_a;
  };
  std::vector<Tagged> all;
  all.reserve(a.size() + b.size());
  for (const double x : a) all.push_back({x, true});
  for (const double x : b) all.push_back({x, false});
  std::sort(all.begin(), all.end(), [](auto& x, auto& y) { return x.value < y.value; });

  double rank_sum_a = 0, ties = 0;  // ties: sum over groups of t^3 - t
  for (std::size_t begin = 0, end; begin < all.size(); begin = end) {
    double in_group_from_a = 0;
    for (end = begin; end < all.size() && all[end].value == all[begin].value; ++end) {
      in_group_from_a += all[end].from_a;
    }
    const auto t = static_cast<double>(end - begin);
    rank_sum_a +=
        in_group_from_a * (static_cast<double>(begin + end + 1) / 2);  // mean 1-based rank
    ties += t * t * t - t;
  }
  const double n = num_a + num_b;
  const double u = rank_sum_a - num_a * (num_a + 1) / 2;
  const double variance = num_a * num_b / 12 * (n + 1 - ties / (n * (n - 1)));
  if (variance <= 0) return {u, 1};
  const double distance = std::max(0.0, std::abs(u - num_a * num_b / 2) - 0.5);
  return {u, std::erfc(distance / std::sqrt(2 * variance))};
}

Summary summarise(std::span<const double> samples, std::uint64_t seed) {
  require(!samples.empty(), "samples is empty: expected at least one");
  Summary out;
  for (const double x : samples) {
    require(std::isfinite(x), "samples holds {}: expected finite values", x);
    out.mean += x;
  }
  const std::vector<double> ascending = sorted(samples);
  const auto n = static_cast<double>(samples.size());
  out.mean /= n;
  for (const double x : samples) out.std += (x - out.mean) * (x - out.mean);
  out.std = std::sqrt(out.std / n);
  out.min = ascending.front();
  out.p05 = percentile(ascending, 5);
  out.median = percentile(ascending, 50);
  out.p95 = percentile(ascending, 95);
  out.p99 = percentile(ascending, 99);
  out.ci95 = bootstrap_median(samples, seed);
  return out;
}

void add_samples(Record& record, std::span<const double> samples_ms, std::uint64_t seed) {
  if (samples_ms.empty()) return;
  const Summary summary = summarise(samples_ms, seed);
  record["samples_ms"] = std::vector<double>(samples_ms.begin(), samples_ms.end());
  record["median_ms"] = summary.median;
  record["mean_ms"] = summary.mean;
  record["std_ms"] = summary.std;
  record["min_ms"] = summary.min;
  record["p05_ms"] = summary.p05;
  record["p95_ms"] = summary.p95;
  record["p99_ms"] = summary.p99;
  record["ci95_low_ms"] = summary.ci95.low;
  record["ci95_high_ms"] = summary.ci95.high;
}

}  // namespace switchyard
