// A disk that fails: preloaded into a program, it counts the calls that change what is below FAULTS_FOLDER, and lets
// them fail from the one of the number FAULTS_AT on.
//
//   FAULTS_KIND   full        there is no space: of what is to be written one half is
//                 once        there is none for that one call
//                 read-only   the file system has become so
//                 broken      what was written does not come to the disk: one fsync
//                 kill        the process ends before that call
//                 slow        each takes five milliseconds
//                 clock       the clock is set back by an hour at each
//   FAULTS_COUNT  a file that gets the number of calls, when the program ends
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

enum Call { kMake, kWrite, kSync, kMove, kRemove };

std::string setting(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

struct Faults {
  const std::string folder = setting("FAULTS_FOLDER");
  const std::string kind = setting("FAULTS_KIND");
  const std::string count = setting("FAULTS_COUNT");
  const long at = atol(setting("FAULTS_AT").c_str());
  std::atomic<long> calls{0};

  ~Faults() {
    if (count.empty()) {
      return;
    }
    if (FILE* file = fopen(count.c_str(), "w")) {
      fprintf(file, "%ld", calls.load());
      fclose(file);
    }
  }
};

Faults& faults() {
  static Faults faults;
  return faults;
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool is_below(const char* path) {
  char folder[PATH_MAX];
  const bool relative = path[0] != '/';
  const std::string absolute =
      relative ? std::string(getcwd(folder, sizeof folder) == nullptr ? "" : folder) + "/" + path : path;
  return absolute.compare(0, faults().folder.size(), faults().folder) == 0;
}

bool is_below(int descriptor) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const auto length = readlink(link, path, sizeof path - 1);
  if (length < 0) {
    return false;
  }
  path[length] = 0;
  return path[0] == '/' && is_below(path);
}

// The error of a call, or 0 where it is to be made.
int error_of(Call call) {
  const long number = ++faults().calls;
  const auto& kind = faults().kind;
  if (kind == "slow") {
    usleep(5000);
    return 0;
  }
  if (faults().at == 0 || number < faults().at) {
    return 0;
  }
  const bool first = number == faults().at;
  if (kind == "kill") {
    raise(SIGKILL);
  }
  if (kind == "read-only") {
    return EROFS;
  }
  if (kind == "broken") {
    // From the next fsync on, once.
    static std::atomic<bool> done{false};
    return call == kSync && !done.exchange(true) ? EIO : 0;
  }
  // What is moved or removed needs no space.
  const bool needs_space = call == kMake || call == kWrite;
  if (kind == "full" || (kind == "once" && first)) {
    return needs_space ? ENOSPC : 0;
  }
  return 0;
}

// Makes the call unless it is to fail. `subject` is a path or a descriptor.
template <typename Subject, typename Real>
auto attempt(Call call, Subject subject, Real&& make) -> decltype(make()) {
  if (faults().folder.empty() || !is_below(subject)) {
    return make();
  }
  if (const int error = error_of(call)) {
    errno = error;
    return -1;
  }
  return make();
}

template <typename Open>
int opened(const char* path, int flags, Open&& open) {
  const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return changes ? attempt(kMake, path, open) : open();
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                                                          \
  int name(const char* path, int flags, ...) {                                                              \
    va_list arguments;                                                                                      \
    va_start(arguments, flags);                                                                             \
    const auto mode = mode_of(flags, arguments);                                                            \
    va_end(arguments);                                                                                      \
    return opened(path, flags, [&] { return real<int(const char*, int, ...)>(#name)(path, flags, mode); }); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                        \
  int name(int folder, const char* path, int flags, ...) {                                                  \
    va_list arguments;                                                                                      \
    va_start(arguments, flags);                                                                             \
    const auto mode = mode_of(flags, arguments);                                                            \
    va_end(arguments);                                                                                      \
    return opened(path, flags,                                                                              \
                  [&] { return real<int(int, const char*, int, ...)>(#name)(folder, path, flags, mode); }); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void* bytes, size_t size) {
  static const auto next = real<ssize_t(int, const void*, size_t)>("write");
  if (faults().folder.empty() || !is_below(descriptor)) {
    return next(descriptor, bytes, size);
  }
  if (const int error = error_of(kWrite)) {
    // A disk is full in the middle of something.
    if (error == ENOSPC && size > 1) {
      next(descriptor, bytes, size / 2);
    }
    errno = error;
    return -1;
  }
  return next(descriptor, bytes, size);
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  return attempt(kWrite, descriptor,
                 [&] { return real<ssize_t(int, const iovec*, int)>("writev")(descriptor, parts, count); });
}

int fsync(int descriptor) {
  return attempt(kSync, descriptor, [&] { return real<int(int)>("fsync")(descriptor); });
}
int fdatasync(int descriptor) {
  return attempt(kSync, descriptor, [&] { return real<int(int)>("fdatasync")(descriptor); });
}
int ftruncate(int descriptor, off_t size) {
  return attempt(kWrite, descriptor, [&] { return real<int(int, off_t)>("ftruncate")(descriptor, size); });
}
int ftruncate64(int descriptor, off64_t size) {
  return attempt(kWrite, descriptor, [&] { return real<int(int, off64_t)>("ftruncate64")(descriptor, size); });
}

int mkdir(const char* path, mode_t mode) {
  return attempt(kMake, path, [&] { return real<int(const char*, mode_t)>("mkdir")(path, mode); });
}
int rename(const char* from, const char* to) noexcept {
  return attempt(kMove, to, [&] { return real<int(const char*, const char*)>("rename")(from, to); });
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  return attempt(kMove, to, [&] {
    return real<int(int, const char*, int, const char*, unsigned)>("renameat2")(from_folder, from, to_folder, to,
                                                                                flags);
  });
}
int link(const char* from, const char* to) noexcept {
  return attempt(kMake, to, [&] { return real<int(const char*, const char*)>("link")(from, to); });
}
int unlink(const char* path) noexcept {
  return attempt(kRemove, path, [&] { return real<int(const char*)>("unlink")(path); });
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  // Of a folder that is being removed: its own path tells.
  return attempt(kRemove, folder, [&] { return real<int(int, const char*, int)>("unlinkat")(folder, path, flags); });
}
int rmdir(const char* path) noexcept {
  return attempt(kRemove, path, [&] { return real<int(const char*)>("rmdir")(path); });
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto next = real<int(clockid_t, timespec*)>("clock_gettime");
  const int status = next(clock, time);
  if (clock == CLOCK_REALTIME && faults().kind == "clock") {
    time->tv_sec -= 3600 * faults().calls.load();
  }
  return status;
}

}  // extern "C"
