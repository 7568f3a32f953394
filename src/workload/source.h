#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "switchyard/context.h"
#include "switchyard/routing.h"
#include "workload/trace.h"

namespace switchyard {

/// The sizes a source draws for.
struct WorkloadShape {
  std::int64_t tokens = 0;  ///< T
  std::int64_t hidden = 0;  ///< H; only `gate` looks at it
  int experts = 0;          ///< E
  int top_k = 0;            ///< K; only traces look at it
};

/// Where logits or assignments come from, as `--routing` names it:
///   uniform      standard normal logits: every expert equally likely
///   zipf:S       ln p_e + Gumbel noise, p_e proportional to 1 / rank_e^S: top-k then draws K
///   experts
///                without replacement by popularity (Gumbel-top-k, Kool et al. 2019,
///                arXiv 1903.06059); ranks are a seeded permutation, the same for every draw
///   skew:N:BIAS  standard normal, plus BIAS on experts 0..N-1
///   gate         a linear gate on anisotropic hidden states (workload/gate.h)
///   trace:FILE[:LAYER]  a recorded trace (workload/trace.h, workload/trace_routing.h): assignments
/// The same seed and draw give the same bits for any thread count.
class RoutingSource {
 public:
  /// Throws Error(invalid_argument) naming the piece of the text that is wrong. Reads the file of a
  /// trace, and throws as read_trace does: keep the source rather than parse again. Copies share
  /// it.
  static RoutingSource parse(std::string_view text);

  /// What skew:N:BIAS says.
  struct Skew {
    int experts = 0;  ///< N
    float bias = 0;
  };

  /// As given to parse.
  const std::string& text() const noexcept { return text_; }

  /// True: logits() draws, a strategy routes. False: routing() gives the assignments themselves.
  bool gives_logits() const noexcept { return trace() == nullptr; }

  /// out [T, E] f32. Draws differ as samples of one workload do: hot experts stay the same ones.
  /// Throws Error(invalid_argument) for sizes that do not fit, or when gives_logits() is false.
  void logits(Context& context, const WorkloadShape& shape, std::uint64_t seed, std::uint64_t draw,
              std::span<float> out) const;

  /// The routing of T tokens over E experts, K each.
  /// Throws Error(invalid_argument) when the trace has more experts than E or another K, or when
  /// gives_logits() is true.
  Routing routing(Context& context, const WorkloadShape& shape, std::uint64_t seed,
                  std::uint64_t draw) const;

  /// What a user should know about how this source fills the shape: "dropped 2048 identical warm-up
  /// rows", "trace has 8192 tokens: repeated 2 times to 16384". Empty for sources of logits.
  std::vector<std::string> notes(const WorkloadShape& shape) const;

  /// The skew, or null: with it a router can be biased as its logits would be.
  const Skew* skew() const noexcept { return std::get_if<Skew>(&kind_); }

  /// The recorded trace, or null: tells E and K before a shape is chosen.
  const Trace* trace() const noexcept;

  /// Throws Error(invalid_argument) when the source cannot fill the shape; draws nothing.
  void require_fits(const WorkloadShape& shape) const;

 private:
  struct Uniform {};
  struct Zipf {
    float exponent = 0;
  };
  struct Gate {};
  using Recorded = std::shared_ptr<const Trace>;
  using Kind = std::variant<Uniform, Zipf, Skew, Gate, Recorded>;

  RoutingSource(std::string_view text, Kind kind) : text_(text), kind_(std::move(kind)) {}
  static Kind parse_kind(std::string_view text);

  std::string text_;
  Kind kind_;
};

}  // namespace switchyard
