// What stands in for the headers of CUDA and libtorch that cuda/graph.cpp includes keeps here, for a check to look at:
// the calls in their order, which of them fail, and what a process has of streams, graphs and pools.
//
// EMULATED_LIBTORCH is 210, 211 or 213. In cuda.cpp and libtorch.cpp stands beside each function what the real one
// does; where nothing else is said, that is the same in all three.
#pragma once

#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct CUgraph_st {
  int nodes;
};
struct CUgraphExec_st {
  int nodes;
};
struct CUstream_st {
  std::string name;
  int launched = 0;  // what has run on it
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  std::thread::id thread{};   // that began the capture
  unsigned long long id = 0;  // of the capture
  int nodes = 0;              // of the graph that is captured
  bool forks = false;         // onto a stream that has not joined it again
};

namespace at {
struct CUDAGeneratorState;
}

namespace emulation {

// c10::Error.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The pools of captures, which the allocators of device memory and of pinned memory keep in the same way.
class Pools {
 public:
  void begin(c10::MempoolId_t pool, const char* call);
  void end(c10::MempoolId_t pool, const char* call);
  void release(c10::MempoolId_t pool, const char* call);
  bool is_recording() const { return !recording_.empty(); }
  int uses() const;

 private:
  std::map<c10::MempoolId_t, int> uses_;
  std::set<c10::MempoolId_t> recording_;
};

constexpr int kDevices = 2;

struct Process {
  Process();
  ~Process();
  cudaStream_t add_stream(int device, const std::string& name);

  std::vector<std::string> calls;
  std::map<std::string, int> failures;  // how many times a call fails from now on
  std::vector<std::string> misuses;     // what no error tells of, and the real ones would not forgive

  std::deque<CUstream_st> streams;  // stay where they are
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
  unsigned long long captures = 0;
  cudaError_t last_error = cudaSuccess;

  int device = 0;                                      // the current one
  cudaStream_t defaults[kDevices], current[kDevices];  // of each device
  int taken_streams[kDevices] = {};
  unsigned long long taken_pools = 0;
  Pools device_pools, pinned_pools;
  bool weights_are_cached = false;  // by autocast
  std::shared_ptr<at::CUDAGeneratorState> generator;
};

// A claim begins with a new one.
extern std::unique_ptr<Process> process;

constexpr int kAlways = 1 << 20;

// Notes a call; whether it is to fail.
bool fails(const std::string& call, const std::string& detail = "");

// TORCH_CHECK and TORCH_INTERNAL_ASSERT: what is not so is thrown.
void expect(bool is_so, const std::string& otherwise);

// C10_CUDA_CHECK: throws an error of CUDA, and takes the last error away with it.
void check(cudaError_t error, const char* call);

cudaStream_t current_stream();

// A kernel: runs, or becomes a node of the graph. An invalid capture refuses it.
cudaError_t launch();
// Waits for the current stream, which makes its capture invalid.
cudaError_t synchronize();
// What could disturb a capture, as cudaMalloc does.
cudaError_t make_unsafe_call();

}  // namespace emulation
