#include "switchyard/pack.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "pack/pack_impl.h"
#include "pack/pack_kernel.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct Variant {
  Isa isa;
  PackKernel* kernel;
};

constexpr Variant kVariants[] = {
#define SWITCHYARD_PACK_KERNEL(isa, kernel) {Isa::isa, kernel},
#include "pack/kernels.inc"
#undef SWITCHYARD_PACK_KERNEL
};

std::vector<std::byte> random_bytes(std::uint64_t seed, std::int64_t count) {
  const Philox random(seed, 0);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random.word(i));
  return bytes;
}

/// A plan of num_rows rows that take any of num_tokens tokens, or none.
DispatchPlan any_rows(std::uint64_t seed, std::int64_t num_tokens, std::int64_t num_rows) {
  DispatchPlan plan;
  plan.num_tokens = num_tokens;
  const Philox random(seed, 1);
  for (std::int64_t r = 0; r < num_rows; ++r) {
    const auto pick = static_cast<std::int64_t>(random.word(static_cast<std::uint64_t>(r)) %
                                                static_cast<std::uint64_t>(num_tokens + 1));
    plan.token_of_row.push_back(static_cast<std::int32_t>(pick - 1));
  }
  return plan;
}

// Every kernel, at any alignment and stride, writes what the formula says and nothing else.
RC_GTEST_PROP(Pack, EveryKernelFollowsTheFormula, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto num_tokens = *rc::gen::inRange<std::int64_t>(0, 9);
  const auto num_rows = *rc::gen::inRange<std::int64_t>(0, 12);
  const auto row_bytes = *rc::gen::inRange<std::int64_t>(1, 700);
  const std::int64_t in_stride = row_bytes + *rc::gen::inRange<std::int64_t>(0, 70);
  const std::int64_t out_stride = row_bytes + *rc::gen::inRange<std::int64_t>(0, 70);
  const auto in_shift = *rc::gen::inRange<std::int64_t>(0, 64);
  const auto out_shift = *rc::gen::inRange<std::int64_t>(0, 64);
  const DispatchPlan plan = any_rows(seed, num_tokens, num_rows);
  const auto in = random_bytes(seed, in_shift + num_tokens * in_stride);
  const auto poison = random_bytes(seed + 1, out_shift + num_rows * out_stride);

  std::vector<std::byte> expected = poison;
  for (std::int64_t r = 0; r < num_rows; ++r) {
    for (std::int64_t i = 0; i < row_bytes; ++i) {
      const std::int64_t token = plan.token_of_row[r];
      expected[out_shift + r * out_stride + i] =
          token < 0 ? std::byte{0} : in[in_shift + token * in_stride + i];
    }
  }
  for (const Variant& variant : kVariants) {
    if (!isa_is_available(variant.isa)) continue;
    for (const bool bypass_cache : {false, true}) {
      std::vector<std::byte> out = poison;
      PackRows job = {in.data() + in_shift,
                      in_stride,
                      plan.token_of_row.data(),
                      out.data() + out_shift,
                      out_stride,
                      row_bytes,
                      bypass_cache};
      variant.kernel(job, 0, num_rows);
      RC_ASSERT(out == expected);
      // The same copies listed in another order.
      std::vector<std::int32_t> row_of_copy(plan.token_of_row.size());
      std::iota(row_of_copy.rbegin(), row_of_copy.rend(), 0);
      const std::vector<std::int32_t> token_of_copy(plan.token_of_row.rbegin(),
                                                    plan.token_of_row.rend());
      out = poison;
      job.token_of_row = token_of_copy.data();
      job.row_of_copy = row_of_copy.data();
      job.out = out.data() + out_shift;
      variant.kernel(job, 0, num_rows);
      RC_ASSERT(out == expected);
    }
  }
}

struct alignas(64) CacheLine {
  std::byte at[64];
};

// Rows of whole lines are streamed to two places of a token side by side.
RC_GTEST_PROP(Pack, TokensOfManyPlacesGoToWholeLines, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto num_copies = *rc::gen::inRange<std::int64_t>(1, 20);
  const auto row_lines = *rc::gen::inRange<std::int64_t>(1, 12);
  const std::int64_t stride_lines = row_lines + *rc::gen::inRange<std::int64_t>(0, 3);
  const auto in_shift = *rc::gen::inRange<std::int64_t>(0, 64);
  const auto places = *rc::gen::element(1, 2, 3, 8);  // of a token in a row, padding among them
  constexpr std::int64_t kTokens = 3;
  const std::int64_t row_bytes = row_lines * 64, stride = stride_lines * 64;
  const auto in = random_bytes(seed, in_shift + kTokens * row_bytes);
  std::vector<std::int32_t> token, row(static_cast<std::size_t>(num_copies));
  for (std::int64_t r = 0; r < num_copies; ++r) {
    token.push_back(static_cast<std::int32_t>(r / places % (kTokens + 1)) - 1);
  }
  std::iota(row.rbegin(), row.rend(), 0);
  const std::vector<CacheLine> poison(static_cast<std::size_t>(num_copies * stride_lines),
                                      CacheLine{{std::byte{0x5a}}});
  for (const Variant& variant : kVariants) {
    if (!isa_is_available(variant.isa)) continue;
    for (const bool bypass_cache : {false, true}) {
      std::vector<CacheLine> out = poison, expected = poison;
      auto* to = reinterpret_cast<std::byte*>(out.data());
      auto* want = reinterpret_cast<std::byte*>(expected.data());
      for (std::size_t r = 0; r < token.size(); ++r) {
        for (std::int64_t i = 0; i < row_bytes; ++i) {
          want[row[r] * stride + i] =
              token[r] < 0 ? std::byte{0} : in[in_shift + token[r] * row_bytes + i];
        }
      }
      variant.kernel({in.data() + in_shift, row_bytes, token.data(), to, stride, row_bytes,
                      bypass_cache, row.data()},
                     0, num_copies);
      RC_ASSERT(std::memcmp(to, want, out.size() * sizeof(CacheLine)) == 0);
    }
  }
}

TEST(Pack, EveryIsaAndThreadCountGivesTheSameBits) {
  constexpr std::int64_t kTokens = 300, kRows = 900, kCols = 131;
  const DispatchPlan plan = any_rows(5, kTokens, kRows);
  const auto x = random_bytes(5, kTokens * kCols * 2);
  const ConstMatrixView in = {x.data(), DType::bf16, kTokens, kCols, kCols};
  std::vector<std::byte> first;
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    for (const int threads : {1, 2, 5}) {
      Context context({.threads = threads, .isa = isa});
      EXPECT_LE(pack_isa(context), isa);
      std::vector<std::byte> out(kRows * kCols * 2, std::byte{0xff});
      pack(context, plan, in, {out.data(), DType::bf16, kRows, kCols, kCols});
      if (first.empty()) first = out;
      EXPECT_TRUE(out == first) << name_of(isa) << " on " << threads;
    }
  }
}

// Plans of make_plan are packed token by token: to the same rows, padding cleared.
TEST(Pack, PlansOfRoutingsFollowTheFormula) {
  constexpr std::int64_t kTokens = 150, kCols = 33;
  Routing routing{
      .num_tokens = kTokens, .num_experts = 5, .token_begin = {0}, .expert = {}, .weight = {}};
  const Philox random(7, 1);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int32_t e = 0; e < 5; ++e) {
      if (random.uniform(static_cast<std::uint64_t>(5 * t + e)) < 0.4f) continue;
      routing.expert.push_back(e);
      routing.weight.push_back(0.25f);
    }
    routing.token_begin.push_back(routing.num_assignments());
  }
  std::vector<float> x(kTokens * kCols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  for (const Layout layout : {Layout::compact, Layout::capacity, Layout::block}) {
    for (const double factor : {0.0, 0.6}) {
      for (const int threads : {1, 3}) {
        Context context({.threads = threads, .isa = {}});
        DispatchPlan plan;
        make_plan(context, routing, {.layout = layout, .capacity_factor = factor, .block_rows = 8},
                  plan);
        std::vector<float> rows(static_cast<std::size_t>(plan.num_rows() * kCols), -1.0f);
        pack(context, plan, matrix(std::as_const(x).data(), kTokens, kCols),
             matrix(rows.data(), plan.num_rows(), kCols));
        for (std::int64_t r = 0; r < plan.num_rows(); ++r) {
          const std::int32_t token = plan.token_of_row[static_cast<std::size_t>(r)];
          for (std::int64_t j = 0; j < kCols; ++j) {
            const float expected = token < 0 ? 0 : x[static_cast<std::size_t>(token * kCols + j)];
            ASSERT_EQ(rows[static_cast<std::size_t>(r * kCols + j)], expected);
          }
        }
      }
    }
  }
}

TEST(Pack, SurvivesNothing) {
  Context context({.threads = 2, .isa = {}});
  DispatchPlan plan;
  pack(context, plan, matrix<float>(static_cast<const float*>(nullptr), 0, 7),
       matrix<float>(static_cast<float*>(nullptr), 0, 7));
  plan.token_of_row = {-1, -1};  // padding alone, over poison
  std::vector<float> rows(10, 1.0f);
  pack(context, plan, matrix<float>(static_cast<const float*>(nullptr), 0, 5),
       matrix(rows.data(), 2, 5));
  EXPECT_EQ(rows, std::vector<float>(10, 0.0f));
}

TEST(Pack, OffsetsExceed31Bits) {
  // Rows 2^31 + elements apart; only the pages of the rows are ever touched.
  constexpr std::int64_t kStride = (std::int64_t{1} << 31) + 4096, kCols = 100, kRows = 3;
  constexpr std::size_t kBytes = (kStride * (kRows - 1) + kCols) * 2;
  void* const in = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* const out = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (in == MAP_FAILED || out == MAP_FAILED) GTEST_SKIP() << "no address space to reserve";
  const MatrixView x = {static_cast<std::byte*>(in), DType::f16, kRows, kCols, kStride};
  const MatrixView rows = {static_cast<std::byte*>(out), DType::f16, kRows, kCols, kStride};
  for (std::int64_t t = 0; t < kRows; ++t)
    std::memset(x.row(t), static_cast<int>(t + 1), kCols * 2);
  DispatchPlan plan;
  plan.num_tokens = kRows;
  plan.token_of_row = {2, 0, 1};
  for (const Isa isa : kAllIsas) {
    if (!isa_is_available(isa)) continue;
    Context context({.threads = 1, .isa = isa});
    pack(context, plan, x, rows);
    for (std::int64_t r = 0; r < kRows; ++r) {
      EXPECT_EQ(std::memcmp(rows.row(r), x.row(plan.token_of_row[r]), kCols * 2), 0);
      std::memset(rows.row(r), 0, kCols * 2);
    }
  }
  munmap(in, kBytes);
  munmap(out, kBytes);
}

TEST(Pack, RefusesShapesAndTypesThatDoNotFit) {
  Context context({.threads = 1, .isa = {}});
  const DispatchPlan plan = any_rows(9, 4, 6);
  std::vector<float> x(20), rows(30);
  const MatrixView in = matrix(x.data(), 4, 5), out = matrix(rows.data(), 6, 5);
  EXPECT_NO_THROW(pack(context, plan, in, out));
  EXPECT_THROW(pack(context, plan, matrix(x.data(), 3, 5), out), Error);
  EXPECT_THROW(pack(context, plan, in, matrix(rows.data(), 6, 4)), Error);
  EXPECT_THROW(pack(context, plan, in, matrix(rows.data(), 5, 5)), Error);
  EXPECT_THROW(pack(context, plan, in, {out.data, DType::f32, 6, 5, 4}), Error);
  EXPECT_THROW(pack(context, plan, in, {out.data, DType::bf16, 6, 5, 5}), Error);
  EXPECT_THROW(pack(context, plan, in, {nullptr, DType::f32, 6, 5, 5}), Error);
}

}  // namespace
}  // namespace switchyard
