// at::cuda::CUDAGraph, with the members that a class derived from it sees.
#pragma once

#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <vector>

namespace at::cuda {

using c10::MempoolId_t;
using c10::cuda::CUDAStream;

struct CUDAGraph {
  CUDAGraph();
  ~CUDAGraph();
  CUDAGraph(const CUDAGraph&) = delete;

  void capture_begin(MempoolId_t pool, cudaStreamCaptureMode capture_mode);
  void capture_end();
  void replay();
  void reset();

 protected:
  void instantiate();

  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t graph_exec_ = nullptr;
  bool has_graph_ = false;
  bool capture_ended_ = false;
  bool has_graph_exec_ = false;
  CaptureId_t capture_id_ = 0;
  MempoolId_t mempool_id_;
  CUDAStream capture_stream_;
  // A map in libtorch, from c10::intrusive_ptr.
  std::vector<std::pair<std::shared_ptr<CUDAGeneratorState>, uint64_t>> captured_generator_states_;
  c10::DeviceIndex capture_dev_{-1};
};

}  // namespace at::cuda
