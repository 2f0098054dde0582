// Consecutive elements that a thread loads and stores in accesses of up to 16 bytes.
#pragma once

#include <cstdint>
#include <cstring>

namespace svgd::cuda {

constexpr int kAccessBytes = 16;

template <typename T, int kCount>
struct alignas(kCount * sizeof(T) < kAccessBytes ? kCount * sizeof(T) : kAccessBytes) Pack {
  T values[kCount];
};

// How many elements of a gradient one access moves.
template <typename T>
constexpr int kVector = kAccessBytes / static_cast<int>(sizeof(T));

// That many elements, in the four registers that they come in. As a Pack each 16-bit element would take a register.
template <typename T>
class Vector {
 public:
  Vector() = default;
  __device__ __forceinline__ explicit Vector(const uint4& words) : words_(words) {}
  __device__ __forceinline__ explicit Vector(const Pack<T, kVector<T>>& pack) { memcpy(&words_, &pack, sizeof(pack)); }

  __device__ __forceinline__ const uint4& words() const { return words_; }

  __device__ __forceinline__ Pack<T, kVector<T>> unpacked() const {
    Pack<T, kVector<T>> pack;
    memcpy(&pack, &words_, sizeof(pack));
    return pack;
  }

  // Makes the compiler forget what it has computed from the elements: it would rather keep the float of each in a
  // register of its own than convert it again.
  __device__ __forceinline__ void hold() {
    asm volatile("" : "+r"(words_.x), "+r"(words_.y), "+r"(words_.z), "+r"(words_.w));
  }

 private:
  uint4 words_;
};

// kAligned: vectors lie at multiples of their size, and none crosses the end of its row. kElementwise: neither is
// known. The same threads hold the same elements either way, so sums come out the same.
enum class Access { kAligned, kElementwise };

// kLast: nothing reads this memory soon again, so it need not push other things out of the caches.
enum class Use { kLast, kAgain };

// `left` counts the elements from `from` to the end of the row, and may be negative. What lies beyond reads as 0.
template <Access kAccess, int kCount, typename T>
__device__ __forceinline__ Pack<T, kCount> load_pack(const T* from, int64_t left) {
  Pack<T, kCount> pack{};
  if constexpr (kAccess == Access::kAligned) {
    if (left > 0) {
      pack = *reinterpret_cast<const Pack<T, kCount>*>(from);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < left) {
        pack.values[i] = from[i];
      }
    }
  }
  return pack;
}

template <Access kAccess, int kCount, typename T>
__device__ __forceinline__ void store_pack(const Pack<T, kCount>& pack, T* to, int64_t left) {
  if constexpr (kAccess == Access::kAligned) {
    if (left > 0) {
      *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < left) {
        to[i] = pack.values[i];
      }
    }
  }
}

template <Access kAccess, Use kUse, typename T>
__device__ __forceinline__ Vector<T> load(const T* from, int64_t left) {
  if constexpr (kAccess == Access::kAligned) {
    const auto* words = reinterpret_cast<const uint4*>(from);
    if (left <= 0) {
      return Vector<T>(uint4{0, 0, 0, 0});
    }
    return Vector<T>(kUse == Use::kLast ? __ldcs(words) : *words);
  } else {
    return Vector<T>(load_pack<kAccess, kVector<T>>(from, left));
  }
}

template <Access kAccess, typename T>
__device__ __forceinline__ void store(const Vector<T>& vector, T* to, int64_t left) {
  if constexpr (kAccess == Access::kAligned) {
    if (left > 0) {
      // An ordinary store, but one that the compiler does not split into elements again.
      __stwb(reinterpret_cast<uint4*>(to), vector.words());
    }
  } else {
    store_pack<kAccess>(vector.unpacked(), to, left);
  }
}

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAccessBytes == 0; }

}  // namespace svgd::cuda
