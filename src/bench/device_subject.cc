#include "bench/device_subject.h"

#include <algorithm>
#include <utility>

#include "bench/device_state.h"

namespace switchyard {

DeviceMatrix::DeviceMatrix(Context& context, DType dtype, std::int64_t rows, std::int64_t cols) {
  const std::int64_t bytes = rows * cols * static_cast<std::int64_t>(size_of(dtype));
  view_ = {memory_.reserve(context, std::max<std::int64_t>(1, bytes)),
           dtype,
           rows,
           cols,
           cols,
           Device::cuda};
}

DeviceMatrix::DeviceMatrix(Context& context, ConstMatrixView from)
    : DeviceMatrix(context, from.dtype, from.rows, from.cols) {
  copy(context, from, view_);
}

void DeviceMatrix::poison(Context& context) const {
  cuda::gpu_of(context).fill(memory_.data(), 0xff, memory_.bytes());
}

Matrix DeviceMatrix::fetch(Context& context, std::int64_t rows) const {
  Matrix out(view_.dtype, rows, view_.cols);
  MatrixView first = view_;
  first.rows = rows;
  copy(context, first, out.view());
  return out;
}

void DeviceSubject::set_parts(std::vector<Part> parts, bool is_captured) {
  parts_ = std::move(parts);
  is_captured_ = is_captured;
  graph_of_draw_.resize(static_cast<std::size_t>(draws_.count()));
  for (std::size_t i = 0; i <= parts_.size(); ++i) marks_.emplace_back(cuda::gpu_of(context_));
}

void DeviceSubject::work() {
  for (const Part& part : parts_) part.work(draw_);
}

void DeviceSubject::submit() {
  auto& graph = graph_of_draw_[static_cast<std::size_t>(draw_)];
  if (graph) {
    graph->launch(cuda::gpu_of(context_));
  } else {
    work();
  }
}

void DeviceSubject::prepare(std::int64_t i) {
  draw_ = draws_.wrap(i);
  auto& graph = graph_of_draw_[static_cast<std::size_t>(draw_)];
  if (is_captured_ && !graph) {
    work();  // brings its memory, which a capture may not
    graph.emplace(cuda::gpu_of(context_), [this] { work(); });
  }
  submit();
}

void DeviceSubject::run() {
  marks_.front().record(cuda::gpu_of(context_));
  submit();
  marks_.back().record(cuda::gpu_of(context_));
  ms_ = marks_.back().ms_since(marks_.front());
}

void DeviceSubject::run_stages() {
  marks_[0].record(cuda::gpu_of(context_));
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].work(draw_);
    marks_[i + 1].record(cuda::gpu_of(context_));
  }
  ms_ = marks_.back().ms_since(marks_.front());
  stages_.clear();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    stages_.push_back({parts_[i].field, marks_[i + 1].ms_since(marks_[i])});
  }
}

void DeviceSubject::describe_device(Record& record, const Ceilings& ceilings) const {
  record["isa"] = isa_of(cuda::gpu_of(context_).info());
  record["graph"] = is_captured_;
  const double launch_s = is_captured_ ? ceilings.graph_launch_s : ceilings.launch_s;
  if (launch_s > 0) record["launch_us"] = 1e6 * launch_s;
}

std::vector<DeviceMatrix> device_logits(Context& context, const Draws& draws) {
  std::vector<DeviceMatrix> logits;
  for (std::int64_t d = 0; d < draws.count(); ++d) logits.emplace_back(context, draws.logits(d));
  return logits;
}

std::vector<DeviceRouting> device_routings(Context& context, const Draws& draws) {
  std::vector<DeviceRouting> routings(static_cast<std::size_t>(draws.count()));
  for (std::size_t d = 0; d < routings.size(); ++d) {
    copy(context, draws.routing(static_cast<std::int64_t>(d)), routings[d]);
  }
  return routings;
}

std::vector<DevicePlan> device_plans(Context& context, const Plans& plans) {
  std::vector<DevicePlan> out(plans.of_draw.size());
  for (std::size_t d = 0; d < out.size(); ++d) copy(context, plans.of_draw[d], out[d]);
  return out;
}

std::vector<DevicePlan> make_device_plans(Context& context,
                                          const std::vector<DeviceRouting>& routings,
                                          const PlanOptions& options) {
  std::vector<DevicePlan> plans(routings.size());
  for (std::size_t d = 0; d < plans.size(); ++d) {
    make_plan(context, routings[d], options, plans[d]);
  }
  return plans;
}

std::int64_t max_rows(const std::vector<DevicePlan>& plans) noexcept {
  std::int64_t rows = 0;
  for (const DevicePlan& plan : plans) rows = std::max(rows, plan.max_rows);
  return rows;
}

bool device_experts_are_captured(const Cell& cell) noexcept { return cell.impl == "grouped"; }

double device_peak(Context& context, const Ceilings& ceilings, DType dtype) {
  return ceilings.peak(isa_of(cuda::gpu_of(context).info()), name_of(dtype)).value_or(0);
}

}  // namespace switchyard
