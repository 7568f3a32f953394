#include "bench/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

// The first number of a file; nothing when there is no such file or it says "max".
std::optional<std::int64_t> number_in(const std::string& path) {
  std::ifstream in(path);
  // v1 spells unlimited as a number near 2^63, which may not fit.
  unsigned long long value = 0;
  if (!(in >> value)) return std::nullopt;
  constexpr auto kMax = static_cast<unsigned long long>(kUnlimited);
  return static_cast<std::int64_t>(std::min(value, kMax));
}

// The value of "Key:  123 kB" in bytes.
std::optional<std::int64_t> kilobytes_in(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key + ":")) continue;
    std::istringstream rest(line.substr(key.size() + 1));
    std::int64_t value = 0;
    if (rest >> value) return value * 1024;
  }
  return std::nullopt;
}

// The value of "key 123" in bytes, as in memory.stat.
std::int64_t stat_in(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string name;
  for (std::int64_t value = 0; in >> name >> value;) {
    if (name == key) return value;
  }
  return 0;
}

// A hierarchy as mounted here: the files of group `mounted` are at `at`.
struct Mount {
  std::string at;
  std::string mounted;
};

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    if (item == word) return true;
  }
  return false;
}

// /proc/self/mountinfo: id parent dev ROOT AT options... - TYPE source SUPER_OPTIONS
std::optional<Mount> find_mount(const std::string& root, bool v2) {
  std::ifstream in(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash)), after(line.substr(dash + 3));
    std::string skipped, mounted, at, type, source, options;
    before >> skipped >> skipped >> skipped >> mounted >> at;
    after >> type >> source >> options;
    if (v2 ? type == "cgroup2" : type == "cgroup" && has_word(options, "memory")) {
      return Mount{at, mounted};
    }
  }
  return std::nullopt;
}

// /proc/self/cgroup: ID:CONTROLLERS:PATH, where v2 has id 0 and no controllers.
std::optional<std::string> find_group(const std::string& root, bool v2) {
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? line.starts_with("0:") && controllers.empty() : has_word(controllers, "memory")) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

// The folder of the process's own group. In a container the path may be the host's while the mount
// shows only the container's part of the tree: then the mount point is the group.
std::string folder_of_group(const std::string& root, const Mount& mount, std::string group) {
  if (mount.mounted != "/" && group.starts_with(mount.mounted)) {
    group.erase(0, mount.mounted.size());
  }
  const std::string folder = mount.at + (group == "/" ? "" : group);
  return std::ifstream(root + folder + "/cgroup.procs").good() ? folder : mount.at;
}

void tighten(AvailableMemory& have, std::int64_t bytes, const std::string& source) {
  if (bytes >= have.bytes) return;
  have.bytes = std::max<std::int64_t>(0, bytes);
  have.source = source;
}

void tighten_by_cgroups(const std::string& root, bool v2, AvailableMemory& have) {
  const auto mount = find_mount(root, v2);
  const auto group = find_group(root, v2);
  if (!mount || !group) return;
  std::string folder = folder_of_group(root, *mount, *group);
  for (;;) {
    const std::string at = root + folder;
    const auto limit = number_in(at + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    const auto used = number_in(at + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    if (limit && used) {
      // Inactive file pages count as used, but the kernel drops them before it refuses memory.
      const std::int64_t reclaimable =
          stat_in(at + "/memory.stat", v2 ? "inactive_file" : "total_inactive_file");
      tighten(have, *limit - std::max<std::int64_t>(0, *used - reclaimable), "cgroup " + folder);
    }
    if (folder.size() <= mount->at.size()) return;
    folder.erase(folder.rfind('/'));
  }
}

void tighten_by_rlimit(const std::string& root, AvailableMemory& have) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  const std::int64_t used = kilobytes_in(root + "/proc/self/status", "VmSize").value_or(0);
  tighten(have, static_cast<std::int64_t>(limit.rlim_cur) - used, "RLIMIT_AS");
}

}  // namespace

AvailableMemory available_memory(const std::string& root) {
  AvailableMemory have{kUnlimited, "nothing"};
  if (const auto bytes = kilobytes_in(root + "/proc/meminfo", "MemAvailable")) {
    tighten(have, *bytes, "MemAvailable");
  }
  tighten_by_cgroups(root, true, have);
  tighten_by_cgroups(root, false, have);
  tighten_by_rlimit(root, have);
  return have;
}

void require_memory(std::int64_t need, const AvailableMemory& have, const std::string& what,
                    const std::string& fits) {
  if (need <= have.bytes) return;
  throw Error(ErrorCode::out_of_memory,
              fmt::format("{} needs {} of memory: {} is available ({}){}{}", what, bytes_text(need),
                          bytes_text(have.bytes), have.source, fits.empty() ? "" : "; ", fits));
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::int64_t peak_rss_bytes() {
  if (const auto bytes = kilobytes_in("/proc/self/status", "VmHWM")) return *bytes;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * std::int64_t{1024};
}

bool reset_peak_rss() {
  std::ofstream out("/proc/self/clear_refs");
  return static_cast<bool>(out << "5" << std::flush);
}

}  // namespace switchyard
