#include "bench/limits_measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "base/buffer.h"
#include "base/context.h"
#include "base/philox.h"
#include "bench/limits_kernel.h"
#include "bench/memory.h"
#include "bench/sampler.h"

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

constexpr std::int64_t kGrain = 4096;                  // what the kernels' sizes are multiples of
constexpr std::int64_t kGatherRows[] = {4096, 16384};  // bytes: bf16 rows of H = 2048 and 8192

template <class Work>
double seconds_of(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Work>
double best_seconds(int repeats, Work&& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) best = std::min(best, seconds_of(work));
  return std::max(best, 1e-9);
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

bool is_candidate(const CopyVariant& variant, Isa cap) {
  return variant.isa == Isa::portable || variant.isa == widest(kCopies, cap);
}

// Cut like the pool's ranges, or whole on the calling thread.
template <class Work>
void over(Context& context, bool all_threads, std::int64_t bytes, Work&& work) {
  if (all_threads) {
    pool_of(context).for_ranges(bytes, kGrain,
                                [&](auto begin, auto end, int) { work(begin, end - begin); });
  } else {
    work(std::int64_t{0}, bytes);
  }
}

double read_bandwidth(Context& context, bool all_threads, const std::byte* data, std::int64_t bytes,
                      int repeats) {
  double best = 0;
  for (const auto& variant : kReads) {
    if (variant.isa != widest(kReads, context.isa())) continue;
    for (const int streams : {1, 2, 4, 8}) {
      const double seconds = best_seconds(repeats, [&] {
        over(context, all_threads, bytes,
             [&](auto begin, auto size) { keep(variant.run(data + begin, size, streams)); });
      });
      best = std::max(best, static_cast<double>(bytes) / seconds);
    }
  }
  return best;
}

double copy_bandwidth(Context& context, bool all_threads, std::byte* data, std::int64_t bytes,
                      int repeats) {
  const std::int64_t half = bytes / 2 / kGrain * kGrain;
  double best = 0;
  for (const auto& variant : kCopies) {
    if (!is_candidate(variant, context.isa())) continue;
    const double seconds = best_seconds(repeats, [&] {
      over(context, all_threads, half,
           [&](auto begin, auto size) { variant.run(data + half + begin, data + begin, size); });
    });
    best = std::max(best, 2 * static_cast<double>(half) / seconds);
  }
  return best;
}

double gather_bandwidth(Context& context, std::byte* data, std::int64_t bytes, int repeats) {
  const std::int64_t half = bytes / 2 / kGrain * kGrain;
  const Philox random(17, 0x676174);
  double best = 0;
  for (const std::int64_t row_bytes : kGatherRows) {
    const std::int64_t rows = half / row_bytes;
    if (rows == 0) continue;
    std::vector<std::int64_t> source(static_cast<std::size_t>(rows));
    for (std::int64_t i = 0; i < rows; ++i) source[i] = i;
    for (std::int64_t i = rows - 1; i > 0; --i) {  // a permutation: every byte is read once
      std::swap(source[i], source[random.word(i) % (i + 1)]);
    }
    for (const auto& variant : kCopies) {
      if (!is_candidate(variant, context.isa())) continue;
      const double seconds = best_seconds(repeats, [&] {
        pool_of(context).for_ranges(rows, 1, [&](auto begin, auto end, int) {
          for (auto i = begin; i < end; ++i) {
            // As rows lie anywhere, nothing but the program knows where the next begins.
            const std::byte* next = data + source[std::min(i + 1, end - 1)] * row_bytes;
            for (std::int64_t b = 0; b < row_bytes; b += 64) __builtin_prefetch(next + b, 0, 3);
            variant.run(data + half + i * row_bytes, data + source[i] * row_bytes, row_bytes);
          }
        });
      });
      best = std::max(best, 2 * static_cast<double>(rows * row_bytes) / seconds);
    }
  }
  return best;
}

double peak_of(Context& context, const PeakVariant& variant, const MeasureEffort& effort) {
  // Doubling until a run is long enough also brings the cores to their working frequency.
  std::int64_t steps = 1000;
  const auto run = [&] { pool_of(context).run([&](int) { keep(variant.run(steps)); }); };
  while (seconds_of(run) < effort.peak_run_s && steps < std::int64_t{1} << 40) steps *= 2;
  const double seconds = best_seconds(8 * effort.repeats, run);
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
    out.peak_flops[std::string(name_of(variant.isa)) + "/" + std::string(variant.dtype)] =
        peak_of(context, variant, effort);
  }
  out.fork_join_s = fork_join_seconds(context, effort.repeats);

  std::int64_t bytes = effort.buffer_bytes;
  if (bytes == 0) bytes = std::min(cache_flush_bytes(), available_memory().bytes / 4);
  bytes = std::max(kGrain * 8, bytes / kGrain * kGrain);
  Buffer buffer(bytes);
  over(context, true, bytes, [&](auto begin, auto size) {
    std::memset(buffer.data() + begin, 1, static_cast<std::size_t>(size));
  });
  out.read_bw_one = read_bandwidth(context, false, buffer.data(), bytes, effort.repeats);
  out.read_bw = read_bandwidth(context, true, buffer.data(), bytes, effort.repeats);
  out.copy_bw_one = copy_bandwidth(context, false, buffer.data(), bytes, effort.repeats);
  out.copy_bw = copy_bandwidth(context, true, buffer.data(), bytes, effort.repeats);
  out.gather_bw = gather_bandwidth(context, buffer.data(), bytes, effort.repeats);
  return out;
}

Ceilings measure_ceilings(Context& context) { return measure_ceilings(context, MeasureEffort{}); }

}  // namespace switchyard
