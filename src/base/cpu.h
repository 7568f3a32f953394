#pragma once

#include <cstdint>
#include <string>

namespace switchyard {

/// What this CPU and operating system offer to kernels. Asks for AMX permission on first use.
struct CpuFeatures {
  bool avx2 = false;    ///< AVX2, FMA, F16C
  bool avx512 = false;  ///< F, BW, DQ, VL
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  ///< and the kernel granted tile state
  /// vdpbf16ps beats widening to f32 and FMA. Intel's (Sapphire Rapids) issues it at a quarter of
  /// the rate of FMA, half the flop/s; AMD's (Zen 4) at its full rate, twice the flop/s: measured.
  bool fast_dot_bf16 = false;
  /// One core reads memory fastest as one sequential stream, by its own prefetchers into L2. AMD's
  /// (Zen 4) 30 to 34 GB/s so, 27 in eight streams, 12 to 18 when a program fetches ahead into L1
  /// from eight; Intel's (Sapphire Rapids) 12 to 14 so, 17 to 23 from eight: measured.
  bool reads_in_order = false;
  /// A prefetch into L2 takes none of the line buffers of L1, so that more lines come at once: AMD
  /// (Zen 4: rows anywhere are read 1.5 times as fast as by prefetches into L1). On Intel it does.
  bool prefetch_spares_l1 = false;
};

const CpuFeatures& cpu_features() noexcept;

/// Bytes of the data caches one core sees, 0 where unknown.
struct CacheSizes {
  std::int64_t l1 = 0, l2 = 0, l3 = 0;
};

CacheSizes cache_sizes() noexcept;

/// CPUs this process may run on (affinity, not the machine's total).
int available_cpus() noexcept;

/// The model name, or "unknown".
std::string cpu_name();

}  // namespace switchyard
