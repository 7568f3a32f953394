#include "workload/source.h"

#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/context.h"
#include "workload/gate.h"
#include "workload/random.h"

namespace switchyard {
namespace {

constexpr std::int64_t kGrain = 1 << 12;
constexpr float kMaxExponent = 100.0f;  // the second expert is already at 2^-100 of the first

constexpr std::array<std::string_view, 4> kForms = {"uniform", "zipf:S", "skew:N:BIAS", "gate"};
constexpr std::array<std::string_view, 4> kKeywords = {"uniform", "zipf", "skew", "gate"};

/// Cuts `text` at the first ':'. The second half is empty when there is none.
std::pair<std::string_view, std::string_view> cut(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

template <class T>
T number(std::string_view source, std::string_view piece, std::string_view text,
         std::string_view expected) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool finite = true;
  if constexpr (std::is_floating_point_v<T>) finite = std::isfinite(value);
  require(error == std::errc{} && end == text.data() + text.size() && finite,
          "routing source '{}': {} is '{}': expected {}", source, piece, text, expected);
  return value;
}

void require_bare(std::string_view text, std::string_view keyword) {
  require(text == keyword, "routing source '{}': expected '{}' alone", text, keyword);
}

[[noreturn]] void throw_unknown(std::string_view text, std::string_view keyword) {
  const std::string_view suggestion = nearest(keyword, kKeywords);
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("unknown routing source '{}': expected one of {}{}", text,
                  fmt::join(kForms, ", "),
                  suggestion.empty() ? "" : fmt::format(" (did you mean {}?)", suggestion)));
}

void fill_normals(Context& context, const Philox& random, std::span<float> out) {
  pool_of(context).for_ranges(
      static_cast<std::int64_t>(out.size()), kGrain,
      [&](std::int64_t begin, std::int64_t end, int) {
        for_elements(
            random, begin, end, [](const Words& words) { return normals(words); },
            [&](std::int64_t i, float x) { out[static_cast<std::size_t>(i)] = x; });
      });
}

/// ln p_e up to a constant: -exponent * ln rank_e, rank 1..E by a seeded permutation.
std::vector<float> log_popularity(std::uint64_t seed, int experts, float exponent) {
  const Philox random = philox_for(Use::popularity, seed);
  std::vector<int> rank(static_cast<std::size_t>(experts));
  std::iota(rank.begin(), rank.end(), 1);
  for (std::size_t i = rank.size(); i > 1; --i) {  // Fisher and Yates
    std::swap(rank[i - 1], rank[std::uint64_t{random.word(i)} * i >> 32]);
  }
  std::vector<float> result(rank.size());
  for (std::size_t e = 0; e < rank.size(); ++e) {
    result[e] = -exponent * std::log(static_cast<float>(rank[e]));
  }
  return result;
}

}  // namespace

RoutingSource RoutingSource::parse(std::string_view text) { return {text, parse_kind(text)}; }

RoutingSource::Kind RoutingSource::parse_kind(std::string_view text) {
  const auto [keyword, rest] = cut(text);
  if (keyword == "uniform") {
    require_bare(text, keyword);
    return Uniform{};
  }
  if (keyword == "gate") {
    require_bare(text, keyword);
    return Gate{};
  }
  if (keyword == "zipf") {
    constexpr std::string_view kExpected = "a number from 0 to 100";
    const auto exponent = number<float>(text, "S", rest, kExpected);
    require(exponent >= 0 && exponent <= kMaxExponent,
            "routing source '{}': S is '{}': expected {}", text, rest, kExpected);
    return Zipf{exponent};
  }
  if (keyword == "skew") {
    const auto [count, bias] = cut(rest);
    constexpr std::string_view kExpected = "a number of experts, 1 or more";
    const auto experts = number<int>(text, "N", count, kExpected);
    require(experts >= 1, "routing source '{}': N is '{}': expected {}", text, count, kExpected);
    return Skew{experts, number<float>(text, "BIAS", bias, "a finite number")};
  }
  throw_unknown(text, keyword);
}

void RoutingSource::logits(Context& context, const WorkloadShape& shape, std::uint64_t seed,
                           std::uint64_t draw, std::span<float> out) const {
  require(shape.tokens >= 0, "tokens is {}: expected 0 or more", shape.tokens);
  require(shape.experts >= 1, "experts is {}: expected 1 or more", shape.experts);
  require(static_cast<std::int64_t>(out.size()) == shape.tokens * shape.experts,
          "out has {} elements: expected tokens * experts = {}", out.size(),
          shape.tokens * shape.experts);
  if (std::holds_alternative<Gate>(kind_)) {
    gate_logits(context, seed, draw, shape.tokens, shape.experts, shape.hidden, out);
    return;
  }
  const Philox random = philox_for(Use::logits, seed, draw);
  if (const auto* const zipf = std::get_if<Zipf>(&kind_)) {
    const std::vector<float> base = log_popularity(seed, shape.experts, zipf->exponent);
    pool_of(context).for_ranges(shape.tokens, 16, [&](std::int64_t begin, std::int64_t end, int) {
      const std::int64_t experts = shape.experts;
      for_elements(
          random, begin * experts, end * experts, [](const Words& words) { return gumbels(words); },
          [&](std::int64_t i, float noise) {
            out[static_cast<std::size_t>(i)] = base[static_cast<std::size_t>(i % experts)] + noise;
          });
    });
    return;
  }
  const auto* const skew = std::get_if<Skew>(&kind_);
  require(skew == nullptr || skew->experts <= shape.experts,
          "routing source '{}': N is {}: expected at most the {} experts", text_,
          skew == nullptr ? 0 : skew->experts, shape.experts);
  fill_normals(context, random, out);
  if (skew == nullptr) return;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    const auto row = out.subspan(static_cast<std::size_t>(t * shape.experts),
                                 static_cast<std::size_t>(skew->experts));
    for (float& logit : row) logit += skew->bias;
  }
}

}  // namespace switchyard
