#include "topk/topk.h"

namespace switchyard {

#define SWITCHYARD_TOPK(isa)                         \
  std::int64_t topk_##isa(const TopkArgs&) noexcept; \
  bool sigmoid_##isa(const float*, std::int64_t, float*) noexcept;
#include "topk/kernels.inc"
#undef SWITCHYARD_TOPK

namespace {

constexpr TopkVariant kVariants[] = {
#define SWITCHYARD_TOPK(isa) {Isa::isa, topk_##isa, sigmoid_##isa},
#include "topk/kernels.inc"
#undef SWITCHYARD_TOPK
};

}  // namespace

std::span<const TopkVariant> topk_variants() noexcept { return kVariants; }

const TopkVariant& topk_variant(Isa isa) noexcept {
  const TopkVariant* variant = kVariants;
  while (variant->isa > isa) ++variant;
  return *variant;
}

}  // namespace switchyard
