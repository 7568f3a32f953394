#include "bench/limits.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "bench/environment.h"
#include "bench/limits_measure.h"
#include "switchyard/version.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;  // compares objects by content, not by order

constexpr std::string_view kSchema = "switchyard-limits/1";

fs::path cache_file() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? fs::path(value) : fs::path();
  };
  fs::path folder = set("XDG_CACHE_HOME");  // the XDG specification ignores relative paths
  if (!folder.is_absolute() && set("HOME").is_absolute()) folder = set("HOME") / ".cache";
  return folder.is_absolute() ? folder / "switchyard" / "limits.json" : fs::path();
}

// Of what is measured and how; raised with it.
constexpr int kRevision = 7;

// All that a ceiling depends on and that can change under a cache file: a home folder may be shared
// by several machines, and a virtual machine may be given other hardware at its next start.
Json key_of(const Context& context) {
  const CacheSizes caches = cache_sizes();
  const std::int64_t memory = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) *
                              static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
  return {{"version", version()},
          {"revision", kRevision},
          {"host", host_name()},
          {"cpu", cpu_name()},
          {"cpus", available_cpus()},
          {"cache_bytes", {caches.l1, caches.l2, caches.l3}},
          {"memory_gib", (memory + (std::int64_t{1} << 29)) >> 30},
          {"threads", context.threads()},
          {"max_isa", name_of(context.isa())}};
}

Json json_of(const Ceilings& c) {
  return {{"threads", c.threads},     {"read_bw_one", c.read_bw_one}, {"read_bw", c.read_bw},
          {"write_bw", c.write_bw},   {"copy_bw_one", c.copy_bw_one}, {"copy_bw", c.copy_bw},
          {"gather_bw", c.gather_bw}, {"fork_join_s", c.fork_join_s}, {"peak_flops", c.peak_flops}};
}

// A value that makes sense as a ceiling; throws Json::exception or std::domain_error.
double positive(const Json& value) {
  const double x = value.get<double>();
  if (!std::isfinite(x) || x <= 0) throw std::domain_error("not a ceiling");
  return x;
}

Ceilings ceilings_of(const Json& json) {
  Ceilings c;
  c.threads = json.at("threads").get<int>();
  c.read_bw_one = positive(json.at("read_bw_one"));
  c.read_bw = positive(json.at("read_bw"));
  c.write_bw = positive(json.at("write_bw"));
  c.copy_bw_one = positive(json.at("copy_bw_one"));
  c.copy_bw = positive(json.at("copy_bw"));
  c.gather_bw = positive(json.at("gather_bw"));
  c.fork_join_s = positive(json.at("fork_join_s"));
  for (const auto& [name, peak] : json.at("peak_flops").items()) {
    c.peak_flops[name] = positive(peak);
  }
  return c;
}

// The entries of the cache file, none when it is missing or not one of ours.
Json read_entries(const fs::path& path) {
  std::ifstream in(path);
  if (!in) return Json::array();
  const Json file = Json::parse(in, nullptr, false);
  const bool is_ours = file.is_object() && file.value("schema", Json()) == kSchema &&
                       file.contains("entries") && file["entries"].is_array();
  return is_ours ? file["entries"] : Json::array();
}

std::optional<Ceilings> find_entry(const Json& entries, const Json& key) {
  for (const auto& entry : entries) {
    if (!entry.is_object() || entry.value("key", Json()) != key) continue;
    try {
      return ceilings_of(entry.at("ceilings"));
    } catch (const std::exception&) {
      return std::nullopt;  // damaged: measured again
    }
  }
  return std::nullopt;
}

// Written aside and renamed, so that a reader never sees half a file. Failing is not an error.
void write_entries(const fs::path& path, const Json& entries) {
  std::error_code failed;
  fs::create_directories(path.parent_path(), failed);
  fs::path aside = path;
  aside += fmt::format(".{}.tmp", getpid());
  {
    std::ofstream out(aside);
    const Json file = {{"schema", kSchema}, {"entries", entries}};
    out << file.dump(1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
    if (!out) failed = std::make_error_code(std::errc::io_error);
  }
  if (!failed) fs::rename(aside, path, failed);
  if (failed) fs::remove(aside, failed);
}

}  // namespace

std::optional<double> Ceilings::peak(std::string_view isa, std::string_view dtype) const {
  const auto at = [&](std::string_view arithmetic) {
    return peak_flops.find(fmt::format("{}/{}", isa, arithmetic));
  };
  if (const auto it = at(dtype); it != peak_flops.end()) return it->second;
  if (const auto it = at("f32"); it != peak_flops.end()) return it->second;
  // An f32 product is six tile products of bf16 parts (gemm/kernel_f32_x86_amx_bf16.cc).
  constexpr double kPartProducts = 6;
  const auto tiles = at("bf16");
  if (dtype == "f32" && isa == "amx_bf16" && tiles != peak_flops.end()) {
    return tiles->second / kPartProducts;
  }
  return std::nullopt;
}

Ceilings ceilings_for(Context& context, bool again) {
  return cached_ceilings(context, again, [](Context& c) { return measure_ceilings(c); });
}

Ceilings cached_ceilings(Context& context, bool again,
                         const std::function<Ceilings(Context&)>& measure) {
  const fs::path path = cache_file();
  const Json key = key_of(context);
  Json entries = path.empty() ? Json::array() : read_entries(path);
  if (!again) {
    if (auto found = find_entry(entries, key)) return *found;
  }
  const Ceilings measured = measure(context);
  if (path.empty()) return measured;
  entries = read_entries(path);  // another process may have added its own meanwhile
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [&](const Json& entry) {
                                 return !entry.is_object() || entry.value("key", Json()) == key;
                               }),
                entries.end());
  entries.push_back({{"key", key}, {"ceilings", json_of(measured)}});
  write_entries(path, entries);
  return measured;
}

Limit limit_of(double flops, double peak_flops, double bytes, double bandwidth) noexcept {
  return {.compute_ms = peak_flops > 0 ? 1e3 * flops / peak_flops : 0,
          .memory_ms = bandwidth > 0 ? 1e3 * bytes / bandwidth : 0};
}

}  // namespace switchyard
