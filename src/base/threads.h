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

  /// The same dealt out: each thread takes the next `piece` when it is free, so that one whose
  /// memory is served more slowly does not hold up the others. No piece is larger than a thread's
  /// share.
  template <class Work>
  void for_pieces(std::int64_t count, std::int64_t piece, Work&& work) {
    piece = std::clamp<std::int64_t>(count / size_, 1, std::max<std::int64_t>(1, piece));
    for_each((count + piece - 1) / piece, [&](std::int64_t i, int thread) {
      work(i * piece, std::min(count, (i + 1) * piece), thread);
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

  /// The same with i dealt out in turn, so that a thread knows what it does next unless that is
  /// taken from it: work(i, next, thread), next = -1 when nothing of its own is left. A thread that
  /// has done its own takes the last of the others'. For work listed with the costliest first.
  template <class Work>
  void for_each_dealt(std::int64_t count, Work&& work) {
    if (count <= 0) return;
    if (count == 1 || size_ == 1) {
      for (std::int64_t i = 0; i < count; ++i) work(i, i + 1 < count ? i + 1 : -1, 0);
      return;
    }
    deal(count);
    run([&](int thread) {
      for (std::int64_t i; (i = take_first(thread)) >= 0;) work(i, first_of(thread), thread);
      for (std::int64_t i; (i = take_last(thread)) >= 0;) work(i, -1, thread);
    });
  }

 private:
  using Erased = void (*)(void* work, int thread);

  /// What is left of the deal of one thread: positions [begin, end), i = position * size_ + thread.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> range{0};  // begin in the lower half, end in the upper
  };
  void deal(std::int64_t count) noexcept;
  std::int64_t first_of(int thread) const noexcept;
  std::int64_t take_first(int thread) noexcept;
  std::int64_t take_last(int thief) noexcept;

  void run_erased(Erased call, void* work);
  void worker(int thread);

  int size_;
  std::vector<std::thread> workers_;
  std::vector<Share> shares_;
  Erased call_ = nullptr;
  void* work_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace switchyard
