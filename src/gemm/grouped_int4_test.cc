// int4 weights on a GPU, or in the emulator: the records, and the FFN against the oracle on what
// the integers stand for.

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/philox.h"
#include "cuda/device_testing.h"
#include "cuda/gpu.h"
#include "gemm/gpu_ffn.h"
#include "gemm/grouped_int4.h"
#include "gemm/grouped_wgmma.h"
#include "layer/layer_reference.h"

namespace switchyard::gemm {
namespace {

TEST(Int4Layout, HoldsEveryCodeOnce) {
  std::set<std::pair<int, int>> places;
  for (int n = 0; n < 16; ++n) {
    for (int k = 0; k < 64; ++k) {
      const CodePlace at = code_place(n, k);
      EXPECT_TRUE(at.byte >= 0 && at.byte < kScalesAt && at.shift % 4 == 0 && at.shift <= 4);
      EXPECT_TRUE(places.insert({at.byte, at.shift}).second);
    }
  }
  EXPECT_EQ(places.size(), 1024u);
}

// A lane's word for a slice, shifted right by 4 r: its low nibble and that 16 bits above are the
// elements of register r mod 2 of its B fragment for columns 8 (r / 2) on.
TEST(Int4Layout, IsTheOrderOfFragments) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int slice = 0; slice < 4; ++slice) {
      for (int r = 0; r < 4; ++r) {
        for (int odd = 0; odd < 2; ++odd) {
          const RowColumn at = b_element(lane, r % 2 * 2 + odd);
          const CodePlace place = code_place(at.column + r / 2 * 8, slice * 16 + at.row);
          const int bit = (place.byte % 4) * 8 + place.shift;
          EXPECT_EQ(place.byte / 4, lane * 4 + slice);
          EXPECT_EQ(bit, r * 4 + odd * 16);
        }
      }
    }
  }
}

// What the host believes of a kernel's shared memory is what the kernel takes.
template <class Shape, class Columns>
void expect_shape(GpuTile tile, bool integers) {
  const GpuTileShape shape = shape_of(tile, integers);
  EXPECT_EQ(shape.rows, Shape::kRows);
  EXPECT_EQ(shape.columns, Shape::kColumns);
  EXPECT_EQ(shape.threads, Shape::kThreads);
  EXPECT_EQ(shape.stages, Shape::kStages);
  const auto bytes = MmaMemory<Shape, Columns>::bytes(100);
  EXPECT_EQ(shape.shared_bytes + schedule_bytes(100, shape.threads), bytes);
}

TEST(GpuConfig, KnowsTheKernels) {
  expect_shape<FewShape, DenseColumns<bf16, FewShape>>(GpuTile::few, false);
  expect_shape<SomeShape, DenseColumns<bf16, SomeShape>>(GpuTile::some, false);
  expect_shape<ManyShape, DenseColumns<bf16, ManyShape>>(GpuTile::many, false);
  expect_shape<FewShape, Int4Columns<bf16, FewShape>>(GpuTile::few, true);
  expect_shape<Int4SomeShape, Int4Columns<bf16, Int4SomeShape>>(GpuTile::some, true);
  expect_shape<Int4ManyShape, Int4Columns<bf16, Int4ManyShape>>(GpuTile::many, true);
  const GpuTileShape wide = shape_of(GpuTile::wide, false);
  EXPECT_EQ(wide.shared_bytes + schedule_bytes(100, wide.threads), WideMemory::bytes(100));
  EXPECT_EQ(wide.threads, WideShape::kAllThreads);
}

class Int4Test : public cuda::DeviceTest {
 protected:
  struct Case {
    std::vector<std::int64_t> rows;
    std::int64_t hidden, ffn;
    QuantOptions options = {};
    bool gated = true;
  };

  template <class T>
  void check(const Case& c) {
    const auto experts = std::ssize(c.rows);
    const auto gate = random(experts * c.ffn * c.hidden, 1), up = random(std::ssize(gate), 2),
               down = random(std::ssize(gate), 3);
    const auto q = [&](const std::vector<float>& w, std::int64_t rows, std::int64_t cols) {
      return quantize(host_, matrices(w.data(), experts, rows, cols), c.options);
    };
    const QuantizedMatrices gates = q(gate, c.ffn, c.hidden), ups = q(up, c.ffn, c.hidden),
                            downs = q(down, c.hidden, c.ffn);
    std::int64_t rows = 0;
    std::vector<std::int64_t> begin;
    for (const std::int64_t n : c.rows) {
      begin.push_back(rows);
      rows += n;
    }
    const auto values = random(rows * c.hidden, 4);
    std::vector<T> in;
    for (const float x : values) in.push_back(from_float<T>(x * 3));

    GpuInt4Weights first(*context_, ups, experts, c.gated),
        second(*context_, downs, experts, false);
    first.place(*context_, 0, c.gated ? &gates : nullptr, ups);
    second.place(*context_, 0, nullptr, downs);
    const GpuFfn<GpuInt4Weights> ffn(std::move(first), std::move(second), c.hidden, c.gated,
                                     Activation::silu, DTypeOf<T>::value);
    cuda::Gpu& gpu = cuda::gpu_of(*context_);
    cuda::DeviceScope scope(gpu);
    const auto copied = [&](const auto& v) {
      using V = typename std::decay_t<decltype(v)>::value_type;
      V* device = scope.take<V>(std::ssize(v));
      gpu.copy_to_device(device, v.data(), std::ssize(v) * static_cast<std::int64_t>(sizeof(V)));
      return device;
    };
    GpuRows device;
    device.num_experts = static_cast<int>(experts);
    device.rows = device.expected = rows;
    device.expert_begin = copied(begin);
    device.expert_rows = copied(c.rows);
    T* out = scope.take<T>(rows * c.hidden);
    const auto view = [&](T* data) {
      return MatrixView{reinterpret_cast<std::byte*>(data),
                        DTypeOf<T>::value,
                        rows,
                        c.hidden,
                        c.hidden,
                        Device::cuda};
    };
    ffn.forward(*context_, device, view(copied(in)), view(out));
    std::vector<T> got(in.size());
    gpu.copy_to_host(got.data(), out, std::ssize(got) * 2);

    const auto exact = [&](const QuantizedMatrices& m) {
      std::vector<float> w(static_cast<std::size_t>(m.count * m.rows * m.cols));
      dequantize(host_, m, matrix(w.data(), m.count * m.rows, m.cols));
      return w;
    };
    const auto wg = exact(gates), wu = exact(ups), wd = exact(downs);
    const ExpertWeights weights{
        c.gated ? matrices(wg.data(), experts, c.ffn, c.hidden) : ConstMatricesView{},
        matrices(wu.data(), experts, c.ffn, c.hidden),
        matrices(wd.data(), experts, c.hidden, c.ffn)};
    std::vector<double> expected;
    for (std::int64_t e = 0; e < experts; ++e) {
      for (std::int64_t r = 0; r < c.rows[static_cast<std::size_t>(e)]; ++r) {
        const auto row = (begin[static_cast<std::size_t>(e)] + r) * c.hidden;
        std::vector<double> x;
        for (std::int64_t k = 0; k < c.hidden; ++k) {
          x.push_back(to_float(in[static_cast<std::size_t>(row + k)]));
        }
        const auto y = reference_expert(weights, e, x);
        expected.insert(expected.end(), y.begin(), y.end());
      }
    }
    // Weights lose nothing beyond the integers: they count as f32.
    EXPECT_LE(relative_error(matrix(std::as_const(got).data(), rows, c.hidden), expected, {}),
              layer_tolerance(DTypeOf<T>::value, DType::f32, c.hidden, c.ffn));
  }

 private:
  static std::vector<float> random(std::int64_t count, std::uint64_t stream) {
    const Philox random(17, stream);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = (static_cast<float>(random.word(i) >> 8) * 0x1p-24f - 0.5f) * 0.4f;
    }
    return values;
  }

  Context host_{ContextOptions{.threads = 1}};
};

TEST_F(Int4Test, TilesOfEveryHeight) {
  check<bf16>({.rows = {3, 0, 16}, .hidden = 192, .ffn = 96});
  check<bf16>({.rows = {70, 0, 17}, .hidden = 128, .ffn = 64});
  check<bf16>({.rows = {130}, .hidden = 64, .ffn = 72});
  check<f16>({.rows = {5, 9}, .hidden = 64, .ffn = 64});
  check<f16>({.rows = {40}, .hidden = 64, .ffn = 64});
}

TEST_F(Int4Test, EveryGroupWithAndWithoutZeroPoints) {
  for (const std::int64_t group : {32, 64, 128}) {
    for (const bool zeros : {false, true}) {
      for (const std::int64_t rows : {3, 33}) {
        check<bf16>({.rows = {rows, 2},
                     .hidden = 160,
                     .ffn = 72,
                     .options = {.group = group, .zero_points = zeros}});
      }
    }
  }
}

TEST_F(Int4Test, SizesThatFitNoTile) {
  check<bf16>({.rows = {2, 1}, .hidden = 33, .ffn = 7, .options = {.zero_points = true}});
  check<bf16>({.rows = {1, 18}, .hidden = 100, .ffn = 65, .gated = false});
}

}  // namespace
}  // namespace switchyard::gemm
