// Runs the blocks of a launch, whose threads are fibers.
#include "emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include "memory.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

Here here;
std::vector<Launch> launches;
unsigned order = 0;

namespace {

constexpr unsigned kMostThreads = 1024;
constexpr size_t kStackBytes = 64 << 10;

struct Barrier {
  const char* file;
  int line;
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done;
  Barrier barrier;
};

std::vector<Fiber> fibers(kMostThreads);
ucontext_t scheduler;
const std::function<void()>* body;
unsigned interval;
std::string launch_error;
std::map<const void*, std::unique_ptr<Memory>> shared_memories;

// AddressSanitizer has to be told which stack is in use: of a fiber, or of the scheduler.
void enter_stack([[maybe_unused]] void** left, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(left, bottom, size);
#endif
}
const void* scheduler_stack;
size_t scheduler_stack_bytes;
void entered_stack([[maybe_unused]] void* entered, [[maybe_unused]] bool from_scheduler) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(entered, from_scheduler ? &scheduler_stack : nullptr,
                                  from_scheduler ? &scheduler_stack_bytes : nullptr);
#endif
}

void resume(Fiber& fiber) {
  void* left = nullptr;
  enter_stack(&left, fiber.stack.get(), kStackBytes);
  swapcontext(&scheduler, &fiber.context);
  entered_stack(left, false);
}

void pause(Fiber& fiber) {
  void* left = nullptr;
  enter_stack(&left, scheduler_stack, scheduler_stack_bytes);
  swapcontext(&fiber.context, &scheduler);
  entered_stack(left, true);
}

// A fiber is used for one thread after another.
void live(int number) {
  entered_stack(nullptr, true);
  for (auto& fiber = fibers[number];; pause(fiber)) {
    (*body)();
    fiber.done = true;
  }
}

void start(unsigned number) {
  auto& fiber = fibers[number];
  fiber.stack = std::make_unique<char[]>(kStackBytes);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.context, reinterpret_cast<void (*)()>(live), 1, static_cast<int>(number));
}

std::vector<unsigned> turns(unsigned count) {
  static std::mt19937 random;
  std::vector<unsigned> turns(count);
  std::iota(turns.begin(), turns.end(), 0);
  if (order == 1) {
    std::reverse(turns.begin(), turns.end());
  } else if (order > 1) {
    if (launches.empty() || interval == 0) {
      random.seed(order);
    }
    std::shuffle(turns.begin(), turns.end(), random);
  }
  return turns;
}

void run_block(unsigned threads) {
  for (unsigned thread = 0; thread < threads; ++thread) {
    fibers[thread].done = false;
  }
  for (interval = 0; interval == 0 || !fibers[0].done; ++interval) {
    for (const auto thread : turns(threads)) {
      here.thread.x = thread;
      resume(fibers[thread]);
    }
    const auto& first = fibers[0];
    for (unsigned thread = 1; thread < threads; ++thread) {
      const auto& other = fibers[thread];
      here.thread.x = thread;
      if (other.done != first.done) {
        const auto& barrier = first.done ? other.barrier : first.barrier;
        fail("divergent barrier: some threads are gone, others wait at " + std::string(barrier.file) + ":" +
             std::to_string(barrier.line));
      }
      if (!first.done && (other.barrier.line != first.barrier.line || other.barrier.file != first.barrier.file)) {
        fail("divergent barrier: some threads wait at " + std::string(first.barrier.file) + ":" +
             std::to_string(first.barrier.line) + ", others at " + std::to_string(other.barrier.line));
      }
    }
  }
}

}  // namespace

void fail(const std::string& text) {
  std::fprintf(stderr, "emulation: block %u, thread %u: %s\n", here.block.x, here.thread.x, text.c_str());
  std::_Exit(1);
}

void run(const Launch& launch, const std::function<void()>& thread) {
  if (launch.grid == 0 || launch.grid > 0x7fffffff || launch.block == 0 || launch.block > kMostThreads ||
      launch.shared_bytes > 48 << 10) {
    launch_error = "invalid configuration argument";
    return;
  }
  launches.push_back(launch);
  body = &thread;
  here.grid.x = launch.grid;
  for (unsigned number = 0; number < launch.block; ++number) {
    if (fibers[number].stack == nullptr) {
      start(number);
    }
  }
  interval = 0;
  for (const auto block : turns(launch.grid)) {
    here.block.x = block;
    run_block(launch.block);
    shared_memories.clear();
  }
}

void check_launch() {
  if (!launch_error.empty()) {
    throw std::runtime_error(std::exchange(launch_error, ""));
  }
}

void wait_at_barrier(const char* file, int line) {
  auto& fiber = fibers[here.thread.x];
  fiber.barrier = {file, line};
  pause(fiber);
}

void* shared_memory(const void* declaration, size_t size) {
  auto& memory = shared_memories[declaration];
  if (memory == nullptr) {
    memory = std::make_unique<Memory>(size, 0, "shared memory");
    // Not a number in every type, and in the next order a large one: neither goes unnoticed where it is read.
    std::memset(memory->data(), order % 2 == 0 ? 0xff : 0x7f, size);
  }
  return memory->data();
}

Moment now() { return {static_cast<uint32_t>(launches.size()), here.block.x, interval, here.thread.x}; }

}  // namespace emulation
