// CUDA graphs, behind an interface without CUDA's headers: cpp/bridge.h includes it in every build.
#pragma once

#include <cstdint>
#include <memory>

namespace hatted::cuda {

class Graph {
 public:
  virtual ~Graph() = default;

  // What the current thread has launched since begin_capture becomes the graph. Ends the capture in any case.
  virtual void finish_capture() = 0;
  // Ends the capture without a graph, and says whether CUDA had declared it invalid.
  virtual bool abandon_capture() = 0;
  // Launches the graph on the current stream.
  virtual void replay() const = 0;
};

// Waits for the device, and then records what is launched on it instead of running it: on a stream that is the current
// one until the capture ends, and with memory of its own. The capture is the current thread's to end.
std::unique_ptr<Graph> begin_capture(int64_t device);

}  // namespace hatted::cuda
