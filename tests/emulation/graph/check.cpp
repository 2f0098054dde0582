// Holds cuda/graph.cpp to what a capture, a replay and each failure of them must do and leave.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>

#include "graph.h"
#include "state.h"

using emulation::kAlways;
using emulation::process;

namespace {

constexpr bool kPinnedPools = EMULATED_LIBTORCH >= 211;
constexpr bool kCaptureStates = EMULATED_LIBTORCH >= 213;
using Calls = std::vector<std::string>;
using Graph = std::unique_ptr<hatted::cuda::Graph>;

std::string claimed;  // the claim that is tried
int held = 0, broken = 0;

#define EXPECT(condition)                                                                   \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      throw std::logic_error("line " + std::to_string(__LINE__) + ": not so: " #condition); \
    }                                                                                       \
  } while (false)

void expect_calls(const Calls& expected) {
  const auto& calls = process->calls;
  for (size_t i = 0; i < std::max(calls.size(), expected.size()); ++i) {
    const auto call = i < calls.size() ? calls[i] : "none", due = i < expected.size() ? expected[i] : "none";
    if (call != due) {
      throw std::logic_error("call " + std::to_string(i) + " is " + call + ", not " + due);
    }
  }
}

Calls operator+(Calls some, const Calls& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

// Calls of some versions of libtorch.
Calls where(bool is_so, const Calls& some) { return is_so ? some : Calls{}; }

long times(const std::string& call) { return std::count(process->calls.begin(), process->calls.end(), call); }

int launched() { return emulation::current_stream()->launched; }
void draw_random_numbers() { process->generator->increase(4); }
c10::Stream another_stream() { return c10::cuda::getStreamFromPool(false, 0).unwrap(); }

int pool_uses() { return process->device_pools.uses() + process->pinned_pools.uses(); }
bool is_recording() { return process->device_pools.is_recording() || process->pinned_pools.is_recording(); }

// No capture is under way: not for CUDA, the allocators, random numbers, autocast, or the next call on the stream.
void expect_ended() {
  for (const auto& stream : process->streams) {
    EXPECT(stream.capture == cudaStreamCaptureStatusNone);
  }
  EXPECT(process->device == 0);
  for (int device = 0; device < emulation::kDevices; ++device) {
    EXPECT(process->current[device] == process->defaults[device]);
  }
  EXPECT(!is_recording());
  EXPECT(!process->weights_are_cached);
  EXPECT(process->last_error == cudaSuccess);
  EXPECT(process->misuses.empty());
  draw_random_numbers();
}

// Nothing is held that only a capture, or a graph, can give back.
void expect_given_back() {
  EXPECT(process->graphs.empty());
  EXPECT(process->executables.empty());
  EXPECT(pool_uses() == 0);
  EXPECT(!process->generator->is_in_capture());
}

void expect_nothing_left() {
  expect_ended();
  expect_given_back();
}

Graph begin(int64_t device = 0) { return hatted::cuda::begin_capture(device); }

// What the closure of a capture does.
void work() {
  emulation::launch();
  draw_random_numbers();
  emulation::launch();
  process->weights_are_cached = true;
}

// What is tried must throw, as libtorch does, an error whose text holds this one.
template <typename Tried>
void expect_error(const std::string& text, const Tried& tried) {
  try {
    tried();
  } catch (const emulation::Error& error) {
    if (std::string(error.what()).find(text) == std::string::npos) {
      throw std::logic_error(error.what() + std::string(" is not an error of ") + text);
    }
    return;
  }
  throw std::logic_error("no error of " + text);
}

// A capture from beginning to end, of which nothing is in the way.
void expect_capture_works() {
  process->failures.clear();
  auto graph = begin();
  work();
  graph->finish_capture();
  const int before = launched();
  graph->replay();
  EXPECT(launched() == before + 2);
  graph.reset();
  expect_nothing_left();
}

// A claim begins in a process that has captured nothing.
void claim(const std::string& sentence, const std::function<void()>& holds) {
  process = std::make_unique<emulation::Process>();
  claimed = sentence;
  try {
    holds();
    ++held;
  } catch (const std::exception& error) {
    ++broken;
    std::printf("broken: %s: %s\n", sentence.c_str(), error.what());
    for (const auto& misuse : process->misuses) {
      std::printf("  %s\n", misuse.c_str());
    }
  }
}

void check_good_captures() {
  claim("a capture makes these calls in this order", [] {
    auto graph = begin();
    expect_calls(Calls{"getStreamFromPool", "current: stream 1 of device 0", "cudaDeviceSynchronize", "emptyCache",
                       "clear_cache"} +
                 where(!kCaptureStates, {"register_graph", "capture_prologue"}) + Calls{"beginAllocateToPool"} +
                 where(kPinnedPools, {"begin_allocate_to_pool"}) +
                 Calls{"cudaStreamBeginCapture, of this thread", "cudaStreamGetCaptureInfo"} +
                 where(kCaptureStates, {"init_capture_state"}));
    process->calls.clear();
    graph->finish_capture();
    expect_calls(Calls{"cudaStreamEndCapture", "endAllocateToPool"} + where(kPinnedPools, {"end_allocate_to_pool"}) +
                 Calls{"capture_epilogue", "cudaGraphGetNodes", "cudaGraphInstantiateWithFlags", "cudaGraphDestroy",
                       "clear_cache", "current: stream default of device 0"});
    expect_ended();
  });
  claim("a replay goes to the current stream, after the random numbers", [] {
    auto graph = begin();
    work();
    graph->finish_capture();
    const c10::cuda::OptionalCUDAStreamGuard other(another_stream());
    process->calls.clear();
    graph->replay();
    expect_calls({"replay_prologue", "cudaGraphLaunch, stream 2 of device 0"});
  });
  claim("a dropped graph gives everything back", [] {
    auto graph = begin();
    graph->finish_capture();
    process->calls.clear();
    graph.reset();
    expect_calls(Calls{"releasePool"} + where(kPinnedPools, {"release_pool"}) + Calls{"cudaGraphExecDestroy"});
    expect_nothing_left();
  });
  claim("nothing runs in a capture, and all of it in each replay", [] {
    auto graph = begin();
    work();
    graph->finish_capture();
    for (const auto& stream : process->streams) {
      EXPECT(stream.launched == 0);
    }
    graph->replay();
    graph->replay();
    EXPECT(launched() == 4);
  });
  claim("random numbers go on from replay to replay", [] {
    auto graph = begin();
    work();
    graph->finish_capture();
    EXPECT(process->generator->philox_offset_per_thread_ == 0);
    graph->replay();
    graph->replay();
    EXPECT(process->generator->philox_offset_per_thread_ == 8);
  });
  claim("weights that were cast before a capture are cast anew in it", [] {
    process->weights_are_cached = true;
    const auto graph = begin();
    EXPECT(!process->weights_are_cached);
  });
  claim("weights that were cast in a capture are not used after it", [] {
    const auto graph = begin();
    process->weights_are_cached = true;
    graph->finish_capture();
    EXPECT(!process->weights_are_cached);
  });
  claim("another thread may make calls that a capture refuses", [] {
    const auto graph = begin();
    auto error = cudaErrorIllegalState;
    std::thread([&] { error = emulation::make_unsafe_call(); }).join();
    EXPECT(error == cudaSuccess);
    graph->finish_capture();
  });
  claim("a capture on another device leaves the current one as it was", [] {
    auto graph = begin(1);
    EXPECT(process->device == 1);
    work();
    graph->finish_capture();
    expect_ended();
    graph->replay();
    EXPECT(process->defaults[1]->launched == 2);
    graph.reset();
    expect_nothing_left();
  });
  claim("graphs of one thread work side by side", [] {
    auto first = begin();
    work();
    first->finish_capture();
    auto second = begin();
    emulation::launch();
    second->finish_capture();
    first.reset();
    second->replay();
    EXPECT(launched() == 1);
    second.reset();
    expect_nothing_left();
  });
  claim("a replay that fails is an error, and the next one works", [] {
    const auto graph = begin();
    work();
    graph->finish_capture();
    process->failures["cudaGraphLaunch"] = 1;
    expect_error("cudaGraphLaunch", [&] { graph->replay(); });
    expect_ended();
    graph->replay();
    EXPECT(launched() == 2);
  });
}

void check_beginnings_that_fail() {
  auto steps = Calls{"getStreamFromPool", "cudaDeviceSynchronize", "emptyCache"} +
               where(!kCaptureStates, {"register_graph", "capture_prologue"}) + Calls{"beginAllocateToPool"} +
               where(kPinnedPools, {"begin_allocate_to_pool"}) +
               Calls{"cudaStreamBeginCapture", "cudaStreamGetCaptureInfo"} +
               where(kCaptureStates, {"init_capture_state"});
  for (const auto& step : steps) {
    claim("a capture that fails to begin leaves nothing behind: " + step, [&] {
      process->failures[step] = 1;
      expect_error(step, [] { begin(); });
      expect_nothing_left();
      expect_capture_works();
    });
  }
  claim("a capture that never began is not ended", [] {
    process->failures["cudaStreamBeginCapture"] = 1;
    expect_error("cudaStreamBeginCapture", [] { begin(); });
    EXPECT(times("cudaStreamEndCapture") == 0);
  });
}

// The capture fails to end, which `fail` brings about; its graph is dropped after that.
void expect_end_fails(const std::string& error, const std::function<void()>& fail) {
  auto graph = begin();
  work();
  fail();
  expect_error(error, [&] { graph->finish_capture(); });
  expect_ended();
  expect_error("without a preceding successful capture", [&] { graph->replay(); });
  expect_given_back();
  graph.reset();
  expect_nothing_left();
  expect_capture_works();
}

void check_ends_that_fail() {
  claim("a capture that CUDA declares invalid leaves nothing behind",
        [] { expect_end_fails("901", [] { EXPECT(emulation::synchronize() == cudaErrorStreamCaptureUnsupported); }); });
  claim("a capture with a fork that is not joined leaves nothing behind",
        [] { expect_end_fails("904", [] { emulation::current_stream()->forks = true; }); });
  claim("a capture that another stream should end leaves nothing behind", [] {
    expect_end_fails("the same stream", [] {
      // The closure does not put back what was current.
      process->current[0] = another_stream().stream;
    });
  });
  for (const auto& step :
       Calls{"endAllocateToPool", "cudaGraphGetNodes"} + where(kPinnedPools, {"end_allocate_to_pool"})) {
    claim("a capture that fails after its end leaves nothing behind: " + step,
          [&] { expect_end_fails(step, [&] { process->failures[step] = 1; }); });
  }
  for (const std::string step : {"cudaGraphInstantiateWithFlags", "cudaGraphDestroy"}) {
    claim("a graph that cannot be made executable leaves nothing behind: " + step, [&] {
      auto graph = begin();
      work();
      process->failures[step] = 1;
      expect_error(step, [&] { graph->finish_capture(); });
      expect_ended();
      graph.reset();
      expect_nothing_left();
      expect_capture_works();
    });
  }
}

void check_abandoned_captures() {
  claim("an abandoned capture leaves nothing behind", [] {
    auto graph = begin();
    work();
    EXPECT(!graph->abandon_capture());
    expect_nothing_left();
    graph.reset();
    expect_nothing_left();
    expect_capture_works();
  });
  claim("an abandoned capture makes these calls in this order", [] {
    const auto graph = begin();
    process->calls.clear();
    graph->abandon_capture();
    expect_calls(
        Calls{"cudaStreamIsCapturing", "cudaStreamEndCapture", "cudaGraphDestroy", "endAllocateToPool", "releasePool"} +
        where(kPinnedPools, {"end_allocate_to_pool", "release_pool"}) +
        Calls{"clear_cache", "current: stream default of device 0"});
  });
  claim("an abandoned capture that CUDA has declared invalid is told to be", [] {
    auto graph = begin();
    work();
    EXPECT(emulation::synchronize() == cudaErrorStreamCaptureUnsupported);
    EXPECT(graph->abandon_capture());
    expect_nothing_left();
    graph.reset();
    expect_capture_works();
  });
  claim("a graph that is there is not abandoned", [] {
    auto graph = begin();
    work();
    graph->finish_capture();
    process->calls.clear();
    EXPECT(!graph->abandon_capture());
    EXPECT(times("releasePool") == 0);
    expect_ended();
    graph->replay();
    EXPECT(launched() == 2);
    graph.reset();
    expect_nothing_left();
  });
  claim("no error of an abandoned capture is left for the next call", [] {
    const auto graph = begin();
    process->failures["cudaGraphDestroy"] = 1;
    graph->abandon_capture();
    expect_ended();
  });
  claim("a capture is abandoned once", [] {
    auto graph = begin();
    work();
    graph->abandon_capture();
    EXPECT(!graph->abandon_capture());
    expect_nothing_left();
    graph.reset();
    expect_nothing_left();
  });
  claim("a capture that fails to end is abandoned once", [] {
    auto graph = begin();
    EXPECT(emulation::synchronize() == cudaErrorStreamCaptureUnsupported);
    expect_error("901", [&] { graph->finish_capture(); });
    EXPECT(!graph->abandon_capture());
    expect_nothing_left();
    graph.reset();
    expect_nothing_left();
  });
  claim("a pool that is not ended keeps none from being released", [] {
    auto graph = begin();
    process->failures["endAllocateToPool"] = kAlways;
    process->failures["end_allocate_to_pool"] = kAlways;
    graph->abandon_capture();
    EXPECT(pool_uses() == 0);
  });
  claim("a pool of the device that is not released keeps no pinned one from it", [] {
    auto graph = begin();
    process->failures["releasePool"] = kAlways;
    graph->abandon_capture();
    EXPECT(pool_uses() == 1);
    EXPECT(!is_recording());
    EXPECT(!process->generator->is_in_capture());
  });
  claim("a capture whose status is not known is abandoned as far as it goes", [] {
    auto graph = begin();
    process->failures["cudaStreamIsCapturing"] = kAlways;
    EXPECT(!graph->abandon_capture());
    EXPECT(process->last_error == cudaSuccess);
    EXPECT(!is_recording());
    EXPECT(pool_uses() == 0);
    EXPECT(emulation::current_stream() == process->defaults[0]);
  });
}

// What leaves a destructor ends the process: see main().
void check_destructors() {
  for (const auto& step : Calls{"releasePool"} + where(kPinnedPools, {"release_pool"})) {
    claim("a graph is dropped without an exception: " + step, [&] {
      auto graph = begin();
      graph->finish_capture();
      process->failures[step] = kAlways;
      graph.reset();
      expect_ended();
      EXPECT(times(step) == 1);
      process->failures.clear();
    });
    claim("a graph that is not executable is dropped without an exception: " + step, [&] {
      auto graph = begin();
      process->failures["cudaGraphInstantiateWithFlags"] = 1;
      expect_error("cudaGraphInstantiateWithFlags", [&] { graph->finish_capture(); });
      process->failures[step] = kAlways;
      graph.reset();
      expect_ended();
      EXPECT(times(step) == 1);
    });
  }
  claim("a graph that cannot be destroyed is dropped without an error", [] {
    auto graph = begin();
    graph->finish_capture();
    process->failures["cudaGraphExecDestroy"] = kAlways;
    graph.reset();
    expect_ended();
    EXPECT(pool_uses() == 0);
  });
}

}  // namespace

int main() {
  std::set_terminate([] {
    std::printf("broken: %s: an exception left a destructor\n", claimed.c_str());
    std::fflush(stdout);
    std::_Exit(1);
  });
  check_good_captures();
  check_beginnings_that_fail();
  check_ends_that_fail();
  check_abandoned_captures();
  check_destructors();
  std::printf("%d claims\n", held);
  return broken == 0 ? 0 : 1;
}
