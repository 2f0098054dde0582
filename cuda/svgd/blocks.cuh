// How work is laid out over blocks and threads. All of it is a function of sizes alone, and so is the order of sums.
#pragma once

#include <algorithm>
#include <cstdint>

namespace svgd::cuda {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// What a thread of a looping kernel has in flight at once.
constexpr int kUnroll = 4;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The largest grid of a launch; kernels go on with block + gridDim.x as long as there is work.
constexpr int64_t kLargestGrid = (int64_t{1} << 31) - 1;

inline unsigned grid_size(int64_t blocks) { return static_cast<unsigned>(std::min(blocks, kLargestGrid)); }

// The threads of a block as groups of lanes: neighbouring lanes take neighbouring packs of a row, the groups take
// different rows. A row longer than a warp is cut into chunks of equal size. A few threads may stay idle.
struct Lanes {
  int lanes, groups;
  int64_t chunks;

  explicit Lanes(int64_t packs_per_row) : chunks(std::max<int64_t>(divide_up(packs_per_row, kWarp), 1)) {
    lanes = static_cast<int>(std::max<int64_t>(divide_up(packs_per_row, chunks), 1));
    groups = kThreads / lanes;
  }
};

// Rows dealt to several blocks where there are too few blocks to fill a GPU: `count` blocks of `length` rows each, of
// which the last may have fewer.
struct Split {
  int64_t length, count;

  Split(int64_t rows, int64_t blocks, int groups) {
    constexpr int64_t kBlocks = 2048;         // some waves of blocks on the largest GPUs
    constexpr int64_t kFewestPerThread = 16;  // less is not worth a second kernel
    constexpr int64_t kMostPerThread = 512;   // more would lose digits of a float sum
    const auto wanted = divide_up(rows, divide_up(kBlocks, blocks));
    length = std::clamp(divide_up(wanted, groups * kUnroll) * groups * kUnroll, groups * kFewestPerThread,
                        groups * kMostPerThread);
    count = divide_up(rows, length);
  }
};

// Where a thread works for a block of the grid: the block's part of the rows, the first of the thread's columns, and
// the row at which the part ends.
struct Place {
  int64_t part, column, end;
};

template <int kWidth>
__device__ inline Place place_of(int64_t block, const Lanes& layout, const Split& split, int lane, int64_t rows) {
  const int64_t part = block / layout.chunks;
  const int64_t column = ((block - part * layout.chunks) * layout.lanes + lane) * kWidth;
  return {part, column, min(rows, (part + 1) * split.length)};
}

}  // namespace svgd::cuda
