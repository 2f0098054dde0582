// libtorch as far as captures go: what each function has done when it throws is what cuda/graph.cpp has to undo.
#include <ATen/autocast_mode.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <future>
#include <utility>

#include "state.h"

using emulation::check;
using emulation::expect;
using emulation::fails;
using emulation::process;

namespace emulation {

std::unique_ptr<Process> process = std::make_unique<Process>();

Process::Process() {
  for (int at = 0; at < kDevices; ++at) {
    defaults[at] = current[at] = add_stream(at, "default");
  }
  generator = std::make_shared<at::CUDAGeneratorState>();
}

Process::~Process() {
  for (const auto* graph : graphs) {
    delete graph;
  }
  for (const auto* executable : executables) {
    delete executable;
  }
}

cudaStream_t Process::add_stream(int at, const std::string& name) {
  streams.push_back({"stream " + name + " of device " + std::to_string(at)});
  return &streams.back();
}

void expect(bool is_so, const std::string& otherwise) {
  if (!is_so) {
    throw Error(otherwise);
  }
}

void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) {
    cudaGetLastError();
    throw Error("CUDA error " + std::to_string(error) + " of " + call);
  }
}

// One use more of the pool, where allocations go from now on.
void Pools::begin(c10::MempoolId_t pool, const char* call) {
  expect(!fails(call), call);
  ++uses_[pool];
  expect(recording_.insert(pool).second, "already recording to mempool_id");
}

// Allocations go there no longer; its uses stay. Throws where none has begun, or it has ended before.
void Pools::end(c10::MempoolId_t pool, const char* call) {
  expect(!fails(call), call);
  expect(recording_.erase(pool) == 1, "not currently recording to mempool_id");
}

// One use less: with the last, the memory can be freed. Throws where there is no such pool. Once too often spoils the
// count, which an assertion notices.
void Pools::release(c10::MempoolId_t pool, const char* call) {
  expect(!fails(call), call);
  const auto use = uses_.find(pool);
  expect(use != uses_.end(), "no such pool");
  if (--use->second < 0) {
    process->misuses.push_back(std::string(call) + " of a pool that is released");
    throw Error(call);
  }
}

int Pools::uses() const {
  int sum = 0;
  for (const auto& use : uses_) {
    sum += use.second;
  }
  return sum;
}

}  // namespace emulation

namespace c10::cuda {

CUDAStream getCurrentCUDAStream() {
  return CUDAStream({emulation::current_stream(), static_cast<DeviceIndex>(process->device)});
}

// Deals out 32 streams of each device in turn, which are never destroyed.
CUDAStream getStreamFromPool(bool isHighPriority, DeviceIndex device) {
  expect(!fails("getStreamFromPool", isHighPriority ? ", high priority" : ""), "getStreamFromPool");
  return CUDAStream({process->add_stream(device, std::to_string(++process->taken_streams[device])), device});
}

// Makes the stream and its device current ...
OptionalCUDAStreamGuard::OptionalCUDAStreamGuard(Stream stream)
    : is_set_(true), device_(process->device), original_{process->current[stream.device], stream.device} {
  process->device = stream.device;
  process->current[stream.device] = stream.stream;
  process->calls.push_back("current: " + stream.stream->name);
}

// ... and what was so before, of both.
void OptionalCUDAStreamGuard::reset() {
  if (std::exchange(is_set_, false)) {
    process->current[original_.device] = original_.stream;
    process->device = device_;
    process->calls.push_back("current: " + emulation::current_stream()->name);
  }
}

void device_synchronize() { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

namespace CUDACachingAllocator {

// Gives back what is cached, but nothing while a capture is under way.
void emptyCache() {
  expect(!fails("emptyCache"), "emptyCache");
  if (process->device_pools.is_recording()) {
    process->misuses.push_back("emptyCache in a capture");
  }
}

// These throw for what is no device.
void beginAllocateToPool(DeviceIndex device, MempoolId_t pool) {
  expect(device >= 0, "invalid device");
  process->device_pools.begin(pool, "beginAllocateToPool");
}
void endAllocateToPool(DeviceIndex device, MempoolId_t pool) {
  expect(device >= 0, "invalid device");
  process->device_pools.end(pool, "endAllocateToPool");
}
void releasePool(DeviceIndex device, MempoolId_t pool) {
  expect(device >= 0, "invalid device");
  process->device_pools.release(pool, "releasePool");
}

}  // namespace CUDACachingAllocator
}  // namespace c10::cuda

namespace at {

void autocast::clear_cache() {
  process->calls.push_back("clear_cache");
  process->weights_are_cached = false;
}

HostAllocator* getHostAllocator(DeviceType /*type*/) {
  static HostAllocator allocator;
  return &allocator;
}

#if EMULATED_LIBTORCH >= 211
void HostAllocator::begin_allocate_to_pool(c10::MempoolId_t pool) {
  process->pinned_pools.begin(pool, "begin_allocate_to_pool");
}
void HostAllocator::end_allocate_to_pool(c10::MempoolId_t pool) {
  process->pinned_pools.end(pool, "end_allocate_to_pool");
}
void HostAllocator::release_pool(c10::MempoolId_t pool) { process->pinned_pools.release(pool, "release_pool"); }
#endif

#if EMULATED_LIBTORCH < 213

void CUDAGeneratorState::Graphs::insert(cuda::CUDAGraph* graph) {
  if (std::find(graphs_.begin(), graphs_.end(), graph) == graphs_.end()) {
    graphs_.push_back(graph);
  }
}
size_t CUDAGeneratorState::Graphs::erase(cuda::CUDAGraph* graph) { return std::erase(graphs_, graph); }

// Refuses random numbers in a capture that it is not in, and outside of captures while it is in one.
void CUDAGeneratorState::increase(uint64_t increment) {
  if (emulation::current_stream()->capture != cudaStreamCaptureStatusNone) {
    expect(capturing_, "Attempt to increase offset for a CUDA generator not in capture mode");
    offset_intragraph_ += increment;
  } else {
    expect(!capturing_, "Offset increment outside graph capture encountered unexpectedly");
    philox_offset_per_thread_ += increment;
  }
}

// Allocates for the first graph, and throws before the graph is in.
void CUDAGeneratorState::register_graph(cuda::CUDAGraph* graph) {
  expect(!fails("register_graph"), "register_graph");
  registered_graphs_.insert(graph);
}

void CUDAGeneratorState::unregister_graph(cuda::CUDAGraph* graph) {
  expect(registered_graphs_.erase(graph) == 1, "The graph should be registered to the state");
}

// Fills tensors on the device, when it has said that it is in a capture.
void CUDAGeneratorState::capture_prologue() {
  capturing_ = true;
  offset_intragraph_ = 0;
  expect(!fails("capture_prologue"), "capture_prologue");
}

uint64_t CUDAGeneratorState::capture_epilogue() {
  process->calls.push_back("capture_epilogue");
  capturing_ = false;
  return offset_intragraph_;
}

void CUDAGeneratorState::replay_prologue(uint64_t wholegraph_increment) {
  expect(!fails("replay_prologue"), "replay_prologue");
  increase(wholegraph_increment);
}

#else

void CUDAGeneratorState::CaptureStates::add(CaptureId_t capture) { states_.emplace_back(capture, 0); }

uint64_t* CUDAGeneratorState::CaptureStates::find(CaptureId_t capture) {
  for (auto& state : states_) {
    if (state.first == capture) {
      return &state.second;
    }
  }
  return nullptr;
}

size_t CUDAGeneratorState::CaptureStates::erase(CaptureId_t capture) {
  // A lock that is this thread's is tried by another.
  const auto is_free = [this] {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    return lock.owns_lock();
  };
  if (std::async(std::launch::async, is_free).get()) {
    process->misuses.push_back("a capture state is erased without the lock");
  }
  return std::erase_if(states_, [&](const auto& state) { return state.first == capture; });
}

// What is drawn in a capture counts in the state for it, whose tensors are on the device until it is removed.
void CUDAGeneratorState::increase(uint64_t increment) {
  const auto& stream = *emulation::current_stream();
  if (stream.capture == cudaStreamCaptureStatusNone) {
    philox_offset_per_thread_ += increment;
    return;
  }
  const std::lock_guard<std::mutex> lock(capture_states_mutex_);
  const auto state = capture_states_.find(stream.id);
  expect(state != nullptr, "no state of this capture");
  *state += increment;
}

// Allocates on the device, and throws before there is a state.
void CUDAGeneratorState::init_capture_state(CaptureId_t capture_id) {
  expect(!fails("init_capture_state"), "init_capture_state");
  const std::lock_guard<std::mutex> lock(capture_states_mutex_);
  capture_states_.add(capture_id);
}

// The state stays for the replays.
uint64_t CUDAGeneratorState::capture_epilogue(CaptureId_t capture_id) {
  process->calls.push_back("capture_epilogue");
  const std::lock_guard<std::mutex> lock(capture_states_mutex_);
  const auto state = capture_states_.find(capture_id);
  return state == nullptr ? 0 : std::exchange(*state, 0);
}

void CUDAGeneratorState::replay_prologue(CaptureId_t capture_id, uint64_t wholegraph_increment) {
  expect(!fails("replay_prologue"), "replay_prologue");
  const std::lock_guard<std::mutex> lock(capture_states_mutex_);
  expect(wholegraph_increment == 0 || capture_states_.find(capture_id) != nullptr, "no state of this capture");
  philox_offset_per_thread_ += wholegraph_increment;
}

// No error where there is none.
void CUDAGeneratorState::remove_capture_state(CaptureId_t capture_id) {
  const std::lock_guard<std::mutex> lock(capture_states_mutex_);
  capture_states_.erase(capture_id);
}

#endif

namespace cuda {

CUDAGraph::CUDAGraph() : capture_stream_(c10::cuda::getCurrentCUDAStream()) {}

// What is thrown here ends the process.
CUDAGraph::~CUDAGraph() {
#if EMULATED_LIBTORCH < 213
  for (const auto& entry : captured_generator_states_) {
    entry.first->unregister_graph(this);
  }
#endif
  reset();
}

// Nothing is undone where one of these throws. The default generator enters the capture first or, since 2.13, last. The
// pools are there before the capture is, lest memory that another thread frees meanwhile makes it invalid.
void CUDAGraph::capture_begin(MempoolId_t pool, cudaStreamCaptureMode capture_mode) {
  expect(!has_graph_exec_, "This CUDAGraph instance already owns a captured graph");
  captured_generator_states_.emplace_back(process->generator, 0);
#if EMULATED_LIBTORCH < 213
  process->generator->register_graph(this);
  process->generator->capture_prologue();
#endif
  const auto stream = c10::cuda::getCurrentCUDAStream();
  expect(stream.stream() != process->defaults[process->device], "graphs must be captured on a non-default stream");
  capture_stream_ = stream;
  capture_dev_ = stream.device_index();
  mempool_id_ = pool == MempoolId_t{} ? MempoolId_t{++process->taken_pools, 0} : pool;
  c10::cuda::CUDACachingAllocator::beginAllocateToPool(capture_dev_, mempool_id_);
#if EMULATED_LIBTORCH >= 211
  getHostAllocator(kCUDA)->begin_allocate_to_pool(mempool_id_);
#endif
  check(cudaStreamBeginCapture(capture_stream_, capture_mode), "cudaStreamBeginCapture");
  cudaStreamCaptureStatus status{};
  check(cudaStreamGetCaptureInfo(stream, &status, &capture_id_), "cudaStreamGetCaptureInfo");
  expect(status == cudaStreamCaptureStatusActive, "not capturing");
#if EMULATED_LIBTORCH >= 213
  process->generator->init_capture_state(capture_id_);
#endif
}

// An error of cudaStreamEndCapture is thrown while the allocators and the generators are in the capture; since 2.13
// (pytorch/pytorch#180395) when the allocators no longer are, though no pool is released. Of a graph that is there when
// something else is thrown, reset() does not know before capture_ended_.
void CUDAGraph::capture_end() {
  expect(c10::cuda::getCurrentCUDAStream().stream() == capture_stream_.stream(),
         "Capture must end on the same stream it began on");
  const auto ended = cudaStreamEndCapture(capture_stream_, &graph_);
#if EMULATED_LIBTORCH < 213
  check(ended, "cudaStreamEndCapture");
#endif
  c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, mempool_id_);
#if EMULATED_LIBTORCH >= 211
  getHostAllocator(kCUDA)->end_allocate_to_pool(mempool_id_);
#endif
  check(ended, "cudaStreamEndCapture");
  expect(graph_ != nullptr, "Invalid capture");
  for (auto& entry : captured_generator_states_) {
#if EMULATED_LIBTORCH < 213
    entry.second = entry.first->capture_epilogue();
#else
    entry.second = entry.first->capture_epilogue(capture_id_);
#endif
  }
  size_t nodes = 0;
  check(cudaGraphGetNodes(graph_, nullptr, &nodes), "cudaGraphGetNodes");
  capture_ended_ = has_graph_ = true;
  instantiate();
  check(cudaGraphDestroy(graph_), "cudaGraphDestroy");
  has_graph_ = false;
}

void CUDAGraph::instantiate() {
  check(cudaGraphInstantiateWithFlags(&graph_exec_, graph_, 0), "cudaGraphInstantiateWithFlags");
  has_graph_exec_ = true;
}

// On the stream that is current on the device of the capture, when the generators have gone on.
void CUDAGraph::replay() {
  expect(capture_ended_, "Called CUDAGraph::replay without a preceding successful capture");
  expect(has_graph_exec_, "no executable graph");
  for (const auto& entry : captured_generator_states_) {
#if EMULATED_LIBTORCH < 213
    entry.first->replay_prologue(entry.second);
#else
    entry.first->replay_prologue(capture_id_, entry.second);
#endif
  }
  const auto stream = process->current[capture_stream_.device_index()];
  check(cudaGraphLaunch(graph_exec_, stream), "cudaGraphLaunch");
}

// Where the pools throw, all that comes after them is left as it was. Errors of CUDA are warnings, and not the last
// error any more.
void CUDAGraph::reset() {
  const auto warn = [](cudaError_t error) {
    if (error != cudaSuccess) {
      cudaGetLastError();
    }
  };
#if EMULATED_LIBTORCH >= 213
  if (capture_id_ != 0) {
    for (const auto& entry : captured_generator_states_) {
      entry.first->remove_capture_state(capture_id_);
    }
  }
  captured_generator_states_.clear();
  capture_id_ = 0;
#endif
  if (capture_ended_) {
    c10::cuda::CUDACachingAllocator::releasePool(capture_dev_, mempool_id_);
#if EMULATED_LIBTORCH >= 211
    getHostAllocator(kCUDA)->release_pool(mempool_id_);
#endif
    capture_ended_ = false;
  }
  if (has_graph_) {
    warn(cudaGraphDestroy(graph_));
    has_graph_ = false;
  }
  if (has_graph_exec_) {
    warn(cudaGraphExecDestroy(graph_exec_));
    has_graph_exec_ = false;
  }
}

}  // namespace cuda
}  // namespace at
