#include <algorithm>

#include "cuda/device_layout.h"
#include "cuda/launch.h"
#include "plan/plan_cuda.h"
#include "plan/plan_device.h"

namespace switchyard::plan_cuda {

static_assert(kChunkTokens == cuda::kChunkTokens && kMaxExperts == kMaxDeviceExperts);

void plan_on_device(cuda::Gpu& gpu, const DeviceRouting& routing, const PlanOptions& options,
                    DevicePlan& plan) {
  const std::int64_t chunks = cuda::num_chunks(routing.num_tokens);
  const std::int64_t cells = chunks * routing.num_experts;
  const Assignments assignments{routing.num_tokens,  routing.num_experts,         routing.per_token,
                                routing.token_begin, routing.token_of_assignment, routing.expert,
                                routing.weight};
  cuda::DeviceScope scope(gpu);
  auto* base = scope.take<std::int32_t>(cells);
  auto* assigned = scope.take<std::int32_t>(routing.num_experts);
  const std::int32_t* count = routing.count_of_chunk;
  if (count == nullptr) {
    auto* counted = scope.take<std::int32_t>(cells);
    cuda::launch<CountKernel>(gpu, chunks, {assignments, counted});
    count = counted;
  }
  cuda::launch<ScanKernel>(gpu, cuda::ceil_div(routing.num_experts, simt::kWarp),
                           {count, chunks, routing.num_experts, base, assigned});
  const Spacing spacing{
      .may_drop = options.capacity_factor > 0,
      .capacity = plan.capacity,
      .fixed = options.layout == Layout::capacity,
      .block_rows = options.layout == Layout::block ? options.block_rows : 1,
  };
  cuda::launch<PlaceKernel>(gpu, std::max<std::int64_t>(1, chunks),
                            {assignments, base, assigned, spacing, options.renormalise,
                             plan.expert_begin, plan.expert_rows, plan.token_of_row,
                             plan.row_of_assignment, plan.weight_of_assignment, plan.token_begin});
}

}  // namespace switchyard::plan_cuda
