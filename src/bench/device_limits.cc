#include "bench/device_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/philox.h"
#include "cuda/gpu.h"
#include "cuda/linear.h"
#include "cuda/read.h"
#include "switchyard/device.h"

namespace switchyard {
namespace {

constexpr std::int64_t kGatherColumns = 4096;  // of bf16: 8 KiB
constexpr int kSmallWorks = 200;
constexpr std::int64_t kSmallBytes = 4;

/// Seconds of the fastest of `repeats` runs; one more is thrown away before.
template <class Work>
double fastest(cuda::Gpu& gpu, int repeats, Work work) {
  cuda::Event begin(gpu), end(gpu);
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= repeats; ++i) {
    begin.record(gpu);
    work();
    end.record(gpu);
    const double ms = end.ms_since(begin);
    if (i > 0) best = std::min(best, ms);
  }
  return best * 1e-3;
}

double measure_gather(Context& context, const DeviceProbe& probe, std::byte* from, std::byte* to) {
  const std::int64_t row_bytes = 2 * kGatherColumns;
  const std::int64_t rows = std::max<std::int64_t>(1, probe.copy_bytes / row_bytes);
  DispatchPlan plan;
  plan.num_tokens = rows;
  plan.num_experts = 1;
  plan.expert_begin = {0, rows};
  plan.expert_rows = {rows};
  plan.token_begin.assign(static_cast<std::size_t>(rows) + 1, 0);
  const Philox random(17, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    plan.token_of_row.push_back(static_cast<std::int32_t>(
        random.word(static_cast<std::uint64_t>(r)) % static_cast<std::uint64_t>(rows)));
  }
  DevicePlan on_device;
  copy(context, plan, on_device);
  const ConstMatrixView x(from, DType::bf16, rows, kGatherColumns, kGatherColumns, Device::cuda);
  const MatrixView out{to, DType::bf16, rows, kGatherColumns, kGatherColumns, Device::cuda};
  const double seconds =
      fastest(cuda::gpu_of(context), probe.repeats, [&] { pack(context, on_device, x, out); });
  return static_cast<double>(2 * rows * row_bytes) / seconds;
}

double measure_product(Context& context, const DeviceProbe& probe, DType dtype) {
  const std::int64_t n = probe.product_size;
  const auto bytes = n * n * static_cast<std::int64_t>(size_of(dtype));
  DeviceBuffer x_memory, out_memory;
  const MatrixView x{x_memory.reserve(context, bytes), dtype, n, n, n, Device::cuda};
  const MatrixView out{out_memory.reserve(context, n * n * 4), DType::f32, n, n, n, Device::cuda};
  // Zeros would draw less power, and so clock higher, than values do.
  cuda::gpu_of(context).fill(x.data, 0x3c, bytes);
  cuda::Linear linear(context, x);
  const double seconds =
      fastest(cuda::gpu_of(context), probe.repeats, [&] { linear.run(context, x, out); });
  const auto size = static_cast<double>(n);
  return 2 * size * size * size / seconds;
}

}  // namespace

DeviceCeilings measure_device_ceilings(Context& context, const DeviceProbe& probe) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  DeviceCeilings ceilings;
  {
    DeviceBuffer from_memory, to_memory;
    std::byte* from = from_memory.reserve(context, probe.copy_bytes);
    std::byte* to = to_memory.reserve(context, probe.copy_bytes);
    gpu.fill(from, 0x3c, probe.copy_bytes);
    auto* sum = reinterpret_cast<std::int32_t*>(to);
    const double read_s =
        fastest(gpu, probe.repeats, [&] { cuda::read_all(gpu, from, probe.copy_bytes, sum); });
    ceilings.read_bw = static_cast<double>(probe.copy_bytes) / read_s;
    const double seconds =
        fastest(gpu, probe.repeats, [&] { gpu.copy(to, from, probe.copy_bytes); });
    ceilings.copy_bw = 2 * static_cast<double>(probe.copy_bytes) / seconds;
    ceilings.gather_bw = measure_gather(context, probe, from, to);
    const auto small_works = [&] {
      for (int i = 0; i < kSmallWorks; ++i) gpu.fill(to, i, kSmallBytes);
    };
    ceilings.launch_s = fastest(gpu, probe.repeats, small_works) / kSmallWorks;
    cuda::Graph graph(gpu, small_works);
    ceilings.graph_launch_s = fastest(gpu, probe.repeats, [&] { graph.launch(gpu); }) / kSmallWorks;
  }
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    ceilings.peak_flops[std::string(name_of(dtype))] = measure_product(context, probe, dtype);
  }
  return ceilings;
}

Ceilings ceilings_of(const DeviceCeilings& measured, std::string_view isa) {
  Ceilings ceilings;
  ceilings.read_bw = measured.read_bw;
  ceilings.copy_bw = measured.copy_bw;
  ceilings.gather_bw = measured.gather_bw;
  ceilings.launch_s = measured.launch_s;
  ceilings.graph_launch_s = measured.graph_launch_s;
  for (const auto& [dtype, peak] : measured.peak_flops) {
    ceilings.peak_flops[fmt::format("{}/{}", isa, dtype)] = peak;
  }
  return ceilings;
}

}  // namespace switchyard
