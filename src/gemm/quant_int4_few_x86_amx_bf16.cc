#include <immintrin.h>

#include "gemm/quant_int4_stripe.h"
#include "gemm/quant_kernel.h"
#include "gemm/tile_config.h"

// int4 in tiles, up to 16 rows. Work goes by items, 64 or 128 of one stripe's depth, of four
// stripes in turn: those are four streams, whose lines are fetched into L1 one of each in turn,
// 128 of depth ahead. An item takes four steps, and each of them serves three or four items:
//
//   the next one     a quarter of its codes are unpacked into signed bytes in L1
//   this one         one product of tiles, whose weights were loaded a step before
//   the one before   a tile of sums is stored, right before it is used again
//   that one, later  a quarter of its rows of sums is folded into f32, in the order of portable
//
//   tiles  0-3 sums   4-5 activations   6-7 weights
//   L1     weights 4 KiB, sums 2 x 4 KiB, activations 2 KiB, 256 of depth of four streams
//
// A step may take little: memory serves 64 of depth in some 150 cycles. A product takes a cycle a
// row of activations, at least 9; a tile of sums stored takes the one store port for 16, however
// few its rows; and a product onto a tile that TILEZERO made takes 52, beside which no other one
// runs, so zeros are loaded. What the steps do must also be mixed this finely to run side by side.
//
// Groups of 32 would make products half as deep, and a tile of sums each. So, up to kTwiceRows
// rows, a tile of activations has each row twice, first with zeros for the second group of its 64
// of depth, then for the first: the upper rows of a sum belong to one group, the lower to the next.
//
// Symmetric codes are unpacked to 16 (u - 8), which takes 3 instructions for two lines: sums are 16
// times what they should be, exactly, until the last scaling of a row.
//
// One core, depth 2048, groups of 32, us a stripe of 36 KiB, where a plain reader takes 1.8 to 1.9:
//
//   rows                                3     4     5     6     7     8     12    16
//   in L2                               1.46  1.57  1.71  1.84  1.98  2.14  2.70  3.06
//   in memory                           2.21  2.25  2.23  2.32  2.44  2.53  3.02  3.32
//     without tiles                     2.06  2.19  3.06  3.45  4.12  4.36  6.58  8.90
//     unpacked, multiplied, folded by turns               5.1         5.1   5.8   5.8

namespace switchyard::gemm {
namespace {

constexpr std::int64_t kLine = 64;
constexpr std::int64_t kAhead = 128;
constexpr std::int64_t kStreams = kInt4TileStripes;
constexpr std::int64_t kTwiceRows = 8;
constexpr std::int64_t kWeightBytes = 4 << 10;
constexpr std::int64_t kSumsBytes = 4 << 10;
constexpr float kCodeUnits = 1.0f / 16;
alignas(64) constexpr std::byte kZeros[kLine] = {};

// Tiles of `rows` rows and `depth` bytes of depth.
inline void configure(std::int64_t rows, std::int64_t depth) noexcept {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool activations = tile == 4 || tile == 5;
    config.bytes_per_row[tile] = static_cast<std::uint16_t>(activations ? depth : kLine);
    config.rows[tile] = static_cast<std::uint8_t>(tile >= 6 ? depth / 4 : rows);
  }
  load_tile_config(config);
}

struct Place {
  std::int64_t k, stripe;
};

// kTwice: a tile has each row twice.
template <int kGroup, bool kTwice, bool kZeroPoints>
class FewRows {
 public:
  explicit FewRows(const QuantArgs& q) noexcept
      : q_(q),
        parts_(q.depth, kGroup, kZeroPoints),
        sum_bytes_(q.rows * kBlocks * kLine),
        weights_(q.scratch),
        activations_(weights_ + kWeightBytes),
        sums_(activations_ + 2 * 1024) {}

  void run() noexcept {
    configure(q_.rows * kBlocks, kDepth);
    if (q_.k_begin == 0) clear();
    Place item{q_.k_begin, 0}, before{};
    begin_depth(item.k);
    unpack<0>(item);
    unpack<1>(item);
    unpack<2>(item);
    unpack<3>(item);
    fence();
    load_activations(item.k);
    prepare<0>(sums_);  // of no item
    Folding folding{};
    bool has_before = false;
    for (std::int64_t parity = 0;; parity ^= 1) {
      std::byte* sums = sums_ + parity * kSumsBytes;
      std::byte* sums_before = sums_ + (parity ^ 1) * kSumsBytes;
      const Place next =
          item.stripe + 1 < q_.stripes ? Place{item.k, item.stripe + 1} : Place{item.k + kItem, 0};
      const bool has_next = next.k < q_.k_end;
      if (next.stripe == 0 && has_next) begin_depth(next.k);
      const auto beside = [&](auto product) __attribute__((always_inline)) {
        fence();
        for (int r = 0; r < kFoldedRows; ++r) folding.row();
        if (has_next) unpack<product>(next);
        fence();
      };
      multiply<0>();
      prepare<1>(sums_before);
      beside(Constant<0>{});
      multiply<1>();
      prepare<2>(sums_before);
      beside(Constant<1>{});
      multiply<2>();
      prepare<3>(sums_before);
      beside(Constant<2>{});
      multiply<3>();
      folding.all();
      fence();
      if (has_before) folding = fold(before, sums_before);
      if (!has_next) {
        folding.all();
        store_all(sums);
        fold(item, sums).all();
        break;
      }
      if (next.stripe == 0) load_activations(next.k);
      prepare<0>(sums);
      beside(Constant<3>{});
      before = item;
      has_before = true;
      item = next;
    }
    if (q_.k_end == q_.depth) finish();
  }

 private:
  template <int kValue>
  struct Constant {
    constexpr operator int() const noexcept { return kValue; }
  };

  // An item is two tiles deep. Its products are 0 and 1 of the first column half, 2 and 3 of the
  // second; the two of a half go to one tile of sums or to one each.
  static constexpr int kBlocks = kTwice ? 2 : 1;
  static constexpr int kDepth = kGroup * kBlocks < 64 ? kGroup * kBlocks : 64;
  static constexpr int kItem = 2 * kDepth;
  static constexpr int kGroups = kItem / kGroup;
  static constexpr int kSums = kGroups / kBlocks;
  static constexpr int kTileBytes = kDepth * 16;
  static constexpr int kLines = kTileBytes / 2 / kLine;  // of a tile's codes
  static constexpr int kFoldedRows = kTwice ? 2 : 4;     // beside a product

  // Adds an item's sums to its rows of acc, one after another.
  struct Folding {
    __m512 scale[kGroups][2];
    const std::byte* sums;
    std::int64_t sum_bytes, block_bytes;
    float* acc;
    std::int64_t left = 0;

    inline void row() noexcept {
      if (left <= 0) return;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        __m512 total = _mm512_load_ps(acc + h * 16);
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
          const std::byte* from =
              sums + (h * kSums + g / kBlocks) * sum_bytes + g % kBlocks * block_bytes;
          total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(from)), scale[g][h], total);
        }
        _mm512_store_ps(acc + h * 16, total);
      }
      sums += kLine;
      acc += kStripeColumns;
      --left;
    }
    inline void all() noexcept {
      while (left > 0) row();
    }
  };

  inline const std::byte* stripe(const Place& at) const noexcept {
    return q_.stripe + at.stripe * q_.stripe_bytes;
  }

  inline Folding fold(const Place& item, const std::byte* sums) const noexcept {
    Folding folding;
    const std::byte* scales = stripe(item) + parts_.scales + item.k / kGroup * kLine;
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      for (int h = 0; h < 2; ++h) {
        folding.scale[g][h] = _mm512_cvtph_ps(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + g * kLine + h * 32)));
      }
    }
    folding.sums = sums;
    folding.sum_bytes = sum_bytes_;
    folding.block_bytes = q_.rows * kLine;
    folding.acc = q_.acc + item.stripe * q_.stripe_acc;
    folding.left = q_.rows;
    return folding;
  }

  void clear() noexcept {
    for (std::int64_t s = 0; s < q_.stripes; ++s) {
      float* acc = q_.acc + s * q_.stripe_acc;
      for (std::int64_t i = 0; i < q_.rows * kStripeColumns; i += 16) {
        _mm512_store_ps(acc + i, _mm512_setzero_ps());
      }
    }
  }

  void finish() noexcept {
    const __m512 units = _mm512_set1_ps(kZeroPoints ? 1 : kCodeUnits);
    for (std::int64_t s = 0; s < q_.stripes; ++s) {
      float* acc = q_.acc + s * q_.stripe_acc;
      for (std::int64_t r = 0; r < q_.rows; ++r, acc += kStripeColumns) {
        const __m512 t = _mm512_set1_ps(q_.row_scale[r]);
        for (int h = 0; h < 2; ++h) {
          const __m512 sum = _mm512_mul_ps(_mm512_load_ps(acc + h * 16), units);
          _mm512_store_ps(acc + h * 16, _mm512_mul_ps(sum, t));
        }
      }
    }
  }

  // What the items at depth k need once: the lines to be fetched beside them, and activations.
  // Lines are those kAhead further on; beyond the end of the depth those of the stripes that
  // follow, and without such the present ones, which costs nothing.
  inline void begin_depth(std::int64_t k) noexcept {
    const bool is_here = k + kAhead < q_.depth;
    const bool has_none = !is_here && q_.next == nullptr;
    const std::byte* from = is_here || has_none ? q_.stripe : q_.next;
    const std::int64_t at = has_none ? k : is_here ? k + kAhead : k + kAhead - q_.depth;
    ahead_ = from + parts_.codes + at * 16;
    scales_ahead_ = from + parts_.scales + at / kGroup * kLine;
    zeros_ahead_ = from + parts_.zeros + at / kGroup * kLine / 2;
    if (!kTwice) return;
    for (int tile = 0; tile < 2; ++tile) {
      std::byte* to = activations_ + tile * q_.rows * 2 * kLine;
      for (std::int64_t r = 0; r < q_.rows; ++r, to += kLine) {
        const __m512i row = _mm512_loadu_si512(q_.panel + r * q_.panel_stride + k + tile * kDepth);
        _mm512_store_si512(to, _mm512_maskz_mov_epi32(0x00ff, row));
        _mm512_store_si512(to + q_.rows * kLine, _mm512_maskz_mov_epi32(0xff00, row));
      }
    }
  }

  inline void load_activations(std::int64_t k) const noexcept {
    fence();
    if (kTwice) {
      _tile_loadd(4, activations_, kLine);
      _tile_loadd(5, activations_ + q_.rows * 2 * kLine, kLine);
    } else {
      _tile_loadd(4, q_.panel + k, q_.panel_stride);
      _tile_loadd(5, q_.panel + k + kDepth, q_.panel_stride);
    }
  }

  // The zero points of a group in the bytes of a tile's lines.
  inline __m512i zero(const std::byte* stripe, std::int64_t group, int h) const noexcept {
    const __m512i to_bytes = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    const std::byte* from = stripe + parts_.zeros + group * kStripeColumns + h * 16;
    return _mm512_shuffle_epi8(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), to_bytes);
  }

  // The weights of an item's product; also fetches as many lines.
  template <int kProduct>
  inline void unpack(const Place& item) noexcept {
    constexpr int h = kProduct / 2;
    const std::int64_t k = item.k + kProduct % 2 * kDepth;
    const std::byte* from = stripe(item);
    const std::byte* codes = from + parts_.codes + k * 16 + h * kLine;
    std::byte* to = weights_ + kProduct * kTileBytes;
    // The item's share of the lines of kStreams stripes, one of each in turn; of fewer, its own.
    constexpr std::int64_t kItemLines = 4 * kLines;
    const bool in_turn = q_.stripes == kStreams;
    const std::byte* ahead = ahead_ + (in_turn ? item.stripe * kItemLines / kStreams * kLine
                                               : item.stripe * q_.stripe_bytes);
    const std::int64_t stream = in_turn ? q_.stripe_bytes : kLine;
    const std::int64_t round = in_turn ? kLine : kStreams * kLine;
    if (kProduct == 0) {
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        __builtin_prefetch(scales_ahead_ + item.stripe * q_.stripe_bytes + g * kLine, 0, 3);
      }
      if (kZeroPoints) __builtin_prefetch(zeros_ahead_ + item.stripe * q_.stripe_bytes, 0, 3);
    }
    __m512i half = _mm512_set1_epi8(kZeroPoints ? 0x0f : static_cast<char>(0xf0));
    __m512i sign = _mm512_set1_epi8(static_cast<char>(0x88));
    __asm__("" : "+v"(half), "+v"(sign));  // or GCC makes them again for each line
    __m512i zero_points;
#pragma GCC unroll 8
    for (int i = 0; i < kLines; ++i) {
      const int n = kProduct * kLines + i;
      __builtin_prefetch(ahead + n % kStreams * stream + n / kStreams * round, 0, 3);
      const __m512i u = _mm512_loadu_si512(codes + i * 2 * kLine);
      __m512i first, second;
      if (kZeroPoints) {
        if (i * 8 % kGroup == 0) zero_points = zero(from, (k + i * 8) / kGroup, h);
        first = _mm512_sub_epi8(_mm512_and_si512(u, half), zero_points);
        second = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(u, 4), half), zero_points);
      } else {
        constexpr int kXorAnd = 0x28;  // (a ^ b) & c
        first = _mm512_ternarylogic_epi64(_mm512_slli_epi16(u, 4), sign, half, kXorAnd);
        second = _mm512_ternarylogic_epi64(u, sign, half, kXorAnd);
      }
      _mm512_store_si512(to + i * 2 * kLine, first);
      _mm512_store_si512(to + (i * 2 + 1) * kLine, second);
    }
  }

  // Loads what a product needs but activations. Where it begins a sum, the tile's last one, of the
  // item before, goes out first.
  template <int kProduct>
  inline void prepare(std::byte* sums_before) const noexcept {
    const std::byte* weights = weights_ + kProduct * kTileBytes;
    if constexpr (kProduct % 2 == 0) {
      _tile_loadd(6, weights, kLine);
    } else {
      _tile_loadd(7, weights, kLine);
    }
    if constexpr (kProduct == 0) {
      _tile_stored(0, sums_before, kLine);
      _tile_loadd(0, kZeros, 0);
    } else if constexpr (kProduct * kSums == 2) {  // the second sum
      _tile_stored(1, sums_before + sum_bytes_, kLine);
      _tile_loadd(1, kZeros, 0);
    } else if constexpr (kProduct * kSums == 4) {
      _tile_stored(2, sums_before + 2 * sum_bytes_, kLine);
      _tile_loadd(2, kZeros, 0);
    } else if constexpr (kProduct * kSums == 6) {
      _tile_stored(3, sums_before + 3 * sum_bytes_, kLine);
      _tile_loadd(3, kZeros, 0);
    }
  }

  template <int kProduct>
  static inline void multiply() noexcept {
    if constexpr (kProduct == 0) {
      _tile_dpbssd(0, 4, 6);
    } else if constexpr (kProduct == 1 && kSums == 1) {
      _tile_dpbssd(0, 5, 7);
    } else if constexpr (kProduct == 1) {
      _tile_dpbssd(1, 5, 7);
    } else if constexpr (kProduct == 2 && kSums == 1) {
      _tile_dpbssd(1, 4, 6);
    } else if constexpr (kProduct == 2) {
      _tile_dpbssd(2, 4, 6);
    } else if constexpr (kSums == 1) {
      _tile_dpbssd(1, 5, 7);
    } else {
      _tile_dpbssd(3, 5, 7);
    }
  }

  inline void store_all(std::byte* sums) const noexcept {
    _tile_stored(0, sums, kLine);
    _tile_stored(1, sums + sum_bytes_, kLine);
    if constexpr (kSums == 2) {
      _tile_stored(2, sums + 2 * sum_bytes_, kLine);
      _tile_stored(3, sums + 3 * sum_bytes_, kLine);
    }
    fence();
  }

  const QuantArgs q_;
  const Int4Stripe parts_;
  const std::int64_t sum_bytes_;
  std::byte* const weights_;
  std::byte* const activations_;
  std::byte* const sums_;
  const std::byte* ahead_ = nullptr;  // in the first stripe
  const std::byte* scales_ahead_ = nullptr;
  const std::byte* zeros_ahead_ = nullptr;
};

template <int kGroup, bool kTwice>
void few_rows(const QuantArgs& q) noexcept {
  q.zero_points ? FewRows<kGroup, kTwice, true>(q).run() : FewRows<kGroup, kTwice, false>(q).run();
}

}  // namespace

void quant_int4_few_rows_amx_bf16(const QuantArgs& q) noexcept {
  if (q.group == 128) return few_rows<128, false>(q);
  if (q.group == 64) return few_rows<64, false>(q);
  q.rows <= kTwiceRows ? few_rows<32, true>(q) : few_rows<32, false>(q);
}

}  // namespace switchyard::gemm
