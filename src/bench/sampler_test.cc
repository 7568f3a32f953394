#include "bench/sampler.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace switchyard {
namespace {

RunOptions exactly(int warmup, int iters) {
  RunOptions options;
  options.warmup = warmup;
  options.iters = iters;
  return options;
}

struct Log {
  std::vector<std::string> lines;

  Sampled thing(const std::string& name) {
    return {[this, name](std::int64_t draw) { lines.push_back(name + std::to_string(draw)); },
            [this, name] { lines.push_back(name); }};
  }
};

TEST(Sampler, RoundsInterleave) {
  Log log;
  const std::vector<Sampled> things = {log.thing("a"), log.thing("b")};
  const auto samples = sample_interleaved(things, exactly(1, 2), nullptr, {});
  EXPECT_EQ(log.lines, (std::vector<std::string>{"a-1", "a", "b-1", "b", "a0", "a", "b0", "b", "a1",
                                                 "a", "b1", "b"}));
  ASSERT_EQ(samples.size(), 2u);
  for (const auto& s : samples) EXPECT_EQ(s.ms.size(), 2u);
}

TEST(Sampler, AThingsOwnClockCounts) {
  double ms = 0;
  const std::vector<Sampled> things = {{nullptr, [&] { ms += 2; }, [&] { return ms; }},
                                       {nullptr, [] {}, [] { return std::nullopt; }}};
  const auto samples = sample_interleaved(things, exactly(0, 2), nullptr, {});
  EXPECT_EQ(samples[0].ms, (std::vector<double>{2, 4}));
  EXPECT_LT(samples[1].ms[0], 2000);
}

TEST(Sampler, OneFailureLeavesTheOthers) {
  int runs = 0;
  const std::vector<Sampled> things = {{nullptr,
                                        [&] {
                                          if (++runs == 3) throw std::runtime_error("no");
                                        }},
                                       {nullptr, [] {}}};
  const auto samples = sample_interleaved(things, exactly(0, 5), nullptr, {});
  EXPECT_EQ(samples[0].ms.size(), 2u);
  EXPECT_THROW(std::rethrow_exception(samples[0].error), std::runtime_error);
  EXPECT_EQ(samples[1].ms.size(), 5u);
  EXPECT_EQ(samples[1].error, nullptr);
}

TEST(Sampler, AllFailuresEnd) {
  const std::vector<Sampled> things = {{nullptr, [] { throw std::runtime_error("no"); }}};
  EXPECT_TRUE(sample_interleaved(things, RunOptions{}, nullptr, {})[0].ms.empty());
}

TEST(Sampler, StopKeepsWhatWasMeasured) {
  int runs = 0;
  const std::vector<Sampled> things = {{nullptr, [&] { ++runs; }}, {nullptr, [&] { ++runs; }}};
  const auto samples =
      sample_interleaved(things, exactly(0, 100), nullptr, [&] { return runs >= 5; });
  EXPECT_EQ(samples[0].ms.size(), 3u);
  EXPECT_EQ(samples[1].ms.size(), 2u);
  EXPECT_TRUE(
      sample_interleaved(things, exactly(3, 3), nullptr, [] { return true; })[0].ms.empty());
}

TEST(Sampler, TheTimeCapHoldsWhateverTheConfidence) {
  RunOptions options;
  options.min_time_s = 0;
  options.max_time_s = 0;
  options.confidence = 0;
  const std::vector<Sampled> things = {{nullptr, [] {}}};
  EXPECT_EQ(sample_interleaved(things, options, nullptr, {})[0].ms.size(), 1u);
}

TEST(Sampler, SettledNeedsSamplesTimeAndANarrowInterval) {
  RunOptions options;
  options.min_time_s = 1;
  options.confidence = 0.02;
  const std::vector<double> steady(6, 5.0), few(5, 5.0);
  std::vector<double> wide = steady;
  wide[0] = 6;
  EXPECT_TRUE(is_settled(steady, 1, options));
  EXPECT_FALSE(is_settled(steady, 0.9, options));
  EXPECT_FALSE(is_settled(few, 1, options));
  EXPECT_FALSE(is_settled(wide, 1, options));
  EXPECT_TRUE(is_settled(std::vector<double>(5000, 5.0), 0, options)) << "enough is enough";
}

TEST(Sampler, FlushRunsBetweenPrepareAndRun) {
  ContextOptions options;
  options.threads = 2;
  Context context(options);
  CacheFlush flush(context, 1 << 20);
  Log log;
  const std::vector<Sampled> things = {log.thing("a")};
  EXPECT_EQ(sample_interleaved(things, exactly(0, 3), std::ref(flush), {})[0].ms.size(), 3u);
  EXPECT_EQ(flush.bytes(), 1 << 20);
  EXPECT_GE(cache_flush_bytes(), std::int64_t{256} << 20);
  EXPECT_LE(cache_flush_bytes(), std::int64_t{1024} << 20);
}

}  // namespace
}  // namespace switchyard
