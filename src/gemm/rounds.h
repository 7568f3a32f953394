#pragma once

#include "gemm/gemm_kernel.h"

// Internal linkage throughout: each ISA's kernels get a copy of their own.
namespace switchyard::gemm {
namespace {

// With few rows memory is the limit, and each line of weights is wanted once. Fetched into L2 first
// it would hold one of L1's 16 line buffers twice; so it goes to L1, 16 KiB ahead, and that is only
// as fast as plain reading when the lines asked for one after another lie in eight streams, as
// memory and the prefetcher of L2 like them. A round takes a step (2 KiB) of each stream while the
// next round is fetched, line by line in turn:
//
//   stripe    | stream 0      | stream 1      | ... | stream 7      |
//   round 0   | *             | *             |     | *             |   in L1, multiplied
//   round 1   |   +           |   +           |     |   +           |   on its way to L1
//
// In other orders (one stream; a step of each stream at a time) the same instructions reach 0.55 to
// 0.75 of what eight streams of plain loads read.

constexpr std::int64_t kStepBytes = 2048;  // of weights
constexpr int kStepLines = 32;

/// The order of steps: of each stream one, then of each the next. Streams are equal parts of the
/// stripe, up to eight, and of four steps at least, as the hardware fetches past the end of each:
/// depth 768 as six streams of four steps takes 0.95 to 1 of the time of eight of three. All rows
/// of a product take it, few or many, fetched in rounds or not: what a row becomes does not depend
/// on how many others its expert has.
class Order {
 public:
  explicit Order(std::int64_t steps, std::int64_t most_streams = kMostStreams) noexcept
      : streams_(most_streams) {
    while (streams_ > 1 && (steps % streams_ != 0 || steps < kLeastRounds * streams_)) --streams_;
    rounds_ = steps / streams_;
    stream_ = streams_;
  }
  std::int64_t streams() const noexcept { return streams_; }
  std::int64_t rounds() const noexcept { return rounds_; }
  std::int64_t position() const noexcept { return position_; }

  inline void advance() noexcept {
    position_ += rounds_;
    if (--stream_ == 0) {
      stream_ = streams_;
      position_ += 1 - streams_ * rounds_;
    }
  }
  inline void advance(std::int64_t steps) noexcept {
    for (; steps > 0; --steps) advance();
  }

 private:
  static constexpr std::int64_t kMostStreams = 8, kLeastRounds = 4;
  std::int64_t streams_, rounds_;
  std::int64_t stream_;
  std::int64_t position_ = 0;
};

/// Fetches the weights of the next round into L1, `lines` at a time (they divide a step), and at
/// the end those of the next stripe's first.
template <int lines>
class RoundAhead {
 public:
  RoundAhead(const GemmArgs& g, const Order& order) noexcept
      : streams_(order.streams()),
        stride_(order.rounds() * kStepBytes),
        stream_(streams_),
        left_((order.rounds() - 1) * streams_ * kStepLines),
        next_(static_cast<const std::byte*>(g.stripe) + kStepBytes),
        after_(g.prefetch) {
    if (left_ == 0) next_ = after_;
  }

  inline void step() noexcept {
    if (next_ == nullptr) return;
    for (int line = 0; line < lines; ++line) {
      __builtin_prefetch(next_, 0, 3);
      next_ += stride_;
      if (--stream_ == 0) {
        stream_ = streams_;
        next_ += kLine - streams_ * stride_;
      }
    }
    if ((left_ -= lines) == 0) next_ = after_;
  }

 private:
  static constexpr std::int64_t kLine = 64;
  std::int64_t streams_;
  std::int64_t stride_;
  std::int64_t stream_;
  std::int64_t left_;  ///< lines of this stripe
  const std::byte* next_;
  const std::byte* after_;
};

/// Where weights are read in order: fetches them into L2 kBytesAhead before they are used, `lines`
/// at a time, at the end those of the next stripe.
template <int lines>
class InOrderAhead {
 public:
  InOrderAhead(const GemmArgs& g, std::int64_t stripe_bytes) noexcept
      : left_(stripe_bytes - kBytesAhead),
        next_(static_cast<const std::byte*>(g.stripe) + kBytesAhead),
        after_(g.prefetch) {
    if (left_ <= 0) next_ = after_;
  }

  inline void step() noexcept {
    if (next_ == nullptr) return;
    for (int line = 0; line < lines; ++line) __builtin_prefetch(next_ + line * 64, 0, 2);
    next_ += lines * 64;
    if ((left_ -= lines * 64) == 0) next_ = after_;
  }

 private:
  static constexpr std::int64_t kBytesAhead = 8192;
  std::int64_t left_;  ///< bytes of this stripe
  const std::byte* next_;
  const std::byte* after_;
};

/// Fetches nothing: the hardware does.
struct NothingAhead {
  inline void step() noexcept {}
};

/// RoundAhead for two stripes side by side, in parts of a round: 16 KiB of L1 at a time, as one
/// stripe takes, are half a round of each of eight streams.
template <int lines>
class PairAhead {
 public:
  /// Streams in a part, of each stripe; 0 when a round has no fitting parts.
  static std::int64_t streams_of(const Order& order) noexcept {
    if (order.streams() <= kMostStreams) return order.streams();
    return order.streams() % 2 == 0 ? order.streams() / 2 : 0;
  }

  PairAhead(const GemmArgs& g, const Order& order) noexcept
      : streams_(streams_of(order)),
        stride_(order.rounds() * kStepBytes),
        second_(g.stripe_bytes),
        parts_(order.streams() / streams_),
        stream_(2 * streams_),
        left_(2 * streams_ * kStepLines),
        parts_left_(order.rounds() * parts_),
        part_(static_cast<const std::byte*>(g.stripe)),
        after_(g.prefetch) {
    next_part();
  }

  inline void step() noexcept {
    if (next_ == nullptr) return;
    for (int line = 0; line < lines; ++line) {
      __builtin_prefetch(next_, 0, 3);
      next_ += stride_;
      if (--stream_ == streams_) {
        next_ += second_ - streams_ * stride_;
      } else if (stream_ == 0) {
        stream_ = 2 * streams_;
        next_ += kLine - second_ - streams_ * stride_;
      }
    }
    if ((left_ -= lines) == 0) next_part();
  }

 private:
  static constexpr std::int64_t kLine = 64, kMostStreams = 4;

  void next_part() noexcept {
    left_ = 2 * streams_ * kStepLines;
    part_ += streams_ * stride_;
    if (--parts_left_ % parts_ == 0) part_ += kStepBytes - parts_ * streams_ * stride_;
    next_ = parts_left_ > 0 ? part_ : after_;
  }

  std::int64_t streams_;
  std::int64_t stride_;
  std::int64_t second_;
  std::int64_t parts_;  ///< of a round
  std::int64_t stream_;
  std::int64_t left_;  ///< lines of this part
  std::int64_t parts_left_;
  const std::byte* part_;
  const std::byte* after_;
  const std::byte* next_;
};

}  // namespace
}  // namespace switchyard::gemm
