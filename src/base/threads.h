#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace switchyard {

/// A fixed team of threads. The caller is thread 0; the others spin briefly after work, then sleep.
/// Work must not throw.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return size_; }

  /// Calls work(thread) once on every thread and returns when all have.
  template <class Work>
  void run(Work&& work) {
    run_erased(
        [](void* w, int thread) { (*static_cast<std::remove_reference_t<Work>*>(w))(thread); },
        const_cast<void*>(static_cast<const void*>(&work)));
  }

  /// Calls work(begin, end, thread) on the static split of [0, count) into one range per thread,
  /// cut at multiples of `grain`.
  template <class Work>
  void for_ranges(std::int64_t count, std::int64_t grain, Work&& work) {
    if (count <= grain || size_ == 1) {
      if (count > 0) work(std::int64_t{0}, count, 0);
      return;
    }
    const std::int64_t grains = (count + grain - 1) / grain;
    run([&](int thread) {
      const std::int64_t begin = grains * thread / size_ * grain;
      const std::int64_t end = std::min(count, grains * (thread + 1) / size_ * grain);
      if (begin < end) work(begin, end, thread);
    });
  }

  /// Calls work(i, thread) for i in [0, count), each thread taking the next i when it is free.
  template <class Work>
  void for_each(std::int64_t count, Work&& work) {
    if (count == 1 || size_ == 1) {
      for (std::int64_t i = 0; i < count; ++i) work(i, 0);
      return;
    }
    if (count <= 0) return;
    std::atomic<std::int64_t> next{0};
    run([&](int thread) {
      for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
        work(i, thread);
      }
    });
  }

 private:
  using Erased = void (*)(void* work, int thread);
  void run_erased(Erased call, void* work);
  void worker(int thread);

  int size_;
  std::vector<std::thread> workers_;
  Erased call_ = nullptr;
  void* work_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace switchyard
