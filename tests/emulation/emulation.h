// A GPU on the CPU: launches, blocks of threads that are fibers, barriers and shared memory.
//
// Threads take turns at barriers only, in an order that `order` chooses, and blocks run one after another: a program
// without races cannot tell the difference. Races are found by what is remembered of every access (memory.h).
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace emulation {

struct Index {
  unsigned x;
};

// The thread that is running.
struct Here {
  Index thread, block, grid;
};
extern Here here;

// A stream runs what is launched on it at once, which is the order that it promises.
struct Stream {};

struct Launch {
  const void* kernel;
  unsigned grid, block;
  size_t shared_bytes;
  Stream* stream;
};

// All launches of the program that were no errors.
extern std::vector<Launch> launches;

// The order in which blocks, and threads between two barriers, take their turns: 0 is ascending, 1 descending, and any
// other number a random one. Shared memory begins as other bytes in each.
extern unsigned order;

// Ends the program: something that is an error whatever values come out.
[[noreturn]] void fail(const std::string& text);

void run(const Launch& launch, const std::function<void()>& thread);
void wait_at_barrier(const char* file, int line);
void* shared_memory(const void* declaration, size_t size);

// Throws the error of the last launch, if there was one.
void check_launch();

// kernel<<<grid, block, shared_bytes, stream>>>(arguments...) as scripts/check-kernels writes it.
template <typename... Arguments>
auto launch(void (*kernel)(Arguments...), unsigned grid, unsigned block, size_t shared_bytes, Stream* stream) {
  return [=](Arguments... arguments) {
    run({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream}, [&] { kernel(arguments...); });
  };
}

// __shared__ T name[n], likewise. Each declaration passes a lambda of its own, so that each has a key of its own.
template <typename T, typename Declaration>
T& shared(Declaration) {
  static const char key = 0;
  return *static_cast<T*>(shared_memory(&key, sizeof(T)));
}

}  // namespace emulation
