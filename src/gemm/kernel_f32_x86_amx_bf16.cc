#include <immintrin.h>

#include "gemm/gemm_kernel.h"
#include "gemm/prefetch.h"
#include "gemm/split_tiles.h"
#include "gemm/tile_config.h"

// f32 products of f32 accuracy from tiles of bf16 (Henry, Tang and Heinecke, Leveraging the
// bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations, ARITH 2019):
//
//   x = x1 + x2 + x3    bf16, exactly
//   a b = a1 b3 + a1 b2 + a2 b2 + a2 b1 + a1 b1 + a3 b1    and three below 2^-23 of a b, left out
//
// Six tile products for one: the ceiling is a sixth of that of bf16, twice that of AVX-512.
//
// Panels come split. Weights lie as f32, 4 bytes to read, and are split here, a step (32 depths) at
// a time, into an image: the B tiles of its parts, 6 KiB. The 24 products of a step take 384
// cycles, its splitting 240 of the vector units, which are free meanwhile: the first pair of row
// tiles splits the next step between its products, the last pair the first step of the next run.
// Two images are all there is, so that they stay in L1 while all rows take both steps of a run;
// tiles of activations come from L2, and the sums pass through it between runs.
//
// Of the tile products alone, operands in L2, one thread (depth 512, 416 rows; 2048, 128 and 64):
//
//   runs of                                  2       3       4 steps
//   416 rows                                 0.95    0.92    0.90
//   128 rows                                 0.71    0.63    0.64
//   64 rows                                  0.75    0.62    0.57
//
// The arithmetic of splitting is free (0.99 with 64 rows when it loads and stores nothing). What
// few rows wait for are L1's 16 line buffers: weights on their way from memory and from L2 share
// them with activations. Images of 16 steps in L2 are 0.94 with 416 rows and 0.65 with 64.
//
// Up to 32 rows all steps are one run, and memory the limit. Of the time of AVX-512 on a core of
// its own: 1 and 4 rows 1.03 to 1.1, 16 rows 0.95, 32 rows 0.6. Where two threads share a core,
// splitting is the limit: 1 and 4 rows 2.4, 16 rows 1.5. Straight to L1 in rounds (rounds.h) of
// four streams weights come slower, 1.3 of the time of AVX-512 with 1 to 16 rows.
//
// All products of a depth are added in one order, and steps in order of depth: a row's sums do not
// depend on how many others there are, nor on runs and parts.

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kLine = 64;
constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kAccStride = kStripeColumns * 4;
constexpr std::int64_t kWeightBytes = kDepthUnit * kAccStride;  // of a step
constexpr std::int64_t kImagePart = 2 * kTileBytes;             // two column tiles
constexpr std::int64_t kImageBytes = kSplitParts * kImagePart;
constexpr std::int64_t kRunSteps = 2;
constexpr std::int64_t kPlaces = 24;  // in a step, where lines are asked for: at each product
constexpr int kUnits = 32;            // of a step's splitting

inline __m512i high_half() noexcept { return _mm512_set1_epi32(static_cast<int>(0xffff0000u)); }

inline __m512i bits(__m512 x) noexcept { return _mm512_castps_si512(x); }
inline __m512i nearest(__m512 x) noexcept {
  return _mm512_add_epi32(bits(x), _mm512_set1_epi32(0x8000));
}
inline __m512 without(__m512 x, __m512i part) noexcept {
  return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(part, high_half())));
}

/// 32 values in the parts they add up to, each in the high halves of two vectors' lanes. The first
/// is rounded to the nearest (ties away from zero); what is left has either sign, so that the
/// second may be cut off. All differences are exact, and the third has no more than eight bits.
struct Parts {
  __m512i a[kSplitParts], b[kSplitParts];

  inline Parts(__m512 x, __m512 y) noexcept {
    a[0] = nearest(x);
    b[0] = nearest(y);
    const __m512 x1 = without(x, a[0]), y1 = without(y, b[0]);
    a[1] = bits(x1);
    b[1] = bits(y1);
    a[2] = bits(without(x1, a[1]));
    b[2] = bits(without(y1, b[1]));
  }
};

// The high halves of a's lanes beside those of b's.
inline __m512i paired(__m512i a, __m512i b) noexcept {
  constexpr int kFirstOrBothOthers = 0xf8;
  return _mm512_ternarylogic_epi32(_mm512_srli_epi32(a, 16), b, high_half(), kFirstOrBothOthers);
}

// Two depths of 16 columns: a row of a B tile of each part.
inline void split_unit(const std::byte* weights, std::byte* image, int unit) noexcept {
  const std::byte* from = weights + unit / 2 * 2 * kAccStride + unit % 2 * kLine;
  std::byte* to = image + unit % 2 * kTileBytes + unit / 2 * kLine;
  __builtin_prefetch(from + kWeightBytes / 2);
  __builtin_prefetch(from + kWeightBytes / 2 + kAccStride);
  const Parts parts(_mm512_load_ps(from), _mm512_load_ps(from + kAccStride));
#pragma GCC unroll 3
  for (int i = 0; i < kSplitParts; ++i, to += kImagePart) {
    _mm512_store_si512(to, paired(parts.a[i], parts.b[i]));
  }
}

template <int first, int count>
inline void split_units(const std::byte* weights, std::byte* image) noexcept {
#pragma GCC unroll 8
  for (int unit = first; unit < first + count; ++unit) split_unit(weights, image, unit);
}

/// A run of steps of a stripe, which all row tiles take before the next.
struct Run {
  const std::byte* weights;
  const std::byte* next;  ///< weights of the run after it, null at the end
  std::byte* images;      ///< two, taken in turn
  std::int64_t steps;
  std::int64_t part_bytes;  ///< of an A tile
  std::int64_t tile_bytes;  ///< from an A tile to the next
  std::int64_t tile_sums;   ///< from the sums of a row tile to the next's, in acc
  bool accumulate;
};

/// What a pass of a pair of row tiles, or of a single one, through a run does besides.
struct Pass {
  bool is_first;      ///< splits the other steps of the run
  bool is_last;       ///< splits the first step of the next
  const float* sums;  ///< of the pass after it, fetched meanwhile
  const float* sums_end;

  inline void fetch_sums() noexcept {
    if (sums == sums_end) return;
    __builtin_prefetch(sums);
    sums += kLine / 4;
  }
};

/// The step that is split during step k: null when there is none. It goes to the image that the
/// step after k takes.
inline const std::byte* to_split(const Run& run, const Pass& pass, std::int64_t k) noexcept {
  if (k + 1 < run.steps) {
    return pass.is_first ? run.weights + (k + 1) * kWeightBytes : nullptr;
  }
  return pass.is_last ? run.next : nullptr;
}
inline std::byte* image_after(const Run& run, std::int64_t k) noexcept {
  return k + 1 < run.steps ? run.images + (k + 1) % 2 * kImageBytes : run.images;
}

#define SWITCHYARD_PRODUCT(tile, activations, weights) \
  _tile_dpbf16ps(tile, activations, weights);          \
  ahead.step();

// The first product of a run: stores what the tile holds from the pass before, unless that is null.
#define SWITCHYARD_FIRST_PRODUCT(tile, at, activations, weights)        \
  if (before != nullptr) _tile_stored(tile, before + (at), kAccStride); \
  if (run.accumulate) {                                                 \
    _tile_loadd(tile, acc + (at), kAccStride);                          \
  } else {                                                              \
    _tile_zero(tile);                                                   \
  }                                                                     \
  SWITCHYARD_PRODUCT(tile, activations, weights)

// Between products: units of splitting, or nothing but the sums to fetch.
#define SWITCHYARD_BETWEEN(first, count)    \
  if constexpr (split) {                    \
    split_units<first, count>(weights, to); \
  } else {                                  \
    pass.fetch_sums();                      \
  }

// All of a step but a1 b3. Tiles 4 and 5 hold a1, 6 already half of b2.
template <bool split, class Ahead>
inline void other_products(const Run& run, Pass& pass, const std::byte* a, const std::byte* b,
                           const std::byte* weights, std::byte* to, Ahead& ahead) noexcept {
  const std::byte* second = a + run.tile_bytes;
  _tile_loadd(7, b + kImagePart + kTileBytes, kLine);
  SWITCHYARD_PRODUCT(0, 4, 6)  // a1 b2
  SWITCHYARD_BETWEEN(0, 1)
  SWITCHYARD_PRODUCT(1, 4, 7)
  SWITCHYARD_BETWEEN(1, 1)
  _tile_loadd(4, a + run.part_bytes, kLine);
  SWITCHYARD_PRODUCT(2, 5, 6)
  SWITCHYARD_BETWEEN(2, 2)
  SWITCHYARD_PRODUCT(3, 5, 7)
  SWITCHYARD_BETWEEN(4, 2)
  _tile_loadd(5, second + run.part_bytes, kLine);

  SWITCHYARD_PRODUCT(0, 4, 6)  // a2 b2
  SWITCHYARD_BETWEEN(6, 1)
  SWITCHYARD_PRODUCT(2, 5, 6)
  SWITCHYARD_BETWEEN(7, 2)
  _tile_loadd(6, b, kLine);
  SWITCHYARD_PRODUCT(1, 4, 7)
  SWITCHYARD_BETWEEN(9, 2)
  SWITCHYARD_PRODUCT(3, 5, 7)
  SWITCHYARD_BETWEEN(11, 2)
  _tile_loadd(7, b + kTileBytes, kLine);

  SWITCHYARD_PRODUCT(0, 4, 6)  // a2 b1
  SWITCHYARD_BETWEEN(13, 1)
  SWITCHYARD_PRODUCT(1, 4, 7)
  SWITCHYARD_BETWEEN(14, 2)
  _tile_loadd(4, a, kLine);
  SWITCHYARD_PRODUCT(2, 5, 6)
  SWITCHYARD_BETWEEN(16, 2)
  SWITCHYARD_PRODUCT(3, 5, 7)
  SWITCHYARD_BETWEEN(18, 2)
  _tile_loadd(5, second, kLine);

  SWITCHYARD_PRODUCT(0, 4, 6)  // a1 b1
  SWITCHYARD_BETWEEN(20, 1)
  SWITCHYARD_PRODUCT(1, 4, 7)
  SWITCHYARD_BETWEEN(21, 2)
  _tile_loadd(4, a + 2 * run.part_bytes, kLine);
  SWITCHYARD_PRODUCT(2, 5, 6)
  SWITCHYARD_BETWEEN(23, 2)
  SWITCHYARD_PRODUCT(3, 5, 7)
  SWITCHYARD_BETWEEN(25, 1)
  _tile_loadd(5, second + 2 * run.part_bytes, kLine);

  SWITCHYARD_PRODUCT(0, 4, 6)  // a3 b1
  SWITCHYARD_BETWEEN(26, 1)
  SWITCHYARD_PRODUCT(1, 4, 7)
  SWITCHYARD_BETWEEN(27, 2)
  SWITCHYARD_PRODUCT(2, 5, 6)
  SWITCHYARD_BETWEEN(29, 2)
  SWITCHYARD_PRODUCT(3, 5, 7)
  SWITCHYARD_BETWEEN(31, 1)
}

// Leaves its sums in tiles 0 to 3, and stores those of the pair before.
template <class Ahead>
inline void pair_of_row_tiles(const Run& run, Pass pass, const std::byte* a, float* acc,
                              float* before, Ahead& ahead) noexcept {
  const std::byte* b = run.images;
  for (std::int64_t k = 0; k < run.steps; ++k) {
    const std::byte* weights = to_split(run, pass, k);
    std::byte* next = image_after(run, k);
    _tile_loadd(4, a, kLine);
    _tile_loadd(6, b + 2 * kImagePart, kLine);
    _tile_loadd(7, b + 2 * kImagePart + kTileBytes, kLine);
    _tile_loadd(5, a + run.tile_bytes, kLine);
    if (k == 0) {
      SWITCHYARD_FIRST_PRODUCT(0, 0, 4, 6)
      SWITCHYARD_FIRST_PRODUCT(2, run.tile_sums, 5, 6)
      _tile_loadd(6, b + kImagePart, kLine);
      SWITCHYARD_FIRST_PRODUCT(1, 16, 4, 7)
      SWITCHYARD_FIRST_PRODUCT(3, run.tile_sums + 16, 5, 7)
    } else {
      SWITCHYARD_PRODUCT(0, 4, 6)
      SWITCHYARD_PRODUCT(2, 5, 6)
      _tile_loadd(6, b + kImagePart, kLine);
      SWITCHYARD_PRODUCT(1, 4, 7)
      SWITCHYARD_PRODUCT(3, 5, 7)
    }
    if (weights != nullptr) {
      other_products<true>(run, pass, a, b, weights, next, ahead);
      fence();
    } else {
      other_products<false>(run, pass, a, b, nullptr, nullptr, ahead);
    }
    a += kSplitParts * run.part_bytes;
    b = next;
  }
}

#undef SWITCHYARD_BETWEEN
#undef SWITCHYARD_FIRST_PRODUCT
#undef SWITCHYARD_PRODUCT

inline void store_pair(const Run& run, float* acc) noexcept {
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, acc + run.tile_sums, kAccStride);
  _tile_stored(3, acc + run.tile_sums + 16, kAccStride);
}

template <int n>
struct Number {
  static constexpr int value = n;
};

template <class Ahead>
inline void single_row_tile(const Run& run, const Pass& pass, const std::byte* a, float* acc,
                            Ahead& ahead) noexcept {
  if (run.accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  const std::byte* b = run.images;
  for (std::int64_t k = 0; k < run.steps; ++k) {
    const std::byte* weights = to_split(run, pass, k);
    std::byte* next = image_after(run, k);
    const auto quarter = [&](auto number) {
      constexpr int kQuarter = kUnits / 4;
      if (weights != nullptr) {
        split_units<number.value * kQuarter, kQuarter>(weights, next);
      }
#pragma GCC unroll 6
      for (std::int64_t place = 0; place < kPlaces / 4; ++place) ahead.step();
    };
    _tile_loadd(4, a, kLine);
    _tile_loadd(2, b + 2 * kImagePart, kLine);
    _tile_loadd(3, b + 2 * kImagePart + kTileBytes, kLine);
    _tile_loadd(5, a + run.part_bytes, kLine);
    _tile_loadd(6, b + kImagePart, kLine);
    _tile_loadd(7, b + kImagePart + kTileBytes, kLine);
    quarter(Number<0>());
    _tile_dpbf16ps(0, 4, 2);  // a1 b3
    _tile_dpbf16ps(1, 4, 3);
    _tile_loadd(2, b, kLine);
    _tile_loadd(3, b + kTileBytes, kLine);
    _tile_dpbf16ps(0, 4, 6);  // a1 b2
    _tile_dpbf16ps(1, 4, 7);
    quarter(Number<1>());
    _tile_dpbf16ps(0, 5, 6);  // a2 b2
    _tile_dpbf16ps(1, 5, 7);
    _tile_dpbf16ps(0, 5, 2);  // a2 b1
    _tile_dpbf16ps(1, 5, 3);
    _tile_loadd(5, a + 2 * run.part_bytes, kLine);
    quarter(Number<2>());
    _tile_dpbf16ps(0, 4, 2);  // a1 b1
    _tile_dpbf16ps(1, 4, 3);
    _tile_dpbf16ps(0, 5, 2);  // a3 b1
    _tile_dpbf16ps(1, 5, 3);
    quarter(Number<3>());
    fence();
    a += kSplitParts * run.part_bytes;
    b = next;
  }
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
}

}  // namespace

// A single row tile is multiplied with weights in tiles 2, 3, 6 and 7, pairs with those in 6 and 7.
void amx_split_begin(std::int64_t rows) noexcept {
  TileConfig config;
  const auto height = static_cast<std::uint8_t>(split_tile_rows(rows));
  for (int tile = 0; tile < 8; ++tile) {
    const bool is_second = tile == 2 || tile == 3;
    const bool of_weights = tile >= 6 || (is_second && rows <= kTileRows);
    config.bytes_per_row[tile] = kLine;
    config.rows[tile] = of_weights ? static_cast<std::uint8_t>(kTileRows) : height;
  }
  load_tile_config(config);
}

void gemm_f32_f32_amx_bf16(const GemmArgs& g) noexcept {
  const std::int64_t height = split_tile_rows(g.rows);
  const std::int64_t tiles = (g.rows + height - 1) / height, passes = (tiles + 1) / 2;
  const std::int64_t steps = g.depth / kDepthUnit;
  alignas(64) std::byte images[2 * kImageBytes];
  const std::int64_t part_bytes = height * kLine;
  Run run{.weights = static_cast<const std::byte*>(g.stripe),
          .next = nullptr,
          .images = images,
          .steps = 0,
          .part_bytes = part_bytes,
          .tile_bytes = part_bytes * kSplitParts * (g.panel_stride / kDepthUnit),
          .tile_sums = height * kStripeColumns,
          .accumulate = g.accumulate};
  const auto* panel = static_cast<const std::byte*>(g.panel);
  Prefetcher ahead(g, passes * steps * kPlaces);
  float* in_tiles = nullptr;  // where the sums belong that tiles still hold
  fence();
  split_units<0, kUnits>(run.weights, images);
  fence();
  for (std::int64_t left = steps; left > 0; left -= run.steps) {
    run.steps = passes == 1 || left < kRunSteps ? left : kRunSteps;
    run.next = left > run.steps ? run.weights + run.steps * kWeightBytes : nullptr;
    const std::byte* a = panel;
    float* acc = g.acc;
    for (std::int64_t tile = 0; tile < tiles; tile += 2) {
      const bool is_last = tile + 2 >= tiles;
      const float* sums = is_last ? g.acc : acc + 2 * run.tile_sums;
      const Pass pass{.is_first = tile == 0,
                      .is_last = is_last,
                      .sums = sums,
                      .sums_end = sums + (passes == 1 ? 0 : 2 * run.tile_sums)};
      if (tile + 1 < tiles) {
        pair_of_row_tiles(run, pass, a, acc, in_tiles, ahead);
        in_tiles = acc;
      } else {
        if (in_tiles != nullptr) store_pair(run, in_tiles);
        in_tiles = nullptr;
        single_row_tile(run, pass, a, acc, ahead);
      }
      a += 2 * run.tile_bytes;
      acc += 2 * run.tile_sums;
    }
    run.weights += run.steps * kWeightBytes;
    panel += run.steps * kSplitParts * part_bytes;
    run.accumulate = true;
  }
  if (in_tiles != nullptr) store_pair(run, in_tiles);
  fence();
}

void split_rows_amx_bf16(const SplitRows& rows) noexcept {
  alignas(64) std::uint16_t order[32];  // the high halves of two vectors
  for (int i = 0; i < 32; ++i) order[i] = static_cast<std::uint16_t>(2 * i + 1);
  const __m512i high_halves = _mm512_load_si512(order);
  for (std::int64_t k = 0; k < rows.depth; k += kDepthUnit) {
    const std::int64_t left = rows.columns - k;
    const std::uint32_t inside = left >= kDepthUnit ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
    for (int r = 0; r < rows.count; ++r) {
      const float* from = rows.from[r] + k;
      std::byte* to = rows.to[r] + k / kDepthUnit * kSplitParts * rows.part_bytes;
      const Parts parts(_mm512_maskz_loadu_ps(static_cast<__mmask16>(inside), from),
                        _mm512_maskz_loadu_ps(static_cast<__mmask16>(inside >> 16), from + 16));
#pragma GCC unroll 3
      for (int i = 0; i < kSplitParts; ++i, to += rows.part_bytes) {
        _mm512_store_si512(to, _mm512_permutex2var_epi16(parts.a[i], high_halves, parts.b[i]));
      }
    }
  }
}

}  // namespace switchyard::gemm
