#pragma once

#include <cstdint>
#include <string>

#include "bench/weights.h"
#include "switchyard/context.h"
#include "switchyard/experts.h"
#include "switchyard/plan.h"
#include "switchyard/router.h"
#include "switchyard/routing.h"

namespace switchyard {

/// One point of a sweep: everything that decides what is computed. Two runs of one cell compute the
/// same bits.
struct Cell {
  std::string bench;  ///< target: "layer", "pack", ...
  std::string impl;   ///< one of the target's implementations
  std::string strategy = "topk_softmax";
  std::string routing = "uniform";  ///< as given to --routing
  std::string config;               ///< name given to --config, or empty
  Layout layout = Layout::compact;
  DType dtype = DType::bf16;  ///< activations
  WeightFormat weights;
  QuantOptions quant;  ///< of integer weights; its format is that of `weights`
  Device device = Device::cpu;
  int threads = 0;  ///< of the host; 0: one per CPU
  std::int64_t tokens = 1024;
  std::int64_t batch_size = 0;  ///< where tokens were given as batch_size * seq_len, else 0
  std::int64_t seq_len = 0;
  std::int64_t hidden = 2048;
  std::int64_t ffn = 1024;
  int experts = 64;
  int top_k = 8;
  double capacity_factor = 0;
  DropPolicy drop_policy = DropPolicy::position;
  bool renormalise = false;
  Activation activation = Activation::silu;
  bool gated = true;
  RouterArch router_arch = RouterArch::linear;
  std::int64_t router_hidden = 0;  ///< R of its MLP; 0: as router_width has it
  RouterParams router;             ///< top_k and seed are kept equal to the cell's
  std::uint64_t seed = 17;
};

/// How long and how carefully to measure.
struct RunOptions {
  int warmup = -1;           ///< iterations before the first sample; -1: until times settle
  int iters = -1;            ///< samples; -1: until min_time and confidence are reached
  double min_time_s = 0.5;   ///< of samples, per cell
  double max_time_s = 20.0;  ///< cap per cell, whatever the confidence
  double confidence =
      0.02;          ///< stop when the 95% interval of the median is this narrow, relatively
  bool cold = true;  ///< read a buffer larger than the last-level cache before each sample
  /// Makes the context of a group of cells; null: what the cells say. For tests, whose device is
  /// emulated.
  Context (*make_context)(const Cell& cell) = nullptr;
};

}  // namespace switchyard
