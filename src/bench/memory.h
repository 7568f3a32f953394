#pragma once

#include <cstdint>
#include <string>

namespace switchyard {

struct AvailableMemory {
  std::int64_t bytes = 0;
  std::string source;  ///< what sets it: "MemAvailable", "cgroup /sys/fs/cgroup/...", "RLIMIT_AS"
};

/// Bytes this process may still take: the least of the kernel's MemAvailable, the room under every
/// memory cgroup (v1 or v2) from this process's up to the root, and RLIMIT_AS. `root` stands before
/// /proc and /sys, for tests.
AvailableMemory available_memory(const std::string& root = "");

/// Throws Error(out_of_memory) unless `need` bytes are no more than what is available. `what` names
/// the work; `fits` is a sentence that says what would fit, or empty.
void require_memory(std::int64_t need, const AvailableMemory& have, const std::string& what,
                    const std::string& fits = "");

/// "3.2 GiB"
std::string bytes_text(std::int64_t bytes);

/// Peak resident bytes of this process since it began or since the last reset that worked.
std::int64_t peak_rss_bytes();

/// Starts the peak anew from what is resident now. False where the kernel does not allow it: then
/// the peak is that of the whole process.
bool reset_peak_rss();

}  // namespace switchyard
