#pragma once

#include "gemm/tensor_core.h"

// The instructions of sm_90a that a grouped product is made of: mbarriers, copies of tiles by TMA,
// wgmma. Without nvcc hopper_host.h emulates them. mma_layout.h has their swizzle and descriptor.

#if !defined(__CUDACC__)
#include "gemm/hopper_host.h"
#endif

namespace switchyard::gemm {

/// Sums of a warpgroup's 64 x 256 that a thread holds: element i of fragment f, 8 columns each, is
/// sums[f * 4 + i], at c_element(lane, i) of the warp's 16 rows.
inline constexpr int kWideSums = 128;

#if defined(__CUDACC__)

/// A CUtensorMap.
struct alignas(64) TensorMap {
  std::byte bytes[128];
};

SWITCHYARD_DEVICE std::uint32_t descriptor_address(SharedAddress at, SharedAddress) { return at; }

/// Orders writes of this thread to shared memory, and its completed copies, before what TMA and
/// wgmma do later there (once a barrier has told them).
SWITCHYARD_DEVICE void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// An mbarrier in shared memory, 8 bytes.
struct Barrier {
  SharedAddress at;

  SWITCHYARD_DEVICE void init(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
  }
  SWITCHYARD_DEVICE void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
  }
  /// Arrives, and has the phase last until `bytes` have been copied too.
  SWITCHYARD_DEVICE void arrive_expecting(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes)
                 : "memory");
  }
  /// Until the phase of this parity is over; that before the first counts as one of parity 1.
  SWITCHYARD_DEVICE void wait(int parity) const {
    std::uint32_t over = 0;
    while (over == 0) {
      asm volatile(
          "{\n.reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(over)
          : "r"(at), "r"(parity)
          : "memory");
    }
  }
};

/// A box of a three-dimensional tensor into shared memory, reported to `barrier`; zeros beyond its
/// edges. One thread calls it.
SWITCHYARD_DEVICE void copy_box(SharedAddress to, const TensorMap& map, int column, int row,
                                int matrix, const Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier.at), "r"(column), "r"(row), "r"(matrix)
      : "memory");
}

/// Registers of a producer, which needs few, go to consumers.
template <int kRegisters>
SWITCHYARD_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
SWITCHYARD_DEVICE void drop_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#define SWITCHYARD_SUMS_8(i)                                                                 \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SWITCHYARD_SUMS_32(i)                                                \
  SWITCHYARD_SUMS_8(i), SWITCHYARD_SUMS_8(i + 8), SWITCHYARD_SUMS_8(i + 16), \
      SWITCHYARD_SUMS_8(i + 24)
#define SWITCHYARD_WGMMA(type)                                                                     \
  asm volatile(                                                                                    \
      "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type                                 \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                   \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "           \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "           \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "           \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "           \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "     \
      "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, " \
      "%126, %127}, %128, %129, 1, 1, 1, 0, 0;"                                                    \
      : SWITCHYARD_SUMS_32(0), SWITCHYARD_SUMS_32(32), SWITCHYARD_SUMS_32(64),                     \
        SWITCHYARD_SUMS_32(96)                                                                     \
      : "l"(a), "l"(b))

/// A warpgroup's asynchronous products, waited for in groups. `sums` may not be touched between a
/// product and the wait for it.
class ProductQueue {
 public:
  SWITCHYARD_DEVICE explicit ProductQueue(SharedAddress) {}

  /// Before the first product of a group: orders what wrote `sums`.
  SWITCHYARD_DEVICE void begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
  /// sums += a b^T, 64 x 256, 16 deep; operands by descriptor.
  template <class T>
  SWITCHYARD_DEVICE void multiply(float (&sums)[kWideSums], std::uint64_t a, std::uint64_t b) {
    if constexpr (DTypeOf<T>::value == DType::bf16) {
      SWITCHYARD_WGMMA("bf16");
    } else {
      SWITCHYARD_WGMMA("f16");
    }
  }
  SWITCHYARD_DEVICE void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
  template <int kLeft>
  SWITCHYARD_DEVICE void wait(float (&sums)[kWideSums]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
    if constexpr (kLeft == 0) {
      // Else the compiler might read sums before the wait: to it they are ready since multiply.
      SWITCHYARD_UNROLL
      for (int i = 0; i < kWideSums; ++i) asm volatile("" : "+f"(sums[i])::"memory");
    }
  }
};

#undef SWITCHYARD_WGMMA
#undef SWITCHYARD_SUMS_32
#undef SWITCHYARD_SUMS_8

#endif

}  // namespace switchyard::gemm
