#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/context.h"
#include "base/philox.h"
#include "cuda/gpu.h"
#include "switchyard/device.h"
#include "switchyard/error.h"

// What tests of device code share.

namespace switchyard::cuda {

/// Whether kernels run on a GPU here.
inline bool has_device() {
  try {
    return open_gpu() != nullptr;
  } catch (const Error&) {
    return false;
  }
}

/// A context of this machine's GPU, of the emulator in builds without CUDA, or null: a build with
/// CUDA on a machine without a GPU.
inline std::unique_ptr<Context> device_context() {
  if (is_emulated()) {
    auto context = std::make_unique<Context>(ContextOptions{.threads = 1});
    context->impl().gpu = emulated_gpu();
    return context;
  }
  if (!has_device()) return nullptr;
  return std::make_unique<Context>(ContextOptions{.threads = 1, .device = Device::cuda});
}

/// The same matrix in the host's memory and on the device, with `gap` elements between rows and
/// `shift` before the first, all of it random.
class TwinMatrix {
 public:
  TwinMatrix(Context& context, DType dtype, std::int64_t rows, std::int64_t cols,
             std::uint64_t seed, std::int64_t gap = 0, std::int64_t shift = 0)
      : context_(context) {
    const auto element = static_cast<std::int64_t>(size_of(dtype));
    const std::int64_t count = shift + rows * (cols + gap);
    bytes_.resize(static_cast<std::size_t>(count * element));
    const Philox random(seed, 3);
    for (std::int64_t i = 0; i < count; ++i) {
      set(dtype, i, 2 * random.uniform(static_cast<std::uint64_t>(i)) - 1);
    }
    host_ = {bytes_.data() + shift * element, dtype, rows, cols, cols + gap, Device::cpu};
    device_ = host_;
    device_.device = Device::cuda;
    memory_.reserve(context, std::max<std::int64_t>(1, std::ssize(bytes_)));
    device_.data = memory_.data() + shift * element;
    upload();
  }

  MatrixView host() const { return host_; }
  MatrixView device() const { return device_; }

  void upload() {
    gpu_of(context_).copy_to_device(memory_.data(), bytes_.data(), std::ssize(bytes_));
    synchronize(context_);
  }
  /// All bytes of the device's memory, also those between rows.
  std::vector<std::byte> downloaded() const {
    std::vector<std::byte> bytes(bytes_.size());
    gpu_of(context_).copy_to_host(bytes.data(), memory_.data(), std::ssize(bytes));
    return bytes;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  void set(DType dtype, std::int64_t i, float value) {
    std::byte* at = bytes_.data() + i * static_cast<std::int64_t>(size_of(dtype));
    const auto put = [&](auto x) { std::memcpy(at, &x, sizeof x); };
    switch (dtype) {
      case DType::f32: return put(value);
      case DType::bf16: return put(from_float<bf16>(value));
      case DType::f16: return put(from_float<f16>(value));
    }
  }

  Context& context_;
  std::vector<std::byte> bytes_;
  DeviceBuffer memory_;
  MatrixView host_, device_;
};

/// A test that needs a context with a device, which it skips without.
class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (context_ == nullptr) GTEST_SKIP() << "this machine has no CUDA device";
  }

  std::unique_ptr<Context> context_ = device_context();
};

}  // namespace switchyard::cuda
