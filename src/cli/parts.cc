#include "cli/parts.h"

namespace switchyard::cli {
namespace {

#define SWITCHYARD_PART(name, found, gives, package) {#name, found, gives, package},
constexpr Part kParts[] = {
#include "parts.inc"
};
#undef SWITCHYARD_PART

}  // namespace

std::span<const Part> parts() noexcept { return kParts; }

}  // namespace switchyard::cli
