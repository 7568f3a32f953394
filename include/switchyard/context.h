#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "switchyard/view.h"

namespace switchyard {

/// Instruction sets a kernel may use, slowest first. Each includes the ones before it.
///   avx2        AVX2, FMA, F16C
///   avx512      AVX-512 F, BW, DQ, VL
///   avx512_bf16 AVX-512 BF16 (vdpbf16ps)
///   amx_bf16    AMX tiles, bf16
enum class Isa { portable, avx2, avx512, avx512_bf16, amx_bf16 };

inline constexpr Isa kAllIsas[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16,
                                   Isa::amx_bf16};

std::string_view name_of(Isa isa) noexcept;

/// Throws Error(invalid_argument) that lists the names and suggests the nearest.
Isa isa_from_name(std::string_view name);

/// True when this build holds kernels for `isa`.
bool isa_is_compiled(Isa isa) noexcept;

/// True when this CPU and operating system can run `isa` and this build holds kernels for it.
bool isa_is_available(Isa isa) noexcept;

/// The fastest available ISA not above the environment variable SWITCHYARD_MAX_ISA.
/// Throws Error(invalid_argument) when the variable names no ISA.
Isa default_isa();

struct ContextOptions {
  int threads = 0;              ///< 0: one per CPU this process may run on
  std::optional<Isa> isa = {};  ///< the highest ISA to use; default: default_isa()
  /// cuda: the first CUDA device, for the functions of device.h; the others keep to the CPU.
  Device device = Device::cpu;
};

/// Threads, an ISA cap, scratch memory and, if asked for, a CUDA device, shared by the stages of a
/// layer. Scratch is kept between calls, so that a steady state allocates nothing. A context serves
/// one caller at a time.
class Context {
 public:
  /// Throws Error(invalid_argument) for threads < 0 or > 4096, Error(unavailable) for an ISA this
  /// machine or build does not have, and for a CUDA device, naming what is missing.
  explicit Context(const ContextOptions& options = {});
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  int threads() const noexcept;
  Isa isa() const noexcept;
  Device device() const noexcept;

  struct Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard
