#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "switchyard/context.h"

// A CUDA device as the rest of the library sees it, without CUDA's headers. A build with the CUDA
// toolkit makes it of the runtime (gpu_cuda.cc), a build without of the emulator of kernels
// (gpu_emulated.cc), which tests reach with emulated_gpu() and users never.

namespace switchyard::cuda {

struct GpuInfo {
  std::string name;
  std::string pci_bus_id;    ///< "00000000:18:00.0"; empty where emulated
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t l2_bytes = 0;
  std::int64_t shared_bytes_per_block = 0;  ///< the most a kernel may opt into
  int driver = 0, runtime = 0;              ///< CUDA versions, 12040 for 12.4
};

/// Scratch on the device, taken piece by piece and given back whole. What was taken once stays
/// allocated at its address until the end, so that a graph may hold on to it.
class DeviceArena {
 public:
  explicit DeviceArena(class Gpu& gpu) : gpu_(gpu) {}
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

 private:
  friend class DeviceScope;
  struct Block {
    std::byte* data;
    std::int64_t bytes;
  };
  std::byte* take(std::int64_t bytes);

  Gpu& gpu_;
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  ///< where the next piece comes from
  std::int64_t used_ = 0;  ///< of that block
};

/// One device, one stream on it and scratch. Everything below is done in the order of the stream;
/// what does not say that it waits returns before it is done.
/// Every function throws Error(unavailable) with CUDA's reason when CUDA fails.
class Gpu {
 public:
  struct Native;
  explicit Gpu(std::unique_ptr<Native> native);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const GpuInfo& info() const noexcept { return info_; }
  Native& native() noexcept { return *native_; }
  DeviceArena& arena() noexcept { return arena_; }

  /// Memory of the device. Throws Error(out_of_memory) naming the bytes. Both wait for the device.
  std::byte* allocate(std::int64_t bytes);
  void free(std::byte* data) noexcept;
  std::int64_t free_bytes();

  void copy_to_device(void* to, const void* from, std::int64_t bytes);  ///< `from` may be reused
  void copy_to_host(void* to, const void* from, std::int64_t bytes);    ///< waits
  void copy(void* to, const void* from, std::int64_t bytes);            ///< device to device
  void fill(void* to, int byte, std::int64_t bytes);
  void synchronize();  ///< waits; throws what a kernel did wrong

 private:
  std::unique_ptr<Native> native_;
  GpuInfo info_;
  DeviceArena arena_;
};

/// Scratch until the end of the scope; scopes nest.
class DeviceScope {
 public:
  explicit DeviceScope(Gpu& gpu) noexcept
      : arena_(gpu.arena()), block_(arena_.block_), used_(arena_.used_) {}
  ~DeviceScope() {
    arena_.block_ = block_;
    arena_.used_ = used_;
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  /// `count` uninitialised elements, 256-byte aligned.
  template <class T>
  T* take(std::int64_t count) {
    return reinterpret_cast<T*>(arena_.take(count * static_cast<std::int64_t>(sizeof(T))));
  }

 private:
  DeviceArena& arena_;
  std::size_t block_;
  std::int64_t used_;
};

/// A point in a stream.
class Event {
 public:
  explicit Event(Gpu& gpu);
  ~Event();
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;

  void record(Gpu& gpu);
  /// Milliseconds from `earlier` to this; waits for this.
  double ms_since(const Event& earlier) const;

  struct Native;

 private:
  std::unique_ptr<Native> native_;
};

/// Work recorded once and launched as a whole, which spares the launches of its kernels.
class Graph {
 public:
  /// Records what `work` puts into the stream instead of doing it. `work` must have run before, so
  /// that its memory is there, and may not wait.
  Graph(Gpu& gpu, const std::function<void()>& work);
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  void launch(Gpu& gpu);

  struct Native;

 private:
  std::unique_ptr<Native> native_;
};

/// The first device. Throws Error(unavailable) that says what is missing: CUDA in this build, a
/// driver, a device, or one of compute capability 8.0 or more.
std::shared_ptr<Gpu> open_gpu();

/// True in builds without CUDA, whose device code runs in the emulator.
bool is_emulated() noexcept;
/// A device of emulated kernels in ordinary memory. Throws Error(unavailable) where is_emulated()
/// does not hold.
std::shared_ptr<Gpu> emulated_gpu();

/// The context's device. Throws Error(invalid_argument) for a context of the CPU.
Gpu& gpu_of(Context& context);

}  // namespace switchyard::cuda
