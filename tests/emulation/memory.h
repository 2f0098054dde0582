// Device memory of an exact size on the heap, and what is known of each of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulation {

// Where and when a thread ran: between barriers number `interval` - 1 and `interval` of its block.
struct Moment {
  uint32_t launch = 0, block = 0, interval = 0, thread = 0;
};

class Memory {
 public:
  // The first byte lies `offset` bytes past a multiple of 256, as memory of the CUDA allocators does for offset 0.
  Memory(size_t size, size_t offset, const char* name);
  Memory(const Memory&) = delete;
  ~Memory();

  void* data() const { return begin_; }

  // To be said before the first kernel: all bytes count as written.
  void written_by_host() { written_by_host_ = true; }

  // An access of a kernel, by the instruction `code`, to any address. Ends the program where it is a race, or reads
  // what nothing has written.
  static void access(const void* address, size_t size, bool writes, const void* code);

 private:
  struct Byte {
    Moment writer = {}, reader = {};
    bool written = false;
    bool read_by_several_threads = false, read_by_several_blocks = false;  // since `reader`'s barrier, or launch
  };

  void touch(size_t at, bool writes);

  const char* name_;
  void* allocated_;
  char* begin_;
  size_t size_;
  bool written_by_host_ = false;
  std::vector<Byte> bytes_;  // from the first access on
};

// The moment of the access that is made now.
Moment now();

}  // namespace emulation
