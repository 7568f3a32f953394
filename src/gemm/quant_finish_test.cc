#include "gemm/quant_finish.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/philox.h"
#include "switchyard/context.h"

namespace switchyard::gemm {
namespace {

#if defined(SWITCHYARD_X86_KERNELS)

constexpr std::int64_t kRows = 5, kDepth = 64;
constexpr EpilogueKind kKinds[] = {EpilogueKind::store, EpilogueKind::gated, EpilogueKind::plain};
constexpr Activation kActivations[] = {Activation::silu, Activation::gelu, Activation::relu};
constexpr DType kElements[] = {DType::f32, DType::bf16, DType::f16};

/// Integer sums of rows that meet two stripes, and what the contract makes of them in f32.
struct Sums {
  Buffer stripes{2 * (kDepth + 4) * kStripeColumns}, sums{2 * kRows * kStripeColumns * 4};
  std::vector<float> row_scale, scaled;
  std::vector<std::int32_t> row_sums;

  Sums() {
    const Philox random(17, 3);
    for (std::uint64_t r = 0; r < kRows; ++r) {
      row_scale.push_back(0.01f + 0.01f * random.uniform(r));
      row_sums.push_back(static_cast<std::int32_t>(r) * 7 - 20);
    }
    for (int s = 0; s < 2; ++s) {
      for (std::uint64_t j = 0; j < kStripeColumns; ++j) {
        scales(s)[j] = 0.01f + 0.02f * random.uniform(100 + 32 * s + j);
      }
      for (std::uint64_t i = 0; i < kRows * kStripeColumns; ++i) {
        const auto sum = static_cast<std::int32_t>(20000 * random.normal(1000 * (s + 1) + i));
        std::memcpy(of_stripe(s) + i, &sum, sizeof sum);
        const std::uint64_t r = i / kStripeColumns;
        scaled.push_back(static_cast<float>(sum + 128 * row_sums[r]) *
                         (scales(s)[i % kStripeColumns] * row_scale[r]));
      }
    }
  }

  std::byte* stripe(int s) { return stripes.data() + s * (kDepth + 4) * kStripeColumns; }
  float* scales(int s) { return reinterpret_cast<float*>(stripe(s) + kDepth * kStripeColumns); }
  float* of_stripe(int s) { return sums.elements<float>(1) + s * kRows * kStripeColumns; }

  /// Rows [0, 2), then the rest, as a kernel calls it.
  void finish(int s, const Finish& to) {
    QuantArgs q{};
    q.stripe = stripe(s);
    q.depth = kDepth;
    q.row_scale = row_scale.data();
    q.row_sums = row_sums.data();
    q.sums_stride = 1;
    q.finish = &to;
    to.run(q, of_stripe(s), 0, 2);
    to.run(q, of_stripe(s) + 2 * kStripeColumns, 2, kRows - 2);
  }
};

struct Form {
  EpilogueKind kind;
  Activation act;
  DType element;
  std::int64_t width;  ///< bytes of a row of a stripe
};

/// Two stripes side by side by the epilogue, rows row_bytes apart.
void epilogue(const Form& form, const Sums& sums, std::int64_t columns, std::byte* out,
              std::int64_t row_bytes) {
  find_epilogue_avx512_bf16(form.kind, form.act,
                            form.element)({.acc = sums.scaled.data(),
                                           .rows = kRows,
                                           .columns = columns,
                                           .out = out,
                                           .row_bytes = row_bytes,
                                           .tile_bytes = 0,
                                           .stripes = 2,
                                           .stripe_acc = kRows * kStripeColumns});
}

template <class Test>
void for_all_forms(Test&& test) {
  if (!isa_is_available(Isa::avx512_bf16)) return;
  for (const EpilogueKind kind : kKinds) {
    for (const Activation act : kActivations) {
      for (const DType element : kElements) {
        const auto size = static_cast<std::int64_t>(size_of(element));
        test(Form{kind, act, element, (kind == EpilogueKind::gated ? 16 : 32) * size});
      }
    }
  }
}

TEST(QuantFinish, GivesTheBitsOfTheEpilogue) {
  for_all_forms([](const Form& form) {
    Sums sums;
    const std::int64_t row_bytes = 2 * form.width + 64;
    Buffer expected(kRows * row_bytes), stored(kRows * row_bytes), streamed(kRows * row_bytes),
        kept(kRows * form.width);
    epilogue(form, sums, 64, expected.data(), row_bytes);
    const auto find = [&](bool stream) {
      return find_finish_avx512_bf16(form.kind, form.act, form.element, stream);
    };
    for (int s = 0; s < 2; ++s)
      sums.finish(s, {find(false), stored.data() + s * form.width, row_bytes});
    sums.finish(0, {find(false), kept.data(), form.width});
    sums.finish(1, {find(true), streamed.data(), row_bytes, 32, kept.data()});
    for (std::int64_t r = 0; r < kRows; ++r) {
      const auto bytes = static_cast<std::size_t>(2 * form.width);
      const std::int64_t at = r * row_bytes;
      EXPECT_EQ(std::memcmp(expected.data() + at, stored.data() + at, bytes), 0) << r;
      EXPECT_EQ(std::memcmp(expected.data() + at, streamed.data() + at, bytes), 0) << r;
    }
  });
}

TEST(QuantFinish, WritesNoMoreColumnsThanAsked) {
  for_all_forms([](const Form& form) {
    if (form.kind != EpilogueKind::store) return;
    Sums sums;
    for (const std::int64_t columns : {1, 13, 31}) {
      const std::int64_t row_bytes = columns * form.width / 32;
      Buffer expected(kRows * 2 * form.width), out(kRows * row_bytes + 1);
      epilogue(form, sums, 64, expected.data(), 2 * form.width);
      out.data()[kRows * row_bytes] = std::byte{77};
      sums.finish(0, {find_finish_avx512_bf16(form.kind, form.act, form.element, false), out.data(),
                      row_bytes, columns});
      for (std::int64_t r = 0; r < kRows; ++r) {
        EXPECT_EQ(std::memcmp(expected.data() + r * 2 * form.width, out.data() + r * row_bytes,
                              static_cast<std::size_t>(row_bytes)),
                  0);
      }
      EXPECT_EQ(out.data()[kRows * row_bytes], std::byte{77});
    }
  });
}

#endif

}  // namespace
}  // namespace switchyard::gemm
