#include <chrono>
#include <cstring>

#include "base/check.h"
#include "cuda/gpu.h"
#include "cuda/native_emulated.h"

namespace switchyard::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // as cudaMalloc gives

GpuInfo emulated_info() {
  GpuInfo info;
  info.name = "emulated";
  info.major = 8;
  info.multiprocessors = 4;
  info.memory_bytes = std::int64_t{1} << 32;
  info.l2_bytes = 1 << 20;
  info.shared_bytes_per_block = 163 * 1024;  // sm_80
  return info;
}

}  // namespace

Gpu::Gpu(std::unique_ptr<Native> native)
    : native_(std::move(native)), info_(emulated_info()), arena_(*this) {}
Gpu::~Gpu() = default;

std::byte* Gpu::allocate(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  auto* data = static_cast<std::byte*>(operator new (size, std::align_val_t{kAlignment}));
  std::memset(data, 0xff, size);  // poison: NaN, -1
  return data;
}

void Gpu::free(std::byte* data) noexcept { operator delete (data, std::align_val_t{kAlignment}); }

std::int64_t Gpu::free_bytes() { return info_.memory_bytes; }

void Gpu::copy_to_device(void* to, const void* from, std::int64_t bytes) { copy(to, from, bytes); }

void Gpu::copy_to_host(void* to, const void* from, std::int64_t bytes) {
  require(native_->recording == nullptr, "a capture waits for the device");
  copy(to, from, bytes);
}

void Gpu::copy(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  native_->submit([=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); });
}

void Gpu::fill(void* to, int byte, std::int64_t bytes) {
  if (bytes == 0) return;
  native_->submit([=] { std::memset(to, byte, static_cast<std::size_t>(bytes)); });
}

void Gpu::synchronize() {
  require(native_->recording == nullptr, "a capture waits for the device");
}

struct Event::Native {
  std::chrono::steady_clock::time_point at;
};

Event::Event(Gpu&) : native_(std::make_unique<Native>()) {}
Event::~Event() = default;
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;

void Event::record(Gpu&) { native_->at = std::chrono::steady_clock::now(); }

double Event::ms_since(const Event& earlier) const {
  return std::chrono::duration<double, std::milli>(native_->at - earlier.native_->at).count();
}

struct Graph::Native {
  std::vector<Work> works;
};

Graph::Graph(Gpu& gpu, const std::function<void()>& work) : native_(std::make_unique<Native>()) {
  struct Recording {
    explicit Recording(Gpu& gpu, std::vector<Work>* works) : native(gpu.native()) {
      native.recording = works;
    }
    ~Recording() { native.recording = nullptr; }
    Gpu::Native& native;
  } recording(gpu, &native_->works);
  work();
}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

void Graph::launch(Gpu& gpu) {
  for (const Work& work : native_->works) gpu.native().submit(work);
}

std::shared_ptr<Gpu> open_gpu() {
  throw Error(ErrorCode::unavailable, "device cuda is not available: this build has no CUDA");
}

bool is_emulated() noexcept { return true; }

std::shared_ptr<Gpu> emulated_gpu() {
  return std::make_shared<Gpu>(std::make_unique<Gpu::Native>());
}

}  // namespace switchyard::cuda
