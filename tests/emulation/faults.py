"""What scripts/check-kernels replaces in copies of cuda/: (file, text that stands there once, text in its place)."""

SECOND_MOMENT, VIRTUAL_GRAD, SCALE = "second_moment_kernel.cu", "virtual_grad_kernel.cu", "scale_kernel.cu"

# Sizes at which small gradients reach what only large ones do: blocks that go on to more work, and rows dealt to blocks
# by each rule of Split.
SMALL = [
    ("blocks.cuh", "kLargestGrid = (int64_t{1} << 31) - 1;", "kLargestGrid = 3;"),
    ("blocks.cuh", "kBlocks = 2048;", "kBlocks = 1;"),
    ("blocks.cuh", "kMostPerThread = 512;", "kMostPerThread = 32;"),
    (SCALE, "kMostBlocks = 4096;", "kMostBlocks = 3;"),
]

# The same fault for both checks: the one sees it, the other what comes of it.
IN_THE_TREE = [(SECOND_MOMENT, "__syncthreads();\n    live = half;", "live = half;")]
LAST_FACTOR = [(VIRTUAL_GRAD, "if (updates) {", "if (updates && (threadIdx.x + 1) * kMoments < kColumns) {")]

# Faults, each with the kind of gradient, the check that must find it, what that says, and the edits.
FAULTS = {
    # Barriers
    "no barrier after the sums": ("float", "races", r"(race|unwritten): reads byte \d+ of shared memory", [
        (VIRTUAL_GRAD, "sums[threadIdx.x] = sum;\n      __syncthreads();", "sums[threadIdx.x] = sum;"),
    ]),
    "no barrier after the factors": ("half", "races", r"(race|unwritten): reads byte \d+ of shared memory", [
        (VIRTUAL_GRAD, "__syncthreads();\n      column_factors", "column_factors"),
    ]),
    "no barrier in the tree": ("float", "races", r"race: (reads|writes) byte \d+ of shared memory", IN_THE_TREE),
    "no barrier in the tree, by its bits": ("float", "sanitizers", r"wrong value: .*: other bits", IN_THE_TREE),
    "overwritten before it is read": ("float", "races", r"race: (reads|writes) byte \d+ of shared memory", [
        (VIRTUAL_GRAD, "= factors[lane];", "= factors[lane];\n      factors[kLanes - 1 - lane] = {};"),
    ]),
    "threads that leave before a barrier": ("float", "sanitizers", "divergent barrier: some threads are gone", [
        (SECOND_MOMENT, "layout.groups / layout.chunks;", "layout.groups / layout.chunks;\n  if (group >= layout.groups) return;"),
    ]),
    "threads at two barriers": ("half", "sanitizers", r"divergent barrier: some threads wait at \S+, others at \S+", [
        (VIRTUAL_GRAD, "= sum;\n      __syncthreads();", "= sum;\n      if (updates) __syncthreads();"),
    ]),
    # Memory
    "a load past the end of a row": ("float", "sanitizers", "heap-buffer-overflow", [
        ("pack.cuh", "if (i < left) {\n        pack", "if (i <= left) {\n        pack"),
    ]),
    "a store past the end of a row": ("half", "sanitizers", "heap-buffer-overflow", [
        ("pack.cuh", "if (i < left) {\n        to[i]", "if (i <= left) {\n        to[i]"),
    ]),
    "a row too many": ("float", "sanitizers", "heap-buffer-overflow", [
        (SCALE, "while (run < runs)", "while (run <= runs)"),
    ]),
    "a last part that is not cut": ("float", "sanitizers", "heap-buffer-overflow", [
        ("blocks.cuh", "min(rows, (part + 1) * split.length)", "(part + 1) * split.length"),
    ]),
    "vectors past the end of a row": ("bfloat16", "sanitizers", "heap-buffer-overflow", [
        (VIRTUAL_GRAD, "extents.features % kVector<T> == 0 && is_aligned(gradient)", "is_aligned(gradient)"),
    ]),
    "vectors from an odd address": ("float", "sanitizers", "misaligned address", [
        (SECOND_MOMENT, "row_length % kVector<T> == 0 && is_aligned(gradient)", "row_length % kVector<T> == 0"),
    ]),
    "vectors of moments at an odd address": ("half", "sanitizers", "misaligned address", [
        (SCALE, "(!columns || is_aligned(second_moment))", "true"),
    ]),
    "too little shared memory": ("float", "sanitizers", "heap-buffer-overflow", [
        (SECOND_MOMENT, "sums[kThreads];", "sums[kThreads - 1];"),
    ]),
    "shared memory not written": ("float", "races", r"unwritten: reads byte \d+ of shared memory", LAST_FACTOR),
    "shared memory not written, by its values": ("float", "sanitizers", "wrong value", LAST_FACTOR),
    "partial sums not written": ("float", "races", r"unwritten: reads byte \d+ of the partial sums", [
        (SECOND_MOMENT, "    partial_sums[split", "    if (split > 0) partial_sums[split"),
    ]),
    "registers not written": ("float", "sanitizers", "wrong value", [
        ("pack.cuh", "Pack<T, kCount> pack{};", "Pack<T, kCount> pack;"),
    ]),
    # Sums
    "a sum over too few groups": ("float", "sanitizers", "wrong value", [
        (VIRTUAL_GRAD, "other < kGroups; ++other", "other < kGroups - 1; ++other"),
    ]),
    "half of an odd number of groups": ("float", "sanitizers", "wrong value", [
        (SECOND_MOMENT, "const int half = (live + 1) / 2;", "const int half = live / 2;"),
    ]),
    "a lost update": ("float", "sanitizers", "wrong value: second moment", [
        (VIRTUAL_GRAD, "store_pack<kAccess>(moments, second_moments + moment_column, moments_left);", ""),
    ]),
    "an update by every group": ("float", "races", r"race: (reads|writes) byte \d+ of the second moments", [
        (SECOND_MOMENT, "if (group == 0 && feature < features)", "if (group < layout.groups && feature < features)"),
    ]),
    "partial sums in one place": ("float", "races", r"race: writes byte \d+ of the partial sums", [
        (SECOND_MOMENT, "partial_sums[split * features + feature] = sum", "partial_sums[feature] = sum"),
    ]),
    "an overflow that destroys the state": ("float", "sanitizers", "wrong value: second moment", [
        ("formulas.cuh", "return isfinite(mean) ? decay", "return true ? decay"),
    ]),
    # Grids and launches
    "blocks that do not go on": ("float", "sanitizers", "wrong value", [
        *SMALL, (VIRTUAL_GRAD, "chunk < chunks; chunk += gridDim.x", "chunk < chunks; chunk += chunks"),
    ]),
    "a block too many": ("float", "sanitizers", "wrong value|heap-buffer-overflow", [
        (SECOND_MOMENT, "block < layout.chunks * split.count; ", "block <= layout.chunks * split.count; "),
    ]),
    "a step to the wrong feature": ("float", "sanitizers", "wrong value", [
        *SMALL, (SCALE, "step / segments % extents.features}", "step % extents.features}"),
    ]),
    "a feature that is not carried": ("float", "sanitizers", "wrong value", [
        *SMALL, (SCALE, "++run;\n      ++feature;", "++run;"),
    ]),
    "a launch on no stream": ("float", "sanitizers", "wrong value: the stream", [
        (SCALE, "<<<grid_size(blocks), kThreads, 0, stream>>>", "<<<grid_size(blocks), kThreads, 0, nullptr>>>"),
    ]),
    "a launch that is not checked": ("float", "sanitizers", "no error of an empty launch", [
        (VIRTUAL_GRAD, "  C10_CUDA_KERNEL_LAUNCH_CHECK();\n", ""),
    ]),
    "vectors never": ("float", "sanitizers", "never launched: column_second_moment_kernel<float", [
        (SECOND_MOMENT, "const auto kernel = aligned ? column", "const auto kernel = aligned && false ? column"),
    ]),
}

# Faults of cuda/graph.cpp, each with the libtorch under it, the claim of graph/check.cpp that must be broken, and the
# edits.
GRAPH_FAULTS = {
    # The beginning
    "no stream of its own": ("2.13", "broken: a capture makes these calls", [
        ("stream_guard_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device).unwrap())", "stream_guard_()"),
    ]),
    "the device not waited for": ("2.10", "broken: a capture makes these calls", [
        ("c10::cuda::device_synchronize();", ""),
    ]),
    "the cache not emptied": ("2.13", "broken: a capture makes these calls", [
        ("c10::cuda::CUDACachingAllocator::emptyCache();", ""),
    ]),
    "weights that were cast before": ("2.13", "broken: weights that were cast before a capture", [
        ("as they are now.\n    at::autocast::clear_cache();", "as they are now."),
    ]),
    "a capture of all threads": ("2.13", "broken: another thread may make calls", [
        ("cudaStreamCaptureModeThreadLocal", "cudaStreamCaptureModeGlobal"),
    ]),
    "a beginning not abandoned": ("2.13", "broken: a capture that fails to begin .*cudaStreamBeginCapture", [
        ("capture_.abandon();\n      throw;", "throw;"),
    ]),
    # The end
    "the stream not left": ("2.13", "broken: a capture makes these calls", [
        ("throw;\n    }\n    leave_stream();", "throw;\n    }"),
    ]),
    "the stream not restored": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("stream_guard_.reset();", ""),
    ]),
    "weights that were cast in the capture": ("2.13", "broken: weights that were cast in a capture", [
        ("after the next.\n    at::autocast::clear_cache();", "after the next."),
    ]),
    "an end not abandoned": ("2.11", "broken: a capture that CUDA declares invalid", [
        ("abandon_capture();\n      throw;", "leave_stream();\n      throw;"),
    ]),
    "an abandoned capture not left": ("2.13", "broken: an abandoned capture leaves nothing", [
        ("leave_stream();\n    return was_invalid;", "return was_invalid;"),
    ]),
    # What is abandoned
    "a graph thrown away": ("2.13", "broken: a graph that is there", [
        ("if (capture_ended_) {", "if (false) {"),
    ]),
    "a capture that goes on": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("cudaStreamEndCapture(capture_stream_, &graph_);", ""),
    ]),
    "an invalid capture that goes on": ("2.13", "broken: an abandoned capture that CUDA has declared invalid", [
        ("if (status != cudaStreamCaptureStatusNone)", "if (status == cudaStreamCaptureStatusActive)"),
    ]),
    "an end without a beginning": ("2.13", "broken: a capture that never began is not ended", [
        ("if (status != cudaStreamCaptureStatusNone)", "if (true)"),
    ]),
    "a partial graph kept": ("2.11", "broken: an abandoned capture leaves nothing", [
        ("cudaGraphDestroy(graph_);", ""),
    ]),
    "a graph of a failed end kept": ("2.13", "broken: a capture that fails after its end .*cudaGraphGetNodes", [
        ("    }\n    // Or capture_end had it, and failed before it let reset() know.\n    if (graph_", "    if (graph_"),
        ("      graph_ = nullptr;\n", "      graph_ = nullptr;\n    }\n"),
    ]),
    "a graph destroyed twice": ("2.13", "broken: a capture is abandoned once", [
        ("      graph_ = nullptr;\n", ""),
    ]),
    "the error kept": ("2.13", "broken: an abandoned capture that CUDA has declared invalid", [
        ("cudaGetLastError();", ""),
    ]),
    "invalid never": ("2.10", "broken: an abandoned capture that CUDA has declared invalid", [
        ("return status == cudaStreamCaptureStatusInvalidated;", "return false;"),
    ]),
    "invalid always": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("return status == cudaStreamCaptureStatusInvalidated;", "return status != cudaStreamCaptureStatusNone;"),
    ]),
    # Who is told
    "allocations not ended": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("quietly([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, pool); });", ""),
    ]),
    "a pool not released": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("quietly([&] { c10::cuda::CUDACachingAllocator::releasePool(capture_dev_, pool); });", ""),
    ]),
    "a pool not released after a failed end": ("2.13", "broken: a capture that CUDA declares invalid", [
        ("(capture_dev_, pool); });\n    quietly([&] { c10::cuda::CUDACachingAllocator::rel", "(capture_dev_, pool);\n    c10::cuda::CUDACachingAllocator::rel"),
    ]),
    "a pool released twice": ("2.13", "broken: a capture is abandoned once", [
        ("std::exchange(mempool_id_, {})", "mempool_id_"),
    ]),
    "pinned allocations not ended": ("2.11", "broken: an abandoned capture leaves nothing", [
        ("quietly([&] { allocator->end_allocate_to_pool(pool); });", ""),
    ]),
    "a pinned pool not released": ("2.13", "broken: an abandoned capture leaves nothing", [
        ("quietly([&] { allocator->release_pool(pool); });", ""),
    ]),
    "a pinned pool not released after a failed end": ("2.13", "broken: a capture that CUDA declares invalid", [
        ("_pool(pool); });\n  quietly([&] { allocator->rel", "_pool(pool);\n  allocator->rel"),
    ]),
    "no pinned pool for any libtorch": ("2.11", "broken: an abandoned capture leaves nothing", [
        ("pool, 0); });", "pool, 0L); });"),
    ]),
    "an allocator that keeps the other from it": ("2.13", "broken: a pool of the device that is not released", [
        ("::releasePool(capture_dev_, pool); });\n    quietly([&] { leave", "::releasePool(capture_dev_, pool);\n    leave"),
    ]),
    "generators not told": ("2.10", "broken: an abandoned capture leaves nothing", [
        ("state.capturing_ = false;", ""),
    ]),
    "generators not told of a capture": ("2.13", "broken: an abandoned capture leaves nothing", [
        ("state.capture_states_.erase(capture);", ""),
    ]),
    "generators told without the lock": ("2.13", "broken: an abandoned capture leaves nothing", [
        ("const std::lock_guard<std::mutex> lock(state.capture_states_mutex_);", ""),
    ]),
    # Destructors
    "a generator that does not know the graph": ("2.10", "broken: .*register_graph: an exception left a destructor", [
        ("state.registered_graphs_.insert(graph);", ""),
    ]),
    "a destructor that throws": ("2.10", "broken: a graph is dropped .*: an exception left a destructor", [
        ("has_graph_ = has_graph_exec_ = capture_ended_ = false;", "throw;"),
    ]),
    "a destructor that tries again": ("2.13", "broken: a graph is dropped .*: an exception left a destructor", [
        ("has_graph_ = has_graph_exec_ = capture_ended_ = false;", ""),
    ]),
}
