#include "base/cpu.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

namespace switchyard {
namespace {

#if defined(__x86_64__)

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(unsigned leaf, unsigned subleaf) {
  Leaf out;
  __get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
  return out;
}

bool bit(unsigned word, int i) { return (word >> i & 1u) != 0; }

std::uint64_t enabled_state() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<std::uint64_t>(high) << 32 | low;
}

// Linux 5.16 and later hand out tile state on request only, once per process.
bool tile_state_granted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

CpuFeatures detect() {
  CpuFeatures f;
  const Leaf one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  if (!bit(one.ecx, 27)) return f;  // OSXSAVE: without it xgetbv faults
  const std::uint64_t state = enabled_state();
  constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
  if ((state & kYmm) != kYmm) return f;
  f.avx2 = bit(seven.ebx, 5) && bit(one.ecx, 12) && bit(one.ecx, 29);
  f.avx512 = f.avx2 && (state & kZmm) == kZmm && bit(seven.ebx, 16) && bit(seven.ebx, 17) &&
             bit(seven.ebx, 30) && bit(seven.ebx, 31);
  // With BF16 comes VNNI, with AMX-BF16 comes AMX-INT8 in every CPU so far; kernels of these names
  // use both.
  f.avx512_bf16 = f.avx512 && bit(seven_one.eax, 5) && bit(seven.ecx, 11);
  constexpr unsigned kAuth = 0x68747541;  // of "AuthenticAMD"
  const bool is_amd = cpuid(0, 0).ebx == kAuth;
  f.fast_dot_bf16 = f.avx512_bf16 && is_amd;
  f.reads_in_order = is_amd;
  f.prefetch_spares_l1 = is_amd;
  f.amx_bf16 = f.avx512_bf16 && (state & kTiles) == kTiles && bit(seven.edx, 24) &&
               bit(seven.edx, 22) && bit(seven.edx, 25) && tile_state_granted();
  return f;
}

#else

CpuFeatures detect() { return {}; }

#endif

// The data cache of this level that Linux reports for the first CPU; 0 where it does not.
std::int64_t cache_bytes(int level) noexcept {
  for (int index = 0; index < 8; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    int found = 0;
    std::string type;
    std::ifstream(folder + "level") >> found;
    std::ifstream(folder + "type") >> type;
    if (found != level || type == "Instruction") continue;
    std::int64_t size = 0;
    char unit = 0;
    std::ifstream(folder + "size") >> size >> unit;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
  }
  return 0;
}

std::int64_t first_of(std::int64_t known, std::int64_t otherwise) noexcept {
  return known > 0 ? known : otherwise;
}

}  // namespace

const CpuFeatures& cpu_features() noexcept {
  static const CpuFeatures features = detect();
  return features;
}

// sysconf computes the size of AMD's last level from counts that a hypervisor may have changed: ten
// times too much was seen (320 MiB). So it is asked only where Linux does not tell.
CacheSizes cache_sizes() noexcept {
  const auto configured = [](int name) { return std::max<std::int64_t>(0, sysconf(name)); };
  static const CacheSizes sizes = {
      first_of(cache_bytes(1), configured(_SC_LEVEL1_DCACHE_SIZE)),
      first_of(cache_bytes(2), configured(_SC_LEVEL2_CACHE_SIZE)),
      first_of(cache_bytes(3), configured(_SC_LEVEL3_CACHE_SIZE)),
  };
  return sizes;
}

int available_cpus() noexcept {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("model name")) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace switchyard
