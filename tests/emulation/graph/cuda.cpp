// The CUDA runtime as far as captures go.
#include <utility>

#include "state.h"

namespace emulation {

bool fails(const std::string& call, const std::string& detail) {
  process->calls.push_back(call + detail);
  const auto failure = process->failures.find(call);
  return failure != process->failures.end() && failure->second-- > 0;
}

cudaStream_t current_stream() { return process->current[process->device]; }

namespace {

// Errors are returned, and kept until cudaGetLastError asks. Success overwrites none.
cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) {
    process->last_error = error;
  }
  return error;
}

cudaError_t result_of(const char* call) { return result(fails(call) ? cudaErrorMemoryAllocation : cudaSuccess); }

bool captures(const CUstream_st& stream) { return stream.capture != cudaStreamCaptureStatusNone; }

// A call that a capture does not allow is an error, and the capture is invalid from then on.
template <typename Concerned>
cudaError_t invalidate(const Concerned& concerned) {
  auto error = cudaSuccess;
  for (auto& stream : process->streams) {
    if (captures(stream) && concerned(stream)) {
      stream.capture = cudaStreamCaptureStatusInvalidated;
      error = cudaErrorStreamCaptureUnsupported;
    }
  }
  return result(error);
}

template <typename Handle>
void destroy(std::set<Handle>& owned, Handle handle, const char* call) {
  if (owned.erase(handle) == 0) {
    process->misuses.push_back(std::string(call) + " of what is not there");
    return;
  }
  delete handle;
}

}  // namespace

cudaError_t launch() {
  auto& stream = *current_stream();
  if (stream.capture == cudaStreamCaptureStatusInvalidated) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  ++(captures(stream) ? stream.nodes : stream.launched);
  return cudaSuccess;
}

cudaError_t synchronize() {
  return invalidate([](const auto& stream) { return &stream == current_stream(); });
}

// In the way of captures that any thread has begun in mode global, and of those of this thread that are not relaxed.
cudaError_t make_unsafe_call() {
  return invalidate([](const auto& stream) {
    return stream.mode == cudaStreamCaptureModeGlobal ||
           (stream.mode == cudaStreamCaptureModeThreadLocal && stream.thread == std::this_thread::get_id());
  });
}

}  // namespace emulation

using emulation::fails;
using emulation::process;
using emulation::result;
using emulation::result_of;

cudaError_t cudaGetLastError() { return std::exchange(process->last_error, cudaSuccess); }

// In the way of every capture.
cudaError_t cudaDeviceSynchronize() {
  const auto error = result_of("cudaDeviceSynchronize");
  return error == cudaSuccess ? emulation::invalidate([](const auto&) { return true; }) : error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  constexpr const char* kModes[] = {", global", ", of this thread", ", relaxed"};
  if (fails("cudaStreamBeginCapture", kModes[mode])) {
    return result(cudaErrorMemoryAllocation);
  }
  if (emulation::captures(*stream)) {
    return result(cudaErrorIllegalState);
  }
  stream->capture = cudaStreamCaptureStatusActive;
  stream->mode = mode;
  stream->thread = std::this_thread::get_id();
  stream->id = ++process->captures;  // never 0
  stream->nodes = 0;
  return cudaSuccess;
}

// Success for an invalid capture too, which the status tells.
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const auto error = result_of("cudaStreamIsCapturing");
  if (error == cudaSuccess) {
    *status = stream->capture;
  }
  return error;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id) {
  const auto error = result_of("cudaStreamGetCaptureInfo");
  if (error == cudaSuccess) {
    *status = stream->capture;
    *id = stream->id;
  }
  return error;
}

// Ends the capture in any case but two: there is none, or another thread began it, not relaxed. One that is invalid or
// has a fork comes back as an error and no graph.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  process->calls.push_back("cudaStreamEndCapture");
  if (!emulation::captures(*stream)) {
    process->misuses.push_back("cudaStreamEndCapture of a stream that does not capture");
    return result(cudaErrorIllegalState);
  }
  if (stream->mode != cudaStreamCaptureModeRelaxed && stream->thread != std::this_thread::get_id()) {
    return result(cudaErrorStreamCaptureWrongThread);
  }
  const auto status = std::exchange(stream->capture, cudaStreamCaptureStatusNone);
  *graph = nullptr;
  if (std::exchange(stream->forks, false)) {
    return result(cudaErrorStreamCaptureUnjoined);
  }
  if (status == cudaStreamCaptureStatusInvalidated) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  *graph = new CUgraph_st{stream->nodes};
  process->graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void* /*nodes*/, size_t* count) {
  *count = graph->nodes;
  return result_of("cudaGraphGetNodes");
}

// The executable graph outlasts the graph.
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long /*flags*/) {
  const auto error = result_of("cudaGraphInstantiateWithFlags");
  if (error == cudaSuccess) {
    *executable = new CUgraphExec_st{graph->nodes};
    process->executables.insert(*executable);
  }
  return error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const auto error = result_of("cudaGraphDestroy");
  if (error == cudaSuccess) {
    emulation::destroy(process->graphs, graph, "cudaGraphDestroy");
  }
  return error;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const auto error = result_of("cudaGraphExecDestroy");
  if (error == cudaSuccess) {
    emulation::destroy(process->executables, executable, "cudaGraphExecDestroy");
  }
  return error;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (fails("cudaGraphLaunch", ", " + stream->name)) {
    return result(cudaErrorMemoryAllocation);
  }
  stream->launched += executable->nodes;
  return cudaSuccess;
}
