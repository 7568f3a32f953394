#include "bench/memory.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>

#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

// A machine of files: /proc and /sys under a temporary root.
class Memory : public testing::Test {
 protected:
  Memory() {
    std::string pattern = (fs::temp_directory_path() / "switchyard_memory.XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    put("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n");
  }
  ~Memory() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void put_v2(const std::string& folder, const std::string& max, std::int64_t current,
              std::int64_t inactive_file = 0) {
    put(folder + "/cgroup.procs", "");
    put(folder + "/memory.max", max + "\n");
    put(folder + "/memory.current", std::to_string(current) + "\n");
    put(folder + "/memory.stat", "anon 5\ninactive_file " + std::to_string(inactive_file) + "\n");
  }
  void mount_v2() {
    put("/proc/self/mountinfo",
        "22 1 0:20 / /proc rw - proc proc rw\n"
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }

  std::string root_;
};

TEST_F(Memory, TheKernelsWordWithoutCgroups) {
  EXPECT_EQ(available_memory(root_).bytes, 8 * kGiB);
  EXPECT_EQ(available_memory(root_).source, "MemAvailable");
}

TEST_F(Memory, VersionTwo) {
  mount_v2();
  put("/proc/self/cgroup", "0::/user/job\n");
  put_v2("/sys/fs/cgroup/user/job", "max", 0);
  EXPECT_EQ(available_memory(root_).bytes, 8 * kGiB);
  put_v2("/sys/fs/cgroup/user/job", std::to_string(4 * kGiB), 3 * kGiB, kGiB);
  EXPECT_EQ(available_memory(root_).bytes, 2 * kGiB) << "cached files give way";
  EXPECT_EQ(available_memory(root_).source, "cgroup /sys/fs/cgroup/user/job");
}

TEST_F(Memory, TheTightestOfThePathCounts) {
  mount_v2();
  put("/proc/self/cgroup", "0::/user/job\n");
  put_v2("/sys/fs/cgroup/user/job", std::to_string(7 * kGiB), kGiB);
  put_v2("/sys/fs/cgroup/user", std::to_string(4 * kGiB), 3 * kGiB);
  EXPECT_EQ(available_memory(root_).bytes, kGiB);
  EXPECT_EQ(available_memory(root_).source, "cgroup /sys/fs/cgroup/user");
}

TEST_F(Memory, AboveItsLimitThereIsNone) {
  mount_v2();
  put("/proc/self/cgroup", "0::/\n");
  put_v2("/sys/fs/cgroup", std::to_string(kGiB), 2 * kGiB);
  EXPECT_EQ(available_memory(root_).bytes, 0);
}

TEST_F(Memory, VersionOne) {
  put("/proc/self/mountinfo",
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
      "33 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
      "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n");
  put("/proc/self/cgroup", "5:cpu:/\n4:memory:/a\n0::/\n");
  const std::string folder = "/sys/fs/cgroup/memory";
  put(folder + "/memory.limit_in_bytes", "9223372036854771712\n");
  put(folder + "/memory.usage_in_bytes", std::to_string(kGiB));
  EXPECT_EQ(available_memory(root_).bytes, 8 * kGiB);
  put(folder + "/a/cgroup.procs", "");
  put(folder + "/a/memory.limit_in_bytes", std::to_string(3 * kGiB));
  put(folder + "/a/memory.usage_in_bytes", std::to_string(2 * kGiB));
  put(folder + "/a/memory.stat", "total_inactive_file 1024\n");
  EXPECT_EQ(available_memory(root_).bytes, kGiB + 1024);
}

TEST_F(Memory, ContainersSeeTheirPartOfTheTree) {
  put("/proc/self/mountinfo", "30 23 0:26 /box/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  put("/proc/self/cgroup", "0::/box/7\n");
  put_v2("/sys/fs/cgroup", std::to_string(2 * kGiB), kGiB);
  EXPECT_EQ(available_memory(root_).bytes, kGiB);
  put("/proc/self/cgroup", "0::/a/path/of/the/host\n");
  EXPECT_EQ(available_memory(root_).bytes, kGiB);
}

TEST_F(Memory, GarbageIsNoLimit) {
  put("/proc/meminfo", "\x01\x02");
  put("/proc/self/mountinfo", "x - \n\n - cgroup2\n");
  put("/proc/self/cgroup", "0\n::\n");
  EXPECT_GT(available_memory(root_).bytes, 1024 * kGiB);
}

TEST(MemoryHere, SomeIsAvailable) {
  EXPECT_GT(available_memory().bytes, 0);
  EXPECT_FALSE(available_memory().source.empty());
}

TEST(MemoryHere, RefusalNamesNeedHaveAndWhatFits) {
  const AvailableMemory have{3 * kGiB / 2, "cgroup /a"};
  require_memory(have.bytes, have, "layer");
  try {
    require_memory(5 * kGiB, have, "layer", "at most 512 tokens would fit");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_STREQ(error.what(),
                 "layer needs 5.0 GiB of memory: 1.5 GiB is available (cgroup /a); at most 512 "
                 "tokens would fit");
  }
}

TEST(MemoryHere, Text) {
  EXPECT_EQ(bytes_text(7), "7 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(std::numeric_limits<std::int64_t>::max()), "8.0 EiB");
}

TEST(MemoryHere, PeakFollowsUse) {
  constexpr std::size_t kBytes = 64 << 20;
  reset_peak_rss();
  const std::int64_t before = peak_rss_bytes();
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  munmap(memory, kBytes);
  const std::int64_t peak = peak_rss_bytes();
  EXPECT_GT(peak, 0);
  if (reset_peak_rss()) {
    EXPECT_GE(peak, before + static_cast<std::int64_t>(kBytes) / 2);
    EXPECT_LT(peak_rss_bytes(), peak);
  }
}

}  // namespace
}  // namespace switchyard
