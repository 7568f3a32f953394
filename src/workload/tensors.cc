#include "workload/tensors.h"

#include <cmath>

#include "base/check.h"
#include "base/context.h"
#include "workload/random.h"

namespace switchyard {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

template <class T, class FourOf>
void fill(Context& context, MatrixView out, const Philox& random, float scale, FourOf four_of) {
  if (out.row_stride == out.cols || out.rows == 1) {  // dense: one long row
    out = {out.data, out.dtype, 1, out.rows * out.cols, out.rows * out.cols};
  }
  pool_of(context).for_ranges(
      out.rows * out.cols, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
        while (begin < end) {
          const std::int64_t row_begin = begin / out.cols * out.cols;
          const std::int64_t stop = std::min(end, row_begin + out.cols);
          T* const row = reinterpret_cast<T*>(out.row(begin / out.cols));
          for_elements(random, begin, stop, four_of, [&](std::int64_t i, float x) {
            row[i - row_begin] = from_float<T>(x * scale);
          });
          begin = stop;
        }
      });
}

template <class FourOf>
void fill(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream, float scale,
          FourOf four_of) {
  require(out.rows >= 0 && out.cols >= 0, "out is [{}, {}]: expected sizes of 0 or more", out.rows,
          out.cols);
  require_shape("out", out, out.rows, out.cols);
  require(std::isfinite(scale), "scale is {}: expected a finite number", scale);
  const Philox random = philox_for(Use::tensors, seed, stream);
  switch (out.dtype) {
    case DType::f32: return fill<float>(context, out, random, scale, four_of);
    case DType::bf16: return fill<bf16>(context, out, random, scale, four_of);
    case DType::f16: return fill<f16>(context, out, random, scale, four_of);
  }
}

}  // namespace

void fill_uniform(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                  float scale) {
  // A uniform on (-1, 1) has variance 1/3.
  fill(context, out, seed, stream, scale * std::sqrt(3.0f),
       [](const Words& words) { return symmetric_uniforms(words); });
}

void fill_normal(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                 float scale) {
  fill(context, out, seed, stream, scale, [](const Words& words) { return normals(words); });
}

}  // namespace switchyard
