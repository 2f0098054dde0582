// Finds races and reads of unwritten memory, in kernels that are compiled with -fsanitize=thread.
//
// That flag makes the compiler call a function before every access; here these functions are ours, and nothing of the
// sanitizer's own library is linked. Between two barriers of a block, and between blocks of a launch, there is no
// order: two accesses to the same byte of which one is a write are a race, whether or not it does harm.
#include "memory.h"

#include <cstdlib>
#include <new>
#include <string>

#include "emulation.h"

namespace emulation {
namespace {

std::vector<Memory*> memories;

// Whether nothing orders `before` ahead of now.
bool unordered(const Moment& before, const Moment& now) {
  return before.launch == now.launch &&
         (before.block != now.block || (before.interval == now.interval && before.thread != now.thread));
}

std::string text(const Moment& moment) {
  return "block " + std::to_string(moment.block) + ", thread " + std::to_string(moment.thread);
}

}  // namespace

Memory::Memory(size_t size, size_t offset, const char* name) : name_(name), size_(size), bytes_(size) {
  if (posix_memalign(&allocated_, 256, offset + size) != 0) {
    throw std::bad_alloc();
  }
  begin_ = static_cast<char*>(allocated_) + offset;
  memories.push_back(this);
}

Memory::~Memory() {
  std::erase(memories, this);
  std::free(allocated_);
}

void Memory::written_by_host() {
  for (auto& byte : bytes_) {
    byte.written = true;
  }
}

void Memory::touch(size_t at, bool writes) {
  auto& byte = bytes_[at];
  const auto moment = now();
  const auto race = [&](const char* before, const Moment& other) {
    fail(std::string("race: ") + (writes ? "writes" : "reads") + " byte " + std::to_string(at) + " of " + name_ +
         ", which " + text(other) + " has " + before);
  };
  if (byte.written && unordered(byte.writer, moment)) {
    race("written", byte.writer);
  }
  const auto& reader = byte.reader;
  const bool same_launch = reader.launch == moment.launch;
  const bool same_interval = same_launch && reader.block == moment.block && reader.interval == moment.interval;
  if (writes) {
    if (unordered(reader, moment) || (same_launch && byte.read_by_several_blocks) ||
        (same_interval && byte.read_by_several_threads)) {
      race("read", reader);
    }
    byte.writer = moment;
    byte.written = true;
    return;
  }
  if (!byte.written) {
    fail("unwritten: reads byte " + std::to_string(at) + " of " + name_);
  }
  byte.read_by_several_blocks = same_launch && (byte.read_by_several_blocks || reader.block != moment.block);
  byte.read_by_several_threads = same_interval && (byte.read_by_several_threads || reader.thread != moment.thread);
  byte.reader = moment;
}

void Memory::access(const void* address, size_t size, bool writes) {
  const auto* first = static_cast<const char*>(address);
  for (auto* memory : memories) {
    if (first >= memory->begin_ && first < memory->begin_ + memory->size_) {
      for (size_t i = 0; i < size; ++i) {
        memory->touch(first + i - memory->begin_, writes);
      }
      return;
    }
  }
}

}  // namespace emulation

// NOLINTBEGIN: the names are the compiler's.
extern "C" {
#define EMULATION_ACCESS(size)                                                                         \
  void __tsan_read##size(void* address) { emulation::Memory::access(address, size, false); }           \
  void __tsan_write##size(void* address) { emulation::Memory::access(address, size, true); }           \
  void __tsan_unaligned_read##size(void* address) { emulation::Memory::access(address, size, false); } \
  void __tsan_unaligned_write##size(void* address) { emulation::Memory::access(address, size, true); }
EMULATION_ACCESS(1)
EMULATION_ACCESS(2)
EMULATION_ACCESS(4)
EMULATION_ACCESS(8)
EMULATION_ACCESS(16)
void __tsan_read_range(void* address, long size) { emulation::Memory::access(address, size, false); }
void __tsan_write_range(void* address, long size) { emulation::Memory::access(address, size, true); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_init() {}
}
// NOLINTEND
