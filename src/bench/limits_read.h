// Included by each limits_*.cc after it has defined `Sum` in an anonymous namespace: the widest
// registers that add up 64-bit words, with add(line of 64 bytes), add(Sum) and total(). Internal
// linkage throughout: each ISA gets a copy of its own.

#include "bench/limits_kernel.h"

namespace switchyard {
namespace {

constexpr std::int64_t kLine = 64;

template <int kStreams>
std::uint64_t read_streams(const std::byte* data, std::int64_t bytes) noexcept {
  const std::int64_t part = bytes / kStreams;
  Sum sums[kStreams];
  for (std::int64_t i = 0; i < part; i += kLine) {
    for (int s = 0; s < kStreams; ++s) sums[s].add(data + s * part + i);
  }
  for (int s = 1; s < kStreams; ++s) sums[0].add(sums[s]);
  return sums[0].total();
}

// As kernels read that multiply meanwhile (gemm/rounds.h). Where memory is slow to answer, on a
// busy machine, this is 1.06 times as fast as eight streams of loads alone.
inline std::uint64_t read_rounds(const std::byte* data, std::int64_t bytes) noexcept {
  constexpr std::int64_t kStreams = 8, kPiece = 2048, kPart = 16 << 10, kBlock = kStreams * kPart;
  Sum sum;
  std::int64_t block = 0;
  for (; block + kBlock <= bytes; block += kBlock) {
    for (std::int64_t piece = 0; piece < kPart; piece += kPiece) {
      const std::byte* now = data + block + piece;
      const std::byte* next = piece + kPiece < kPart ? now + kPiece : data + block + kBlock;
      for (std::int64_t stream = 0; stream < kStreams; ++stream, now += kPart - kPiece) {
        for (std::int64_t i = 0; i < kPiece; i += kStreams * kLine, next += kLine) {
          for (std::int64_t s = 0; s < kStreams; ++s, now += kLine) {
            __builtin_prefetch(next + s * kPart, 0, 3);
            sum.add(now);
          }
        }
      }
    }
  }
  return sum.total() + read_streams<1>(data + block, bytes - block);
}

// As kernels read that multiply meanwhile where memory is best read in order
// (gemm/lines_in_order.h). On a busy Zen 4 1.04 times as fast as one stream of loads alone, with
// one thread as fast.
inline std::uint64_t read_ahead(const std::byte* data, std::int64_t bytes) noexcept {
  constexpr std::int64_t kAhead = 8 << 10;
  Sum sums[2];
  for (std::int64_t i = 0; i < bytes; i += 2 * kLine) {
    for (std::int64_t s = 0; s < 2; ++s) {
      __builtin_prefetch(data + i + s * kLine + kAhead, 0, 2);
      sums[s].add(data + i + s * kLine);
    }
  }
  sums[0].add(sums[1]);
  return sums[0].total();
}

inline std::uint64_t read_in(ReadOrder order, const std::byte* data, std::int64_t bytes) noexcept {
  switch (order) {
    case ReadOrder::one_stream: return read_streams<1>(data, bytes);
    case ReadOrder::two_streams: return read_streams<2>(data, bytes);
    case ReadOrder::four_streams: return read_streams<4>(data, bytes);
    case ReadOrder::eight_streams: return read_streams<8>(data, bytes);
    case ReadOrder::one_stream_ahead: return read_ahead(data, bytes);
    case ReadOrder::rounds: return read_rounds(data, bytes);
  }
  return 0;
}

}  // namespace
}  // namespace switchyard
