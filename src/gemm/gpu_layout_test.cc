// Laws of the index maps that GPU kernels compute with. No GPU is needed.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <map>
#include <set>
#include <vector>

#include "gemm/gpu_config.h"
#include "gemm/mma_layout.h"
#include "gemm/tile_schedule.h"

namespace switchyard::gemm {
namespace {

// ---- The schedule.

std::vector<std::int32_t> tiles_begin_of(const TileGrid& grid,
                                         const std::vector<std::int64_t>& rows, int threads) {
  std::vector<std::int32_t> begin(rows.size() + 1, -1), partial(static_cast<std::size_t>(threads));
  // The barriers of make_tiles_begin separate its passes over `partial`: run the CTA's threads
  // once to fill it, then again to use it.
  for (int pass = 0; pass < 2; ++pass) {
    for (int t = 0; t < threads; ++t) {
      std::vector<std::int32_t> own = partial;
      make_tiles_begin(grid, rows.data(), t, threads, begin.data(), own.data(), [] {});
      partial[static_cast<std::size_t>(t)] = own[static_cast<std::size_t>(t)];
    }
  }
  return begin;
}

struct DrawnGrid {
  TileGrid grid;
  std::vector<std::int64_t> rows;
};

DrawnGrid draw_grid() {
  DrawnGrid d;
  const int experts = *rc::gen::inRange(1, 70);
  // Most experts of a drawn list have no rows, or one has nearly all.
  d.rows = *rc::gen::container<std::vector<std::int64_t>>(
      static_cast<std::size_t>(experts),
      rc::gen::oneOf(rc::gen::just<std::int64_t>(0), rc::gen::inRange<std::int64_t>(0, 40),
                     rc::gen::inRange<std::int64_t>(0, 700)));
  d.grid = {experts, *rc::gen::element(16, 64, 128), *rc::gen::inRange(1, 9),
            *rc::gen::inRange(1, 7)};
  return d;
}

TEST(TileSchedule, EveryTileOfTheOutputExactlyOnce) {
  EXPECT_TRUE(rc::check([] {
    const DrawnGrid d = draw_grid();
    const auto begin = tiles_begin_of(d.grid, d.rows, *rc::gen::element(1, 32, 128, 384));
    std::map<std::array<std::int64_t, 3>, int> seen;  // expert, row, column tile
    for (std::int64_t i = 0; i < num_tiles(d.grid, begin.data()); ++i) {
      const Tile t = tile_at(d.grid, begin.data(), d.rows.data(), i);
      RC_ASSERT(t.column_tile >= 0 && t.column_tile < d.grid.column_tiles);
      RC_ASSERT(t.row % d.grid.tile_rows == 0);
      const std::int64_t left = d.rows[static_cast<std::size_t>(t.expert)] - t.row;
      RC_ASSERT(t.rows == std::min<std::int64_t>(left, d.grid.tile_rows));
      RC_ASSERT(t.rows > 0);
      ++seen[{t.expert, t.row, t.column_tile}];
    }
    std::size_t expected = 0;
    for (const std::int64_t rows : d.rows) {
      expected += static_cast<std::size_t>(row_tiles_of(rows, d.grid.tile_rows)) *
                  static_cast<std::size_t>(d.grid.column_tiles);
    }
    RC_ASSERT(seen.size() == expected);
    for (const auto& [tile, times] : seen) RC_ASSERT(times == 1);
  }));
}

// A tile of weights is met by all row tiles of its band one after the other, and bands are as tall
// as they may be: what keeps it in L2.
TEST(TileSchedule, WeightsOfABandAreMetTogether) {
  EXPECT_TRUE(rc::check([] {
    const DrawnGrid d = draw_grid();
    const auto begin = tiles_begin_of(d.grid, d.rows, 32);
    std::map<std::pair<int, int>, int> runs;  // of (expert, column tile)
    std::pair<int, int> last{-1, -1};
    for (std::int64_t i = 0; i < num_tiles(d.grid, begin.data()); ++i) {
      const Tile t = tile_at(d.grid, begin.data(), d.rows.data(), i);
      const std::pair<int, int> now{t.expert, t.column_tile};
      if (now != last) ++runs[now];
      last = now;
    }
    for (const auto& [key, count] : runs) {
      const std::int64_t tiles =
          row_tiles_of(d.rows[static_cast<std::size_t>(key.first)], d.grid.tile_rows);
      RC_ASSERT(count <= row_tiles_of(tiles, d.grid.band_tiles));
    }
  }));
}

TEST(TileSchedule, HoldsMoreThanTwoToThe31Elements) {
  const TileGrid grid{2, 128, 1 << 20, 8};
  const std::vector<std::int64_t> rows = {std::int64_t{1} << 30, 129};
  const auto begin = tiles_begin_of(grid, rows, 2);
  const std::int64_t tiles = num_tiles(grid, begin.data());
  EXPECT_EQ(tiles, ((std::int64_t{1} << 23) + 2) << 20);
  const Tile last = tile_at(grid, begin.data(), rows.data(), tiles - 1);
  EXPECT_EQ(last.expert, 1);
  EXPECT_EQ(last.row, 128);
  EXPECT_EQ(last.rows, 1);
  EXPECT_EQ(last.column_tile, (1 << 20) - 1);
}

// ---- The configuration.

GpuProblem problem(std::int64_t rows, int arch = 80) {
  GpuProblem p;
  p.num_experts = 64;
  p.rows = rows;
  p.columns = 2048;
  p.depth = 2048;
  p.arch = arch;
  p.multiprocessors = arch == 80 ? 108 : 132;
  p.l2_bytes = arch == 80 ? 40 << 20 : 50 << 20;
  p.shared_per_sm = arch == 80 ? 164 << 10 : 228 << 10;
  return p;
}

TEST(GpuConfig, GrowsWithTheRowsOfAnExpert) {
  EXPECT_EQ(choose_config(problem(8)).tile, GpuTile::few);
  EXPECT_EQ(choose_config(problem(16 * 64)).tile, GpuTile::few);
  EXPECT_EQ(choose_config(problem(17 * 64)).tile, GpuTile::some);
  EXPECT_EQ(choose_config(problem(96 * 64)).tile, GpuTile::some);
  EXPECT_EQ(choose_config(problem(512 * 64)).tile, GpuTile::many);
  EXPECT_EQ(choose_config(problem(512 * 64, 90)).tile, GpuTile::wide);
  GpuProblem integers = problem(512 * 64, 90);
  integers.integer_weights = true;
  EXPECT_EQ(choose_config(integers).tile, GpuTile::many);
}

TEST(GpuConfig, FitsItsDevice) {
  for (const int arch : {80, 90}) {
    for (const std::int64_t rows : {1, 64, 4096, 262144}) {
      for (const int experts : {1, 64, 1024}) {
        for (const bool integers : {false, true}) {
          GpuProblem p = problem(rows, arch);
          p.num_experts = experts;
          p.integer_weights = integers;
          const GpuConfig c = choose_config(p);
          const int bytes = c.shape.shared_bytes + schedule_bytes(experts, c.shape.threads) + 1024;
          EXPECT_LE(bytes * c.ctas_per_sm, p.shared_per_sm) << to_string(p, c);
          EXPECT_GE(c.ctas, 1);
          EXPECT_LE(c.ctas, c.ctas_per_sm * p.multiprocessors);
          const std::int64_t band = std::int64_t{2} * c.grid.band_tiles * c.shape.rows * p.depth;
          EXPECT_TRUE(c.grid.band_tiles == 1 || band <= p.l2_bytes / 2) << to_string(p, c);
        }
      }
    }
  }
}

TEST(GpuConfig, SaysWhatItChose) {
  const GpuProblem p = problem(4096);
  EXPECT_EQ(to_string(p, choose_config(p)),
            "grouped 4096x2048x2048 x64: some 64x128x64, 3 stages, 72 KiB, 216 CTAs (2 on each of "
            "108 SMs), bands of 80 tiles");
}

// ---- Shared memory.

TEST(Swizzle, IsABijectionOfTheTile) {
  for (const int rows : {16, 64, 128, 256}) {
    std::set<std::uint32_t> offsets;
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < kChunks; ++c) offsets.insert(swizzled(r, c));
    }
    EXPECT_EQ(offsets.size(), static_cast<std::size_t>(rows * kChunks));
    EXPECT_EQ(*offsets.rbegin(), static_cast<std::uint32_t>(rows * kRowBytes - kChunkBytes));
    for (const std::uint32_t offset : offsets) EXPECT_EQ(offset % kChunkBytes, 0u);
  }
}

// TMA's 128-byte mode and wgmma's: bits 4..6 of the address ^= bits 7..9.
TEST(Swizzle, IsTheHardwares) {
  for (int r = 0; r < 256; ++r) {
    for (int c = 0; c < kChunks; ++c) {
      const auto plain = static_cast<std::uint32_t>(r * kRowBytes + c * kChunkBytes);
      EXPECT_EQ(swizzled(r, c), plain ^ ((plain >> 7 & 7u) << 4));
    }
  }
}

// ldmatrix reads 8 chunks of 16 bytes at a time, for one matrix: together they must touch all 32
// banks once.
template <class AddressOf>
void expect_no_conflicts(AddressOf address) {
  for (int step = 0; step < kTileDepth / 16; ++step) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::set<std::uint32_t> groups;
      for (int lane = matrix * 8; lane < matrix * 8 + 8; ++lane) {
        const RowColumn at = address(lane);
        groups.insert(swizzled(at.row, step * 2 + at.column) / kChunkBytes % 8);
      }
      EXPECT_EQ(groups.size(), 8u) << "step " << step << " matrix " << matrix;
    }
  }
}

TEST(Swizzle, LdmatrixMeetsNoBankConflict) {
  expect_no_conflicts(a_address);
  expect_no_conflicts(b_address);
}

// Eight threads write a row's chunks, as cp.async does: 8 groups of banks.
TEST(Swizzle, RowsAreWrittenWithoutBankConflict) {
  for (int r = 0; r < 8; ++r) {
    std::set<std::uint32_t> groups;
    for (int c = 0; c < kChunks; ++c) groups.insert(swizzled(r, c) / kChunkBytes % 8);
    EXPECT_EQ(groups.size(), 8u);
  }
}

// ---- Fragments.

template <class ElementOf>
void expect_covers(ElementOf element, int elements, int rows, int columns) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < elements; ++i) {
      const RowColumn at = element(lane, i);
      EXPECT_TRUE(at.row >= 0 && at.row < rows && at.column >= 0 && at.column < columns);
      EXPECT_TRUE(seen.insert({at.row, at.column}).second) << lane << " " << i;
    }
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(rows * columns));
}

TEST(Fragments, CoverTheirTiles) {
  expect_covers(a_element, 8, 16, 16);
  expect_covers(b_element, 4, 16, 8);
  expect_covers(c_element, 4, 16, 8);
}

// ldmatrix gives lane l, of matrix m, elements 2 (l mod 4) and the next of the row whose address
// lane 8 m + l / 4 named: which must be what mma wants in register m.
TEST(Fragments, LdmatrixDeliversThem) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      for (int half = 0; half < 2; ++half) {
        const RowColumn a = a_address(m * 8 + lane / 4);
        const RowColumn in_a = a_element(lane, m * 2 + half);
        EXPECT_EQ(a.row, in_a.row);
        EXPECT_EQ(a.column * 8 + lane % 4 * 2 + half, in_a.column);
        const RowColumn b = b_address(m * 8 + lane / 4);
        const RowColumn in_b = b_element(lane, m % 2 * 2 + half);
        EXPECT_EQ(b.row, in_b.column + m / 2 * 8);
        EXPECT_EQ(b.column * 8 + lane % 4 * 2 + half, in_b.row);
      }
    }
  }
}

// ---- Packed columns.

TEST(PackedColumns, HoldEveryColumnOnce) {
  for (const bool gated : {false, true}) {
    for (const std::int64_t columns : {1, 31, 32, 64, 100, 768}) {
      std::map<std::pair<bool, std::int64_t>, int> seen;
      for (std::int64_t p = 0; p < packed_columns(columns, gated); ++p) {
        const PackedColumn c = packed_column(p, gated);
        if (c.column < columns) ++seen[{c.is_gate, c.column}];
      }
      EXPECT_EQ(seen.size(), static_cast<std::size_t>(columns * (gated ? 2 : 1)));
      for (const auto& [column, times] : seen) EXPECT_EQ(times, 1);
    }
  }
}

// What lane quarter q holds after the product: 8 neighbouring columns of the output.
TEST(PackedColumns, GiveALaneNeighbours) {
  for (int q = 0; q < 4; ++q) {
    for (int i = 0; i < 8; ++i) {
      const int j = i / 2, odd = i % 2;
      for (int half = 0; half < 2; ++half) {
        const PackedColumn plain = packed_column(64 + (half * 4 + j) * 8 + q * 2 + odd, false);
        EXPECT_EQ(plain.column, 64 + half * 32 + q * 8 + i);
      }
      const PackedColumn gate = packed_column(64 + (j * 2) * 8 + q * 2 + odd, true);
      const PackedColumn up = packed_column(64 + (j * 2 + 1) * 8 + q * 2 + odd, true);
      EXPECT_TRUE(gate.is_gate);
      EXPECT_FALSE(up.is_gate);
      EXPECT_EQ(gate.column, 32 + q * 8 + i);
      EXPECT_EQ(up.column, 32 + q * 8 + i);
    }
  }
}

}  // namespace
}  // namespace switchyard::gemm
