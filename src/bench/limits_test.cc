#include "bench/limits.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/buffer.h"
#include "bench/limits_kernel.h"
#include "bench/limits_measure.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBytes = (2 * 128 << 10) + 3 * 4096 * 8;  // two blocks of rounds and a rest

struct Data {
  Data() : source(kBytes), copy(kBytes) {
    for (std::int64_t i = 0; i < kBytes; ++i) {
      source.data()[i] = static_cast<std::byte>(i * 2654435761u >> 7);
    }
  }
  std::uint64_t sum() const {
    std::uint64_t sum = 0;
    for (std::int64_t i = 0; i < kBytes; i += 8) {
      std::uint64_t word;
      std::memcpy(&word, source.data() + i, 8);
      sum += word;
    }
    return sum;
  }
  Buffer source, copy;
};

void expect_reads(Isa isa, ReadKernel read) {
  if (!isa_is_available(isa)) return;
  const Data data;
  for (const ReadOrder order : kReadOrders) {
    EXPECT_EQ(read(data.source.data(), kBytes, order), data.sum())
        << name_of(isa) << static_cast<int>(order);
  }
}

void expect_copies(Isa isa, CopyKernel copy) {
  if (!isa_is_available(isa)) return;
  const Data data;
  std::memset(data.copy.data(), 0, kBytes);
  copy(data.copy.data(), data.source.data(), kBytes);
  EXPECT_EQ(std::memcmp(data.copy.data(), data.source.data(), kBytes), 0) << name_of(isa);
}

void expect_counts(Isa isa, PeakKernel peak) {
  if (!isa_is_available(isa)) return;
  EXPECT_TRUE(std::isfinite(peak(10))) << name_of(isa);
  EXPECT_NE(peak(10), peak(11)) << name_of(isa);
}

TEST(LimitKernels, DoTheirWork) {
  expect_reads(Isa::portable, read_portable);
  expect_copies(Isa::portable, copy_portable);
  expect_counts(Isa::portable, peak_f32_portable);
#if defined(SWITCHYARD_X86_KERNELS)
  expect_reads(Isa::avx2, read_avx2);
  expect_reads(Isa::avx512, read_avx512);
  expect_copies(Isa::avx2, copy_stream_avx2);
  expect_copies(Isa::avx512, copy_avx512);
  expect_copies(Isa::avx512, copy_stream_avx512);
  expect_counts(Isa::avx512, peak_f32_avx512);
  expect_counts(Isa::avx512_bf16, peak_bf16_avx512_bf16);
  if (isa_is_available(Isa::amx_bf16)) {
    EXPECT_EQ(peak_bf16_amx_bf16(3), 3 * 32.0f);  // ones [16, 32] x [32, 16], three times
  }
#endif
}

MeasureEffort quick() {
  MeasureEffort effort;
  effort.buffer_bytes = 1 << 20;
  effort.repeats = 1;
  effort.peak_run_s = 1e-5;
  return effort;
}

TEST(Limits, EveryCeilingIsMeasured) {
  ContextOptions options;
  options.threads = 2;
  Context context(options);
  const Ceilings c = measure_ceilings(context, quick());
  EXPECT_EQ(c.threads, 2);
  for (const double x : {c.read_bw_one, c.read_bw, c.write_bw, c.copy_bw_one, c.copy_bw,
                         c.gather_bw, c.fork_join_s}) {
    EXPECT_TRUE(std::isfinite(x) && x > 0);
  }
  EXPECT_TRUE(c.peak("portable", "f32"));
  EXPECT_EQ(c.peak("avx512", "f32").has_value(), context.isa() >= Isa::avx512);
  EXPECT_EQ(c.peak("amx_bf16", "bf16").has_value(), context.isa() >= Isa::amx_bf16);
  EXPECT_FALSE(c.peak("nonsense", "f32"));
}

TEST(Limits, TheCapIsKept) {
  ContextOptions options;
  options.threads = 1;
  options.isa = Isa::portable;
  Context context(options);
  EXPECT_EQ(measure_ceilings(context, quick()).peak_flops.size(), 1u);
}

TEST(Limits, ThoseOfNowAreTakenFromRunsBetweenSamples) {
  Context context({.threads = 2, .isa = {}});
  Buffer buffer(1 << 20);
  std::memset(buffer.data(), 1, 1 << 20);
  CeilingProbe probe(context, buffer.data(), 1 << 20);
  Ceilings kept;
  kept.read_bw = kept.copy_bw = kept.gather_bw = 1;
  kept.fork_join_s = 3;
  EXPECT_EQ(probe.median_over(kept).read_bw, 1) << "nothing was measured yet";
  EXPECT_EQ(probe.best_over(kept).read_bw, 1) << "nothing was measured yet";
  probe();
  const Ceilings now = probe.median_over(kept);
  EXPECT_EQ(probe.best_over(kept).read_bw, now.read_bw) << "there is one run";
  EXPECT_EQ(probe.best_over(kept).peak_flops, now.peak_flops);
  EXPECT_GT(now.read_bw, 1e6);
  EXPECT_GT(now.write_bw, 1e6);
  EXPECT_GT(now.copy_bw, 1e6);
  EXPECT_GT(now.gather_bw, 1e6);
  EXPECT_GT(now.peak("portable", "f32").value_or(0), 1e6);
  EXPECT_EQ(now.fork_join_s, 3);
  kept.bw_is_given = true;
  EXPECT_EQ(probe.median_over(kept).read_bw, 1);
  EXPECT_GT(probe.median_over(kept).peak("portable", "f32").value_or(0), 1e6);
}

TEST(Limits, ARunBetweenRoundsCountsForThoseNearestToIt) {
  const std::vector<double> found = {10, 20, 30};
  NearestRounds rounds;
  const auto pass = [&](int count) {
    for (int i = 0; i < count; ++i) rounds.pass_round();
  };
  rounds.add_run();
  EXPECT_EQ(rounds.counted({found.data(), 1}), std::vector<double>{10}) << "no round has passed";
  pass(1);
  rounds.add_run();
  pass(3);
  rounds.add_run();
  EXPECT_EQ(rounds.counted(found), (std::vector<double>{10, 20, 20, 20, 20, 30, 30, 30}));
  pass(2);
  EXPECT_EQ(rounds.counted(found),
            (std::vector<double>{10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 30}))
      << "rounds after the last run are its own";
}

TEST(Limits, StorageTypesAreComputedInF32) {
  Ceilings c;
  c.peak_flops = {{"avx512/f32", 2}, {"avx512_bf16/bf16", 1}};
  EXPECT_EQ(c.peak("avx512", "bf16"), 2);
  EXPECT_EQ(c.peak("avx512_bf16", "bf16"), 1);
}

TEST(Limits, SixTileProductsOfBf16AreOneOfF32) {
  Ceilings c;
  c.peak_flops = {{"amx_bf16/bf16", 12}};
  EXPECT_EQ(c.peak("amx_bf16", "bf16"), 12);
  EXPECT_EQ(c.peak("amx_bf16", "f32"), 2);
  EXPECT_FALSE(c.peak("amx_bf16", "int8"));
}

TEST(Limits, TheLargerTimeIsTheLimit) {
  EXPECT_EQ(limit_of(100, 50, 10, 10).ms(), 2000);
  EXPECT_EQ(limit_of(100, 50, 10, 10).kind(), "compute");
  EXPECT_EQ(limit_of(100, 50, 30, 10).ms(), 3000);
  EXPECT_EQ(limit_of(100, 50, 30, 10).kind(), "memory");
  EXPECT_EQ(limit_of(100, 50, 30, 10).compute_ms, 2000);
  EXPECT_EQ(limit_of(100, 0, 30, 10).compute_ms, 0) << "a peak that was not measured";
  EXPECT_EQ(limit_of(0, 0, 30, 10).kind(), "memory");
}

// The cache lives in an environment variable's folder, given back at the end.
class LimitsCache : public testing::Test {
 protected:
  LimitsCache() {
    std::string pattern = (fs::temp_directory_path() / "switchyard_limits.XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    if (const char* old = std::getenv("XDG_CACHE_HOME")) old_ = old;
    ::setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
    ContextOptions options;
    options.threads = 1;
    options.isa = Isa::portable;
    context_ = std::make_unique<Context>(options);
  }
  ~LimitsCache() override {
    if (old_) {
      ::setenv("XDG_CACHE_HOME", old_->c_str(), 1);
    } else {
      ::unsetenv("XDG_CACHE_HOME");
    }
    fs::remove_all(folder_);
  }

  fs::path file() const { return folder_ / "switchyard" / "limits.json"; }
  nlohmann::json content() const {
    std::ifstream in(file());
    return nlohmann::json::parse(in, nullptr, false);
  }

  Ceilings fake() {
    ++measured_;
    Ceilings c;
    c.threads = 1;
    c.read_bw_one = c.read_bw = 1.7e10 / 3;
    c.write_bw = 1.1e10;
    c.copy_bw_one = c.copy_bw = c.gather_bw = 2e10;
    c.fork_join_s = 1e-6 / 3;
    c.peak_flops = {{"portable/f32", 1e11}};
    return c;
  }
  Ceilings ceilings(bool again = false) {
    return cached_ceilings(*context_, again, [&](Context&) { return fake(); });
  }

  int measured_ = 0;
  fs::path folder_;
  std::optional<std::string> old_;
  std::unique_ptr<Context> context_;
};

TEST_F(LimitsCache, MeasuredOnce) {
  const Ceilings first = ceilings();
  const Ceilings second = ceilings();
  EXPECT_EQ(measured_, 1);
  EXPECT_EQ(first.read_bw, second.read_bw);
  EXPECT_EQ(first.fork_join_s, second.fork_join_s);
  EXPECT_EQ(first.peak_flops, second.peak_flops);
  ceilings(true);
  EXPECT_EQ(measured_, 2);
  EXPECT_EQ(content()["entries"].size(), 1u);
  EXPECT_EQ(std::distance(fs::directory_iterator(file().parent_path()), {}), 1);
}

TEST_F(LimitsCache, OtherHardwareThreadsAndCapsHaveTheirOwn) {
  ceilings();
  ContextOptions options;
  options.threads = 2;
  options.isa = Isa::portable;
  Context other(options);
  cached_ceilings(other, false, [&](Context&) { return fake(); });
  EXPECT_EQ(measured_, 2);
  EXPECT_EQ(content()["entries"].size(), 2u);
  auto changed = content();
  for (auto& entry : changed["entries"]) entry["key"]["cpu"] = "another";
  std::ofstream(file()) << changed;
  ceilings();
  EXPECT_EQ(measured_, 3);
}

TEST_F(LimitsCache, DamageIsRepaired) {
  fs::create_directories(file().parent_path());
  for (const auto* text :
       {"", "{\"schema\": 3, broken", "[1, 2]", "{\"schema\":\"switchyard-limits/1\"}",
        R"({"schema":"switchyard-limits/1","entries":[1,null,{"key":2}]})"}) {
    std::ofstream(file()) << text;
    measured_ = 0;
    ceilings();
    ceilings();
    EXPECT_EQ(measured_, 1) << text;
  }
  auto planted = content();
  for (const auto& bad : {nlohmann::json("fast"), nlohmann::json(-1), nlohmann::json()}) {
    planted["entries"].back()["ceilings"]["read_bw"] = bad;
    std::ofstream(file()) << planted;
    measured_ = 0;
    ceilings();
    EXPECT_EQ(measured_, 1) << bad;
  }
}

TEST_F(LimitsCache, UnwritableIsNoError) {
  std::ofstream(folder_ / "switchyard") << "a file where the folder would be";
  EXPECT_GT(ceilings().read_bw, 0);
}

}  // namespace
}  // namespace switchyard
