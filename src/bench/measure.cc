#include "bench/measure.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/cpu.h"
#include "bench/budget.h"
#include "bench/device_state.h"
#include "bench/draws.h"
#include "bench/environment.h"
#include "bench/identity.h"
#include "bench/limits_measure.h"
#include "bench/memory.h"
#include "bench/router_inputs.h"
#include "bench/sampler.h"
#include "bench/statistics.h"
#include "bench/weight_cache.h"

namespace switchyard {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
constexpr std::string_view kInterrupted = "interrupted before the first sample";

/// One cell on its way to a record.
struct Running {
  Record record;
  std::unique_ptr<Subject> subject;         ///< null once the cell has failed
  bool is_warm = false;                     ///< the next run is a sample
  std::vector<std::vector<double>> stages;  ///< by stage, of every sample
};

std::string router_params_of(const RouterParams& p) {
  const RouterParams usual;
  std::string text;
  const auto add = [&](std::string_view name, auto value, auto usual_value) {
    if (value != usual_value) text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  };
  add("norm_topk", p.norm_topk, usual.norm_topk);
  add("temperature", p.temperature, usual.temperature);
  add("n_group", p.n_group, usual.n_group);
  add("topk_group", p.topk_group, usual.topk_group);
  add("routed_scaling_factor", p.routed_scaling_factor, usual.routed_scaling_factor);
  add("sinkhorn_iters", p.sinkhorn_iters, usual.sinkhorn_iters);
  add("choice_capacity", p.choice_capacity, usual.choice_capacity);
  add("noise_std", p.noise_std, usual.noise_std);
  add("slots_per_expert", p.slots_per_expert, usual.slots_per_expert);
  return text;
}

void fail(Running& cell, std::string_view why) {
  cell.subject.reset();
  cell.record["ok"] = false;
  cell.record["error"] = why;
}

void fail(Running& cell, const std::exception& error) {
  fail(cell, error.what());
  if (const auto* ours = dynamic_cast<const Error*>(&error)) {
    cell.record["error_code"] = name_of(ours->code());
  } else if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    cell.record["error_code"] = name_of(ErrorCode::out_of_memory);
  }
}

/// Those that have not failed by themselves.
template <class Why>
void fail_all(std::vector<Running>& cells, const Why& why) {
  for (Running& cell : cells) {
    if (cell.record["ok"].get<bool>()) fail(cell, why);
  }
}

void check(Running& cell) {
  const Check found = cell.subject->check();
  // Infinity has no spelling in JSON; the error says what is wrong.
  if (std::isfinite(found.rel_err)) cell.record["check_rel_err"] = found.rel_err;
  cell.record["check_tol"] = found.tol;
  require_passed(found);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 50);
}

void add_derived(Record& record) {
  const double ms = record["median_ms"].get<double>();
  if (!(ms > 0)) return;
  const auto has = [&](const char* field) { return record.contains(field); };
  const auto number = [&](const char* field) { return record[field].get<double>(); };
  record["tokens_per_s"] = number("tokens") / ms * 1e3;
  if (has("flops")) record["tflops"] = number("flops") / ms * 1e-9;
  if (has("bytes_per_token_strict")) {
    const double bytes_per_s = number("bytes_per_token_strict") * number("tokens") / ms * 1e3;
    record["bw_GiBps_strict"] = bytes_per_s / kGiB;
    record["bw_GBps_strict"] = bytes_per_s * 1e-9;
  }
  if (has("limit_ms")) record["fraction_of_limit"] = number("limit_ms") / ms;
  if (has("best_limit_ms")) {
    record["best_fraction_of_limit"] = number("best_limit_ms") / number("min_ms");
  }
}

/// `best`: the highest of each ceiling that was measured between the samples; null when none was.
void finish(Running& cell, const Ceilings& ceilings, const Ceilings* best, const Samples& samples,
            std::uint64_t seed) {
  if (samples.ms.empty()) return fail(cell, kInterrupted);
  if (ceilings.bw_is_given) {
    cell.record["peak_bw_GBps"] = ceilings.read_bw * 1e-9;
    cell.record["peak_bw_source"] = "given";
  }
  cell.subject->describe(cell.record, ceilings);
  if (best != nullptr) {
    Record at_best;
    cell.subject->describe(at_best, *best);
    if (at_best.contains("limit_ms")) cell.record["best_limit_ms"] = at_best["limit_ms"];
  }
  add_samples(cell.record, samples.ms, seed);
  const auto stages = cell.subject->stages();
  for (std::size_t i = 0; i < cell.stages.size(); ++i) {
    cell.record[std::string(stages[i].field)] = median(std::move(cell.stages[i]));
  }
  add_derived(cell.record);
}

void build_and_check(std::vector<Running>& running, std::span<const Cell> cells,
                     const MakeSubject& make, const WeightCache& weights,
                     const std::function<bool()>& stop) {
  std::int64_t shared = 0;         // resident before the first
  std::vector<std::int64_t> held;  // prepacked weights that were there already
  for (const Cell& cell : cells) held.push_back(weights.bytes_of(cell.impl));
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (stop()) return fail_all(running, kInterrupted);
    const bool was_reset = reset_peak_rss();
    const std::int64_t before = peak_rss_bytes();
    if (i == 0) shared = before - std::accumulate(held.begin(), held.end(), weights.spare_bytes());
    try {
      running[i].subject = make(cells[i]);
      check(running[i]);
    } catch (const std::exception& error) {
      fail(running[i], error);
    }
    if (was_reset) {
      running[i].record["peak_rss_bytes"] = shared + held[i] + peak_rss_bytes() - before;
    }
  }
}

void keep_stages(Running& cell) {
  if (!cell.is_warm) return;
  const auto stages = cell.subject->stages();
  cell.stages.resize(stages.size());
  for (std::size_t s = 0; s < stages.size(); ++s) cell.stages[s].push_back(stages[s].value);
}

/// What a cell has measured: itself, and its stages where those are runs of their own.
void add_sampled(Running& cell, std::vector<Sampled>& things) {
  const auto prepare = [&cell](std::int64_t i) {
    cell.is_warm = i >= 0;
    cell.subject->prepare(i);
  };
  const auto own_ms = [&cell] { return cell.subject->own_ms(); };
  if (!cell.subject->runs_stages_apart()) {
    const auto run = [&cell] {
      cell.subject->run();
      keep_stages(cell);
    };
    things.push_back({prepare, run, own_ms});
    return;
  }
  const auto run_stages = [&cell] {
    cell.subject->run_stages();
    keep_stages(cell);
  };
  things.push_back({prepare, [&cell] { cell.subject->run(); }, own_ms});
  things.push_back({prepare, run_stages, own_ms});
}

/// What happens around samples on the device of a context.
struct DeviceSampling {
  DeviceSampling(Context& context, bool cold) : monitor(cuda::gpu_of(context).info()) {
    if (cold) flush.emplace(context);
  }

  std::optional<DeviceFlush> flush;
  DeviceMonitor monitor;
};

std::vector<Samples> sample_on_device(Context& context, std::span<const Sampled> things,
                                      std::span<Running* const> alive, const RunOptions& options,
                                      const std::function<bool()>& stop) {
  DeviceSampling device(context, options.cold);
  std::function<void()> flush;
  if (device.flush) flush = std::ref(*device.flush);
  const auto samples = sample_interleaved(things, options, flush, stop, [&] { device.monitor(); });
  for (Running* cell : alive) device.monitor.add_state(cell->record);
  return samples;
}

void sample_all(Context& context, std::vector<Running>& running, const Cell& cell,
                const RunOptions& options, const Ceilings& ceilings,
                const std::function<bool()>& stop) {
  std::vector<Running*> alive;
  std::vector<Sampled> things;
  std::vector<std::size_t> first_thing;  // of each that is alive
  for (Running& r : running) {
    if (!r.subject) continue;
    alive.push_back(&r);
    first_thing.push_back(things.size());
    add_sampled(r, things);
  }
  if (alive.empty()) return;
  first_thing.push_back(things.size());
  std::optional<CacheFlush> flush;
  std::optional<CeilingProbe> probe;
  std::vector<Samples> samples;
  if (context.device() == Device::cuda) {
    samples = sample_on_device(context, things, alive, options, stop);
  } else {
    std::function<void()> empty_caches;
    if (options.cold) {
      flush.emplace(context);
      probe.emplace(context, flush->data(), flush->bytes());
      empty_caches = std::ref(*flush);
    }
    samples = sample_interleaved(things, options, empty_caches, stop, [&] {
      if (probe) (*probe)();
    });
  }
  const Ceilings of_now = probe ? probe->median_over(ceilings) : ceilings;
  const Ceilings best = probe ? probe->best_over(ceilings) : ceilings;
  for (std::size_t i = 0; i < alive.size(); ++i) {
    try {
      for (std::size_t t = first_thing[i]; t < first_thing[i + 1]; ++t) {
        if (samples[t].error) std::rethrow_exception(samples[t].error);
      }
      finish(*alive[i], of_now, probe ? &best : nullptr, samples[first_thing[i]], cell.seed);
    } catch (const std::exception& error) {
      fail(*alive[i], error);
    }
  }
}

Context context_of(const Cell& cell, const RunOptions& options) {
  if (options.make_context != nullptr) return options.make_context(cell);
  return Context({.threads = cell.threads, .isa = {}, .device = cell.device});
}

MakeSubject prepare(const Measurement& measurement, Context& context, const Cell& cell,
                    const RoutingSource& source, WeightCache& weights) {
  if (cell.device == Device::cpu) return measurement.prepare(context, cell, source, weights);
  require(measurement.prepare_on_device != nullptr, "bench {} does not run on device cuda",
          cell.bench);
  return measurement.prepare_on_device(context, cell, source, weights);
}

/// Of the device that a group runs on, before anything is put there.
void begin_on_device(const Measurement& measurement, std::span<const Cell> cells,
                     const ExpectedLoad& load, Context& context, std::vector<Running>& running) {
  cuda::Gpu& gpu = cuda::gpu_of(context);
  const DeviceMonitor monitor(gpu.info());
  for (Running& r : running) monitor.add_device(r.record);
  double shared = 0, own = 0;
  for (const Cell& cell : cells) {
    const Cost cost = measurement.cost(cell, load);
    shared = std::max(shared, cost.shared_bytes);
    own += cost.own_bytes;
  }
  require_device_memory(gpu, shared + own);
}

/// Fails the cells rather than throw.
void run_group(const Measurement& measurement, std::span<const Cell> cells,
               const RunOptions& options, const Ceilings& ceilings, WeightCache& weights,
               const std::function<bool()>& stop, std::vector<Running>& running) {
  try {
    const RoutingSource source = RoutingSource::parse(cells[0].routing);
    source.require_fits(shape_of(cells[0]));
    const Budget budget(measurement, source, options, weights.bytes());
    budget.require_room(cells);
    weights.set_spare(budget.room_beside(cells));
    const ExpectedLoad load = expected_load(cells[0], source);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      running[i].record["memory_bytes"] = cell_cost(measurement.cost(cells[i], load)).memory_bytes;
    }
    Context context = context_of(cells[0], options);
    for (Running& r : running) r.record["threads"] = context.threads();
    if (cells[0].device == Device::cuda) {
      begin_on_device(measurement, cells, load, context, running);
    }
    const MakeSubject make = prepare(measurement, context, cells[0], source, weights);
    build_and_check(running, cells, make, weights, stop);
    sample_all(context, running, cells[0], options, ceilings, stop);
    for (Running& r : running) r.subject.reset();  // before the context they hold
  } catch (const std::exception& error) {
    fail_all(running, error);
  }
}

bool only_fit_alone(const Measurement& measurement, std::span<const Cell> cells,
                    const RunOptions& options, const WeightCache& weights) {
  if (cells.size() < 2) return false;
  try {
    const RoutingSource source = RoutingSource::parse(cells[0].routing);
    return !Budget(measurement, source, options, weights.bytes()).has_room(cells);
  } catch (const Error&) {
    return false;  // what is wrong will be in the records
  }
}

}  // namespace

void require_passed(const Check& check) {
  if (check.rel_err <= check.tol) return;
  throw Error(ErrorCode::check_failed,
              fmt::format("the output is off by {:.3g} relative to the reference: expected at most "
                          "{:.3g}",
                          check.rel_err, check.tol));
}

Record identity_of(const Measurement& measurement, const Cell& cell, const RunOptions& options) {
  Record record = {{"schema", "switchyard/1"},
                   {"bench", cell.bench},
                   {"impl", cell.impl},
                   {"strategy", cell.strategy},
                   {"layout", name_of(cell.layout)},
                   {"device", cell.device == Device::cuda ? "cuda" : "cpu"},
                   {"dtype", name_of(cell.dtype)},
                   {"weights", name_of(cell.weights)},
                   {"threads", cell.threads > 0 ? cell.threads : available_cpus()},
                   {"ranks", 1},
                   {"tokens", cell.tokens},
                   {"hidden", cell.hidden},
                   {"ffn", cell.ffn},
                   {"experts", cell.experts},
                   {"top_k", cell.top_k},
                   {"capacity_factor", cell.capacity_factor},
                   {"routing", cell.routing},
                   {"seed", cell.seed},
                   {"activation", name_of(cell.activation)},
                   {"gated", cell.gated},
                   {"cold", options.cold}};
  if (!cell.config.empty()) record["config"] = cell.config;
  if (cell.batch_size > 0) {
    record["batch_size"] = cell.batch_size;
    record["seq_len"] = cell.seq_len;
  }
  if (cell.capacity_factor > 0) {
    record["drop_policy"] = name_of(cell.drop_policy);
    record["renormalise"] = cell.renormalise;
  }
  if (cell.weights.quant) {
    record["scale_search"] = name_of(cell.quant.search);
    if (*cell.weights.quant == QuantFormat::int4) {
      record["quant_group"] = cell.quant.group;
      record["zero_points"] = cell.quant.zero_points;
    }
  }
  if (const std::string params = router_params_of(cell.router); !params.empty()) {
    record["router_params"] = params;
  }
  if (measurement.has_router && has_router(cell)) {
    record["router"] = name_of(cell.router_arch);
    if (const auto width = router_width(cell); width > 0) record["router_hidden"] = width;
  }
  for (const std::string_view field : measurement.not_applicable) record.erase(std::string(field));
  if (cell.routing.starts_with("trace:")) {  // it holds the assignments: no strategy runs
    for (const char* field : {"strategy", "router_params"}) record.erase(field);
  } else if (strategy_of(cell).is_soft()) {
    for (const char* field : {"top_k", "layout", "capacity_factor", "drop_policy", "renormalise"}) {
      record.erase(field);
    }
  }
  require_identity(record);
  return record;
}

CellCost cost_of(const Measurement& measurement, const Cell& cell) {
  const RoutingSource source = RoutingSource::parse(cell.routing);
  source.require_fits(shape_of(cell));
  return cell_cost(measurement.cost(cell, expected_load(cell, source)));
}

std::vector<Record> measure(const Measurement& measurement, std::span<const Cell> cells,
                            const RunOptions& options, const Ceilings& ceilings,
                            WeightCache& weights, const std::function<bool()>& stop) {
  weights.keep_for(measurement.has_experts ? cells : std::span<const Cell>());
  if (only_fit_alone(measurement, cells, options, weights)) {
    std::vector<Record> records;
    for (const Cell& cell : cells) {
      records.push_back(measure(measurement, {&cell, 1}, options, ceilings, weights, stop)[0]);
    }
    return records;
  }
  std::vector<Running> running(cells.size());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    running[i].record = identity_of(measurement, cells[i], options);
    running[i].record["ok"] = true;
    if (running[i].record.contains("strategy")) {
      running[i].record["causal"] = strategy_of(cells[i]).causal;
    }
  }
  reset_peak_rss();
  run_group(measurement, cells, options, ceilings, weights, stop, running);
  std::vector<Record> records;
  for (Running& r : running) {
    if (!r.record.contains("peak_rss_bytes")) r.record["peak_rss_bytes"] = peak_rss_bytes();
    add_environment(r.record, "");
    records.push_back(in_schema_order(r.record));
  }
  return records;
}

}  // namespace switchyard
