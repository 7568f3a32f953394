#include <immintrin.h>

#include "base/philox_blocks.h"

// Four blocks in 64-bit lanes, a word in the lower half of each; what lands in upper halves is
// never read. A round is two multiplications of all lanes; two sets of four blocks hide their
// latency.

namespace switchyard {
namespace {

constexpr int kRounds = 10;
constexpr std::uint32_t kMultiplier[2] = {0xd2511f53u, 0xcd9e8d57u};
constexpr std::uint32_t kWeyl[2] = {0x9e3779b9u, 0xbb67ae85u};  // golden ratio, sqrt(3) - 1

struct Words {
  __m256i word[4];
};

inline __m256i low_words(std::uint64_t word) noexcept {
  return _mm256_set1_epi64x(static_cast<long long>(word & 0xffffffffu));
}

// Lanes in the order 0, 2, 1, 3, so that store() finds neighbours in the halves of a register.
inline Words counters(const PhiloxBlocks& args, std::uint64_t first) noexcept {
  const __m256i index = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(first)),
                                         _mm256_setr_epi64x(0, 2, 1, 3));
  return {
      {index, _mm256_srli_epi64(index, 32), low_words(args.stream), low_words(args.stream >> 32)}};
}

inline void round(Words& x, const __m256i key[2]) noexcept {
  const __m256i p0 = _mm256_mul_epu32(x.word[0], low_words(kMultiplier[0]));
  const __m256i p1 = _mm256_mul_epu32(x.word[2], low_words(kMultiplier[1]));
  const __m256i high0 = _mm256_srli_epi64(p0, 32), high1 = _mm256_srli_epi64(p1, 32);
  x = {{_mm256_xor_si256(_mm256_xor_si256(high1, x.word[1]), key[0]), p1,
        _mm256_xor_si256(_mm256_xor_si256(high0, x.word[3]), key[1]), p0}};
}

inline void store(const Words& x, std::uint32_t* words) noexcept {
  const __m256i w01 = _mm256_blend_epi32(x.word[0], _mm256_slli_epi64(x.word[1], 32), 0xaa);
  const __m256i w23 = _mm256_blend_epi32(x.word[2], _mm256_slli_epi64(x.word[3], 32), 0xaa);
  auto* out = reinterpret_cast<__m256i*>(words);
  _mm256_storeu_si256(out, _mm256_unpacklo_epi64(w01, w23));      // lanes 0 and 2: blocks 0, 1
  _mm256_storeu_si256(out + 1, _mm256_unpackhi_epi64(w01, w23));  // lanes 1 and 3: blocks 2, 3
}

template <int sets>
inline void some_blocks(const PhiloxBlocks& args, std::int64_t b) noexcept {
  Words x[sets];
  for (int s = 0; s < sets; ++s) {
    x[s] = counters(args, args.first + static_cast<std::uint64_t>(b + 4 * s));
  }
  std::uint32_t key[2] = {static_cast<std::uint32_t>(args.seed),
                          static_cast<std::uint32_t>(args.seed >> 32)};
  for (int r = 0; r < kRounds; ++r) {
    const __m256i keys[2] = {low_words(key[0]), low_words(key[1])};
    for (int s = 0; s < sets; ++s) round(x[s], keys);
    key[0] += kWeyl[0];
    key[1] += kWeyl[1];
  }
  for (int s = 0; s < sets; ++s) store(x[s], args.words + 4 * (b + 4 * s));
}

}  // namespace

void philox_blocks_avx2(const PhiloxBlocks& args) noexcept {
  std::int64_t b = 0;
  for (; b + 8 <= args.count; b += 8) some_blocks<2>(args, b);
  for (; b < args.count; b += 4) some_blocks<1>(args, b);
}

}  // namespace switchyard
