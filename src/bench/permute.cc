#include "bench/permute.h"

#include "bench/stopwatch.h"
#include "pack/pack_impl.h"
#include "plan/plan_impl.h"

namespace switchyard {

std::vector<std::string_view> permute_implementations() {
  const auto plans = plan_implementations();
  std::vector<std::string_view> names(plans.begin(), plans.end());
  names.emplace_back("fused");
  return names;
}

PermuteTimes permute(std::string_view implementation, Context& context, const Routing& routing,
                     const PlanOptions& options, ConstMatrixView x, DispatchPlan& plan,
                     MatrixView rows) {
  Stopwatch watch;
  PermuteTimes times;
  if (permute_plans_first(implementation)) {
    make_plan_with(implementation, context, routing, options, plan);
    times.plan_ms = watch.lap_ms();
    rows.rows = plan.num_rows();
    pack(context, plan, x, rows);
  } else {
    const TokenPacker packer(context, x, rows);
    make_plan_and(context, routing, options, plan,
                  [&](std::int64_t begin, std::int64_t end) { packer.pack(plan, begin, end); });
    packer.clear_padding(context, plan);
  }
  times.pack_ms = watch.lap_ms();
  return times;
}

bool permute_plans_first(std::string_view implementation) noexcept {
  return implementation != "fused";
}

}  // namespace switchyard
