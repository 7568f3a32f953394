#include "bench/limits_measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/context.h"
#include "base/philox.h"
#include "bench/limits_kernel.h"
#include "bench/memory.h"
#include "bench/sampler.h"
#include "bench/statistics.h"

namespace switchyard {
namespace {

struct ReadVariant {
  Isa isa;
  ReadKernel run;
};

struct CopyVariant {
  Isa isa;
  CopyKernel run;
};

struct WriteVariant {
  Isa isa;
  WriteKernel run;
};

struct PeakVariant {
  Isa isa;
  std::string_view dtype;
  PeakKernel run;
  double flops_per_step;
};

constexpr ReadVariant kReads[] = {
    {Isa::portable, read_portable},
#if defined(SWITCHYARD_X86_KERNELS)
    {Isa::avx2, read_avx2},
    {Isa::avx512, read_avx512},
#endif
};

constexpr CopyVariant kCopies[] = {
    {Isa::portable, copy_portable},
#if defined(SWITCHYARD_X86_KERNELS)
    {Isa::avx2, copy_stream_avx2},
    {Isa::avx512, copy_avx512},
    {Isa::avx512, copy_stream_avx512},
#endif
};

constexpr WriteVariant kWrites[] = {
    {Isa::portable, write_portable},
#if defined(SWITCHYARD_X86_KERNELS)
    {Isa::avx2, write_stream_avx2},
    {Isa::avx512, write_avx512},
    {Isa::avx512, write_stream_avx512},
#endif
};

constexpr PeakVariant kPeaks[] = {
    {Isa::portable, "f32", peak_f32_portable, kFlopsF32Portable},
#if defined(SWITCHYARD_X86_KERNELS)
    {Isa::avx2, "f32", peak_f32_avx2, kFlopsF32Avx2},
    {Isa::avx2, "int8", peak_int8_avx2, kFlopsInt8Avx2},
    {Isa::avx512, "f32", peak_f32_avx512, kFlopsF32Avx512},
    {Isa::avx512_bf16, "bf16", peak_bf16_avx512_bf16, kFlopsBf16Avx512},
    {Isa::avx512_bf16, "int8", peak_int8_avx512_bf16, kFlopsInt8Avx512},
    {Isa::amx_bf16, "bf16", peak_bf16_amx_bf16, kFlopsBf16Amx},
    {Isa::amx_bf16, "int8", peak_int8_amx_bf16, kFlopsInt8Amx},
#endif
};

constexpr std::int64_t kGrain = 4096;         // what the kernels' sizes are multiples of
constexpr std::int64_t kMostPiece = 4 << 20;  // what a thread takes at once
constexpr std::int64_t kGatherPiece = 128;
constexpr std::int64_t kGatherRows[] = {4096, 16384};  // bytes: bf16 rows of H = 2048 and 8192

// Of a probe: short beside the samples it runs between, and not too often.
constexpr double kProbeRun = 0.001;   // seconds of a matrix peak
constexpr double kProbePause = 0.25;  // seconds from one probe to the next

template <class Work>
double seconds_of(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::max(1e-9,
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

template <class Work>
double best_seconds(int repeats, Work&& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) best = std::min(best, seconds_of(work));
  return best;
}

// Keeps what the kernels return, so that their work counts as used.
void keep(auto value) {
  volatile auto kept = value;
  static_cast<void>(kept);
}

// Of what moves memory only the widest is worth its time, and memcpy for copies.
template <class Variants>
Isa widest(const Variants& variants, Isa cap) {
  Isa best = Isa::portable;
  for (const auto& variant : variants) {
    if (variant.isa <= cap) best = std::max(best, variant.isa);
  }
  return best;
}

template <class Variants>
bool is_candidate(const Variants& variants, Isa isa, Isa cap) {
  return isa == Isa::portable || isa == widest(variants, cap);
}

// Dealt out in pieces, as the work of kernels is, so that a thread whose memory is served more
// slowly does not hold up the others; or whole on the calling thread.
template <class Work>
void over(Context& context, bool all_threads, std::int64_t bytes, Work&& work) {
  if (!all_threads) return work(std::int64_t{0}, bytes);
  pool_of(context).for_pieces(bytes / kGrain, kMostPiece / kGrain, [&](auto begin, auto end, int) {
    work(begin * kGrain, (end - begin) * kGrain);
  });
}

/// One run of one way to do something, in bytes/s.
using Way = std::function<double()>;

std::vector<Way> read_ways(Context& context, bool all_threads, const std::byte* data,
                           std::int64_t bytes) {
  std::vector<Way> ways;
  for (const auto& variant : kReads) {
    if (variant.isa != widest(kReads, context.isa())) continue;
    for (const ReadOrder order : kReadOrders) {
      ways.push_back([=, &context] {
        return static_cast<double>(bytes) / seconds_of([&] {
                 over(context, all_threads, bytes,
                      [&](auto begin, auto size) { keep(variant.run(data + begin, size, order)); });
               });
      });
    }
  }
  return ways;
}

std::vector<Way> write_ways(Context& context, std::byte* data, std::int64_t bytes) {
  std::vector<Way> ways;
  for (const auto& variant : kWrites) {
    if (!is_candidate(kWrites, variant.isa, context.isa())) continue;
    ways.push_back([=, &context] {
      return static_cast<double>(bytes) / seconds_of([&] {
               over(context, true, bytes,
                    [&](auto begin, auto size) { variant.run(data + begin, size); });
             });
    });
  }
  return ways;
}

std::vector<Way> copy_ways(Context& context, bool all_threads, std::byte* data,
                           std::int64_t bytes) {
  const std::int64_t half = bytes / 2 / kGrain * kGrain;
  std::vector<Way> ways;
  for (const auto& variant : kCopies) {
    if (!is_candidate(kCopies, variant.isa, context.isa())) continue;
    ways.push_back([=, &context] {
      return 2 * static_cast<double>(half) / seconds_of([&] {
               over(context, all_threads, half, [&](auto begin, auto size) {
                 variant.run(data + half + begin, data + begin, size);
               });
             });
    });
  }
  return ways;
}

/// A random order of `count` rows: a permutation, so that every byte is read once.
std::vector<std::int64_t> shuffled(std::int64_t count) {
  const Philox random(17, 0x676174);
  std::vector<std::int64_t> source(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) source[i] = i;
  for (std::int64_t i = count - 1; i > 0; --i)
    std::swap(source[i], source[random.word(i) % (i + 1)]);
  return source;
}

// Rows [begin, end) of `to` from those of `data` in the order of `source`. As rows lie anywhere,
// nothing but the program knows where the next begins. A piece of it is asked for with each piece
// of this one: all at once would wait, at 0.9 of the bandwidth.
template <int kLevel>
void gather_rows(CopyKernel copy, const std::vector<std::int64_t>& source, const std::byte* data,
                 std::byte* to, std::int64_t row_bytes, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const std::byte* row = data + source[i] * row_bytes;
    const std::byte* next = data + source[std::min(i + 1, end - 1)] * row_bytes;
    for (std::int64_t b = 0; b < row_bytes; b += kGatherPiece) {
      __builtin_prefetch(next + b, 0, kLevel);
      __builtin_prefetch(next + b + 64, 0, kLevel);
      copy(to + i * row_bytes + b, row + b, kGatherPiece);
    }
  }
}

std::vector<Way> gather_ways(Context& context, std::byte* data, std::int64_t bytes) {
  const std::int64_t half = bytes / 2 / kGrain * kGrain;
  std::vector<Way> ways;
  for (const std::int64_t row_bytes : kGatherRows) {
    const std::int64_t rows = half / row_bytes;
    if (rows == 0) continue;
    const auto source = std::make_shared<const std::vector<std::int64_t>>(shuffled(rows));
    for (const auto& variant : kCopies) {
      if (!is_candidate(kCopies, variant.isa, context.isa())) continue;
      for (const auto gather : {gather_rows<3>, gather_rows<2>}) {  // into L1, into L2
        ways.push_back([=, &context] {
          return 2 * static_cast<double>(rows * row_bytes) / seconds_of([&] {
                   pool_of(context).for_pieces(
                       rows, kMostPiece / row_bytes, [&](auto begin, auto end, int) {
                         gather(variant.run, *source, data, data + half, row_bytes, begin, end);
                       });
                 });
        });
      }
    }
  }
  return ways;
}

double best_of(const std::vector<Way>& ways, int repeats) {
  double best = 0;
  for (const Way& way : ways) {
    for (int i = 0; i < repeats; ++i) best = std::max(best, way());
  }
  return best;
}

std::string name_of_peak(const PeakVariant& variant) {
  return std::string(name_of(variant.isa)) + "/" + std::string(variant.dtype);
}

/// Steps that keep every thread busy for about `seconds`. Doubling until then also brings the cores
/// to their working frequency.
std::int64_t steps_of(Context& context, const PeakVariant& variant, double seconds) {
  std::int64_t steps = 1000;
  const auto run = [&] { pool_of(context).run([&](int) { keep(variant.run(steps)); }); };
  while (seconds_of(run) < seconds && steps < std::int64_t{1} << 40) steps *= 2;
  return steps;
}

/// One run on all threads, in flop/s.
double peak_of(Context& context, const PeakVariant& variant, std::int64_t steps) {
  const double seconds =
      seconds_of([&] { pool_of(context).run([&](int) { keep(variant.run(steps)); }); });
  return variant.flops_per_step * static_cast<double>(steps) * context.threads() / seconds;
}

double fork_join_seconds(Context& context, int repeats) {
  constexpr int kRegions = 200;
  return best_seconds(2 * repeats,
                      [&] {
                        for (int i = 0; i < kRegions; ++i) pool_of(context).run([](int) {});
                      }) /
         kRegions;
}

}  // namespace

Ceilings measure_ceilings(Context& context, const MeasureEffort& effort) {
  Ceilings out;
  out.threads = context.threads();
  for (const auto& variant : kPeaks) {
    if (variant.isa > context.isa()) continue;
    const std::int64_t steps = steps_of(context, variant, effort.peak_run_s);
    double& best = out.peak_flops[name_of_peak(variant)];
    for (int i = 0; i < 8 * effort.repeats; ++i) {
      best = std::max(best, peak_of(context, variant, steps));
    }
  }
  out.fork_join_s = fork_join_seconds(context, effort.repeats);

  std::int64_t bytes = effort.buffer_bytes;
  if (bytes == 0) bytes = std::min(cache_flush_bytes(), available_memory().bytes / 4);
  bytes = std::max(kGrain * 8, bytes / kGrain * kGrain);
  Buffer buffer(bytes);
  over(context, true, bytes, [&](auto begin, auto size) {
    std::memset(buffer.data() + begin, 1, static_cast<std::size_t>(size));
  });
  std::byte* data = buffer.data();
  out.read_bw_one = best_of(read_ways(context, false, data, bytes), effort.repeats);
  out.read_bw = best_of(read_ways(context, true, data, bytes), effort.repeats);
  out.write_bw = best_of(write_ways(context, data, bytes), effort.repeats);
  out.copy_bw_one = best_of(copy_ways(context, false, data, bytes), effort.repeats);
  out.copy_bw = best_of(copy_ways(context, true, data, bytes), effort.repeats);
  out.gather_bw = best_of(gather_ways(context, data, bytes), effort.repeats);
  return out;
}

void NearestRounds::add_run() {
  if (!half_rounds_.empty()) half_rounds_.back() += since_;
  half_rounds_.push_back(since_);
  since_ = 0;
}

std::vector<double> NearestRounds::counted(std::span<const double> found) const {
  std::vector<double> out;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool is_last = i + 1 == half_rounds_.size();
    out.insert(out.end(), half_rounds_[i] + (is_last ? 2 * since_ : 0), found[i]);
  }
  if (out.empty()) out.assign(found.begin(), found.end());
  return out;
}

struct CeilingProbe::Impl {
  /// Bandwidths of one kind. The first sample finds the best way. Each later one is a run of the
  /// way kept so far, and after it another way is tried, in turn, and kept from then on if it was
  /// faster: when the first sample was taken memory may have been too busy to tell them apart.
  struct Bandwidth {
    double Ceilings::*field;
    std::vector<Way> ways;
    std::vector<double> samples;
    std::size_t kept = 0, tried = 0;

    void sample() {
      if (ways.empty()) return;
      if (samples.empty()) return find_best();
      samples.push_back(ways[kept]());
      if (ways.size() == 1) return;
      tried = (tried + 1) % ways.size();
      if (tried == kept) tried = (tried + 1) % ways.size();
      if (ways[tried]() > samples.back()) kept = tried;
    }

    void find_best() {
      std::vector<double> found;
      for (const Way& way : ways) found.push_back(way());
      const auto best = std::max_element(found.begin(), found.end());
      kept = static_cast<std::size_t>(best - found.begin());
      samples.push_back(*best);
    }
  };
  struct Peak {
    const PeakVariant* variant;
    std::int64_t steps;
    std::vector<double> samples;
  };

  Context& context;
  std::vector<Bandwidth> bandwidths;
  std::vector<Peak> peaks;
  NearestRounds rounds = {};
  std::chrono::steady_clock::time_point last = {};

  Ceilings over(Ceilings kept, double percent) const {
    const auto pick = [&](std::span<const double> samples) {
      std::vector<double> ascending = rounds.counted(samples);
      std::sort(ascending.begin(), ascending.end());
      return percentile(ascending, percent);
    };
    for (const Bandwidth& bandwidth : bandwidths) {
      if (!kept.bw_is_given && !bandwidth.samples.empty()) {
        kept.*bandwidth.field = pick(bandwidth.samples);
      }
    }
    for (const Peak& peak : peaks) {
      if (!peak.samples.empty()) kept.peak_flops[name_of_peak(*peak.variant)] = pick(peak.samples);
    }
    return kept;
  }
};

CeilingProbe::CeilingProbe(Context& context, std::byte* data, std::int64_t bytes)
    : impl_(new Impl{context, {}, {}}) {
  impl_->bandwidths.push_back({&Ceilings::read_bw, read_ways(context, true, data, bytes), {}});
  impl_->bandwidths.push_back({&Ceilings::write_bw, write_ways(context, data, bytes), {}});
  impl_->bandwidths.push_back({&Ceilings::copy_bw, copy_ways(context, true, data, bytes), {}});
  impl_->bandwidths.push_back({&Ceilings::gather_bw, gather_ways(context, data, bytes), {}});
  for (const auto& variant : kPeaks) {
    if (variant.isa > context.isa()) continue;
    impl_->peaks.push_back({&variant, steps_of(context, variant, kProbeRun), {}});
  }
}

CeilingProbe::~CeilingProbe() = default;

void CeilingProbe::operator()() {
  using Clock = std::chrono::steady_clock;
  impl_->rounds.pass_round();
  if (std::chrono::duration<double>(Clock::now() - impl_->last).count() < kProbePause) return;
  for (auto& bandwidth : impl_->bandwidths) bandwidth.sample();
  for (auto& peak : impl_->peaks) {
    peak.samples.push_back(peak_of(impl_->context, *peak.variant, peak.steps));
  }
  impl_->rounds.add_run();
  impl_->last = Clock::now();
}

Ceilings CeilingProbe::median_over(const Ceilings& kept) const { return impl_->over(kept, 50); }

Ceilings CeilingProbe::best_over(const Ceilings& kept) const { return impl_->over(kept, 100); }

Ceilings measure_ceilings(Context& context) { return measure_ceilings(context, MeasureEffort{}); }

}  // namespace switchyard
