// The packed formats are what their layouts say: for the code that packs, and for the kernels that
// read.

#include "gemm/prepack_layout.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/philox.h"
#include "gemm/prepack.h"
#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_weights.h"
#include "switchyard/error.h"

namespace switchyard::gemm {
namespace {

constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16};

struct Shape {
  std::int64_t rows, cols;
};
constexpr Shape kShapes[] = {{1, 1}, {33, 31}, {16, 64}, {40, 70}};

/// Elements that are told apart: numbers from `first` on, as f32 values or as 16 bits. Never 0.
std::vector<std::byte> numbered(DType dtype, std::int64_t count, std::int64_t first) {
  std::vector<std::byte> memory(static_cast<std::size_t>(count) * size_of(dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    if (dtype == DType::f32) {
      reinterpret_cast<float*>(memory.data())[i] = static_cast<float>(first + i);
    } else {
      reinterpret_cast<std::uint16_t*>(memory.data())[i] = static_cast<std::uint16_t>(first + i);
    }
  }
  return memory;
}

std::int64_t number_at(DType dtype, const std::byte* memory, std::int64_t offset) {
  if (dtype == DType::f32) {
    return static_cast<std::int64_t>(reinterpret_cast<const float*>(memory)[offset]);
  }
  return reinterpret_cast<const std::uint16_t*>(memory)[offset];
}

TEST(PrepackLayout, IsWhereElementsLie) {
  Context context({.threads = 2, .isa = {}});
  for (const DType dtype : kDTypes) {
    for (const auto& [rows, cols] : kShapes) {
      constexpr std::int64_t kCount = 2;
      const auto memory = numbered(dtype, kCount * rows * cols, 1);
      const PackedWeights packed(context,
                                 {memory.data(), dtype, kCount, rows, cols, cols, rows * cols});
      const TensorLayout layout = prepack_layout(dtype, rows, cols, false);
      // every byte of the stripes is some element's
      ASSERT_EQ(is_bijective(layout), true) << to_string(layout);
      ASSERT_EQ(layout.cosize() * static_cast<std::int64_t>(size_of(dtype)),
                packed.stripes() * packed.stripe_bytes());
      for (std::int64_t m = 0; m < kCount; ++m) {
        for (std::int64_t n = 0; n < layout.mode(0).size(); ++n) {
          for (std::int64_t k = 0; k < layout.mode(1).size(); ++k) {
            const bool is_inside = n < rows && k < cols;
            ASSERT_EQ(number_at(dtype, packed.stripe(m, 0), layout(n, k)),
                      is_inside ? 1 + (m * rows + n) * cols + k : 0)
                << to_string(layout) << " at " << n << ' ' << k;
          }
        }
      }
    }
  }
}

TEST(PrepackLayout, GateAndUpShareStripes) {
  Context context({.threads = 2, .isa = {}});
  for (const DType dtype : kDTypes) {
    for (const auto& [rows, cols] : kShapes) {
      const auto gate = numbered(dtype, rows * cols, 1);
      const auto up = numbered(dtype, rows * cols, 1 + rows * cols);
      const PackedWeights packed(context, {gate.data(), dtype, 1, rows, cols, cols, rows * cols},
                                 {up.data(), dtype, 1, rows, cols, cols, rows * cols});
      const TensorLayout layout = prepack_layout(dtype, rows, cols, true);
      ASSERT_EQ(is_bijective(layout), true) << to_string(layout);
      ASSERT_EQ(layout.cosize() * static_cast<std::int64_t>(size_of(dtype)),
                packed.stripes() * packed.stripe_bytes());
      for (std::int64_t half = 0; half < 2; ++half) {
        for (std::int64_t n = 0; n < layout.mode(0).size(); ++n) {
          for (std::int64_t k = 0; k < layout.mode(1).size(); ++k) {
            const bool is_inside = n < rows && k < cols;
            ASSERT_EQ(number_at(dtype, packed.stripe(0, 0), layout(n, k, half)),
                      is_inside ? 1 + (half * rows + n) * cols + k : 0)
                << to_string(layout) << " at " << n << ' ' << k << ' ' << half;
          }
        }
      }
    }
  }
}

/// Codes at random: in the wrong place some of them would differ.
QuantizedMatrices random_codes(const QuantOptions& options, std::int64_t rows, std::int64_t cols,
                               std::uint64_t stream) {
  const bool is_int8 = options.format == QuantFormat::int8;
  QuantizedMatrices q{options.format, 1, rows, cols, is_int8 ? cols : options.group, {}, {}, {}};
  const Philox random(17, stream);
  q.values.resize(static_cast<std::size_t>(rows * (is_int8 ? cols : (cols + 1) / 2)));
  for (std::size_t i = 0; i < q.values.size(); ++i) {
    q.values[i] = static_cast<std::uint8_t>(random.word(i));
  }
  q.scales.assign(static_cast<std::size_t>(rows * q.groups()), 1.0f);
  if (options.zero_points) q.zeros.assign(q.scales.size(), 7);
  return q;
}

unsigned code_of(const QuantizedMatrices& q, std::int64_t row, std::int64_t k) {
  if (q.format == QuantFormat::int8) return q.values[static_cast<std::size_t>(row * q.cols + k)];
  const auto byte = q.values[static_cast<std::size_t>(row * ((q.cols + 1) / 2) + k / 2)];
  return byte >> (k % 2 * 4) & 15u;
}

unsigned code_at(QuantFormat format, const std::byte* memory, std::int64_t offset) {
  if (format == QuantFormat::int8) return static_cast<unsigned>(memory[offset]);
  return static_cast<unsigned>(memory[offset / 2]) >> (offset % 2 * 4) & 15u;
}

TEST(PrepackLayout, IsWhereCodesOfIntegersLie) {
  Context context({.threads = 2, .isa = {}});
  for (const QuantOptions& options :
       {QuantOptions{.format = QuantFormat::int8}, QuantOptions{.format = QuantFormat::int4},
        QuantOptions{.format = QuantFormat::int4, .group = 128, .zero_points = true}}) {
    for (const bool gated : {false, true}) {
      for (const auto& [rows, cols] : kShapes) {
        const QuantizedMatrices gate = random_codes(options, rows, cols, 1);
        const QuantizedMatrices up = random_codes(options, rows, cols, 2);
        QuantWeights packed(up, 1, gated);
        packed.place(context, 0, gated ? &gate : nullptr, up);
        const TensorLayout layout = prepack_layout(options, rows, cols, gated);
        ASSERT_EQ(is_injective(layout), true);
        const std::byte* codes = packed.stripe(0, 0);
        if (options.format == QuantFormat::int4) {
          codes += Int4Stripe(packed.depth(), options.group, options.zero_points).codes;
        }
        const std::int64_t per_byte = options.format == QuantFormat::int8 ? 1 : 2;
        ASSERT_LE(layout.cosize(), packed.bytes() * per_byte);
        for (std::int64_t half = 0; half <= (gated ? 1 : 0); ++half) {
          const QuantizedMatrices& from = gated && half == 0 ? gate : up;
          for (std::int64_t n = 0; n < rows; ++n) {
            for (std::int64_t k = 0; k < cols; ++k) {
              const std::int64_t offset = gated ? layout(n, k, half) : layout(n, k);
              ASSERT_EQ(code_at(options.format, codes, offset), code_of(from, n, k))
                  << to_string(layout) << " at " << n << ' ' << k << ' ' << half;
            }
          }
        }
      }
    }
  }
}

// What a panel holds at (r, k): one element, or the sum of its parts.
float value_at(const Kernel& kernel, const std::byte* panel, const TensorLayout& layout,
               std::int64_t r, std::int64_t k) {
  if (kernel.format != PanelFormat::split_tiles) {
    return static_cast<float>(number_at(kernel.panel, panel, layout(r, k)));
  }
  float sum = 0;
  for (std::int64_t part = 0; part < layout.mode(2).size(); ++part) {
    sum += to_float(reinterpret_cast<const bf16*>(panel)[layout(r, k, part)]);
  }
  return sum;
}

TEST(PanelLayout, IsWhereRowsLie) {
  for (const Kernel& kernel : kernels()) {
    if (kernel.split != nullptr && !isa_is_available(kernel.isa)) continue;
    for (const auto& [rows, cols] : kShapes) {
      const auto memory = numbered(kernel.panel, rows * cols, 1);
      const PanelShape shape(kernel, cols);
      Buffer panel(shape.bytes(rows));
      fill_panel(shape, {memory.data(), kernel.panel, rows, cols, cols}, nullptr, rows, 0,
                 panel.data());
      const TensorLayout layout = panel_layout(shape, rows);
      ASSERT_EQ(is_injective(layout), true);
      for (std::int64_t r = 0; r < layout.mode(0).size(); ++r) {
        for (std::int64_t k = 0; k < layout.mode(1).size(); ++k) {
          const bool is_inside = r < rows && k < cols;
          ASSERT_EQ(value_at(kernel, panel.data(), layout, r, k),
                    static_cast<float>(is_inside ? 1 + r * cols + k : 0))
              << name_of(kernel) << ' ' << to_string(layout) << " at " << r << ' ' << k;
        }
      }
    }
  }
}

void put(DType dtype, std::byte* memory, std::int64_t offset, float value) {
  switch (dtype) {
    case DType::f32: reinterpret_cast<float*>(memory)[offset] = value; break;
    case DType::bf16: reinterpret_cast<bf16*>(memory)[offset] = from_float<bf16>(value); break;
    case DType::f16: reinterpret_cast<f16*>(memory)[offset] = from_float<f16>(value); break;
  }
}

// Operands put in place element by element, where the layouts say: every kernel multiplies them.
// Small integers, so that every sum is exact.
TEST(PrepackLayout, IsWhatKernelsRead) {
  constexpr std::int64_t kRows = 21, kDepth = 96;
  const Philox random(17, 5);
  const auto small = [&](std::int64_t i) {
    return static_cast<float>(random.word(static_cast<std::uint64_t>(i)) % 17) - 8;
  };
  const auto activation = [&](std::int64_t r, std::int64_t k) { return small(r * kDepth + k); };
  const auto weight = [&](std::int64_t n, std::int64_t k) {
    return small(n * kDepth + k + 100000);
  };
  for (const Kernel& kernel : kernels()) {
    if (!isa_is_available(kernel.isa)) continue;
    const TensorLayout weights = prepack_layout(kernel.weights, kStripeColumns, kDepth, false);
    const PanelShape shape(kernel, kDepth);
    const TensorLayout panel = panel_layout(shape, kRows);
    Buffer stripe(weights.cosize() * static_cast<std::int64_t>(size_of(kernel.weights)));
    Buffer rows(shape.bytes(kRows));
    std::memset(rows.data(), 0, static_cast<std::size_t>(shape.bytes(kRows)));
    for (std::int64_t k = 0; k < kDepth; ++k) {
      for (std::int64_t n = 0; n < kStripeColumns; ++n) {
        put(kernel.weights, stripe.data(), weights(n, k), weight(n, k));
      }
      for (std::int64_t r = 0; r < kRows; ++r) {
        if (kernel.format == PanelFormat::split_tiles) {
          put(DType::bf16, rows.data(), panel(r, k, 0), activation(r, k));  // others are 0
        } else {
          put(kernel.panel, rows.data(), panel(r, k), activation(r, k));
        }
      }
    }
    Buffer sums(round_up(kRows, kTileRows) * kStripeColumns * 4);
    const auto* acc = sums.elements<float>(1);
    const bool is_split = kernel.format == PanelFormat::split_tiles;
    if (kernel.begin != nullptr) kernel.begin(is_split ? kRows : kTileRows);
    kernel.run({rows.data(), shape.stride(), stripe.data(), kDepth, sums.elements<float>(1), kRows,
                false, nullptr, 0});
    if (kernel.end != nullptr) kernel.end();
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t n = 0; n < kStripeColumns; ++n) {
        float sum = 0;
        for (std::int64_t k = 0; k < kDepth; ++k) sum += activation(r, k) * weight(n, k);
        ASSERT_EQ(acc[r * kStripeColumns + n], sum) << name_of(kernel) << ' ' << r << ' ' << n;
      }
    }
  }
}

TEST(PrepackLayout, RefusesNoMatrix) {
  EXPECT_THROW(prepack_layout(DType::f32, 0, 4, false), Error);
  EXPECT_THROW(prepack_layout(DType::bf16, 4, std::int64_t{1} << 40, false), Error);
}

}  // namespace
}  // namespace switchyard::gemm
