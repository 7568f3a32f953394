#include "switchyard/version.h"

#include "git_info.h"

namespace switchyard {
namespace {

#define SWITCHYARD_TEXT_OF(x) #x
#define SWITCHYARD_TEXT(x) SWITCHYARD_TEXT_OF(x)

#if defined(__clang__)
constexpr std::string_view kCompiler = "clang " SWITCHYARD_TEXT(
    __clang_major__) "." SWITCHYARD_TEXT(__clang_minor__) "." SWITCHYARD_TEXT(__clang_patchlevel__);
#else
constexpr std::string_view kCompiler = "gcc " SWITCHYARD_TEXT(__GNUC__) "." SWITCHYARD_TEXT(
    __GNUC_MINOR__) "." SWITCHYARD_TEXT(__GNUC_PATCHLEVEL__);
#endif

}  // namespace

std::string_view version() noexcept { return SWITCHYARD_VERSION; }
std::string_view git_sha() noexcept { return SWITCHYARD_GIT_SHA; }
bool git_is_dirty() noexcept { return SWITCHYARD_GIT_DIRTY; }
std::string_view compiler() noexcept { return kCompiler; }

}  // namespace switchyard
