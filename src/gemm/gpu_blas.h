#pragma once

#include <memory>
#include <string>

#include "gemm/gpu_rows.h"
#include "switchyard/device.h"
#include "switchyard/experts.h"

namespace switchyard::gemm {

/// How cuBLAS is asked for the products of experts.
///   loop     a product per expert (cublasLtMatmul)
///   library  one call for all (cublasGemmGroupedBatchedEx)
///   padded   one call over [E, max n, .] (cublasGemmStridedBatchedEx)
/// Their arguments are shapes, which the host must know: a forward waits for the counts.
enum class BlasWay { loop, library, padded };

class BlasFfn {
 public:
  /// Copies the weights, from the host or the device.
  BlasFfn(Context& context, const ExpertWeights& weights, BlasWay way);
  ~BlasFfn();
  BlasFfn(BlasFfn&&) noexcept;

  /// `in` and `out` are on the device, of the weights' dtype.
  void forward(Context& context, const GpuRows& rows, const ConstMatrixView& in,
               const MatrixView& out);

  std::string name() const;  ///< "cuBLASLt 13.0.0"
  std::int64_t weight_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace switchyard::gemm
