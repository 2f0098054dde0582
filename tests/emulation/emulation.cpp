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
constexpr size_t kStackBytes = 64 << 10;  // AddressSanitizer sees where one is too small: it lies on the heap

struct Barrier {
  const char* file;
  int line;
  bool operator==(const Barrier&) const = default;
};

// A stack, and where it was left.
struct Fiber {
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* left[5];  // as __builtin_setjmp wants it
  bool begun = true;
};

// A fiber is used for one thread after another.
struct Thread : Fiber {
  std::unique_ptr<char[]> memory;
  ucontext_t beginning;
  bool done = false;
  Barrier barrier{};
};

Fiber scheduler;
std::vector<Thread> threads(kMostThreads);
const std::function<void()>* body = nullptr;  // of the kernel that runs
// The threads that have yet to take their turn before the next barrier, the next one last.
std::vector<unsigned> waiting;
unsigned interval;
std::string launch_error;
std::map<const void*, std::unique_ptr<Memory>> shared_memories;

// What AddressSanitizer has to be told on the way to another stack, and on arrival there.
void leave([[maybe_unused]] const Fiber& to, [[maybe_unused]] void** saved) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(saved, to.stack, to.stack_bytes);
#endif
}
void arrive([[maybe_unused]] void* saved) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack;
  size_t stack_bytes;
  __sanitizer_finish_switch_fiber(saved, &stack, &stack_bytes);
  // The scheduler is the first that is left.
  if (scheduler.stack == nullptr) {
    scheduler.stack = stack;
    scheduler.stack_bytes = stack_bytes;
  }
#endif
}

__attribute__((noinline, no_sanitize_address)) void go_on(Fiber& fiber) {
  if (fiber.begun) {
    __builtin_longjmp(fiber.left, 1);
  }
  fiber.begun = true;
  setcontext(&static_cast<Thread&>(fiber).beginning);
}

// swapcontext makes two system calls, and longjmp does under AddressSanitizer: the compiler's own way makes none.
void switch_fiber(Fiber& from, Fiber& to) {
  void* saved = nullptr;
  leave(to, &saved);
  if (__builtin_setjmp(from.left) == 0) {
    go_on(to);
  }
  arrive(saved);
}

// Goes on with the thread whose turn is next, or with the scheduler.
void pass_on(Fiber& from) {
  if (waiting.empty()) {
    switch_fiber(from, scheduler);
  } else {
    here.thread.x = waiting.back();
    waiting.pop_back();
    switch_fiber(from, threads[here.thread.x]);
  }
}

// The function of every fiber.
void live(int number) {
  arrive(nullptr);
  for (auto& self = threads[number];; pass_on(self)) {
    (*body)();
    self.done = true;
  }
}

void create(int number) {
  auto& thread = threads[number];
  thread.memory = std::make_unique<char[]>(kStackBytes);
  thread.stack = thread.memory.get();
  thread.stack_bytes = kStackBytes;
  thread.begun = false;
  getcontext(&thread.beginning);
  thread.beginning.uc_stack.ss_sp = thread.memory.get();
  thread.beginning.uc_stack.ss_size = kStackBytes;
  makecontext(&thread.beginning, reinterpret_cast<void (*)()>(live), 1, number);
}

// The turns of blocks or threads, the first one last.
std::vector<unsigned> turns(unsigned count) {
  static std::mt19937 random;
  std::vector<unsigned> turns(count);
  std::iota(turns.begin(), turns.end(), 0);
  if (order == 0) {
    std::reverse(turns.begin(), turns.end());
  } else if (order > 1) {
    std::shuffle(turns.begin(), turns.end(), random);
  }
  return turns;
}

void check_barriers(unsigned count) {
  const auto place = [](const Barrier& barrier) {
    return std::string(barrier.file) + ":" + std::to_string(barrier.line);
  };
  const auto& first = threads[0];
  for (here.thread.x = 1; here.thread.x < count; ++here.thread.x) {
    const auto& other = threads[here.thread.x];
    if (other.done != first.done) {
      fail("divergent barrier: some threads are gone, others wait at " + place((first.done ? other : first).barrier));
    }
    if (!first.done && other.barrier != first.barrier) {
      fail("divergent barrier: some threads wait at " + place(first.barrier) + ", others at " + place(other.barrier));
    }
  }
}

void run_block(unsigned count) {
  for (unsigned number = 0; number < count; ++number) {
    threads[number].done = false;
  }
  for (interval = 0; interval == 0 || !threads[0].done; ++interval) {
    waiting = turns(count);
    pass_on(scheduler);
    check_barriers(count);
  }
}

}  // namespace

void fail(const std::string& text) {
  if (body != nullptr) {
    std::fprintf(stderr, "block %u, thread %u: ", here.block.x, here.thread.x);
  }
  std::fprintf(stderr, "%s\n", text.c_str());
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
    if (threads[number].memory == nullptr) {
      create(static_cast<int>(number));
    }
  }
  const auto blocks = turns(launch.grid);
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    here.block.x = *block;
    run_block(launch.block);
    shared_memories.clear();
  }
  body = nullptr;
}

void check_launch() {
  if (!launch_error.empty()) {
    throw std::runtime_error(std::exchange(launch_error, ""));
  }
}

void wait_at_barrier(const char* file, int line) {
  auto& self = threads[here.thread.x];
  self.barrier = {file, line};
  pass_on(self);
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
