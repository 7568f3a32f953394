#include "switchyard/combine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/buffer.h"
#include "base/philox.h"
#include "combine/combine_impl.h"
#include "combine/combine_kernel.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct Variant {
  Isa isa;
  DType dtype;
  CombineKernel* kernel;
};

constexpr Variant kVariants[] = {
#define SWITCHYARD_COMBINE_KERNEL(isa, dtype, kernel) {Isa::isa, DType::dtype, kernel},
#include "combine/kernels.inc"
#undef SWITCHYARD_COMBINE_KERNEL
};

/// The formula, one element at a time.
template <class T>
T combined(const DispatchPlan& plan, const T* rows, std::int64_t row_stride, std::int64_t token,
           std::int64_t col, T before, bool accumulate) {
  bool any = accumulate;
  float sum = accumulate ? to_float(before) : 0.0f;
  for (std::int64_t a = plan.token_begin[token]; a < plan.token_begin[token + 1]; ++a) {
    if (plan.row_of_assignment[a] < 0) continue;
    const float product =
        plan.weight_of_assignment[a] * to_float(rows[plan.row_of_assignment[a] * row_stride + col]);
    sum = any ? sum + product : product;
    any = true;
  }
  return any ? from_float<T>(sum) : T{};
}

/// Assignments of num_tokens tokens that take any of num_rows rows, or none.
DispatchPlan any_plan(std::uint64_t seed, std::int64_t num_tokens, std::int64_t num_rows,
                      int most_per_token) {
  const Philox random(seed, 1);
  std::uint64_t drawn = 0;
  DispatchPlan plan;
  plan.num_tokens = num_tokens;
  plan.token_of_row.resize(static_cast<std::size_t>(num_rows));
  plan.token_begin.push_back(0);
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    const std::uint32_t count = random.word(drawn++) % static_cast<unsigned>(most_per_token + 1);
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t pick = random.word(drawn++) % static_cast<unsigned>(num_rows + 1);
      plan.row_of_assignment.push_back(static_cast<std::int32_t>(pick) - 1);
      plan.weight_of_assignment.push_back(pick == 0 ? 0.0f : random.uniform(drawn++) * 2 - 0.5f);
    }
    plan.token_begin.push_back(static_cast<std::int64_t>(plan.row_of_assignment.size()));
  }
  return plan;
}

// Now and then infinity, NaN, a zero of either sign, a subnormal, the largest.
template <class T>
std::vector<T> any_values(std::uint64_t seed, std::int64_t count) {
  const Philox random(seed, 2);
  const float kSpecial[] = {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(),
                            0.0f,
                            -0.0f,
                            std::numeric_limits<float>::denorm_min(),
                            0x1p-24f,
                            65504.0f,
                            std::numeric_limits<float>::max()};
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto block = random.block(static_cast<std::uint64_t>(i));
    values.push_back(from_float<T>(block[0] % 16 == 0 ? kSpecial[block[1] % std::size(kSpecial)]
                                                      : random.normal(i + (1ull << 40))));
  }
  return values;
}

// The same bits, but for the payload of a NaN.
template <class T>
bool is_same(T a, T b) {
  if (std::isnan(to_float(a)) && std::isnan(to_float(b))) return true;
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class T>
void check_kernels_of() {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto num_tokens = *rc::gen::inRange<std::int64_t>(0, 7);
  const auto num_rows = *rc::gen::inRange<std::int64_t>(0, 12);
  const auto cols = *rc::gen::inRange<std::int64_t>(1, 200);
  const auto row_stride = cols + *rc::gen::inRange<std::int64_t>(0, 40);
  // A stride of whole lines, so that the streaming path is taken too.
  const auto out_stride = *rc::gen::element(cols, cols + 3, std::int64_t{256});
  const auto shift = *rc::gen::element<std::int64_t>(0, 0, 1, 5);
  const auto accumulate = *rc::gen::arbitrary<bool>();
  const auto most_per_token = *rc::gen::element(9, 40);
  const DispatchPlan plan = any_plan(seed, num_tokens, num_rows, most_per_token);
  const std::vector<T> rows = any_values<T>(seed, shift + num_rows * row_stride);
  const std::vector<T> before = any_values<T>(seed + 1, num_tokens * out_stride);

  std::vector<T> expected = before;
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    for (std::int64_t i = 0; i < cols; ++i) {
      T& element = expected[t * out_stride + i];
      element = combined(plan, rows.data() + shift, row_stride, t, i, element, accumulate);
    }
  }
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  for (const Variant& variant : kVariants) {
    if (!isa_is_available(variant.isa) || variant.dtype != DTypeOf<T>::value) continue;
    for (const bool bypass_cache : {false, true}) {
      Buffer buffer((num_tokens * out_stride + shift) * kSize + 1);
      T* const out = reinterpret_cast<T*>(buffer.data()) + shift;
      std::copy(before.begin(), before.end(), out);
      variant.kernel(
          {reinterpret_cast<const std::byte*>(rows.data() + shift), row_stride * kSize,
           plan.token_begin.data(), plan.row_of_assignment.data(), plan.weight_of_assignment.data(),
           reinterpret_cast<std::byte*>(out), out_stride * kSize, cols, accumulate, bypass_cache,
           bypass_cache ? 0 : std::int64_t{16} << 10},
          0, num_tokens);
      for (std::size_t i = 0; i < expected.size(); ++i) RC_ASSERT(is_same(out[i], expected[i]));
    }
  }
}

RC_GTEST_PROP(Combine, EveryF32KernelFollowsTheFormula, ()) { check_kernels_of<float>(); }
RC_GTEST_PROP(Combine, EveryBf16KernelFollowsTheFormula, ()) { check_kernels_of<bf16>(); }
RC_GTEST_PROP(Combine, EveryF16KernelFollowsTheFormula, ()) { check_kernels_of<f16>(); }

TEST(Combine, EveryIsaAndThreadCountGivesTheSameBits) {
  constexpr std::int64_t kTokens = 700, kRows = 900, kCols = 131;
  const DispatchPlan plan = any_plan(5, kTokens, kRows, 8);
  std::vector<bf16> rows(kRows * kCols);
  const Philox random(5, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = from_float<bf16>(random.normal(i));
  std::vector<bf16> first;
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    for (const int threads : {1, 2, 5}) {
      Context context({.threads = threads, .isa = isa});
      EXPECT_LE(combine_isa(context), isa);
      std::vector<bf16> out(kTokens * kCols, bf16{0xffff});
      combine(context, plan, matrix<bf16>(rows.data(), kRows, kCols),
              matrix(out.data(), kTokens, kCols));
      if (first.empty()) first = out;
      EXPECT_EQ(std::memcmp(out.data(), first.data(), out.size() * 2), 0)
          << name_of(isa) << " on " << threads;
    }
  }
}

TEST(Combine, NeverReadsRowsThatNobodyOwns) {
  Context context({.threads = 1, .isa = {}});
  DispatchPlan plan;
  plan.num_tokens = 2;
  plan.token_of_row = {0, -1, -1};
  plan.token_begin = {0, 2, 3};
  plan.row_of_assignment = {0, -1, -1};
  plan.weight_of_assignment = {0.5f, 0.0f, 0.0f};
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> rows = {2, 4, kNan, kNan, kNan, kNan};
  std::vector<float> out(4, kNan);
  combine(context, plan, matrix(rows.data(), 3, 2), matrix(out.data(), 2, 2));
  EXPECT_EQ(out, (std::vector<float>{1, 2, 0, 0}));
  combine(context, plan, matrix(rows.data(), 3, 2), matrix(out.data(), 2, 2), true);
  EXPECT_EQ(out, (std::vector<float>{2, 4, 0, 0}));
}

TEST(Combine, SurvivesNothing) {
  Context context({.threads = 2, .isa = {}});
  DispatchPlan plan;
  float* const none = nullptr;
  combine(context, plan, matrix(none, 0, 7), matrix(none, 0, 7));
  plan.num_tokens = 3;
  plan.token_begin = {0, 0, 0, 0};
  std::vector<float> out(12, 1.0f);
  combine(context, plan, matrix(none, 0, 4), matrix(out.data(), 3, 4));
  EXPECT_EQ(out, std::vector<float>(12, 0.0f));
}

TEST(Combine, OffsetsExceed31Bits) {
  // Rows 2^31 + elements apart; only the pages of the rows are ever touched.
  constexpr std::int64_t kStride = (std::int64_t{1} << 31) + 4096, kCols = 100;
  constexpr std::size_t kBytes = (kStride + kCols) * sizeof(bf16);
  void* const in = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* const out = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (in == MAP_FAILED || out == MAP_FAILED) GTEST_SKIP() << "no address space to reserve";
  const MatrixView rows = {static_cast<std::byte*>(in), DType::bf16, 2, kCols, kStride};
  const MatrixView sums = {static_cast<std::byte*>(out), DType::bf16, 2, kCols, kStride};
  std::memset(rows.row(0), 0x3f, kCols * 2);
  std::memset(rows.row(1), 0x40, kCols * 2);
  DispatchPlan plan;
  plan.num_tokens = 2;
  plan.token_of_row = {1, 0};
  plan.token_begin = {0, 1, 2};
  plan.row_of_assignment = {1, 0};
  plan.weight_of_assignment = {1.0f, 1.0f};
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    Context context({.threads = 1, .isa = isa});
    combine(context, plan, rows, sums);
    EXPECT_EQ(std::memcmp(sums.row(0), rows.row(1), kCols * 2), 0);
    EXPECT_EQ(std::memcmp(sums.row(1), rows.row(0), kCols * 2), 0);
    std::memset(sums.row(0), 0, kCols * 2);
    std::memset(sums.row(1), 0, kCols * 2);
  }
  munmap(in, kBytes);
  munmap(out, kBytes);
}

TEST(Combine, RefusesShapesAndTypesThatDoNotFit) {
  Context context({.threads = 1, .isa = {}});
  const DispatchPlan plan = any_plan(9, 4, 6, 2);
  std::vector<float> out(20), rows(30);
  const MatrixView in = matrix(rows.data(), 6, 5), sums = matrix(out.data(), 4, 5);
  EXPECT_NO_THROW(combine(context, plan, in, sums));
  EXPECT_THROW(combine(context, plan, matrix(rows.data(), 5, 5), sums), Error);
  EXPECT_THROW(combine(context, plan, matrix(rows.data(), 6, 4), sums), Error);
  EXPECT_THROW(combine(context, plan, in, matrix(out.data(), 3, 5)), Error);
  EXPECT_THROW(combine(context, plan, in, {sums.data, DType::f16, 4, 5, 5}), Error);
  EXPECT_THROW(combine(context, plan, in, {sums.data, DType::f32, 4, 5, 4}), Error);
}

}  // namespace
}  // namespace switchyard
