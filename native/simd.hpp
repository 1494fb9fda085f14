// Vectors, and the choice of instruction set.
//
// diagonal.cpp and dense.cpp are compiled once for every instruction set, each inside its own namespace, so that no
// function compiled for one set can be picked by the linker for another.
#pragma once

#include <cmath>
#include <complex>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>

#include "recurrence.hpp"

#ifdef RETROGRAD_ISA

#define RETROGRAD_BEGIN namespace retrograd { namespace RETROGRAD_ISA {
#define RETROGRAD_END } }

RETROGRAD_BEGIN

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
inline Vector<T> load(const T* p) {
    Vector<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T>
inline void store(T* p, Vector<T> v) {
    std::memcpy(p, &v, sizeof v);
}

template <class T>
struct is_complex : std::false_type {};
template <class R>
struct is_complex<std::complex<R>> : std::true_type {};

template <class T>
inline T conjugate(T x) {
    if constexpr (is_complex<T>::value)
        return T(x.real(), -x.imag());
    else
        return x;
}

// a * b + c with one fixed order of roundings, whether the compiler puts it in a vector or in a tail: a result must
// not depend on where a thread's share of the channels begins.
template <class T>
inline T multiply_add(T a, T b, T c) {
    if constexpr (is_complex<T>::value) {
        using R = typename T::value_type;
        const R real = multiply_add(a.real(), b.real(), c.real()), imag = multiply_add(a.real(), b.imag(), c.imag());
        return T(multiply_add(-a.imag(), b.imag(), real), multiply_add(a.imag(), b.real(), imag));
    } else {
#ifdef __FP_FAST_FMAF
        return __builtin_fma(a, b, c);
#else
        return a * b + c;
#endif
    }
}
template <>
inline float multiply_add(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// Uninitialised working memory on cache-line bounds.
template <class T>
class Buffer {
  public:
    explicit Buffer(std::int64_t n) : data_(static_cast<T*>(::operator new(bytes(n), std::align_val_t(64)))) {}
    ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    T* data() const { return data_; }

  private:
    static std::size_t bytes(std::int64_t n) { return sizeof(T) * static_cast<std::size_t>(n > 0 ? n : 1); }
    T* data_;
};

RETROGRAD_END

#endif  // RETROGRAD_ISA
