#include "bench/work.h"

#include <string>

#include "bench/router_inputs.h"

namespace switchyard {
namespace {

double router_elements(const Cell& cell) {
  const auto hidden = static_cast<double>(cell.hidden), experts = static_cast<double>(cell.experts);
  const auto width = static_cast<double>(router_width(cell));
  switch (cell.router_arch) {
    case RouterArch::linear: return hidden * experts;
    case RouterArch::mlp: return hidden * width + width * experts;
    case RouterArch::mlp_hadamard: return 2 * hidden * width + hidden * experts;
  }
  return 0;
}

}  // namespace

double strict_bytes_per_token(const Cell& cell, const Plans& plans) {
  const double assignments =
      plans.mean([](const DispatchPlan& plan) { return plan.row_of_assignment.size(); });
  return (2 + 2 * assignments / static_cast<double>(cell.tokens)) *
         static_cast<double>(cell.hidden) * static_cast<double>(size_of(cell.dtype));
}

double packed_bytes(const Cell& cell, const Plans& plans) {
  return plans.mean([&](const DispatchPlan& plan) { return kept_tokens(plan) + plan.num_rows(); }) *
         static_cast<double>(cell.hidden) * static_cast<double>(size_of(cell.dtype));
}

double combined_bytes(const Cell& cell, const Plans& plans) {
  return plans.mean(
             [&](const DispatchPlan& plan) { return kept_assignments(plan) + plan.num_tokens; }) *
         static_cast<double>(cell.hidden) * static_cast<double>(size_of(cell.dtype));
}

double written_bytes(const Cell& cell, const Plans& plans) {
  return plans.mean([&](const DispatchPlan& plan) { return plan.num_rows(); }) *
         static_cast<double>(cell.hidden) * static_cast<double>(size_of(cell.dtype));
}

double logits_bytes(const Cell& cell) {
  return static_cast<double>(cell.tokens) * cell.experts * sizeof(float);
}

double selection_bytes(double assignments) {
  return assignments * (sizeof(std::int32_t) + sizeof(float));
}

double mean_assignments(const Draws& draws) {
  double sum = 0;
  for (std::int64_t d = 0; d < draws.count(); ++d) {
    sum += static_cast<double>(draws.routing(d).num_assignments());
  }
  return sum / static_cast<double>(draws.count());
}

double router_flops(const Cell& cell) {
  return 2.0 * static_cast<double>(cell.tokens) * router_elements(cell);
}

double router_bytes(const Cell& cell) {
  return router_elements(cell) * static_cast<double>(size_of(cell.dtype));
}

Limit bandwidth_limit(double bytes, double bandwidth) noexcept {
  return limit_of(0, 0, bytes, bandwidth);
}

Limit rows_limit(double bytes, double written, const Ceilings& ceilings) noexcept {
  const Limit moved = bandwidth_limit(bytes, ceilings.rows_bw());
  const Limit stored = bandwidth_limit(written, ceilings.write_bw);
  return moved.ms() > stored.ms() ? moved : stored;
}

double peak_of(const Ceilings& ceilings, std::string_view isa) {
  return ceilings.peak(isa, isa.ends_with("bf16") ? "bf16" : "f32").value_or(0);
}

double peak_of(const Ceilings& ceilings, std::string_view isa, const WeightFormat& weights) {
  const bool is_split = !weights.quant && weights.dtype == DType::f32 && isa.starts_with("amx");
  if (is_split) return ceilings.peak(isa, "f32").value_or(0);
  if (!weights.quant) return peak_of(ceilings, isa);
  return ceilings.peak(isa, "int8").value_or(0);
}

void add_limit(Record& record, const Limit& limit) {
  if (!(limit.ms() > 0)) return;
  record["limit_ms"] = limit.ms();
  record["limit_kind"] = limit.kind();
  if (limit.compute_ms > 0) record["compute_limit_ms"] = limit.compute_ms;
  if (limit.memory_ms > 0) record["memory_limit_ms"] = limit.memory_ms;
}

}  // namespace switchyard
