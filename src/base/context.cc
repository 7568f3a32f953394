#include "base/context.h"

#include <cstdlib>

#include "base/check.h"
#include "base/cpu.h"

namespace switchyard {
namespace {

constexpr std::array<Named<Isa>, 5> kIsaNames = {{
    {Isa::portable, "portable"},
    {Isa::avx2, "avx2"},
    {Isa::avx512, "avx512"},
    {Isa::avx512_bf16, "avx512_bf16"},
    {Isa::amx_bf16, "amx_bf16"},
}};

constexpr int kMaxThreads = 4096;

bool cpu_has(Isa isa) noexcept {
  const CpuFeatures& cpu = cpu_features();
  switch (isa) {
    case Isa::portable: return true;
    case Isa::avx2: return cpu.avx2;
    case Isa::avx512: return cpu.avx512;
    case Isa::avx512_bf16: return cpu.avx512_bf16;
    case Isa::amx_bf16: return cpu.amx_bf16;
  }
  return false;
}

}  // namespace

std::string_view name_of(Isa isa) noexcept { return name_in(kIsaNames, isa); }
Isa isa_from_name(std::string_view name) { return value_in(kIsaNames, "ISA", name); }

bool isa_is_compiled(Isa isa) noexcept {
#if defined(SWITCHYARD_X86_KERNELS)
  static_cast<void>(isa);
  return true;
#else
  return isa == Isa::portable;
#endif
}

bool isa_is_available(Isa isa) noexcept { return isa_is_compiled(isa) && cpu_has(isa); }

Isa default_isa() {
  Isa cap = Isa::amx_bf16;
  if (const char* value = std::getenv("SWITCHYARD_MAX_ISA"); value != nullptr && *value != '\0') {
    cap = value_in(kIsaNames, "SWITCHYARD_MAX_ISA", value);
  }
  Isa best = Isa::portable;
  for (const Isa isa : kAllIsas) {
    if (isa <= cap && isa_is_available(isa)) best = isa;
  }
  return best;
}

Context::Context(const ContextOptions& options) {
  require(options.threads >= 0 && options.threads <= kMaxThreads,
          "threads is {}: expected 0 (one per CPU) to {}", options.threads, kMaxThreads);
  const Isa isa = options.isa.value_or(default_isa());
  if (!isa_is_available(isa)) {
    throw Error(ErrorCode::unavailable,
                fmt::format("ISA {} is not available: {}", name_of(isa),
                            isa_is_compiled(isa) ? "this CPU or kernel does not offer it"
                                                 : "this build holds no kernels for it"));
  }
  impl_ = std::make_unique<Impl>(options.threads == 0 ? available_cpus() : options.threads, isa);
  if (options.device == Device::cuda) impl_->gpu = cuda::open_gpu();
}

Context::~Context() = default;
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;

int Context::threads() const noexcept { return impl_->pool.size(); }
Isa Context::isa() const noexcept { return impl_->isa; }
Device Context::device() const noexcept {
  return impl_->gpu != nullptr ? Device::cuda : Device::cpu;
}

}  // namespace switchyard
