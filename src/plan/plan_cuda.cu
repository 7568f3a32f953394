#include <algorithm>

#include "cuda/device_layout.h"
#include "cuda/launch.h"
#include "plan/plan_cuda.h"
#include "plan/plan_device.h"
#include "plan/plan_drop_cuda.h"

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
  const std::int64_t blocks = std::max<std::int64_t>(1, chunks);
  PlaceKernel::Args place{.assignments = assignments,
                          .base_of_chunk = base,
                          .assigned = assigned,
                          .spacing = spacing,
                          .renormalise = options.renormalise,
                          .rank = nullptr,
                          .lists_assignments = false,
                          .expert_begin = plan.expert_begin,
                          .expert_rows = plan.expert_rows,
                          .token_of_row = plan.token_of_row,
                          .row_of_assignment = plan.row_of_assignment,
                          .weight_of_assignment = plan.weight_of_assignment,
                          .token_begin = plan.token_begin};
  if (spacing.may_drop && options.drop_policy == DropPolicy::probs) {
    PlaceKernel::Args list = place;
    list.spacing = {.may_drop = false, .capacity = 0, .fixed = false, .block_rows = 1};
    list.renormalise = false;
    list.lists_assignments = true;
    list.token_of_row = scope.take<std::int32_t>(routing.num_assignments);
    cuda::launch<PlaceKernel>(gpu, blocks, list);
    auto* rank = scope.take<std::int32_t>(routing.num_assignments);
    cuda::launch<KeepLargestKernel>(
        gpu, routing.num_experts,
        {plan.expert_begin, list.token_of_row, routing.weight, plan.capacity, rank});
    place.rank = rank;
  }
  cuda::launch<PlaceKernel>(gpu, blocks, place);
}

}  // namespace switchyard::plan_cuda
