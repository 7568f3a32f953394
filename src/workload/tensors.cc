#include "workload/tensors.h"

#include <cmath>

#include "base/check.h"
#include "base/context.h"
#include "base/philox_blocks.h"
#include "workload/random.h"

namespace switchyard {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

// Calls part(to, begin, end) for what a thread fills: elements [begin, end), counted over the
// matrix and all of one row, lie from `to` on.
template <class T, class Part>
void over_parts(Context& context, MatrixView out, Part part) {
  if (out.row_stride == out.cols || out.rows == 1) {  // dense: one long row
    out = {out.data, out.dtype, 1, out.rows * out.cols, out.rows * out.cols};
  }
  pool_of(context).for_ranges(
      out.rows * out.cols, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
        while (begin < end) {
          const std::int64_t row_begin = begin / out.cols * out.cols;
          const std::int64_t stop = std::min(end, row_begin + out.cols);
          part(reinterpret_cast<T*>(out.row(begin / out.cols)) + (begin - row_begin), begin, stop);
          begin = stop;
        }
      });
}

PhiloxBlocksFn find_philox_blocks(Isa isa) noexcept {
#if defined(SWITCHYARD_X86_KERNELS)
  if (isa >= Isa::avx2) return philox_blocks_avx2;
#endif
  static_cast<void>(isa);
  return philox_blocks_portable;
}

// Elements [begin, end), 1 KiB of random words at a time: vector instructions make the words and,
// in loops this plain, the numbers too.
template <class T>
void uniforms(const Philox& random, PhiloxBlocksFn blocks, std::int64_t begin, std::int64_t end,
              float scale, T* to) noexcept {
  constexpr std::int64_t kBlocks = 64;
  std::uint32_t words[4 * kBlocks];
  while (begin < end) {
    const std::int64_t first = begin / 4, skipped = begin % 4;
    const std::int64_t count = std::min(4 * kBlocks - skipped, end - begin);
    blocks({random.seed(), random.stream(), static_cast<std::uint64_t>(first), kBlocks, words});
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = from_float<T>(symmetric_uniform(words[skipped + i]) * scale);
    }
    begin += count;
    to += count;
  }
}

void require_fill(const MatrixView& out, float scale) {
  require(out.rows >= 0 && out.cols >= 0, "out is [{}, {}]: expected sizes of 0 or more", out.rows,
          out.cols);
  require_shape("out", out, out.rows, out.cols);
  require(std::isfinite(scale), "scale is {}: expected a finite number", scale);
}

// Calls work(T{}) with the element type of `out`.
template <class Work>
void with_element(const MatrixView& out, Work work) {
  switch (out.dtype) {
    case DType::f32: return work(float{});
    case DType::bf16: return work(bf16{});
    case DType::f16: return work(f16{});
  }
}

}  // namespace

void fill_uniform(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                  float scale) {
  require_fill(out, scale);
  const Philox random = philox_for(Use::tensors, seed, stream);
  const PhiloxBlocksFn blocks = find_philox_blocks(context.isa());
  const float width = scale * std::sqrt(3.0f);  // a uniform on (-1, 1) has variance 1/3
  with_element(out, [&](auto element) {
    using T = decltype(element);
    over_parts<T>(context, out, [&](T* to, std::int64_t begin, std::int64_t end) {
      uniforms(random, blocks, begin, end, width, to);
    });
  });
}

void fill_normal(Context& context, MatrixView out, std::uint64_t seed, std::uint64_t stream,
                 float scale) {
  require_fill(out, scale);
  const Philox random = philox_for(Use::tensors, seed, stream);
  const auto four = [](const Words& words) { return normals(words); };
  with_element(out, [&](auto element) {
    using T = decltype(element);
    over_parts<T>(context, out, [&](T* to, std::int64_t begin, std::int64_t end) {
      for_elements(random, begin, end, four,
                   [&](std::int64_t i, float x) { to[i - begin] = from_float<T>(x * scale); });
    });
  });
}

}  // namespace switchyard
