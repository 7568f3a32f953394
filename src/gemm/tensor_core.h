#pragma once

#include <cstdint>

#include "cuda/simt.h"
#include "gemm/mma_layout.h"
#include "switchyard/dtype.h"

// The instructions of sm_80 that a grouped product is made of, one function each: cp.async,
// ldmatrix, mma.sync, and a few of arithmetic. Without nvcc tensor_core_host.h emulates them, so
// that tests run the very kernels.

#if defined(__CUDACC__)
#define SWITCHYARD_UNROLL _Pragma("unroll")
#else
#define SWITCHYARD_UNROLL
#include "gemm/tensor_core_host.h"
#endif

namespace switchyard::gemm {

#if defined(__CUDACC__)

/// An address in shared memory, to which bytes may be added.
using SharedAddress = std::uint32_t;
SWITCHYARD_DEVICE SharedAddress shared_address(const std::byte* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

/// A thread's asynchronous copies from global to shared memory, waited for in groups.
class CopyQueue {
 public:
  /// 16 bytes, both ends aligned to 16; zeros where nothing `exists` (`from` is then not read).
  SWITCHYARD_DEVICE void copy(SharedAddress to, const std::byte* from, bool exists) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(exists ? 16 : 0)
                 : "memory");
  }
  SWITCHYARD_DEVICE void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  /// Until at most `kLeft` of the groups committed are still under way.
  template <int kLeft>
  SWITCHYARD_DEVICE void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
  }
};

/// Four 8 x 8 matrices of 16-bit elements; lane l names the row l mod 8 of matrix l / 8, 16 bytes.
SWITCHYARD_DEVICE void ldmatrix(SharedAddress row, std::uint32_t (&out)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row)
               : "memory");
}

/// d += a b with f32 sums; fragments as mma_layout.h has them.
template <class T>
SWITCHYARD_DEVICE void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1);
template <>
SWITCHYARD_DEVICE void mma<bf16>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                 std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
SWITCHYARD_DEVICE void mma<f16>(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Two elements of T in a register, `low` in its lower half, rounded to nearest even.
template <class T>
SWITCHYARD_DEVICE std::uint32_t pack_pair(float low, float high);
template <>
SWITCHYARD_DEVICE std::uint32_t pack_pair<bf16>(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <>
SWITCHYARD_DEVICE std::uint32_t pack_pair<f16>(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// Reads of shared memory.
SWITCHYARD_DEVICE std::uint32_t load_word(SharedAddress at) {
  std::uint32_t word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
  return word;
}
SWITCHYARD_DEVICE std::uint32_t load_byte(SharedAddress at) {
  std::uint32_t byte;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(byte) : "r"(at) : "memory");
  return byte;
}

/// a b + c, rounded once; the second for two elements of T in a register.
SWITCHYARD_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
template <class T>
SWITCHYARD_DEVICE std::uint32_t fused_pair(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  if constexpr (DTypeOf<T>::value == DType::bf16) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  } else {
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  }
  return d;
}

/// An element as f32.
SWITCHYARD_DEVICE float widen(bf16 x) { return __uint_as_float(std::uint32_t{x.bits} << 16); }
SWITCHYARD_DEVICE float widen(f16 x) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
}

/// x / (1 + e^-x), to some 2^-21: two instructions of the special function unit.
SWITCHYARD_DEVICE float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }
SWITCHYARD_DEVICE float error_function(float x) { return erff(x); }

#endif

}  // namespace switchyard::gemm
