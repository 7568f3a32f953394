#include "base/threads.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace switchyard {
namespace {

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// About 50 us of pauses: longer than the gap between two stages of a layer, short enough that an
// idle pool leaves the cores to others.
constexpr int kSpins = 2000;

template <class T>
T wait_while_equal(const std::atomic<T>& value, T old) noexcept {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(threads), shares_(static_cast<std::size_t>(threads)) {
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_erased(Erased call, void* work) {
  if (size_ == 1) return call(work, 0);
  call_ = call;
  work_ = work;
  running_.store(size_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  call(work, 0);
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;) {
    wait_while_equal(running_, left);
  }
}

void ThreadPool::worker(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    seen = wait_while_equal(generation_, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    call_(work_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void ThreadPool::deal(std::int64_t count) noexcept {
  for (int thread = 0; thread < size_; ++thread) {
    const auto end = static_cast<std::uint64_t>((count - thread + size_ - 1) / size_);
    // run() publishes it to the others.
    shares_[static_cast<std::size_t>(thread)].range.store(end << 32, std::memory_order_relaxed);
  }
}

std::int64_t ThreadPool::first_of(int thread) const noexcept {
  const std::uint64_t range =
      shares_[static_cast<std::size_t>(thread)].range.load(std::memory_order_relaxed);
  const std::uint64_t begin = range & 0xffffffffu, end = range >> 32;
  return begin < end ? static_cast<std::int64_t>(begin) * size_ + thread : -1;
}

std::int64_t ThreadPool::take_first(int thread) noexcept {
  std::atomic<std::uint64_t>& share = shares_[static_cast<std::size_t>(thread)].range;
  std::uint64_t range = share.load(std::memory_order_relaxed);
  while ((range & 0xffffffffu) < range >> 32) {
    if (!share.compare_exchange_weak(range, range + 1, std::memory_order_relaxed)) continue;
    return static_cast<std::int64_t>(range & 0xffffffffu) * size_ + thread;
  }
  return -1;
}

std::int64_t ThreadPool::take_last(int thief) noexcept {
  for (int step = 1; step < size_; ++step) {
    const int victim = (thief + step) % size_;
    std::atomic<std::uint64_t>& share = shares_[static_cast<std::size_t>(victim)].range;
    std::uint64_t range = share.load(std::memory_order_relaxed);
    while ((range & 0xffffffffu) < range >> 32) {
      const std::uint64_t less = range - (std::uint64_t{1} << 32);
      if (!share.compare_exchange_weak(range, less, std::memory_order_relaxed)) continue;
      return static_cast<std::int64_t>(less >> 32) * size_ + victim;
    }
  }
  return -1;
}

}  // namespace switchyard
