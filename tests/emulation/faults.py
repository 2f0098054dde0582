"""What scripts/check-kernels replaces in copies of cuda/svgd: (file, text, text in its place). The text must stand there once."""

SECOND_MOMENT, VIRTUAL_GRAD, SCALE = (f"{name}_kernel.cu" for name in ("second_moment", "virtual_grad", "scale"))

# Sizes at which small gradients reach what only large ones do: blocks that go on to more work, and rows dealt to blocks by
# each rule of Split.
SMALL = [
    ("blocks.cuh", "kLargestGrid = (int64_t{1} << 31) - 1;", "kLargestGrid = 3;"),
    ("blocks.cuh", "kBlocks = 2048;", "kBlocks = 8;"),
    ("blocks.cuh", "kMostPerThread = 512;", "kMostPerThread = 32;"),
    (SCALE, "kMostBlocks = 4096;", "kMostBlocks = 3;"),
]

# Faults, one at a time: the kind of gradient, the check that must find it, what it says, and what is replaced.
FAULTS = {
    # Barriers
    "no barrier after the sums": (
        "float", "races", r"race: reads byte \d+ of shared memory",
        [(VIRTUAL_GRAD, "sums[threadIdx.x] = sum;\n      __syncthreads();", "sums[threadIdx.x] = sum;")],
    ),
    "no barrier after the factors": (
        "half", "races", r"race: reads byte \d+ of shared memory",
        [(VIRTUAL_GRAD, "__syncthreads();\n      column_factors", "column_factors")],
    ),
    "no barrier in a tree": (
        "float", "races", r"race: reads byte \d+ of shared memory",
        [(SECOND_MOMENT, "__syncthreads();\n    live = half;", "live = half;")],
    ),
    "no barrier in a tree, without looking for races": (
        "float", "sanitizers", r"wrong value: .*other bits",
        [(SECOND_MOMENT, "__syncthreads();\n    live = half;", "live = half;")],
    ),
    "a sum overwritten before it is read": (
        "float", "races", r"race: writes byte \d+ of shared memory",
        [*SMALL, (VIRTUAL_GRAD, "column_factors = factors[lane];", "column_factors = factors[lane];\n      sums[kThreads - 1 - threadIdx.x] = {};")],
    ),
    "threads that leave before a barrier": (
        "float", "sanitizers", r"divergent barrier: some threads are gone",
        [(SECOND_MOMENT, "  const int64_t rows = extents.outer * layout.chunks;", "  if (group >= layout.groups) return;\n  const int64_t rows = extents.outer * layout.chunks;")],
    ),
    "threads at two barriers": (
        "half", "sanitizers", r"divergent barrier: some threads wait at \S+:\d+, others at \d+",
        [(VIRTUAL_GRAD, "sums[threadIdx.x] = sum;\n      __syncthreads();", "sums[threadIdx.x] = sum;\n      if (updates) __syncthreads();")],
    ),
    # Memory
    "a load past the end of a row": (
        "float", "sanitizers", "heap-buffer-overflow",
        [("pack.cuh", "if (i < left) {\n        pack", "if (i <= left) {\n        pack")],
    ),
    "a store past the end of a row": (
        "half", "sanitizers", "heap-buffer-overflow",
        [("pack.cuh", "if (i < left) {\n        to[i]", "if (i <= left) {\n        to[i]")],
    ),
    "a row too many": (
        "float", "sanitizers", "heap-buffer-overflow",
        [(SCALE, "while (run < runs)", "while (run <= runs)")],
    ),
    "vectors from an odd address": (
        "float", "sanitizers", "misaligned address",
        [(SECOND_MOMENT, "row_length % kVector<T> == 0 && is_aligned(gradient)", "row_length % kVector<T> == 0")],
    ),
    "vectors from odd rows": (
        "bfloat16", "sanitizers", "misaligned address",
        [(VIRTUAL_GRAD, "extents.features % kVector<T> == 0 && is_aligned(gradient)", "is_aligned(gradient)")],
    ),
    "shared memory that is not written": (
        "float", "races", r"unwritten: reads byte \d+ of shared memory",
        [(VIRTUAL_GRAD, "if (updates) {", "if (updates && threadIdx.x * kMoments + kMoments < kColumns) {")],
    ),
    "shared memory that is not written, by its values": (
        "float", "sanitizers", "wrong value",
        [(VIRTUAL_GRAD, "if (updates) {", "if (updates && threadIdx.x * kMoments + kMoments < kColumns) {")],
    ),
    "partial sums that are not written": (
        "float", "races", r"unwritten: reads byte \d+ of the partial sums",
        [(SECOND_MOMENT, "target.put(sum.values[j], part, column + j, columns);", "if (part > 0) target.put(sum.values[j], part, column + j, columns);")],
    ),
    "registers that are not written": (
        "float", "sanitizers", "wrong value",
        [("pack.cuh", "Pack<T, kCount> pack{};", "Pack<T, kCount> pack;")],
    ),
    # Sums
    "a sum over too few groups": (
        "float", "sanitizers", "wrong value",
        [(VIRTUAL_GRAD, "other < kGroups; ++other", "other < kGroups - 1; ++other")],
    ),
    "half of an odd number of groups": (
        "float", "sanitizers", "wrong value",
        [(SECOND_MOMENT, "const int half = (live + 1) / 2;", "const int half = live / 2;")],
    ),
    "an update that is lost": (
        "float", "sanitizers", "wrong value: second moment",
        [(VIRTUAL_GRAD, "store_pack<kAccess>(moments, second_moments + moment_column, moments_left);", "")],
    ),
    "an update by every group": (
        "float", "races", r"race: (reads|writes) byte \d+ of the second moments",
        [(SECOND_MOMENT, "if (group == 0 && feature < features) {", "if (group < layout.groups && feature < features) {")],
    ),
    "an update that an overflow destroys": (
        "float", "sanitizers", "wrong value: second moment",
        [("formulas.cuh", "return isfinite(mean) ? decay", "return true ? decay")],
    ),
    # Grids and launches
    "a block that does not go on": (
        "float", "sanitizers", "wrong value",
        [*SMALL, (VIRTUAL_GRAD, "chunk < chunks; chunk += gridDim.x", "chunk < chunks; chunk += chunks")],
    ),
    "a block too many": (
        "float", "sanitizers", "wrong value|heap-buffer-overflow",
        [(SECOND_MOMENT, "block < layout.chunks * split.count; ", "block <= layout.chunks * split.count; ")],
    ),
    "a step of the wrong feature": (
        "float", "sanitizers", "wrong value",
        [*SMALL, (SCALE, "step / segments % extents.features}", "step % extents.features}")],
    ),
    "a launch on no stream": (
        "float", "sanitizers", "wrong value: the stream",
        [(SCALE, "kernel<<<grid_size(blocks), kThreads, 0, stream>>>", "kernel<<<grid_size(blocks), kThreads, 0, nullptr>>>")],
    ),
    "a launch that nobody checks": (
        "float", "sanitizers", "no error of an empty launch",
        [(VIRTUAL_GRAD, "  C10_CUDA_KERNEL_LAUNCH_CHECK();\n", "")],
    ),
    "vectors never": (
        "float", "sanitizers", r"never launched: column_second_moment_kernel<float, .*0>",
        [(SECOND_MOMENT, "const auto kernel = aligned ? column", "const auto kernel = aligned && false ? column")],
    ),
}
