// Capture and replay by at::cuda::CUDAGraph, in the steps of torch.cuda.graph.
#include "graph.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <mutex>
#include <utility>

namespace hatted::cuda {
namespace {

// Tells a random number generator that a capture is over: before libtorch 2.13 it is in one or in none ...
template <typename State, typename Id>
auto leave_capture(State& state, at::cuda::CUDAGraph* graph, Id /*capture*/, int /*preferred*/)
    -> decltype(void(state.capturing_)) {
  state.capturing_ = false;
  // The graph's destructor ends the process where it is not in here, as when capture_begin found no memory.
  state.registered_graphs_.insert(graph);
}

// ... and since then it has a state for each.
template <typename State, typename Id>
void leave_capture(State& state, at::cuda::CUDAGraph* /*graph*/, Id capture, long /*otherwise*/) {
  const std::lock_guard<std::mutex> lock(state.capture_states_mutex_);
  state.capture_states_.erase(capture);
}

template <typename Undo>
void quietly(Undo&& undo) noexcept {
  try {
    undo();
  } catch (...) {
  }
}

// Gives back the pinned memory of a capture. Before libtorch 2.11 it had no pool of its own.
template <typename Allocator, typename Pool>
auto leave_pool(Allocator* allocator, Pool pool, int /*preferred*/) -> decltype(allocator->release_pool(pool)) {
  quietly([&] { allocator->end_allocate_to_pool(pool); });
  quietly([&] { allocator->release_pool(pool); });
}

template <typename Allocator, typename Pool>
void leave_pool(Allocator* /*allocator*/, Pool /*pool*/, long /*otherwise*/) {}

// CUDAGraph has no way out of a capture that failed: its capture_end throws before it has told the allocators and the
// random number generator all that the end of a capture means. From then on, random numbers would be refused outside of
// captures, and memory would wait for the end of the capture, or of the process, to be freed.
struct Capture : at::cuda::CUDAGraph {
  ~Capture() {
    // What throws here would end the process: after an error of the device there is nothing left to give back.
    try {
      reset();
    } catch (...) {
      has_graph_ = has_graph_exec_ = capture_ended_ = false;
    }
  }

  bool abandon() noexcept {
    if (capture_ended_) {  // All but an executable graph is there: reset() clears it away.
      return false;
    }
    auto status = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(capture_stream_, &status);
    if (status != cudaStreamCaptureStatusNone) {
      cudaStreamEndCapture(capture_stream_, &graph_);
    }
    // Or capture_end had it, and failed before it let reset() know.
    if (graph_ != nullptr) {
      cudaGraphDestroy(graph_);
      graph_ = nullptr;
    }
    // CUDA keeps the last error for the next call that asks; whoever that is has no part in it.
    cudaGetLastError();
    // Each is an error where capture_begin or capture_end failed on the other side of it: since libtorch 2.13, a
    // capture_end that fails has ended the allocations, but released no pool. None is released twice.
    const auto pool = std::exchange(mempool_id_, {});
    quietly([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, pool); });
    quietly([&] { c10::cuda::CUDACachingAllocator::releasePool(capture_dev_, pool); });
    quietly([&] { leave_pool(at::getHostAllocator(at::kCUDA), pool, 0); });
    for (const auto& entry : captured_generator_states_) {
      leave_capture(*entry.first, this, capture_id_, 0);
    }
    return status == cudaStreamCaptureStatusInvalidated;
  }
};

class CapturedGraph final : public Graph {
 public:
  explicit CapturedGraph(c10::DeviceIndex device)
      : stream_guard_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device).unwrap()) {
    c10::cuda::device_synchronize();
    // Cached memory does not serve the pool of a capture, and is not given back while one is under way.
    c10::cuda::CUDACachingAllocator::emptyCache();
    // Weights that were cast before would stand in the graph as they are now.
    at::autocast::clear_cache();
    try {
      // Of this thread: a call that a capture refuses, made by a thread that loads data, is none of the graph's.
      capture_.capture_begin(/*pool=*/{0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      capture_.abandon();
      throw;
    }
  }

  void finish_capture() override {
    try {
      capture_.capture_end();
    } catch (...) {
      abandon_capture();
      throw;
    }
    leave_stream();
  }

  bool abandon_capture() override {
    const bool was_invalid = capture_.abandon();
    leave_stream();
    return was_invalid;
  }

  void replay() const override { capture_.replay(); }

 private:
  void leave_stream() {
    // Weights that were cast in the capture have no values yet, and those of the last replay after the next.
    at::autocast::clear_cache();
    stream_guard_.reset();
  }

  c10::cuda::OptionalCUDAStreamGuard stream_guard_;
  mutable Capture capture_;
};

}  // namespace

std::unique_ptr<Graph> begin_capture(int64_t device) {
  return std::make_unique<CapturedGraph>(static_cast<c10::DeviceIndex>(device));
}

}  // namespace hatted::cuda
