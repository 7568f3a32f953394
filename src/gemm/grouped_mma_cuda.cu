#include "cuda/launch.h"
#include "gemm/gpu_kernels.h"
#include "gemm/grouped_mma.h"

namespace switchyard::gemm {
namespace {

template <class T, class Shape>
struct GroupedMma {
  static constexpr int kThreads = Shape::kThreads;
  using Columns = DenseColumns<T, Shape>;
  using Memory = MmaMemory<Shape, Columns>;
  using Args = GroupedArgs;
  using Shared = std::byte;
  static SWITCHYARD_DEVICE void run(const Args& args, Shared& shared) {
    grouped_mma<T, Shape, Columns>(args, &shared);
  }
};

template <class T, class Shape>
void launch_shape(cuda::Gpu& gpu, const GpuConfig& config, const GroupedArgs& args) {
  using Kernel = GroupedMma<T, Shape>;
  cuda::launch<Kernel>(gpu, config.ctas, args, Kernel::Memory::bytes(args.grid.num_experts));
}

template <class T>
void launch_element(cuda::Gpu& gpu, const GpuConfig& config, const GroupedArgs& args) {
  switch (config.tile) {
    case GpuTile::few: return launch_shape<T, FewShape>(gpu, config, args);
    case GpuTile::some: return launch_shape<T, SomeShape>(gpu, config, args);
    case GpuTile::many:
    case GpuTile::wide: return launch_shape<T, ManyShape>(gpu, config, args);
  }
}

}  // namespace

void launch_grouped_mma(cuda::Gpu& gpu, const GpuConfig& config, DType element,
                        const GroupedArgs& args) {
  if (element == DType::bf16) {
    launch_element<bf16>(gpu, config, args);
  } else {
    launch_element<f16>(gpu, config, args);
  }
}

}  // namespace switchyard::gemm
