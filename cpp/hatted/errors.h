// One class for each kind of bad argument: bridge.h turns them into the variants of the crate's Error, PyTorch into
// ValueError, TypeError and NotImplementedError.
#pragma once

#include <c10/util/Exception.h>

namespace hatted {

struct ShapeError : c10::ValueError {
  using ValueError::ValueError;
};
struct DeviceError : c10::ValueError {
  using ValueError::ValueError;
};
struct ConfigError : c10::ValueError {
  using ValueError::ValueError;
};
struct KindError : c10::TypeError {
  using TypeError::TypeError;
};
struct UnsupportedError : c10::NotImplementedError {
  using NotImplementedError::NotImplementedError;
};

}  // namespace hatted

// Like TORCH_CHECK_WITH, which only knows the classes of c10.
#define HATTED_CHECK(ERROR, CONDITION, ...)                                                                  \
  do {                                                                                                       \
    if (C10_UNLIKELY(!(CONDITION))) {                                                                        \
      throw ::hatted::ERROR({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, ::c10::str(__VA_ARGS__)); \
    }                                                                                                        \
  } while (false)
