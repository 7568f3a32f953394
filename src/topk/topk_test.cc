#include "topk/topk.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <vector>

#include "base/philox.h"

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Rows {
  int num_rows, num_columns;
  std::int64_t row_stride;
  std::vector<float> x;
};

struct Result {
  std::int64_t rows_done = 0;
  std::vector<std::int32_t> index;
  std::vector<float> weight, max, sum;
  std::vector<std::int32_t> num_chosen;
};

Result run(const TopkVariant& variant, const Rows& rows, int k, float scale, const TopkShare* share,
           bool in_order) {
  const auto n = static_cast<std::size_t>(rows.num_rows);
  Result out{0,
             std::vector<std::int32_t>(n * static_cast<std::size_t>(k), -7),
             std::vector<float>(n * static_cast<std::size_t>(k), kNan),
             std::vector<float>(n, kNan),
             std::vector<float>(n, kNan),
             std::vector<std::int32_t>(static_cast<std::size_t>(rows.num_columns), 3)};
  out.rows_done = variant.topk({rows.x.data(), rows.row_stride, rows.num_rows, rows.num_columns, k,
                                scale, out.index.data(), out.weight.data(), out.max.data(),
                                out.sum.data(), share, out.num_chosen.data(), in_order});
  return out;
}

// Whichever way memory is fetched, the result is the same.
Result run(const TopkVariant& variant, const Rows& rows, int k, float scale = 1.0f,
           const TopkShare* share = nullptr) {
  Result out = run(variant, rows, k, scale, share, false);
  const Result in_order = run(variant, rows, k, scale, share, true);
  EXPECT_EQ(out.rows_done, in_order.rows_done) << name_of(variant.isa);
  const auto done = static_cast<std::size_t>(std::min(out.rows_done, in_order.rows_done));
  for (std::size_t i = 0; i < done * static_cast<std::size_t>(k); ++i) {
    EXPECT_EQ(out.index[i], in_order.index[i]) << name_of(variant.isa) << " element " << i;
  }
  return out;
}

// count elements of T that end where a page begins that may not be touched
template <class T>
class BeforeGuard {
 public:
  explicit BeforeGuard(std::size_t count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = (count * sizeof(T) + page - 1) / page * page;
    bytes_ = used + page;
    map_ = static_cast<std::byte*>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED || mprotect(map_ + used, page, PROT_NONE) != 0) std::abort();
    data_ = reinterpret_cast<T*>(map_ + used) - count;
  }
  ~BeforeGuard() { munmap(map_, bytes_); }
  BeforeGuard(const BeforeGuard&) = delete;
  BeforeGuard& operator=(const BeforeGuard&) = delete;

  T* data() const { return data_; }

 private:
  std::byte* map_;
  std::size_t bytes_;
  T* data_;
};

enum class Values {
  normal,
  ties,
  equal,
  rising,
  falling,
  infinities,
  signed_zeros,
  wide,
  near,
  lowest,
  crowded
};
constexpr Values kAllValues[] = {Values::normal,       Values::ties,    Values::equal,
                                 Values::rising,       Values::falling, Values::infinities,
                                 Values::signed_zeros, Values::wide,    Values::near,
                                 Values::lowest,       Values::crowded};

float draw(Values values, const Philox& random, int row, int column) {
  const auto i = static_cast<std::uint64_t>(row) * 4096 + static_cast<std::uint64_t>(column);
  const float uniform = random.uniform(i);
  switch (values) {
    case Values::normal: return random.normal(i);
    case Values::ties: return std::floor(4 * uniform);
    case Values::equal: return -3.5f;
    case Values::rising: return 0.25f * static_cast<float>(column);
    case Values::falling: return -0.25f * static_cast<float>(column);
    case Values::infinities: return uniform < 0.3f ? -kInf : 8 * uniform;
    case Values::signed_zeros: return uniform < 0.5f ? -0.0f : 0.0f;
    case Values::wide: return 200 * (uniform - 0.5f);
    case Values::near: {  // a few units in the last place apart, and often none
      const float step = std::floor(300 * uniform) * 0x1p-23f;
      return row % 2 == 0 ? 1 + step : -1 - step;
    }
    case Values::lowest:
      return uniform < 0.8f ? -std::numeric_limits<float>::max()
                            : 0x1p-149f * std::floor(8 * uniform);
    case Values::crowded:  // most of the largest in one lane of a vector, below them ties
      if (column % 16 == row % 16 && uniform < 0.8f) return 100 + uniform;
      return uniform < 0.02f ? 50 : std::floor(3 * uniform);
  }
  return 0;
}

Rows make_rows(Values values, int num_rows, int num_columns, int gap = 0) {
  Rows rows{num_rows, num_columns, num_columns + gap, {}};
  rows.x.assign(static_cast<std::size_t>(num_rows * rows.row_stride), kNan);  // poisons the gaps
  const Philox random(5, static_cast<std::uint64_t>(values));
  for (int r = 0; r < num_rows; ++r) {
    for (int e = 0; e < num_columns; ++e) {
      rows.x[static_cast<std::size_t>(r * rows.row_stride + e)] = draw(values, random, r, e);
    }
  }
  return rows;
}

// For each variant this machine can run, each kind of values, many (E, K).
template <class Check>
void for_all_cases(Check check) {
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const Values values : kAllValues) {
      for (const int num_columns : {1, 2, 7, 8, 16, 17, 31, 64, 100, 128, 256, 1024}) {
        for (const int k : {1, 2, 6, 8, 9, 16, 17, 64, 128, num_columns}) {
          if (k > num_columns || (k == num_columns && k > 256)) continue;
          SCOPED_TRACE(testing::Message()
                       << name_of(variant.isa) << " values " << static_cast<int>(values) << " E "
                       << num_columns << " K " << k);
          check(variant, make_rows(values, 21, num_columns, 3), k);
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

TEST(Topk, ChoosesAsStableSortDoes) {
  for_all_cases([](const TopkVariant& variant, const Rows& rows, int k) {
    const Result out = run(variant, rows, k);
    ASSERT_EQ(out.rows_done, rows.num_rows);
    std::vector<std::int32_t> order(static_cast<std::size_t>(rows.num_columns));
    for (int r = 0; r < rows.num_rows; ++r) {
      const float* x = rows.x.data() + r * rows.row_stride;
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [x](int a, int b) { return x[a] > x[b]; });
      ASSERT_TRUE(std::equal(order.begin(), order.begin() + k, out.index.begin() + r * k));
      ASSERT_EQ(out.max[static_cast<std::size_t>(r)], x[order[0]]);
    }
    std::vector<std::int32_t> num_chosen(out.num_chosen.size(), 3);
    for (const std::int32_t e : out.index) ++num_chosen[static_cast<std::size_t>(e)];
    ASSERT_EQ(out.num_chosen, num_chosen);
  });
}

TEST(Topk, WeightsAndSumsAreExpOfTheDistanceToTheMaximum) {
  for_all_cases([](const TopkVariant& variant, const Rows& rows, int k) {
    const float scale = 0.75f;
    const Result out = run(variant, rows, k, scale);
    for (int r = 0; r < rows.num_rows; ++r) {
      const float* x = rows.x.data() + r * rows.row_stride;
      const float max = out.max[static_cast<std::size_t>(r)];
      if (std::isinf(max)) continue;
      double sum = 0;
      for (int e = 0; e < rows.num_columns; ++e) {
        sum += std::exp((static_cast<double>(x[e]) - max) * scale);
      }
      ASSERT_NEAR(out.sum[static_cast<std::size_t>(r)], sum, 8 * 0x1p-23 * sum);
      for (int i = 0; i < k; ++i) {
        const auto at = static_cast<std::size_t>(r * k + i);
        const double argument = (static_cast<double>(x[out.index[at]]) - max) * scale;
        const double expected = std::exp(argument);
        // An argument's rounding error is relative to the argument, absolute in exp's exponent.
        const double tolerance = (4 - std::max(argument, -200.0)) * 0x1p-23;
        ASSERT_NEAR(out.weight[at], expected, tolerance * expected + 0x1p-125);
      }
    }
  });
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](T x, T y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

TEST(Topk, AllVariantsAgreeBitForBit) {
  for_all_cases([](const TopkVariant& variant, const Rows& rows, int k) {
    const Result out = run(variant, rows, k, 1.5f);
    const Result portable = run(topk_variants().back(), rows, k, 1.5f);
    ASSERT_EQ(out.index, portable.index);
    ASSERT_TRUE(same_bits(out.weight, portable.weight));
    ASSERT_TRUE(same_bits(out.sum, portable.sum));
  });
}

TEST(Topk, ManyRowsWithSharesAreThePortableOnes) {
  const TopkShare share{.epsilon = 1e-3f, .factor = 2.5f};
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const Values values : {Values::normal, Values::ties, Values::near, Values::crowded}) {
      for (const int num_columns : {24, 128, 200}) {
        const Rows rows = make_rows(values, 150, num_columns, 1);
        for (int k = 1; k <= 17; ++k) {
          const Result out = run(variant, rows, k, 0.5f, &share);
          const Result portable = run(topk_variants().back(), rows, k, 0.5f, &share);
          ASSERT_EQ(out.index, portable.index) << name_of(variant.isa) << " K " << k;
          ASSERT_TRUE(same_bits(out.weight, portable.weight)) << name_of(variant.isa) << ' ' << k;
          ASSERT_TRUE(same_bits(out.max, portable.max));
        }
      }
    }
  }
}

TEST(Topk, SharesSumToTheFactor) {
  const TopkShare share{.epsilon = 0, .factor = 3};
  const Rows rows = make_rows(Values::normal, 5, 32);
  const Result out = run(topk_variants().back(), rows, 4, 1, &share);
  for (std::size_t i = 0; i < out.weight.size(); i += 4) {
    ASSERT_NEAR(std::accumulate(&out.weight[i], &out.weight[i] + 4, 0.0), 3, 1e-6);
  }
}

TEST(Topk, MaximaAndSumsMayBeLeftOut) {
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    const Rows rows = make_rows(Values::normal, 37, 40);
    const Result all = run(variant, rows, 3);
    Result out = all;
    for (const bool with_sum : {false, true}) {
      std::fill(out.weight.begin(), out.weight.end(), kNan);
      std::fill(out.sum.begin(), out.sum.end(), kNan);
      variant.topk({rows.x.data(), rows.row_stride, rows.num_rows, rows.num_columns, 3, 1.0f,
                    out.index.data(), out.weight.data(), nullptr,
                    with_sum ? out.sum.data() : nullptr});
      ASSERT_TRUE(same_bits(out.weight, all.weight)) << name_of(variant.isa);
      if (with_sum) {
        ASSERT_TRUE(same_bits(out.sum, all.sum)) << name_of(variant.isa);
      }
    }
  }
}

TEST(Topk, StopsAtTheFirstRowWithNan) {
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const std::int64_t bad : {0, 15, 16, 69, 99}) {
      for (const int k : {2, 6, 8, 9}) {
        Rows rows = make_rows(Values::normal, 100, 128);
        rows.x[static_cast<std::size_t>(bad * 128 + 77)] = kNan;
        const Result out = run(variant, rows, k);
        ASSERT_EQ(out.rows_done, bad) << name_of(variant.isa);
        const Result portable = run(topk_variants().back(), rows, k);
        const auto done = static_cast<std::size_t>(bad * k);
        ASSERT_TRUE(
            std::equal(out.index.begin(), out.index.begin() + bad * k, portable.index.begin()));
        ASSERT_TRUE(
            same_bits(std::vector<float>(out.weight.begin(), out.weight.begin() + done),
                      std::vector<float>(portable.weight.begin(), portable.weight.begin() + done)));
      }
    }
  }
}

// Also NaNs that differ from an infinity in their last bit only, and after an invalid operation of
// somebody else.
TEST(Topk, StopsAtANanInAnyColumn) {
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const int num_columns : {1, 8, 31, 32, 33, 128}) {
      for (int column = 0; column < num_columns; ++column) {
        Rows rows = make_rows(Values::normal, 38, num_columns);
        rows.x[static_cast<std::size_t>(30 * num_columns)] = kNan;
        for (const std::uint32_t nan : {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff800001u}) {
          rows.x[static_cast<std::size_t>(19 * num_columns + column)] = std::bit_cast<float>(nan);
          ASSERT_EQ(run(variant, rows, 1).rows_done, 19) << name_of(variant.isa) << ' ' << column;
          std::feraiseexcept(FE_INVALID);
          ASSERT_EQ(run(variant, rows, 1).rows_done, 19) << name_of(variant.isa) << ' ' << column;
          std::feclearexcept(FE_INVALID);
        }
      }
    }
  }
}

// One value that is not like the others, and its neighbour a vector further, with which it may
// meet.
TEST(Topk, FindsAnInfinityInAnyColumn) {
  const TopkShare share{.epsilon = 0, .factor = 1};
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const int num_columns : {64, 100, 128}) {
      for (int column = 0; column < num_columns; ++column) {
        Rows rows = make_rows(Values::normal, 16, num_columns);
        const auto put = [&](int row, float value, float neighbour) {
          float* x = rows.x.data() + row * num_columns;
          x[column] = value;
          x[(column + 16) % num_columns] = neighbour;
        };
        put(2, -kInf, 0);
        put(5, -kInf, -kInf);
        put(6, 3e38f, -3e38f);
        put(9, -3e38f, -3e38f);
        for (const int k : {2, 8}) {
          const Result out = run(variant, rows, k, 1, &share);
          const Result portable = run(topk_variants().back(), rows, k, 1, &share);
          ASSERT_EQ(out.index, portable.index) << name_of(variant.isa) << ' ' << column;
          ASSERT_TRUE(same_bits(out.weight, portable.weight)) << name_of(variant.isa);
        }
        put(11, kInf, 0);
        ASSERT_EQ(run(variant, rows, 8).index, run(topk_variants().back(), rows, 8).index)
            << name_of(variant.isa) << ' ' << column;
      }
    }
  }
}

TEST(Topk, SigmoidIsAccurateAndTheSameOnAllVariants) {
  std::vector<float> x = {-kInf, kInf, 0.0f, -0.0f, 88, -88, 200, -200, 1e-30f, 3e38f, -3e38f};
  const Philox random(6, 0);
  for (std::uint64_t i = 0; i < 1000; ++i) x.push_back(12 * random.normal(i));
  std::vector<float> portable(x.size()), y(x.size());
  const auto count = static_cast<std::int64_t>(x.size());
  ASSERT_FALSE(topk_variants().back().sigmoid(x.data(), count, portable.data()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = 1 / (1 + std::exp(-static_cast<double>(x[i])));
    ASSERT_NEAR(portable[i], expected, 4 * 0x1p-23 * expected + 0x1p-125) << x[i];
  }
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    ASSERT_FALSE(variant.sigmoid(x.data(), count, y.data()));
    ASSERT_TRUE(same_bits(y, portable)) << name_of(variant.isa);
    x.back() = kNan;
    ASSERT_TRUE(variant.sigmoid(x.data(), count, y.data())) << name_of(variant.isa);
    x.back() = 1;
    portable.back() = 0.73105858f;
    variant.sigmoid(x.data() + count - 1, 1, portable.data() + count - 1);
  }
}

TEST(Topk, TouchesNothingBehindItsArrays) {
  const Philox random(5, 6);
  for (const TopkVariant& variant : topk_variants()) {
    if (!isa_is_available(variant.isa)) continue;
    for (const int num_rows : {1, 16, 64, 83}) {
      for (const int k : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
        const int num_columns = 19;
        const auto n = static_cast<std::size_t>(num_rows);
        const auto chosen = n * static_cast<std::size_t>(k);
        const BeforeGuard<float> x(n * num_columns), weight(chosen), max(n), sum(n);
        const BeforeGuard<std::int32_t> index(chosen);
        for (std::size_t i = 0; i < n * num_columns; ++i) x.data()[i] = random.normal(i);
        for (float* wanted_sum : {sum.data(), static_cast<float*>(nullptr)}) {
          EXPECT_EQ(variant.topk({x.data(), num_columns, num_rows, num_columns, k, 1.0f,
                                  index.data(), weight.data(), max.data(), wanted_sum, nullptr}),
                    num_rows)
              << name_of(variant.isa);
        }
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
