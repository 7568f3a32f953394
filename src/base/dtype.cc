#include "switchyard/dtype.h"

#include "base/check.h"

namespace switchyard {
namespace {

constexpr std::array<Named<DType>, 10> kNames = {{
    {DType::f32, "f32"},
    {DType::bf16, "bf16"},
    {DType::f16, "f16"},
    {DType::f32, "fp32"},
    {DType::f32, "float32"},
    {DType::f32, "float"},
    {DType::bf16, "bfloat16"},
    {DType::f16, "fp16"},
    {DType::f16, "float16"},
    {DType::f16, "half"},
}};

}  // namespace

std::string_view name_of(DType dtype) noexcept { return name_in(kNames, dtype); }
DType dtype_from_name(std::string_view name) { return value_in(kNames, "dtype", name); }

}  // namespace switchyard
