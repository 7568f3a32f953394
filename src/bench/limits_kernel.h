#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace switchyard {

/// The loops whose speed is a ceiling. Each exists to be as fast as the hardware lets it and
/// returns something of what it did, so that no compiler leaves it out.

/// As equal parts side by side; as one, each line asked for 8 KiB ahead; or in rounds, of eight
/// parts of 128 KiB 2 KiB each, while the next 2 KiB of all are fetched line by line in turn.
enum class ReadOrder : std::uint8_t {
  one_stream,
  two_streams,
  four_streams,
  eight_streams,
  one_stream_ahead,
  rounds
};
inline constexpr std::array kReadOrders = {ReadOrder::one_stream,       ReadOrder::two_streams,
                                           ReadOrder::four_streams,     ReadOrder::eight_streams,
                                           ReadOrder::one_stream_ahead, ReadOrder::rounds};

/// Wrapping sum of the 64-bit words of data[0, bytes). bytes: a multiple of 4096; data: 64-byte
/// aligned.
using ReadKernel = std::uint64_t (*)(const std::byte* data, std::int64_t bytes,
                                     ReadOrder order) noexcept;

/// dst[0, bytes) = src[0, bytes), both 64-byte aligned; bytes: a multiple of 128. Streaming stores
/// are not fenced: a row is not worth waiting for, and the threads' join waits for all.
using CopyKernel = void (*)(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept;

/// Writes dst[0, bytes), 64-byte aligned; bytes: a multiple of 128.
using WriteKernel = void (*)(std::byte* dst, std::int64_t bytes) noexcept;

/// Multiplies and adds in registers, `steps` times flops_per_step of the kernel's own constant.
using PeakKernel = float (*)(std::int64_t steps) noexcept;

std::uint64_t read_portable(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept;
void copy_portable(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept;
void write_portable(std::byte* dst, std::int64_t bytes) noexcept;
float peak_f32_portable(std::int64_t steps) noexcept;
inline constexpr double kFlopsF32Portable = 12 * 4 * 2;  // 12 accumulators of 4 lanes

#if defined(SWITCHYARD_X86_KERNELS)
std::uint64_t read_avx2(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept;
void copy_stream_avx2(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept;
void write_stream_avx2(std::byte* dst, std::int64_t bytes) noexcept;
float peak_f32_avx2(std::int64_t steps) noexcept;
inline constexpr double kFlopsF32Avx2 = 12 * 8 * 2;
float peak_int8_avx2(std::int64_t steps) noexcept;
inline constexpr double kFlopsInt8Avx2 = 12 * 32 * 2;  // codes below 16 (see gemm/quant_kernel_*)

std::uint64_t read_avx512(const std::byte* data, std::int64_t bytes, ReadOrder order) noexcept;
void copy_avx512(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept;
void copy_stream_avx512(std::byte* dst, const std::byte* src, std::int64_t bytes) noexcept;
void write_avx512(std::byte* dst, std::int64_t bytes) noexcept;
void write_stream_avx512(std::byte* dst, std::int64_t bytes) noexcept;
float peak_f32_avx512(std::int64_t steps) noexcept;
inline constexpr double kFlopsF32Avx512 = 12 * 16 * 2;

float peak_bf16_avx512_bf16(std::int64_t steps) noexcept;
inline constexpr double kFlopsBf16Avx512 = 12 * 16 * 2 * 2;  // 16 lanes of 2 products
float peak_int8_avx512_bf16(std::int64_t steps) noexcept;
inline constexpr double kFlopsInt8Avx512 = 12 * 16 * 4 * 2;

float peak_bf16_amx_bf16(std::int64_t steps) noexcept;
inline constexpr double kFlopsBf16Amx = 4 * 16.0 * 16 * 32 * 2;  // 4 tiles [16, 32] x [32, 16]
float peak_int8_amx_bf16(std::int64_t steps) noexcept;
inline constexpr double kFlopsInt8Amx = 2 * kFlopsBf16Amx;
#endif

}  // namespace switchyard
