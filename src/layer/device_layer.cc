#include "layer/device_layer.h"

#include <numeric>
#include <optional>
#include <vector>

#include "base/check.h"
#include "cuda/gpu.h"
#include "layer/device_router.h"
#include "layer/device_rows.h"
#include "routing/route_device.h"

namespace switchyard {
namespace {

/// Marks the ends of stages in the stream, where anybody asked; reads them when all is done.
class StageEvents {
 public:
  StageEvents(cuda::Gpu& gpu, StageTimes* times) : gpu_(gpu), times_(times) {
    if (times_ == nullptr) return;
    *times_ = {};
    mark(nullptr);
  }

  void end_of(double StageTimes::*stage) {
    if (times_ != nullptr) mark(stage);
  }

  void read() {
    for (std::size_t i = 1; i < marks_.size(); ++i) {
      times_->*marks_[i].stage += marks_[i].event.ms_since(marks_[i - 1].event);
    }
  }

 private:
  struct Mark {
    double StageTimes::*stage;
    cuda::Event event;
  };

  void mark(double StageTimes::*stage) {
    marks_.push_back({stage, cuda::Event(gpu_)});
    marks_.back().event.record(gpu_);
  }

  cuda::Gpu& gpu_;
  StageTimes* times_;
  std::vector<Mark> marks_;
};

}  // namespace

struct DeviceLayer::Impl {
  Impl(Context& context, const LayerConfig& layer_config, const LayerWeights& weights,
       std::shared_ptr<Experts> prepacked)
      : config(layer_config),
        num_experts(weights.experts.up.count),
        hidden(weights.experts.up.cols),
        experts(std::move(prepacked)),
        router(context, weights.router, layer_config.dtype) {
    if (!weights.bias.empty()) {
      const auto bytes = static_cast<std::int64_t>(weights.bias.size_bytes());
      cuda::Gpu& gpu = cuda::gpu_of(context);
      gpu.copy_to_device(bias_memory.reserve(context, bytes), weights.bias.data(), bytes);
      gpu.synchronize();
      bias = {reinterpret_cast<const float*>(bias_memory.data()), weights.bias.size()};
    }
    if (weights.router_noise.data != nullptr) {
      router_noise.emplace(context, "router_noise", weights.router_noise, config.dtype);
    }
    if (weights.shared.up.data == nullptr) return;
    shared = make_experts(context, config.implementation, weights.shared, config.dtype);
    if (weights.shared_gate.data != nullptr) {
      shared_gate.emplace(context, "shared_gate", weights.shared_gate, config.dtype);
    }
  }

  MatrixView take(cuda::DeviceScope& scope, std::int64_t rows) const {
    const auto bytes = rows * hidden * static_cast<std::int64_t>(size_of(config.dtype));
    return {scope.take<std::byte>(bytes), config.dtype, rows, hidden, hidden, Device::cuda};
  }

  void route_tokens(Context& context, ConstMatrixView x, StageEvents& events) {
    cuda::DeviceScope scope(cuda::gpu_of(context));
    const auto per_expert = [&] {
      MatrixView view = matrix(scope.take<float>(x.rows * num_experts), x.rows, num_experts);
      view.device = Device::cuda;
      return view;
    };
    const MatrixView logits = per_expert();
    router.run(context, x, logits);
    RouterInput input{logits, bias, {}};
    if (router_noise.has_value()) {
      const MatrixView noise = per_expert();
      router_noise->run(context, x, noise);
      input.noise_logits = noise;
    }
    events.end_of(&StageTimes::logits);
    route(context, config.strategy, input, config.router, routing);
    events.end_of(&StageTimes::select);
  }

  void dispatch(Context& context, ConstMatrixView x, MatrixView out, StageEvents& events) {
    make_plan(context, routing, config.plan, plan);
    events.end_of(&StageTimes::plan);
    cuda::DeviceScope scope(cuda::gpu_of(context));
    ConstMatrixView rows = x;
    if (plan.layout != Layout::fused) {
      const MatrixView packed = take(scope, plan.max_rows);
      pack(context, plan, x, packed);
      rows = packed;
    }
    events.end_of(&StageTimes::pack);
    const MatrixView expert_rows = take(scope, plan.max_rows);
    experts->forward(context, plan, rows, expert_rows);
    events.end_of(&StageTimes::experts);
    combine(context, plan, expert_rows, out);
    events.end_of(&StageTimes::combine);
    if (shared != nullptr) add_shared(context, x, out);
    events.end_of(&StageTimes::shared);
  }

  /// out += sigmoid(x . shared_gate) * shared(x): every token to the one expert, with the gates as
  /// weights. The plan is made when T changes.
  void add_shared(Context& context, ConstMatrixView x, MatrixView out) {
    if (shared_plan.num_experts != 1 || shared_plan.num_tokens != x.rows) {
      const auto count = static_cast<std::size_t>(x.rows);
      DispatchPlan all;
      all.num_tokens = x.rows;
      all.num_experts = 1;
      all.expert_begin = {0, x.rows};
      all.expert_rows = {x.rows};
      all.token_of_row.resize(count);
      std::iota(all.token_of_row.begin(), all.token_of_row.end(), 0);
      all.row_of_assignment = all.token_of_row;
      all.weight_of_assignment.assign(count, 1.0f);
      all.token_begin.resize(count + 1);
      std::iota(all.token_begin.begin(), all.token_begin.end(), std::int64_t{0});
      copy(context, all, shared_plan);
    }
    cuda::DeviceScope scope(cuda::gpu_of(context));
    if (shared_gate.has_value()) {
      MatrixView gates = matrix(shared_plan.weight_of_assignment, x.rows, 1);
      gates.device = Device::cuda;
      shared_gate->run(context, x, gates);
      sigmoid_elements(cuda::gpu_of(context), shared_plan.weight_of_assignment, x.rows);
    }
    const MatrixView rows = take(scope, x.rows);
    shared->forward(context, shared_plan, x, rows);
    combine(context, shared_plan, rows, out, true);
  }

  LayerConfig config;
  std::int64_t num_experts, hidden;
  std::shared_ptr<Experts> experts, shared;
  DeviceRouter router;
  std::optional<TokenProduct> router_noise, shared_gate;
  DeviceBuffer bias_memory;
  std::span<const float> bias;
  DeviceRouting routing;
  DevicePlan plan, shared_plan;
  Routing host_routing;
  DispatchPlan host_plan;
};

DeviceLayer::DeviceLayer(Context& context, const LayerConfig& config, const LayerWeights& weights,
                         std::shared_ptr<Experts> experts) {
  require_routes_on_device(config.strategy);
  impl_ = std::make_unique<Impl>(context, config, weights, std::move(experts));
}
DeviceLayer::~DeviceLayer() = default;

void DeviceLayer::forward(Context& context, ConstMatrixView x, MatrixView out, StageTimes* times) {
  StageEvents events(cuda::gpu_of(context), times);
  impl_->route_tokens(context, x, events);
  impl_->dispatch(context, x, out, events);
  events.read();
}

void DeviceLayer::forward(Context& context, ConstMatrixView x, const Routing& routing,
                          MatrixView out, StageTimes* times) {
  copy(context, routing, impl_->routing);
  StageEvents events(cuda::gpu_of(context), times);
  impl_->dispatch(context, x, out, events);
  events.read();
}

void DeviceLayer::fetch(Context& context) {
  copy(context, impl_->routing, impl_->host_routing);
  copy(context, impl_->plan, impl_->host_plan);
}

const Routing& DeviceLayer::routing() const noexcept { return impl_->host_routing; }
const DispatchPlan& DeviceLayer::plan() const noexcept { return impl_->host_plan; }
const Experts& DeviceLayer::experts() const noexcept { return *impl_->experts; }

}  // namespace switchyard
