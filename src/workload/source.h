#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "switchyard/context.h"

namespace switchyard {

/// The sizes a source draws for.
struct WorkloadShape {
  std::int64_t tokens = 0;  ///< T
  std::int64_t hidden = 0;  ///< H; only `gate` looks at it
  int experts = 0;          ///< E
  int top_k = 0;            ///< K; only traces look at it
};

/// Where logits come from, as `--routing` names it:
///   uniform      standard normal logits: every expert equally likely
///   zipf:S       ln p_e + Gumbel noise, p_e proportional to 1 / rank_e^S: top-k then draws K
///   experts
///                without replacement by popularity (Gumbel-top-k, Kool et al. 2019,
///                arXiv 1903.06059); ranks are a seeded permutation, the same for every draw
///   skew:N:BIAS  standard normal, plus BIAS on experts 0..N-1
///   gate         a linear gate on anisotropic hidden states (workload/gate.h)
/// The same seed and draw give the same bits for any thread count.
class RoutingSource {
 public:
  /// Throws Error(invalid_argument) naming the piece of the text that is wrong.
  static RoutingSource parse(std::string_view text);

  /// As given to parse.
  const std::string& text() const noexcept { return text_; }

  /// out [T, E] f32. Draws differ as samples of one workload do: hot experts stay the same ones.
  /// Throws Error(invalid_argument) for sizes that do not fit.
  void logits(Context& context, const WorkloadShape& shape, std::uint64_t seed, std::uint64_t draw,
              std::span<float> out) const;

 private:
  struct Uniform {};
  struct Zipf {
    float exponent = 0;
  };
  struct Skew {
    int experts = 0;
    float bias = 0;
  };
  struct Gate {};
  using Kind = std::variant<Uniform, Zipf, Skew, Gate>;

  RoutingSource(std::string_view text, Kind kind) : text_(text), kind_(std::move(kind)) {}
  static Kind parse_kind(std::string_view text);

  std::string text_;
  Kind kind_;
};

}  // namespace switchyard
