#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "bench/dispatch_inputs.h"
#include "bench/measure.h"
#include "cuda/gpu.h"
#include "switchyard/device.h"

namespace switchyard {

/// A [rows, cols] matrix on the device of a context.
class DeviceMatrix {
 public:
  DeviceMatrix() = default;
  DeviceMatrix(Context& context, DType dtype, std::int64_t rows, std::int64_t cols);
  /// A copy.
  DeviceMatrix(Context& context, ConstMatrixView from);

  MatrixView view() const noexcept { return view_; }
  /// Fills it with NaN, so that what is never written shows.
  void poison(Context& context) const;
  /// Its first rows, on the host.
  Matrix fetch(Context& context, std::int64_t rows) const;

 private:
  DeviceBuffer memory_;
  MatrixView view_;
};

/// An implementation on the device of its context. What is timed lies between two events of the
/// stream. It is the replay of a CUDA graph wherever the work can be captured, since a program that
/// repeats short work would replay it too. Before each run the same work is done once, untimed: it
/// leaves in L2 what a warm run finds there, and until the device is through with it, and with the
/// flush of a cold run, the host has launched the rest.
/// One graph a draw, so what the work of a draw writes to must stay where it is.
class DeviceSubject : public Subject {
 public:
  void prepare(std::int64_t i) override;
  void run() override;
  std::optional<double> own_ms() const override { return ms_; }
  /// Marks between the parts would add their own time to it, and graphs have none.
  bool runs_stages_apart() const override { return parts_.size() > 1; }
  void run_stages() override;
  std::span<const Stage> stages() const override { return stages_; }

 protected:
  /// What a draw does, and the field of the record that gets its median.
  struct Part {
    std::string_view field;
    std::function<void(std::int64_t draw)> work;
  };

  DeviceSubject(Context& context, const Draws& draws) : context_(context), draws_(draws) {}

  /// One part, whose time is the sample's. `is_captured`: nothing in it waits.
  void set_work(std::function<void(std::int64_t draw)> work, bool is_captured) {
    set_parts({{"", std::move(work)}}, is_captured);
  }
  void set_parts(std::vector<Part> parts, bool is_captured);

  Context& context() const noexcept { return context_; }
  const Draws& draws() const noexcept { return draws_; }
  std::int64_t draw() const noexcept { return draw_; }

  /// isa, graph, launch_us.
  void describe_device(Record& record, const Ceilings& ceilings) const;

  double ms_ = 0;
  std::vector<Stage> stages_;

 private:
  void work();
  void submit();

  Context& context_;
  const Draws& draws_;
  std::vector<Part> parts_;
  bool is_captured_ = false;
  std::vector<std::optional<cuda::Graph>> graph_of_draw_;
  std::vector<cuda::Event> marks_;  ///< before the first part and after each
  std::int64_t draw_ = 0;
};

/// Uploads of every draw.
std::vector<DeviceMatrix> device_logits(Context& context, const Draws& draws);
std::vector<DeviceRouting> device_routings(Context& context, const Draws& draws);
std::vector<DevicePlan> device_plans(Context& context, const Plans& plans);

/// make_plan of every draw, and the rows that the largest of them may have.
std::vector<DevicePlan> make_device_plans(Context& context,
                                          const std::vector<DeviceRouting>& routings,
                                          const PlanOptions& options);
std::int64_t max_rows(const std::vector<DevicePlan>& plans) noexcept;

/// Whether a forward of cell.impl's experts can be captured: those that call a library wait for the
/// counts.
bool device_experts_are_captured(const Cell& cell) noexcept;

/// The matrix peak of a device for products of `dtype`; 0 when it was not measured.
double device_peak(Context& context, const Ceilings& ceilings, DType dtype);

}  // namespace switchyard
