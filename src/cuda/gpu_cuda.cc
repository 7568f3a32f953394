#include <cuda_runtime_api.h>

#include <cstring>

#include "base/check.h"
#include "cuda/gpu.h"
#include "cuda/native_cuda.h"

namespace switchyard::cuda {
namespace {

constexpr int kOldestMajor = 8;

int attribute(cudaDeviceAttr what) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, 0), "reading a device attribute");
  return value;
}

GpuInfo read_info() {
  GpuInfo info;
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "reading the device's properties");
  info.name = properties.name;
  char pci_bus_id[32] = {};
  check(cudaDeviceGetPCIBusId(pci_bus_id, sizeof pci_bus_id, 0), "reading the device's bus");
  info.pci_bus_id = pci_bus_id;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  info.l2_bytes = properties.l2CacheSize;
  info.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  check(cudaDriverGetVersion(&info.driver), "reading the driver's version");
  check(cudaRuntimeGetVersion(&info.runtime), "reading the runtime's version");
  return info;
}

}  // namespace

void check(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) [[likely]]
    return;
  throw Error(
      status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::unavailable,
      fmt::format("CUDA failed at {}: {} ({})", doing, cudaGetErrorString(status),
                  cudaGetErrorName(status)));
}

Gpu::Native::~Native() {
  if (stream != nullptr) cudaStreamDestroy(stream);
}

Gpu::Gpu(std::unique_ptr<Native> native)
    : native_(std::move(native)), info_(read_info()), arena_(*this) {}
Gpu::~Gpu() { cudaStreamSynchronize(native_->stream); }

std::byte* Gpu::allocate(std::int64_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: later calls may succeed
    throw Error(ErrorCode::out_of_memory,
                fmt::format("{} has no {} bytes left", info_.name, bytes));
  }
  check(status, "allocating memory");
  return static_cast<std::byte*>(data);
}

void Gpu::free(std::byte* data) noexcept { cudaFree(data); }

std::int64_t Gpu::free_bytes() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return static_cast<std::int64_t>(free);
}

void Gpu::copy_to_device(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  // From pageable memory the call returns once the source has been staged.
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice,
                        native_->stream),
        "copying to the device");
}

void Gpu::copy_to_host(void* to, const void* from, std::int64_t bytes) {
  if (bytes > 0) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                          native_->stream),
          "copying to the host");
  }
  synchronize();
}

void Gpu::copy(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                        native_->stream),
        "copying on the device");
}

void Gpu::fill(void* to, int byte, std::int64_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(to, byte, static_cast<std::size_t>(bytes), native_->stream),
        "filling memory");
}

void Gpu::synchronize() { check(cudaStreamSynchronize(native_->stream), "waiting for the device"); }

struct Event::Native {
  ~Native() {
    if (event != nullptr) cudaEventDestroy(event);
  }
  cudaEvent_t event = nullptr;
};

Event::Event(Gpu&) : native_(std::make_unique<Native>()) {
  check(cudaEventCreate(&native_->event), "making an event");
}
Event::~Event() = default;
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;

void Event::record(Gpu& gpu) {
  check(cudaEventRecord(native_->event, gpu.native().stream), "recording an event");
}

double Event::ms_since(const Event& earlier) const {
  check(cudaEventSynchronize(native_->event), "waiting for an event");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, earlier.native_->event, native_->event), "reading a time");
  return ms;
}

struct Graph::Native {
  ~Native() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
};

Graph::Graph(Gpu& gpu, const std::function<void()>& work) : native_(std::make_unique<Native>()) {
  const cudaStream_t stream = gpu.native().stream;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "beginning a capture");
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &native_->graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &native_->graph), "ending a capture");
  check(cudaGraphInstantiate(&native_->executable, native_->graph, 0), "making a graph");
}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

void Graph::launch(Gpu& gpu) {
  check(cudaGraphLaunch(native_->executable, gpu.native().stream), "launching a graph");
}

std::shared_ptr<Gpu> open_gpu() {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    throw Error(ErrorCode::unavailable,
                "device cuda is not available: this machine has no NVIDIA driver");
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    throw Error(ErrorCode::unavailable,
                fmt::format("device cuda is not available: {}",
                            status == cudaSuccess || status == cudaErrorNoDevice
                                ? "this machine has no CUDA device"
                                : cudaGetErrorString(status)));
  }
  if (const int major = attribute(cudaDevAttrComputeCapabilityMajor); major < kOldestMajor) {
    throw Error(ErrorCode::unavailable,
                fmt::format("device cuda is not available: its compute capability is {}.{}, "
                            "expected at least {}.0",
                            major, attribute(cudaDevAttrComputeCapabilityMinor), kOldestMajor));
  }
  check(cudaSetDevice(0), "choosing the device");
  auto native = std::make_unique<Gpu::Native>();
  check(cudaStreamCreateWithFlags(&native->stream, cudaStreamNonBlocking), "making a stream");
  return std::make_shared<Gpu>(std::move(native));
}

bool is_emulated() noexcept { return false; }

std::shared_ptr<Gpu> emulated_gpu() {
  throw Error(ErrorCode::unavailable, "this build has CUDA: it emulates no device");
}

}  // namespace switchyard::cuda
