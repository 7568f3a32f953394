#include "gemm/ffn_onednn.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "base/context.h"
#include "gemm/rows.h"
#include "switchyard/error.h"

namespace switchyard::gemm {
namespace {

using dnnl::memory;

// oneDNN runs on OpenMP and reads the team's size when a primitive is made and when it runs.
class OmpTeam {
 public:
  explicit OmpTeam(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~OmpTeam() { omp_set_num_threads(before_); }
  OmpTeam(const OmpTeam&) = delete;
  OmpTeam& operator=(const OmpTeam&) = delete;

 private:
  int before_;
};

template <class Work>
auto with_onednn_errors(Work&& work) {
  try {
    return work();
  } catch (const dnnl::error& e) {
    const bool memory_is_short = e.status == dnnl_out_of_memory;
    throw Error(memory_is_short ? ErrorCode::out_of_memory : ErrorCode::unavailable,
                fmt::format("oneDNN: {} (status {})", e.what(), static_cast<int>(e.status)));
  }
}

memory::data_type data_type_of(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

dnnl::algorithm algorithm_of(Activation activation) {
  switch (activation) {
    case Activation::silu: return dnnl::algorithm::eltwise_swish;
    case Activation::gelu: return dnnl::algorithm::eltwise_gelu_erf;
    case Activation::relu: return dnnl::algorithm::eltwise_relu;
  }
  return dnnl::algorithm::undef;
}

void append_activation(dnnl::post_ops& ops, Activation activation) {
  const float alpha = activation == Activation::silu ? 1.0f : 0.0f;  // of x sigmoid(alpha x)
#if DNNL_VERSION_MAJOR >= 3
  ops.append_eltwise(algorithm_of(activation), alpha, 0.0f);
#else
  ops.append_eltwise(1.0f, algorithm_of(activation), alpha, 0.0f);
#endif
}

// oneDNN fixes its ISA for the whole process when it makes its first primitive, so the cap of the
// first context to come here holds. kernel() and isa() report what runs.
void cap_isa(Isa isa) {
  dnnl::cpu_isa cap = dnnl::cpu_isa::sse41;
  switch (isa) {
    case Isa::portable: break;
    case Isa::avx2: cap = dnnl::cpu_isa::avx2; break;
    case Isa::avx512: cap = dnnl::cpu_isa::avx512_core; break;
    case Isa::avx512_bf16: cap = dnnl::cpu_isa::avx512_core_bf16; break;
    case Isa::amx_bf16: return;
  }
  static_cast<void>(dnnl::set_max_cpu_isa(cap));
}

// The plain name of an implementation such as "brg:avx512_core_amx_bf16"; one that names no ISA
// ("gemm:jit") generates code for the best there is.
Isa isa_of(std::string_view implementation, DType dtype) {
  const auto names = [&](std::string_view part) {
    return implementation.find(part) != implementation.npos;
  };
  if (names("amx")) return Isa::amx_bf16;
  if (names("avx512") && names("bf16")) return Isa::avx512_bf16;
  if (names("avx512")) return Isa::avx512;
  if (names("avx2")) return Isa::avx2;
  if (names("ref") || names("sse")) return Isa::portable;
  const int isa = static_cast<int>(dnnl::get_effective_cpu_isa());
  const auto has = [&](dnnl::cpu_isa bits) {
    return (isa & static_cast<int>(bits)) == static_cast<int>(bits);
  };
  if (dtype == DType::bf16 && has(dnnl::cpu_isa::avx512_core_bf16)) return Isa::avx512_bf16;
  if (has(dnnl::cpu_isa::avx512_core)) return Isa::avx512;
  return has(dnnl::cpu_isa::avx2) ? Isa::avx2 : Isa::portable;
}

memory::desc dense(memory::data_type type, std::int64_t batch, std::int64_t rows,
                   std::int64_t cols) {
  if (batch == 0) return {{rows, cols}, type, memory::format_tag::ab};
  return {{batch, rows, cols}, type, memory::format_tag::abc};
}

}  // namespace

/// Primitives and memory objects for one row count; the buffers are set at each run.
struct FfnOneDnn::Calls {
  struct Matmul {
    Matmul() = default;
    Matmul(const dnnl::matmul::primitive_desc& d, const dnnl::engine& engine)
        : primitive(d),
          src(d.src_desc(), engine, nullptr),
          weights(d.weights_desc(), engine, nullptr),
          dst(d.dst_desc(), engine, nullptr),
          scratch(d.scratchpad_desc(), engine) {}

    void run(dnnl::stream& stream, const std::byte* in, std::byte* prepacked, std::byte* out) {
      src.set_data_handle(const_cast<std::byte*>(in));
      weights.set_data_handle(prepacked);
      dst.set_data_handle(out);
      // The C call, because the C++ one builds a map on the heap each time.
      const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, src.get()},
                                      {DNNL_ARG_WEIGHTS, weights.get()},
                                      {DNNL_ARG_DST, dst.get()},
                                      {DNNL_ARG_SCRATCHPAD, scratch.get()}};
      dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), stream.get(), 4, args),
                              "could not run a matmul");
    }

    dnnl::matmul primitive;
    memory src, weights, dst, scratch;
  };

  /// a = a * b
  struct Product {
    Product() = default;
    Product(const memory::desc& values, const dnnl::engine& engine)
        : primitive(description(values, engine)),
          a(values, engine, nullptr),
          b(values, engine, nullptr) {}

    static dnnl::binary::primitive_desc description(const memory::desc& values,
                                                    const dnnl::engine& engine) {
#if DNNL_VERSION_MAJOR >= 3
      return {engine, dnnl::algorithm::binary_mul, values, values, values};
#else
      return {{dnnl::algorithm::binary_mul, values, values, values}, engine};
#endif
    }

    void run(dnnl::stream& stream, std::byte* in_out, std::byte* other) {
      a.set_data_handle(in_out);
      b.set_data_handle(other);
      const dnnl_exec_arg_t args[] = {
          {DNNL_ARG_SRC_0, a.get()}, {DNNL_ARG_SRC_1, b.get()}, {DNNL_ARG_DST, a.get()}};
      dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), stream.get(), 3, args),
                              "could not run a product");
    }

    dnnl::binary primitive;
    memory a, b;
  };

  Matmul gate, up, down;
  Product product;
};

void FfnOneDnn::CallsDeleter::operator()(Calls* calls) const noexcept { delete calls; }

FfnOneDnn::FfnOneDnn(Context& context, const ExpertWeights& weights, DType activations,
                     bool batched)
    : experts_(weights.up.count),
      hidden_(weights.up.cols),
      ffn_(weights.up.rows),
      activation_(weights.activation),
      gated_(weights.is_gated()),
      batched_(batched) {
  with_onednn_errors([&] {
    cap_isa(context.isa());
    const OmpTeam team(context.threads());
    threads_ = context.threads();
    engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
    stream_ = dnnl::stream(engine_);

    const auto implementation = [&] {
      const memory::desc any(
          batched_ ? memory::dims{experts_, hidden_, ffn_} : memory::dims{hidden_, ffn_},
          data_type_of(dtype_), memory::format_tag::any);
      return std::string(describe(any, 64, ffn_, hidden_, true).impl_info_str());
    };
    if (activations == DType::bf16 && weights.up.dtype == DType::bf16) {
      dtype_ = DType::bf16;
      try {
        implementation_ = implementation();
      } catch (const dnnl::error&) {
        dtype_ = DType::f32;
      }
      if (implementation_.starts_with("ref")) dtype_ = DType::f32;
    }
    if (dtype_ == DType::f32) implementation_ = implementation();

    if (gated_) gate_ = prepack(weights.gate, true);
    up_ = prepack(weights.up, !gated_);
    down_ = prepack(weights.down, false);
  });
}

dnnl::matmul::primitive_desc FfnOneDnn::describe(const memory::desc& weights, std::int64_t rows,
                                                 std::int64_t n, std::int64_t k,
                                                 bool activated) const {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (activated) {
    dnnl::post_ops ops;
    append_activation(ops, activation_);
    attributes.set_post_ops(ops);
  }
  const std::int64_t batch = batched_ ? experts_ : 0;
  const memory::desc src = dense(data_type_of(dtype_), batch, rows, k);
  const memory::desc dst = dense(data_type_of(dtype_), batch, rows, n);
#if DNNL_VERSION_MAJOR >= 3
  return {engine_, src, weights, dst, attributes};
#else
  return {{src, weights, dst}, attributes, engine_};
#endif
}

FfnOneDnn::Projection FfnOneDnn::prepack(const ConstMatricesView& weights, bool activated) {
  const memory::data_type type = data_type_of(dtype_);
  const std::int64_t n = weights.rows, k = weights.cols;
  const memory::desc any(batched_ ? memory::dims{experts_, k, n} : memory::dims{k, n}, type,
                         memory::format_tag::any);
  Projection out;
  // The layout that suits 64 rows is the one oneDNN 2.6 picks for every row count.
  out.layout = describe(any, 64, n, k, activated).weights_desc();
  const auto layout_bytes = static_cast<std::int64_t>(out.layout.get_size());
  out.bytes = batched_ ? 0 : (layout_bytes + 63) / 64 * 64;
  out.weights.reserve(batched_ ? layout_bytes : out.bytes * experts_);

  const bool converts = weights.dtype != dtype_;
  Buffer converted(converts ? n * k * static_cast<std::int64_t>(size_of(dtype_)) : 0);
  for (std::int64_t e = 0; e < experts_; ++e) {
    ConstMatrixView matrix_of_e = weights[e];
    if (converts) {
      const MatrixView to{converted.data(), dtype_, n, k, k};
      for (std::int64_t i = 0; i < n; ++i) {
        copy_row(matrix_of_e.row(i), weights.dtype, to.row(i), dtype_, k);
      }
      matrix_of_e = to;
    }
    const memory::dims shape = batched_ ? memory::dims{1, k, n} : memory::dims{k, n};
    const memory::dims strides = batched_ ? memory::dims{k * n, 1, matrix_of_e.row_stride}
                                          : memory::dims{1, matrix_of_e.row_stride};
    memory from({shape, type, strides}, engine_, const_cast<std::byte*>(matrix_of_e.data));
    memory to(batched_ ? out.layout.submemory_desc(shape, {e, 0, 0}) : out.layout, engine_,
              out.weights.data() + e * out.bytes);
    dnnl::reorder(from, to).execute(stream_, from, to);
  }
  stream_.wait();
  return out;
}

std::int64_t FfnOneDnn::padded_rows(std::int64_t rows) const noexcept {
  if (rows <= 16) return rows;
  // A bf16 tile has 16 rows, so that its padding is free.
  const std::int64_t least = dtype_ == DType::bf16 ? 16 : 4;
  const auto sixteenth =
      static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows)) / 16);
  const std::int64_t step = std::max(least, sixteenth);
  return (rows + step - 1) / step * step;
}

std::int64_t FfnOneDnn::scratch_elements(std::int64_t rows) const noexcept {
  return (gated_ ? 2 : 1) * (batched_ ? experts_ : 1) * rows * ffn_;
}

FfnOneDnn::Calls& FfnOneDnn::calls_for(std::int64_t rows) {
  auto& calls = calls_of_rows_[rows];
  if (calls != nullptr) return *calls;
  std::unique_ptr<Calls, CallsDeleter> made(new Calls);
  if (gated_) {
    made->gate = {describe(gate_.layout, rows, ffn_, hidden_, true), engine_};
    const std::int64_t all_rows = (batched_ ? experts_ : 1) * rows;
    made->product = {dense(data_type_of(dtype_), 0, all_rows, ffn_), engine_};
  }
  made->up = {describe(up_.layout, rows, ffn_, hidden_, !gated_), engine_};
  made->down = {describe(down_.layout, rows, hidden_, ffn_, false), engine_};
  calls = std::move(made);
  return *calls;
}

std::byte* FfnOneDnn::weights_of(Projection& projection, std::int64_t expert) const noexcept {
  return projection.weights.data() + expert * projection.bytes;
}

void FfnOneDnn::run(Context& context, std::int64_t expert, std::int64_t rows, const std::byte* in,
                    std::byte* out, std::byte* scratch) {
  with_onednn_errors([&] {
    const OmpTeam team(context.threads());
    if (threads_ != context.threads()) calls_of_rows_.clear();
    threads_ = context.threads();
    Calls& calls = calls_for(rows);
    std::byte* up = scratch;
    calls.up.run(stream_, in, weights_of(up_, expert), up);
    if (gated_) {
      std::byte* gate =
          scratch + scratch_elements(rows) / 2 * static_cast<std::int64_t>(size_of(dtype_));
      calls.gate.run(stream_, in, weights_of(gate_, expert), gate);
      calls.product.run(stream_, up, gate);
    }
    calls.down.run(stream_, up, weights_of(down_, expert), out);
    stream_.wait();
  });
}

std::string FfnOneDnn::kernel() const {
  const dnnl::version_t* version = dnnl::version();
  return fmt::format("oneDNN {}.{}.{} {} {}", version->major, version->minor, version->patch,
                     name_of(dtype_), implementation_);
}

std::string FfnOneDnn::isa() const { return std::string(name_of(isa_of(implementation_, dtype_))); }

std::int64_t FfnOneDnn::weight_bytes() const noexcept {
  return gate_.weights.bytes() + up_.weights.bytes() + down_.weights.bytes();
}

}  // namespace switchyard::gemm
