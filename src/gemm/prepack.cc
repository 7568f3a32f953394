#include "gemm/prepack.h"

#include <algorithm>
#include <cstring>

#include "base/context.h"
#include "gemm/gemm_kernel.h"
#include "gemm/panel.h"

namespace switchyard::gemm {
namespace {

// Stripes are filled a square at a time: 16 columns of 16 words of 32 bits, one cache line of each
// column's row, transposed in registers. A word is an f32 or a pair of depths in bf16; both formats
// (gemm_kernel.h) are rows of words then. Element by element it took three times as long (bf16;
// f32: twice).
constexpr std::int64_t kSide = 16;
constexpr std::int64_t kLine = 64;  // bytes: a side of words
constexpr std::int64_t kAhead = 8 * kLine;

using Word = std::uint32_t;
using Words = Word __attribute__((vector_size(16)));  // the vector of every 64-bit baseline

Words load(const std::byte* from) noexcept {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

void store(Words words, Word* to) noexcept { std::memcpy(to, &words, sizeof words); }

// to[w * stride + j] = word w of row[j].
void transpose(const std::byte* const row[kSide], Word* to, std::int64_t stride) noexcept {
  for (std::int64_t j = 0; j < kSide; j += 4) {
    for (int r = 0; r < 4; ++r) __builtin_prefetch(row[j + r] + kAhead);
    for (std::int64_t w = 0; w < kSide; w += 4) {
      const Words a = load(row[j] + 4 * w), b = load(row[j + 1] + 4 * w),
                  c = load(row[j + 2] + 4 * w), d = load(row[j + 3] + 4 * w);
      const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                  cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                  ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                  cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      Word* const out = to + w * stride + j;
      store(__builtin_shufflevector(ab, cd, 0, 1, 4, 5), out);
      store(__builtin_shufflevector(ab, cd, 2, 3, 6, 7), out + stride);
      store(__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), out + 2 * stride);
      store(__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), out + 3 * stride);
    }
  }
}

// The same for f16, whose depths do not come in pairs: to[h * stride + j] = half word h of row[j].
void transpose(const std::byte* const row[kSide], std::uint16_t* to, std::int64_t stride) noexcept {
  for (std::int64_t j = 0; j < kSide; ++j) {
    __builtin_prefetch(row[j] + kAhead);
    std::uint16_t halves[2 * kSide];
    std::memcpy(halves, row[j], sizeof halves);
    for (std::int64_t h = 0; h < 2 * kSide; ++h) to[h * stride + j] = halves[h];
  }
}

// Writes a square to columns [16 half, 16 half + 16) of a stripe; `byte` counts along the depth.
void place(DType dtype, const std::byte* const row[kSide], std::int64_t byte, std::int64_t half,
           std::byte* stripe) noexcept {
  std::byte* const to = stripe + byte * kStripeColumns;
  switch (dtype) {
    case DType::f32:
      return transpose(row, reinterpret_cast<Word*>(to) + half * kSide, kStripeColumns);
    case DType::bf16: return transpose(row, reinterpret_cast<Word*>(to + half * 1024), kSide);
    case DType::f16:
      return transpose(row, reinterpret_cast<std::uint16_t*>(to) + half * kSide, kStripeColumns);
  }
}

// Fills half a stripe from the rows of its 16 columns, zero where there is no row (null) or a row
// has ended.
void fill_half(DType dtype, const std::byte* const row[kSide], std::int64_t depth,
               std::int64_t half, std::byte* stripe) noexcept {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t end = depth * size, padded = round_up(depth, kDepthUnit) * size;
  for (std::int64_t byte = 0; byte < padded; byte += kLine) {
    const std::int64_t left = std::clamp<std::int64_t>(end - byte, 0, kLine);
    std::byte partial[kSide][kLine];
    const std::byte* from[kSide];
    for (std::int64_t j = 0; j < kSide; ++j) {
      if (row[j] != nullptr && left == kLine) {
        from[j] = row[j] + byte;
        continue;
      }
      std::memset(partial[j], 0, kLine);
      if (row[j] != nullptr) {
        std::memcpy(partial[j], row[j] + byte, static_cast<std::size_t>(left));
      }
      from[j] = partial[j];
    }
    place(dtype, from, byte, half, stripe);
  }
}

}  // namespace

PackedWeights::PackedWeights(Context& context, const ConstMatricesView& weights)
    : dtype_(weights.dtype),
      gated_(false),
      count_(weights.count),
      depth_(weights.cols),
      columns_(weights.rows) {
  pack(context, weights, weights);
}

PackedWeights::PackedWeights(Context& context, const ConstMatricesView& gate,
                             const ConstMatricesView& up)
    : dtype_(up.dtype), gated_(true), count_(up.count), depth_(up.cols), columns_(up.rows) {
  pack(context, gate, up);
}

void PackedWeights::pack(Context& context, const ConstMatricesView& first,
                         const ConstMatricesView& second) {
  // Outputs feed a panel padded to 32 columns: an odd number of gated stripes would leave half of
  // the last unit unwritten.
  stripes_ = round_up(columns_, kDepthUnit) / stripe_outputs();
  stripe_bytes_ =
      round_up(depth_, kDepthUnit) * kStripeColumns * static_cast<std::int64_t>(size_of(dtype_));
  buffer_.reserve(bytes());
  pool_of(context).for_each(count_ * stripes_, [&](std::int64_t task, int) {
    const std::int64_t matrix = task / stripes_, s = task % stripes_;
    std::byte* stripe = buffer_.data() + task * stripe_bytes_;
    for (std::int64_t half = 0; half < 2; ++half) {
      const bool is_second = gated_ && half == 1;
      const ConstMatrixView source = (is_second ? second : first)[matrix];
      const std::int64_t begin = s * stripe_outputs() + (gated_ ? 0 : half * kSide);
      const std::byte* rows[kSide];
      for (std::int64_t j = 0; j < kSide; ++j) {
        rows[j] = begin + j < columns_ ? source.row(begin + j) : nullptr;
      }
      fill_half(dtype_, rows, depth_, half, stripe);
    }
  });
}

}  // namespace switchyard::gemm
