#include "cuda/simt_host.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define SWITCHYARD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SWITCHYARD_ASAN 1
#endif
#endif
#if defined(SWITCHYARD_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace switchyard::simt {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // touched pages only are ever there
constexpr int kMaxThreads = 1024;
constexpr std::int64_t kMostYields = std::int64_t{1} << 24;  // of a block, before it is stuck

enum class State { ready, at_barrier, at_collective, done };

struct Fiber {
  ucontext_t context;
  std::byte* stack = nullptr;
  State state = State::ready;
  [[maybe_unused]] void* fake_stack = nullptr;
};

struct Warp {
  void* payloads[kLanes];
  const void* kind = nullptr;
  int arrived = 0;
};

class Stacks {
 public:
  explicit Stacks(int count) : bytes_(static_cast<std::size_t>(count) * kStackBytes) {
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
      throw Error(ErrorCode::out_of_memory,
                  fmt::format("no {} bytes for the stacks of {} threads", bytes_, count));
    }
    data_ = static_cast<std::byte*>(at);
  }
  ~Stacks() { munmap(data_, bytes_); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  std::byte* operator[](int i) const { return data_ + static_cast<std::size_t>(i) * kStackBytes; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

class Machine;
thread_local Machine* running = nullptr;  // what thread_index() and the barriers speak to

/// Runs the blocks of one grid.
class Machine {
 public:
  Machine(const Grid& grid, void (*body)(void*, std::byte*), void* context)
      : grid_(grid),
        body_(body),
        context_(context),
        stacks_(grid.threads),
        fibers_(static_cast<std::size_t>(grid.threads)),
        warps_(static_cast<std::size_t>(grid.threads / kLanes)),
        shared_(new (std::align_val_t{kSharedAlignment}) std::byte[grid.shared_bytes + 1]) {
    for (int i = 0; i < grid.threads; ++i) {
      Fiber& fiber = fibers_[static_cast<std::size_t>(i)];
      fiber.stack = stacks_[i];
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack;
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Machine::fiber_main, 0);
    }
    ready_.reserve(fibers_.size());
  }

  void run() {
    for (const std::int64_t block : order_of_blocks()) {
      block_ = block;
      std::memset(shared_.get(), 0xff, grid_.shared_bytes);
      num_done_ = 0;
      num_at_barrier_ = 0;
      num_yields_ = 0;
      for (Warp& warp : warps_) warp.arrived = 0;
      for (int i = 0; i < grid_.threads; ++i) release(i);
      switch_to_next(nullptr);
      if (num_done_ != grid_.threads) throw Error(ErrorCode::check_failed, why_stuck());
    }
  }

  int thread() const { return current_; }
  int threads() const { return grid_.threads; }
  std::int64_t block() const { return block_; }
  std::int64_t blocks() const { return grid_.blocks; }

  void sync_threads() {
    if (++num_at_barrier_ == grid_.threads) {
      num_at_barrier_ = 0;
      num_yields_ = 0;
      for (int i = 0; i < grid_.threads; ++i) {
        if (i != current_) release(i);
      }
    } else {
      wait(State::at_barrier);
    }
  }

  void yield() {
    if (++num_yields_ > kMostYields) {
      complaint_ = fmt::format("block {}: threads wait for what no thread writes", block_);
      abandon();
    }
    ready_.push_back(current_);
    switch_to_next(&fibers_[static_cast<std::size_t>(current_)]);
  }

  void meet_warp(void* payload, const void* kind, void (*work)(void*, void**), void* context) {
    const int self = current_, first = self / kLanes * kLanes;
    Warp& warp = warps_[static_cast<std::size_t>(self / kLanes)];
    if (warp.arrived > 0 && warp.kind != kind) {
      complaint_ = fmt::format(
          "block {}: lane {} of warp {} is at another collective than lanes that came before",
          block_, self % kLanes, self / kLanes);
      abandon();
    }
    warp.kind = kind;
    warp.payloads[self % kLanes] = payload;
    if (++warp.arrived < kLanes) return wait(State::at_collective);
    warp.arrived = 0;
    work(context, warp.payloads);
    for (int i = first; i < first + kLanes; ++i) {
      if (i != self) release(i);
    }
  }

 private:
  static constexpr std::size_t kSharedAlignment = 1024;
  struct FreeShared {
    void operator()(std::byte* at) const {
      operator delete[](at, std::align_val_t{kSharedAlignment});
    }
  };

  static void fiber_main() {
    Machine& machine = *running;
    machine.arrive(&machine.fibers_[static_cast<std::size_t>(machine.current_)]);
    for (;;) {
      machine.body_(machine.context_, machine.shared_.get());
      ++machine.num_done_;
      machine.wait(State::done);
    }
  }

  std::uint64_t draw() {  // xorshift64*
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return random_ * 0x2545F4914F6CDD1Dull >> 32;
  }

  std::vector<std::int64_t> order_of_blocks() {
    std::vector<std::int64_t> order(static_cast<std::size_t>(grid_.blocks));
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<std::int64_t>(i);
      std::swap(order[i], order[draw() % (i + 1)]);
    }
    return order;
  }

  void release(int thread) {
    fibers_[static_cast<std::size_t>(thread)].state = State::ready;
    ready_.push_back(thread);
  }

  void wait(State state) {
    Fiber& self = fibers_[static_cast<std::size_t>(current_)];
    self.state = state;
    switch_to_next(&self);
  }

  /// Leaves for the main context for good; run() throws what `complaint_` says.
  void abandon() {
    ready_.clear();
    wait(State::at_collective);
  }

  /// From `from` (null: the main context) to a thread that can go on, or to the main context.
  void switch_to_next(Fiber* from) {
    Fiber* to = nullptr;
    if (!ready_.empty()) {
      std::swap(ready_[draw() % ready_.size()], ready_.back());
      current_ = ready_.back();
      ready_.pop_back();
      to = &fibers_[static_cast<std::size_t>(current_)];
    }
    if (to == from) return;
    depart(from, to);
    swapcontext(from != nullptr ? &from->context : &main_, to != nullptr ? &to->context : &main_);
    arrive(from);
  }

#if defined(SWITCHYARD_ASAN)
  void depart(Fiber* from, const Fiber* to) {
    __sanitizer_start_switch_fiber(from != nullptr ? &from->fake_stack : &main_fake_stack_,
                                   to != nullptr ? to->stack : main_stack_,
                                   to != nullptr ? kStackBytes : main_stack_bytes_);
  }
  void arrive(Fiber* self) {
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(self != nullptr ? self->fake_stack : main_fake_stack_, &bottom,
                                    &bytes);
    if (main_stack_ == nullptr) {  // the first switch of all comes from the main context
      main_stack_ = bottom;
      main_stack_bytes_ = bytes;
    }
  }
  void* main_fake_stack_ = nullptr;
  const void* main_stack_ = nullptr;
  std::size_t main_stack_bytes_ = 0;
#else
  void depart(Fiber*, const Fiber*) {}
  void arrive(Fiber*) {}
#endif

  std::string why_stuck() const {
    if (!complaint_.empty()) return complaint_;
    int waiting[4] = {};
    for (const Fiber& fiber : fibers_) ++waiting[static_cast<int>(fiber.state)];
    return fmt::format(
        "block {} is stuck: of {} threads {} wait at sync_threads, {} at a collective of their "
        "warp and {} have ended",
        block_, grid_.threads, waiting[static_cast<int>(State::at_barrier)],
        waiting[static_cast<int>(State::at_collective)], waiting[static_cast<int>(State::done)]);
  }

  Grid grid_;
  void (*body_)(void*, std::byte*);
  void* context_;
  Stacks stacks_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::unique_ptr<std::byte[], FreeShared> shared_;
  ucontext_t main_;
  std::vector<int> ready_;
  int current_ = 0;
  std::int64_t block_ = 0;
  int num_done_ = 0, num_at_barrier_ = 0;
  std::int64_t num_yields_ = 0;
  std::uint64_t random_ = 0x9E3779B97F4A7C15ull ^ (grid_.seed + 1);
  std::string complaint_;
};

}  // namespace

void run_grid(const Grid& grid, void (*body)(void*, std::byte*), void* context) {
  require(running == nullptr, "a kernel starts a grid: expected calls from the host only");
  require(grid.threads >= kLanes && grid.threads <= kMaxThreads && grid.threads % kLanes == 0,
          "a block has {} threads: expected a multiple of {} up to {}", grid.threads, kLanes,
          kMaxThreads);
  require(grid.blocks >= 0, "a grid has {} blocks", grid.blocks);
  if (grid.blocks == 0) return;
  Machine machine(grid, body, context);
  struct Leave {
    ~Leave() { running = nullptr; }
  } leave;
  running = &machine;
  machine.run();
}

int thread_index() { return running->thread(); }
int num_threads() { return running->threads(); }
std::int64_t block_index() { return running->block(); }
std::int64_t num_blocks() { return running->blocks(); }
void sync_threads() { running->sync_threads(); }
void yield() { running->yield(); }

void meet_warp(void* payload, const void* kind, void (*work)(void*, void**), void* context) {
  running->meet_warp(payload, kind, work, context);
}

}  // namespace switchyard::simt
