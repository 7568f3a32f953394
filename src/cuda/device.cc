#include "switchyard/device.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/context.h"
#include "cuda/device_layout.h"
#include "cuda/gpu.h"

namespace switchyard {
namespace {

template <class T>
std::int64_t bytes_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(T));
}

template <class T>
void upload(cuda::Gpu& gpu, T* to, const std::vector<T>& from) {
  gpu.copy_to_device(to, from.data(), bytes_of<T>(std::ssize(from)));
}

template <class T>
void download(cuda::Gpu& gpu, std::vector<T>& to, const T* from, std::int64_t count) {
  to.resize(static_cast<std::size_t>(count));
  gpu.copy_to_host(to.data(), from, bytes_of<T>(count));
}

}  // namespace

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : gpu_(std::move(other.gpu_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this == &other) return *this;
  release();
  gpu_ = std::move(other.gpu_);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

std::byte* DeviceBuffer::reserve(Context& context, std::int64_t bytes) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  if (bytes <= bytes_ && gpu_.get() == &gpu) return data_;
  release();
  data_ = gpu.allocate(bytes);
  bytes_ = bytes;
  gpu_ = context.impl().gpu;
  return data_;
}

void DeviceBuffer::release() noexcept {
  if (data_ != nullptr) gpu_->free(data_);
  data_ = nullptr;
  bytes_ = 0;
}

void copy(Context& context, ConstMatrixView from, MatrixView to) {
  require_shape("from", from, from.rows, from.cols, from.device);
  require_shape("to", to, from.rows, from.cols, to.device);
  require(from.dtype == to.dtype, "to is {}: expected {} as from", name_of(to.dtype),
          name_of(from.dtype));
  const auto element = static_cast<std::int64_t>(size_of(from.dtype));
  const bool dense = (from.row_stride == from.cols && to.row_stride == to.cols) || from.rows <= 1;
  const std::int64_t rows = dense ? 1 : from.rows;
  const std::int64_t bytes = from.cols * element * (dense ? from.rows : 1);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (from.device == Device::cpu && to.device == Device::cpu) {
      if (bytes > 0) std::memcpy(to.row(i), from.row(i), static_cast<std::size_t>(bytes));
    } else if (from.device == Device::cpu) {
      cuda::gpu_of(context).copy_to_device(to.row(i), from.row(i), bytes);
    } else if (to.device == Device::cpu) {
      cuda::gpu_of(context).copy_to_host(to.row(i), from.row(i), bytes);
    } else {
      cuda::gpu_of(context).copy(to.row(i), from.row(i), bytes);
    }
  }
  if (from.device != to.device) synchronize(context);
}

void synchronize(Context& context) {
  if (context.device() == Device::cuda) cuda::gpu_of(context).synchronize();
}

void cuda::shape_routing(Context& context, std::int64_t num_tokens, int num_experts,
                         std::int64_t num_assignments, int per_token, DeviceRouting& routing) {
  routing.num_tokens = num_tokens;
  routing.num_experts = num_experts;
  routing.num_assignments = num_assignments;
  routing.per_token = per_token;
  const std::int64_t chunks = num_chunks(num_tokens);
  Pieces pieces;
  const auto begin = pieces.add<std::int64_t>(num_tokens + 1);
  const auto token = pieces.add<std::int32_t>(per_token > 0 ? 0 : num_assignments);
  const auto expert = pieces.add<std::int32_t>(num_assignments);
  const auto weight = pieces.add<float>(num_assignments);
  const auto bad = pieces.add<std::int32_t>(chunks);
  const auto count = pieces.add<std::int32_t>(per_token > 0 ? chunks * num_experts : 0);
  std::byte* data = routing.memory.reserve(context, pieces.bytes());
  routing.token_begin = at<std::int64_t>(data, begin);
  routing.token_of_assignment = per_token > 0 ? nullptr : at<std::int32_t>(data, token);
  routing.expert = at<std::int32_t>(data, expert);
  routing.weight = at<float>(data, weight);
  routing.bad_token_of_chunk = at<std::int32_t>(data, bad);
  routing.count_of_chunk = per_token > 0 ? at<std::int32_t>(data, count) : nullptr;
}

void cuda::shape_plan(Context& context, std::int64_t num_tokens, int num_experts,
                      std::int64_t num_assignments, std::int64_t max_rows, DevicePlan& plan) {
  plan.num_tokens = num_tokens;
  plan.num_experts = num_experts;
  plan.num_assignments = num_assignments;
  plan.max_rows = max_rows;
  Pieces pieces;
  const auto expert_begin = pieces.add<std::int64_t>(num_experts + 1);
  const auto expert_rows = pieces.add<std::int64_t>(num_experts);
  const auto token_of_row = pieces.add<std::int32_t>(max_rows);
  const auto row = pieces.add<std::int32_t>(num_assignments);
  const auto weight = pieces.add<float>(num_assignments);
  const auto token_begin = pieces.add<std::int64_t>(num_tokens + 1);
  std::byte* data = plan.memory.reserve(context, pieces.bytes());
  plan.expert_begin = at<std::int64_t>(data, expert_begin);
  plan.expert_rows = at<std::int64_t>(data, expert_rows);
  plan.token_of_row = at<std::int32_t>(data, token_of_row);
  plan.row_of_assignment = at<std::int32_t>(data, row);
  plan.weight_of_assignment = at<float>(data, weight);
  plan.token_begin = at<std::int64_t>(data, token_begin);
}

void copy(Context& context, const Routing& from, DeviceRouting& to) {
  validate(from);
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const std::int64_t tokens = from.num_tokens, assignments = from.num_assignments();
  const std::int64_t most = tokens > 0 ? assignments / tokens : 0;
  bool even = most > 0;
  for (std::size_t t = 0; even && t < static_cast<std::size_t>(tokens); ++t) {
    even = from.token_begin[t + 1] - from.token_begin[t] == most;
  }
  cuda::shape_routing(context, tokens, from.num_experts, assignments,
                      even ? static_cast<int>(most) : 0, to);
  upload(gpu, const_cast<std::int64_t*>(to.token_begin), from.token_begin);
  upload(gpu, to.expert, from.expert);
  upload(gpu, to.weight, from.weight);
  if (!even) {
    std::vector<std::int32_t> token(static_cast<std::size_t>(assignments));
    for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
      std::fill(token.begin() + from.token_begin[t], token.begin() + from.token_begin[t + 1],
                static_cast<std::int32_t>(t));
    }
    upload(gpu, const_cast<std::int32_t*>(to.token_of_assignment), token);
  }
  to.bad_token_of_chunk = to.count_of_chunk = nullptr;  // nobody has looked
  gpu.synchronize();
}

void copy(Context& context, const DeviceRouting& from, Routing& to) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  if (from.bad_token_of_chunk != nullptr) {
    std::vector<std::int32_t> bad;
    download(gpu, bad, from.bad_token_of_chunk, cuda::num_chunks(from.num_tokens));
    for (const std::int32_t token : bad) {
      require(
          token < 0,
          "the logits of token {} hold a NaN or nothing above -inf, or its noise_logits are not "
          "finite: expected a largest logit and finite noise",
          token);
    }
  }
  to.num_tokens = from.num_tokens;
  to.num_experts = from.num_experts;
  download(gpu, to.token_begin, from.token_begin, from.num_tokens + 1);
  download(gpu, to.expert, from.expert, from.num_assignments);
  download(gpu, to.weight, from.weight, from.num_assignments);
}

void copy(Context& context, const DispatchPlan& from, DevicePlan& to) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  to.layout = from.layout;
  to.capacity = from.capacity;
  cuda::shape_plan(context, from.num_tokens, from.num_experts, std::ssize(from.row_of_assignment),
                   from.num_rows(), to);
  upload(gpu, to.expert_begin, from.expert_begin);
  upload(gpu, to.expert_rows, from.expert_rows);
  upload(gpu, to.token_of_row, from.token_of_row);
  upload(gpu, to.row_of_assignment, from.row_of_assignment);
  upload(gpu, to.weight_of_assignment, from.weight_of_assignment);
  upload(gpu, to.token_begin, from.token_begin);
  gpu.synchronize();
}

void copy(Context& context, const DevicePlan& from, DispatchPlan& to) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  to.layout = from.layout;
  to.num_tokens = from.num_tokens;
  to.num_experts = from.num_experts;
  to.capacity = from.capacity;
  download(gpu, to.expert_begin, from.expert_begin, from.num_experts + 1);
  download(gpu, to.expert_rows, from.expert_rows, from.num_experts);
  download(gpu, to.token_of_row, from.token_of_row, to.expert_begin.back());
  download(gpu, to.row_of_assignment, from.row_of_assignment, from.num_assignments);
  download(gpu, to.weight_of_assignment, from.weight_of_assignment, from.num_assignments);
  download(gpu, to.token_begin, from.token_begin, from.num_tokens + 1);
}

}  // namespace switchyard
