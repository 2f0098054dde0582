// The state of a generator of random numbers, which knows of captures.
#pragma once

#include <c10/cuda/CUDACachingAllocator.h>

#include <cstdint>
#include <mutex>
#include <vector>

namespace at {

namespace cuda {
struct CUDAGraph;
}

using c10::CaptureId_t;

#if EMULATED_LIBTORCH < 213

struct CUDAGeneratorState {
  // std::unordered_set<cuda::CUDAGraph*>.
  class Graphs {
   public:
    void insert(cuda::CUDAGraph* graph);
    size_t erase(cuda::CUDAGraph* graph);

   private:
    std::vector<cuda::CUDAGraph*> graphs_;
  };

  void increase(uint64_t increment);
  void register_graph(cuda::CUDAGraph* graph);
  void unregister_graph(cuda::CUDAGraph* graph);
  void capture_prologue();
  uint64_t capture_epilogue();
  void replay_prologue(uint64_t wholegraph_increment);
  bool is_in_capture() const { return capturing_; }

  uint64_t philox_offset_per_thread_ = 0;
  uint64_t offset_intragraph_ = 0;
  bool capturing_{};
  Graphs registered_graphs_;
};

#else

struct CUDAGeneratorState {
  // ska::flat_hash_map, which breaks where two threads change it at once.
  class CaptureStates {
   public:
    explicit CaptureStates(std::mutex& mutex) : mutex_(mutex) {}
    void add(CaptureId_t capture);
    uint64_t* find(CaptureId_t capture);
    size_t erase(CaptureId_t capture);
    bool empty() const { return states_.empty(); }

   private:
    std::mutex& mutex_;
    std::vector<std::pair<CaptureId_t, uint64_t> > states_;
  };

  void increase(uint64_t increment);
  void init_capture_state(CaptureId_t capture_id);
  uint64_t capture_epilogue(CaptureId_t capture_id);
  void replay_prologue(CaptureId_t capture_id, uint64_t wholegraph_increment);
  void remove_capture_state(CaptureId_t capture_id);
  bool is_in_capture() const { return !capture_states_.empty(); }

  uint64_t philox_offset_per_thread_ = 0;
  mutable std::mutex capture_states_mutex_;
  CaptureStates capture_states_{capture_states_mutex_};
};

#endif

}  // namespace at
