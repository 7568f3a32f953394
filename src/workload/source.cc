#include "workload/source.h"

#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/context.h"
#include "workload/gate.h"
#include "workload/random.h"
#include "workload/trace_routing.h"

namespace switchyard {
namespace {

constexpr std::int64_t kGrain = 1 << 12;
constexpr float kMaxExponent = 100.0f;  // the second expert is already at 2^-100 of the first

constexpr std::array<std::string_view, 5> kForms = {"uniform", "zipf:S", "skew:N:BIAS", "gate",
                                                    "trace:FILE[:LAYER]"};
constexpr std::array<std::string_view, 5> kKeywords = {"uniform", "zipf", "skew", "gate", "trace"};

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

/// Standard normal, plus `bias` on the first `num_biased` experts of each token.
void fill_normals(Context& context, const Philox& random, int experts, int num_biased, float bias,
                  std::span<float> out) {
  pool_of(context).for_ranges(
      static_cast<std::int64_t>(out.size()), kGrain,
      [&](std::int64_t begin, std::int64_t end, int) {
        std::int64_t e = begin % experts;
        for_elements(
            random, begin, end, [](const Words& words) { return normals(words); },
            [&](std::int64_t i, float x) {
              out[static_cast<std::size_t>(i)] = e < num_biased ? x + bias : x;
              if (++e == experts) e = 0;
            });
      });
}

/// base_e + Gumbel noise
void fill_zipf(Context& context, const Philox& random, std::span<const float> base,
               std::span<float> out) {
  pool_of(context).for_ranges(static_cast<std::int64_t>(out.size()), kGrain,
                              [&](std::int64_t begin, std::int64_t end, int) {
                                auto e = static_cast<std::size_t>(begin) % base.size();
                                for_elements(
                                    random, begin, end,
                                    [](const Words& words) { return gumbels(words); },
                                    [&](std::int64_t i, float noise) {
                                      out[static_cast<std::size_t>(i)] = base[e] + noise;
                                      if (++e == base.size()) e = 0;
                                    });
                              });
}

/// FILE or FILE:LAYER. A file whose name has a colon is found before it is cut there.
Trace read_trace_named(std::string_view text, std::string_view rest) {
  const std::string whole(rest);
  require(!whole.empty(), "routing source '{}': FILE is '': expected the path of a trace", text);
  const auto colon = whole.rfind(':');
  std::error_code ignored;
  if (colon == std::string::npos || std::filesystem::exists(whole, ignored)) {
    return read_trace(whole);
  }
  const std::string layer = whole.substr(colon + 1);
  require(colon > 0 && !layer.empty(),
          "routing source '{}': expected trace:FILE or trace:FILE:LAYER", text);
  return read_trace(whole.substr(0, colon), layer);
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
  if (keyword == "trace") return std::make_shared<const Trace>(read_trace_named(text, rest));
  throw_unknown(text, keyword);
}

void RoutingSource::logits(Context& context, const WorkloadShape& shape, std::uint64_t seed,
                           std::uint64_t draw, std::span<float> out) const {
  require(gives_logits(), "routing source '{}' gives no logits: expected its routing to be used",
          text_);
  require_fits(shape);
  require(static_cast<std::int64_t>(out.size()) == shape.tokens * shape.experts,
          "out has {} elements: expected tokens * experts = {}", out.size(),
          shape.tokens * shape.experts);
  const Philox random = philox_for(Use::logits, seed, draw);
  if (std::holds_alternative<Gate>(kind_)) {
    gate_logits(context, seed, draw, shape.tokens, shape.experts, shape.hidden, out);
  } else if (const auto* const zipf = std::get_if<Zipf>(&kind_)) {
    fill_zipf(context, random, log_popularity(seed, shape.experts, zipf->exponent), out);
  } else {
    const auto* const skew = std::get_if<Skew>(&kind_);
    fill_normals(context, random, shape.experts, skew == nullptr ? 0 : skew->experts,
                 skew == nullptr ? 0 : skew->bias, out);
  }
}

Routing RoutingSource::routing(Context& context, const WorkloadShape& shape, std::uint64_t seed,
                               std::uint64_t draw) const {
  require(!gives_logits(), "routing source '{}' gives logits: expected a strategy to route them",
          text_);
  return routing_of(context, *trace(), shape, seed, draw);
}

std::vector<std::string> RoutingSource::notes(const WorkloadShape& shape) const {
  if (gives_logits()) return {};
  require_fits(shape);
  return notes_on(*trace(), shape);
}

const Trace* RoutingSource::trace() const noexcept {
  const auto* const recorded = std::get_if<Recorded>(&kind_);
  return recorded == nullptr ? nullptr : recorded->get();
}

void RoutingSource::require_fits(const WorkloadShape& shape) const {
  require(shape.tokens >= 0, "tokens is {}: expected 0 or more", shape.tokens);
  require(shape.experts >= 1, "experts is {}: expected 1 or more", shape.experts);
  if (const Trace* const recorded = trace(); recorded != nullptr) {
    switchyard::require_fits(*recorded, shape);
  }
  if (const auto* const skew = std::get_if<Skew>(&kind_); skew != nullptr) {
    require(skew->experts <= shape.experts,
            "routing source '{}': N is {}: expected at most the {} experts", text_, skew->experts,
            shape.experts);
  }
  if (std::holds_alternative<Gate>(kind_)) {
    require(shape.hidden >= 1, "hidden is {}: expected 1 or more for routing source 'gate'",
            shape.hidden);
  }
}

}  // namespace switchyard
