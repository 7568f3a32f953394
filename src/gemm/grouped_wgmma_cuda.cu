#include "cuda/launch.h"
#include "gemm/gpu_kernels.h"
#include "gemm/grouped_wgmma.h"
#include "switchyard/error.h"

#if defined(__CUDACC__)
#include <cudaTypedefs.h>

#include <string>
#endif

namespace switchyard::gemm {
namespace {

#if defined(__CUDACC__)

template <class T>
__global__ void __launch_bounds__(WideShape::kAllThreads, 1)
    wide_kernel([[maybe_unused]] const __grid_constant__ WideArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)  // launched on nothing else
  extern __shared__ __align__(128) unsigned char wide_shared[];
  grouped_wgmma<T>(args, reinterpret_cast<std::byte*>(wide_shared));
#endif
}

/// The driver's function, found through the runtime so that nothing links to the driver.
PFN_cuTensorMapEncodeTiled_v12000 encode_tiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                               cudaEnableDefault, &found),
              "looking for cuTensorMapEncodeTiled");
#else
  cuda::check(
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found),
      "looking for cuTensorMapEncodeTiled");
#endif
  if (found != cudaDriverEntryPointSuccess) {
    throw Error(ErrorCode::unavailable, "the CUDA driver has no cuTensorMapEncodeTiled");
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

TensorMap map_of(const GroupedArgs& args, DType element) {
  static_assert(sizeof(CUtensorMap) == sizeof(TensorMap));
  const auto size = [](std::int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[3] = {size(args.depth), size(args.packed_columns),
                               size(args.grid.num_experts)};
  const cuuint64_t strides[2] = {size(args.depth * 2), size(args.packed_columns * args.depth * 2)};
  const cuuint32_t box[3] = {kTileDepth, WideShape::kColumns, 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status = encode_tiled()(
      &map,
      element == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      3, const_cast<std::byte*>(args.weights), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error(ErrorCode::unavailable, "cuTensorMapEncodeTiled failed with status " +
                                            std::to_string(static_cast<int>(status)));
  }
  TensorMap out;
  __builtin_memcpy(&out, &map, sizeof out);
  return out;
}

template <class T>
void launch_element(cuda::Gpu& gpu, const GpuConfig& config, const GroupedArgs& product) {
  const WideArgs args{map_of(product, DTypeOf<T>::value), product};
  const int shared = WideMemory::bytes(product.grid.num_experts);
  cuda::check(
      cudaFuncSetAttribute(wide_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
      "asking for shared memory");
  wide_kernel<T><<<static_cast<unsigned>(config.ctas), WideShape::kAllThreads,
                   static_cast<std::size_t>(shared), gpu.native().stream>>>(args);
  cuda::check(cudaGetLastError(), "launching a kernel");
}

#else

template <class T>
struct GroupedWgmma {
  static constexpr int kThreads = WideShape::kAllThreads;
  using Args = WideArgs;
  using Shared = std::byte;
  static void run(const Args& args, Shared& shared) { grouped_wgmma<T>(args, &shared); }
};

template <class T>
void launch_element(cuda::Gpu& gpu, const GpuConfig& config, const GroupedArgs& product) {
  const TensorMap weights{product.weights, product.depth, product.packed_columns,
                          product.grid.num_experts, WideShape::kColumns};
  cuda::launch<GroupedWgmma<T>>(gpu, config.ctas, {weights, product},
                                WideMemory::bytes(product.grid.num_experts));
}

#endif

}  // namespace

void launch_grouped_wgmma(cuda::Gpu& gpu, const GpuConfig& config, DType element,
                          const GroupedArgs& args) {
  if (element == DType::bf16) {
    launch_element<bf16>(gpu, config, args);
  } else {
    launch_element<f16>(gpu, config, args);
  }
}

}  // namespace switchyard::gemm
