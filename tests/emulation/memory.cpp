// Finds races and reads of unwritten memory, in kernels that are compiled with -fsanitize=thread.
//
// That flag makes the compiler call a function before every access; here these functions are ours, and nothing of the
// sanitizer's own library is linked. Between two barriers of a block, and between blocks of a launch, there is no
// order: two accesses to the same byte of which one is a write are a race, whether or not it does harm.
#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#include "emulation.h"

namespace emulation {
namespace {

std::vector<Memory*> memories;
const void* instruction;  // of the access that is made

// Whether nothing orders `before` ahead of now.
bool unordered(const Moment& before, const Moment& now) {
  return before.launch == now.launch &&
         (before.block != now.block || (before.interval == now.interval && before.thread != now.thread));
}

std::string text(const Moment& moment) {
  return "block " + std::to_string(moment.block) + ", thread " + std::to_string(moment.thread);
}

// The address, of which scripts/check-kernels makes a line of the source.
[[noreturn]] void fail_at_instruction(const std::string& text) {
  char address[32];
  std::snprintf(address, sizeof(address), "%p", instruction);
  fail(text + ", at " + address);
}

}  // namespace

Memory::Memory(size_t size, size_t offset, const char* name) : name_(name), size_(size) {
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

void Memory::touch(size_t at, bool writes) {
  auto& byte = bytes_[at];
  const auto moment = now();
  const auto race = [&](const char* before, const std::string& other) {
    fail_at_instruction(std::string("race: ") + (writes ? "writes" : "reads") + " byte " + std::to_string(at) + " of " +
                        name_ + ", which was " + before + " by " + other);
  };
  if (byte.written && unordered(byte.writer, moment)) {
    race("written", text(byte.writer));
  }
  const auto& reader = byte.reader;
  const bool same_launch = reader.launch == moment.launch;
  const bool same_interval = same_launch && reader.block == moment.block && reader.interval == moment.interval;
  if (writes) {
    if (unordered(reader, moment) || (same_launch && byte.read_by_several_blocks) ||
        (same_interval && byte.read_by_several_threads)) {
      race("read", same_interval && byte.read_by_several_threads ? "several threads" : text(reader));
    }
    byte.writer = moment;
    byte.written = true;
    return;
  }
  if (!byte.written) {
    fail_at_instruction("unwritten: reads byte " + std::to_string(at) + " of " + name_);
  }
  byte.read_by_several_blocks = same_launch && (byte.read_by_several_blocks || reader.block != moment.block);
  byte.read_by_several_threads = same_interval && (byte.read_by_several_threads || reader.thread != moment.thread);
  byte.reader = moment;
}

void Memory::access(const void* address, size_t size, bool writes, const void* code) {
  instruction = code;
  const auto* first = static_cast<const char*>(address);
  for (auto* memory : memories) {
    if (first >= memory->begin_ && first < memory->begin_ + memory->size_) {
      if (memory->bytes_.empty()) {
        memory->bytes_.resize(memory->size_, {.written = memory->written_by_host_});
      }
      if (size > static_cast<size_t>(memory->begin_ + memory->size_ - first)) {
        fail_at_instruction(std::string("past the end of ") + memory->name_);
      }
      for (size_t i = 0; i < size; ++i) {
        memory->touch(first + i - memory->begin_, writes);
      }
      return;
    }
  }
}

}  // namespace emulation

// The names are the compiler's.
extern "C" {
#define EMULATION_ACCESS(name, writes, size) \
  void __tsan_##name(void* address) { emulation::Memory::access(address, size, writes, __builtin_return_address(0)); }
#define EMULATION_ACCESSES(size)                      \
  EMULATION_ACCESS(read##size, false, size)           \
  EMULATION_ACCESS(write##size, true, size)           \
  EMULATION_ACCESS(unaligned_read##size, false, size) \
  EMULATION_ACCESS(unaligned_write##size, true, size)
EMULATION_ACCESSES(1)
EMULATION_ACCESSES(2)
EMULATION_ACCESSES(4)
EMULATION_ACCESSES(8)
EMULATION_ACCESSES(16)
void __tsan_read_range(void* address, size_t size) {
  emulation::Memory::access(address, size, false, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t size) {
  emulation::Memory::access(address, size, true, __builtin_return_address(0));
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_init() {}
}
