#include "bench/sampler.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "base/check.h"
#include "base/context.h"
#include "base/cpu.h"
#include "bench/statistics.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::size_t kMinSamples = 6;     // fewer have no 95% interval of the median
constexpr std::size_t kMaxSamples = 5000;  // a record keeps them all
constexpr int kMaxWarmup = 10;
constexpr double kMaxWarmupShare = 0.2;  // of max_time_s

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Threads of a library spin on after their work, those of OpenMP for some 20 ms, and would take
// their part of what is measured next. Returns when this process has been idle for most of a
// millisecond, after 50 at the latest.
void wait_for_spinning_threads() {
  for (int i = 0; i < 50; ++i) {
    const std::clock_t busy = std::clock();
    const auto start = Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const double busy_s = static_cast<double>(std::clock() - busy) / CLOCKS_PER_SEC;
    if (busy_s < 0.2 * seconds_since(start)) return;
  }
}

// One thing and what happened to it so far.
struct State {
  const Sampled* thing;
  Samples out;
  double spent_s = 0;  // on samples, preparation included

  bool alive() const { return out.error == nullptr; }
};

// Milliseconds of one run, or nothing new and an error.
double run_once(State& state, std::int64_t draw, const std::function<void()>& flush) {
  const auto begin = Clock::now();
  double ms = 0;
  try {
    if (state.thing->prepare) state.thing->prepare(draw);
    if (flush) flush();
    const auto start = Clock::now();
    state.thing->run();
    ms = 1e3 * seconds_since(start);
    if (state.thing->own_ms) ms = state.thing->own_ms().value_or(ms);
  } catch (...) {
    state.out.error = std::current_exception();
  }
  state.spent_s += seconds_since(begin);
  return ms;
}

void warm_up(State& state, const RunOptions& options, const std::function<void()>& flush,
             const std::function<bool()>& stop) {
  const bool is_ours = options.warmup < 0;
  const int most = is_ours ? kMaxWarmup : options.warmup;
  double best = 0;
  for (int i = 0; i < most && state.alive() && !stop(); ++i) {
    const double ms = run_once(state, -1 - i, flush);
    if (is_ours && i > 0 && ms > 0.95 * best) break;
    if (is_ours && state.spent_s > kMaxWarmupShare * options.max_time_s) break;
    best = i == 0 ? ms : std::min(best, ms);
  }
  state.spent_s = 0;
}

}  // namespace

std::int64_t cache_flush_bytes() noexcept {
  const std::int64_t last_level = cache_sizes().l3;
  if (last_level == 0) return 1024 * kMiB;
  return std::clamp(4 * last_level, 256 * kMiB, 1024 * kMiB);
}

CacheFlush::CacheFlush(Context& context, std::int64_t bytes) : context_(context), bytes_(bytes) {
  require(bytes > 0, "bytes is {}: expected at least 1", bytes);
  buffer_.reserve(bytes);
  // Untouched memory is one shared page of zeros, which would stay in the cache.
  pool_of(context_).for_ranges(bytes, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    std::memset(buffer_.data() + begin, 1, static_cast<std::size_t>(end - begin));
  });
}

void CacheFlush::operator()() noexcept {
  wait_for_spinning_threads();
  pool_of(context_).for_ranges(bytes_, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    const std::byte* data = buffer_.data();
    unsigned sum = 0;
    for (std::int64_t i = begin; i < end; i += 64) sum += static_cast<unsigned>(data[i]);
    volatile unsigned keep = sum;
    static_cast<void>(keep);
  });
  // Those that finished early may sleep by now; in the middle of a program they would not.
  pool_of(context_).run([](int) {});
}

bool is_settled(std::span<const double> samples_ms, double spent_s, const RunOptions& options) {
  if (samples_ms.size() >= kMaxSamples) return true;
  if (samples_ms.size() < kMinSamples || spent_s < options.min_time_s) return false;
  std::vector<double> ascending(samples_ms.begin(), samples_ms.end());
  std::sort(ascending.begin(), ascending.end());
  const Interval interval = order_median_interval(ascending);
  return interval.high - interval.low <= options.confidence * percentile(ascending, 50);
}

std::vector<Samples> sample_interleaved(std::span<const Sampled> things, const RunOptions& options,
                                        const std::function<void()>& flush,
                                        const std::function<bool()>& stop,
                                        const std::function<void()>& between) {
  std::vector<State> states;
  for (const auto& thing : things) states.push_back({&thing, {}, 0});
  const auto stopped = [&] { return stop && stop(); };
  const auto start = Clock::now();
  for (auto& state : states) warm_up(state, options, flush, stopped);

  const double max_s = options.max_time_s * static_cast<double>(states.size());
  std::int64_t next_question = 0;  // asked ever more rarely: each one sorts the samples
  const auto is_done = [&](std::int64_t rounds) {
    if (options.iters >= 0) return rounds >= options.iters;
    if (rounds > 0 && seconds_since(start) >= max_s) return true;
    if (rounds < next_question) return false;
    next_question = rounds + 1 + rounds / 16;
    return std::all_of(states.begin(), states.end(), [&](const State& state) {
      return !state.alive() || is_settled(state.out.ms, state.spent_s, options);
    });
  };
  const auto any_alive = [&] {
    return std::any_of(states.begin(), states.end(), [](auto& state) { return state.alive(); });
  };
  bool stop_seen = stopped();
  const auto run_between = [&] {
    if (!between || stop_seen) return;
    if (flush) flush();  // our threads wake and spread over the cores
    between();
  };
  run_between();
  for (std::int64_t round = 0; !stop_seen && any_alive() && !is_done(round); ++round) {
    for (auto& state : states) {
      if (!state.alive()) continue;
      const double ms = run_once(state, round, flush);
      if (state.alive()) state.out.ms.push_back(ms);
      if ((stop_seen = stopped())) break;
    }
    run_between();
  }
  std::vector<Samples> out;
  for (auto& state : states) out.push_back(std::move(state.out));
  return out;
}

}  // namespace switchyard
