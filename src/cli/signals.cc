#include "cli/signals.h"

#include <csignal>

namespace switchyard::cli {
namespace {

volatile std::sig_atomic_t stop_requested = 0;  // a signal handler can reach nothing else

void request_stop(int) { stop_requested = 1; }

void set_handler(void (*handler)(int), int flags) noexcept {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

StopSignal::StopSignal() {
  stop_requested = 0;
  set_handler(request_stop, static_cast<int>(SA_RESETHAND) | SA_RESTART);
}

StopSignal::~StopSignal() { set_handler(SIG_DFL, 0); }

bool StopSignal::requested() const noexcept { return stop_requested != 0; }

}  // namespace switchyard::cli
