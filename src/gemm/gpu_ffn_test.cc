// The kernels of grouped on a GPU, or in the emulator where the build has no CUDA, against the
// oracle in double precision.

#include "gemm/gpu_ffn.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "base/philox.h"
#include "cuda/device_testing.h"
#include "layer/layer_reference.h"

namespace switchyard::gemm {
namespace {

template <class T>
std::vector<T> random_elements(std::int64_t count, std::uint64_t stream, float scale) {
  const Philox random(17, stream);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = static_cast<float>(random.word(i) >> 8) * 0x1p-24f;
    values[i] = from_float<T>((bits * 2 - 1) * scale);
  }
  return values;
}

struct Case {
  std::vector<std::int64_t> rows;  // of each expert
  std::int64_t hidden, ffn;
  bool gated = true, gather = false;
  Activation activation = Activation::silu;
  std::int64_t padding = 0;     // rows after each expert's
  std::int64_t misaligned = 0;  // elements by which rows of in and out miss 16 bytes
};

template <class T>
class Problem {
 public:
  Problem(Context& context, const Case& c)
      : context_(context), gpu_(cuda::gpu_of(context)), case_(c) {
    const auto experts = std::ssize(c.rows);
    const auto scale = [](std::int64_t depth) {
      return 1.7f / std::sqrt(static_cast<float>(depth));
    };
    gate_ = random_elements<T>(experts * c.ffn * c.hidden, 1, scale(c.hidden));
    up_ = random_elements<T>(experts * c.ffn * c.hidden, 2, scale(c.hidden));
    down_ = random_elements<T>(experts * c.hidden * c.ffn, 3, scale(c.ffn));
    weights_ = {c.gated ? matrices(gate_.data(), experts, c.ffn, c.hidden) : ConstMatricesView{},
                matrices(up_.data(), experts, c.ffn, c.hidden),
                matrices(down_.data(), experts, c.hidden, c.ffn), c.activation};
    begin_.push_back(0);
    for (const std::int64_t rows : c.rows) begin_.push_back(begin_.back() + rows + c.padding);
    const std::int64_t rows = begin_.back();
    tokens_ = c.gather ? rows / 2 + 1 : rows;
    in_stride_ = c.hidden + c.misaligned;
    in_ = random_elements<T>(tokens_ * in_stride_ + 8, 4, 1.7f);
    for (std::int64_t r = 0; r < rows; ++r) {
      token_of_row_.push_back(static_cast<std::int32_t>(c.gather ? r * 7 % tokens_ : r));
    }
    for (std::size_t e = 0; e < c.rows.size(); ++e) {
      for (std::int64_t r = begin_[e] + c.rows[e]; r < begin_[e + 1]; ++r) {
        token_of_row_[static_cast<std::size_t>(r)] = -1;
      }
    }
  }

  /// The output rows as bits, those that no expert owns as they were: all ones.
  std::vector<std::uint16_t> forward() {
    cuda::DeviceScope scope(gpu_);
    const std::int64_t rows = begin_.back(), hidden = case_.hidden;
    const std::int64_t miss = case_.misaligned, out_stride = hidden + miss;
    GpuRows device;
    device.num_experts = static_cast<int>(case_.rows.size());
    device.rows = rows;
    device.expected = std::accumulate(case_.rows.begin(), case_.rows.end(), std::int64_t{0});
    device.expert_begin = copy(scope, begin_);
    device.expert_rows = copy(scope, case_.rows);
    const std::int32_t* tokens = copy(scope, token_of_row_);
    device.token_of_row = case_.gather ? tokens : nullptr;
    T* in = copy(scope, in_);
    T* out = scope.take<T>(rows * out_stride + miss);
    gpu_.fill(out, 0xff, (rows * out_stride + miss) * 2);
    const GpuFfn<GpuWeights> ffn = make_gpu_ffn(context_, weights_);
    ffn.forward(context_, device,
                {reinterpret_cast<std::byte*>(in + miss), DTypeOf<T>::value, tokens_, hidden,
                 in_stride_, Device::cuda},
                {reinterpret_cast<std::byte*>(out + miss), DTypeOf<T>::value, rows, hidden,
                 out_stride, Device::cuda});
    std::vector<std::uint16_t> all(static_cast<std::size_t>(rows * out_stride + miss));
    gpu_.copy_to_host(all.data(), out, std::ssize(all) * 2);
    std::vector<std::uint16_t> bits;
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto first = all.begin() + miss + r * out_stride;
      bits.insert(bits.end(), first, first + hidden);
    }
    return bits;
  }

  void expect_right(const std::vector<std::uint16_t>& bits) const {
    double error = 0, norm = 0;
    for (std::size_t e = 0; e < case_.rows.size(); ++e) {
      for (std::int64_t r = begin_[e]; r < begin_[e + 1]; ++r) {
        const std::uint16_t* row = bits.data() + r * case_.hidden;
        if (r >= begin_[e] + case_.rows[e]) {
          for (std::int64_t i = 0; i < case_.hidden; ++i) ASSERT_EQ(row[i], 0xffff);
          continue;
        }
        const auto expected = reference_expert(weights_, static_cast<std::int64_t>(e), input_of(r));
        for (std::int64_t i = 0; i < case_.hidden; ++i) {
          const double want = expected[static_cast<std::size_t>(i)];
          const double got = to_float(T{row[i]});
          error += (got - want) * (got - want);
          norm += want * want;
        }
      }
    }
    const double tolerance =
        layer_tolerance(DTypeOf<T>::value, DTypeOf<T>::value, case_.hidden, case_.ffn);
    EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(norm));
  }

 private:
  template <class V>
  V* copy(cuda::DeviceScope& scope, const std::vector<V>& values) {
    V* device = scope.take<V>(std::ssize(values) + 1);
    gpu_.copy_to_device(device, values.data(), std::ssize(values) * sizeof(V));
    return device;
  }

  std::vector<double> input_of(std::int64_t row) const {
    const std::int64_t token = token_of_row_[static_cast<std::size_t>(row)];
    std::vector<double> x;
    for (std::int64_t i = 0; i < case_.hidden; ++i) {
      x.push_back(
          to_float(in_[static_cast<std::size_t>(case_.misaligned + token * in_stride_ + i)]));
    }
    return x;
  }

  Context& context_;
  cuda::Gpu& gpu_;
  Case case_;
  std::vector<T> gate_, up_, down_, in_;
  ExpertWeights weights_;
  std::vector<std::int64_t> begin_;
  std::int64_t tokens_ = 0, in_stride_ = 0;
  std::vector<std::int32_t> token_of_row_;
};

class GpuFfnTest : public cuda::DeviceTest {
 protected:
  template <class T = bf16>
  void check(const Case& c) {
    Problem<T> run(*context_, c);
    run.expect_right(run.forward());
  }
};

TEST_F(GpuFfnTest, FewRows) { check({.rows = {3, 0, 16, 1}, .hidden = 128, .ffn = 96}); }
TEST_F(GpuFfnTest, SomeRows) { check({.rows = {70, 0, 17}, .hidden = 192, .ffn = 64}); }
TEST_F(GpuFfnTest, ManyRows) { check({.rows = {130, 70}, .hidden = 64, .ffn = 72}); }

TEST_F(GpuFfnTest, F16) {
  check<f16>({.rows = {5, 9}, .hidden = 64, .ffn = 64});
  check<f16>({.rows = {40}, .hidden = 64, .ffn = 64});
}

TEST_F(GpuFfnTest, Activations) {
  for (const Activation act : {Activation::silu, Activation::gelu, Activation::relu}) {
    for (const bool gated : {false, true}) {
      check({.rows = {4, 2}, .hidden = 64, .ffn = 72, .gated = gated, .activation = act});
    }
  }
}

TEST_F(GpuFfnTest, GathersTokens) {
  check({.rows = {3, 0, 14}, .hidden = 64, .ffn = 32, .gather = true});
  check({.rows = {33, 60}, .hidden = 64, .ffn = 32, .gather = true});
}

TEST_F(GpuFfnTest, LeavesPaddingAlone) {
  check({.rows = {3, 0, 17}, .hidden = 64, .ffn = 32, .padding = 5});
  check({.rows = {3, 0, 17}, .hidden = 64, .ffn = 32, .gather = true, .padding = 5});
}

TEST_F(GpuFfnTest, SizesThatFitNoTile) {
  for (const std::int64_t hidden : {1, 7, 65, 100}) {
    check({.rows = {2, 1}, .hidden = hidden, .ffn = 33});
    check({.rows = {1, 18}, .hidden = 24, .ffn = hidden, .gated = false});
  }
}

TEST_F(GpuFfnTest, RowsOfAnyAlignmentAndStride) {
  check({.rows = {2, 5}, .hidden = 64, .ffn = 32, .misaligned = 1});
  check({.rows = {2, 5}, .hidden = 64, .ffn = 32, .gather = true, .misaligned = 3});
  check({.rows = {2, 5}, .hidden = 64, .ffn = 32, .misaligned = 8});
}

TEST_F(GpuFfnTest, NoRows) {
  Problem<bf16> run(*context_, {.rows = {0, 0, 0}, .hidden = 64, .ffn = 32});
  EXPECT_TRUE(run.forward().empty());
}

TEST_F(GpuFfnTest, SameBitsEveryRun) {
  for (const std::int64_t rows : {5, 60}) {
    Problem<bf16> run(*context_, {.rows = {rows, 0, 1}, .hidden = 136, .ffn = 40});
    EXPECT_EQ(run.forward(), run.forward());
  }
}

}  // namespace
}  // namespace switchyard::gemm
