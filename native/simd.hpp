// Vectors, and the operations on them that kernels need of each scalar type.
//
// diagonal.cpp and dense.cpp are compiled once for every instruction set, each inside its own namespace, so that no
// function compiled for one set can be picked by the linker for another.
//
// All arithmetic on a row is done in whole vectors, tails included (partial loads and stores): a channel's result does
// not depend on where a thread's share of the channels begins.
#pragma once

#include <bit>
#include <complex>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#ifdef RETROGRAD_X86
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "recurrence.hpp"

#define RETROGRAD_BEGIN namespace retrograd { namespace RETROGRAD_ISA {
#define RETROGRAD_END } }

// Behind a lambda's parameters: the compiler writes its body into the loop, at every place that calls it.
#define RETROGRAD_INLINED __attribute__((always_inline))

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

template <class S>
inline S conjugate_scalar(S x) { return x; }
template <class R>
inline std::complex<R> conjugate_scalar(std::complex<R> x) { return {x.real(), -x.imag()}; }

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

// The first `bytes` of a vector; zeros beyond. Never touches memory past them.
template <class V>
inline V load_bytes(const void* p, int bytes) {
#if defined(__AVX512BW__)
    return std::bit_cast<V>(_mm512_maskz_loadu_epi8(~std::uint64_t(0) >> (64 - bytes), p));
#else
    V v = {};
    std::memcpy(&v, p, static_cast<std::size_t>(bytes));
    return v;
#endif
}
template <class V>
inline void store_bytes(void* p, V v, int bytes) {
#if defined(__AVX512BW__)
    _mm512_mask_storeu_epi8(p, ~std::uint64_t(0) >> (64 - bytes), std::bit_cast<__m512i>(v));
#else
    std::memcpy(p, &v, static_cast<std::size_t>(bytes));
#endif
}
// Past the cache: for results that do not fit it. The address is a multiple of the vector's size.
template <class V>
inline void stream_vector(void* p, V v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(p), std::bit_cast<__m512i>(v));
#elif defined(__AVX2__)
    _mm256_stream_si256(static_cast<__m256i*>(p), std::bit_cast<__m256i>(v));
#elif defined(RETROGRAD_X86)
    _mm_stream_si128(static_cast<__m128i*>(p), std::bit_cast<__m128i>(v));
#else
    std::memcpy(p, &v, sizeof v);
#endif
}
inline void stream_fence() {
#ifdef RETROGRAD_X86
    _mm_sfence();
#endif
}

// a b + c, rounded once where the set has that instruction. The instruction is called by name: a compiler fuses the same
// line in one kernel and not in another, and a result would depend on which of the two ran.
template <class R>
inline Vector<R> fused(Vector<R> a, Vector<R> b, Vector<R> c) {
    [[maybe_unused]] constexpr bool single = sizeof(R) == 4;
#define RETROGRAD_FUSED(call, Register) \
    return std::bit_cast<Vector<R>>(call(std::bit_cast<Register>(a), std::bit_cast<Register>(b), std::bit_cast<Register>(c)))
#if defined(__AVX512F__)
    if constexpr (single) RETROGRAD_FUSED(_mm512_fmadd_ps, __m512);
    else RETROGRAD_FUSED(_mm512_fmadd_pd, __m512d);
#elif defined(__FMA__)
    if constexpr (single) RETROGRAD_FUSED(_mm256_fmadd_ps, __m256);
    else RETROGRAD_FUSED(_mm256_fmadd_pd, __m256d);
#elif defined(__aarch64__)
    std::swap(a, c);  // its order is c + a b
    if constexpr (single) RETROGRAD_FUSED(vfmaq_f32, float32x4_t);
    else RETROGRAD_FUSED(vfmaq_f64, float64x2_t);
#else
    return a * b + c;
#endif
#undef RETROGRAD_FUSED
}

// The vectors of a scalar type S: `width` scalars make one Vec, of the real type R that carries the state.
template <class S>
struct Lanes {  // float, double
    using R = S;
    using Vec = Vector<R>;
    static constexpr int width = lanes<R>, reals = 1;
    static Vec load(const S* p) { return RETROGRAD_ISA::load(p); }
    static void store(S* p, Vec v) { RETROGRAD_ISA::store(p, v); }
    static void stream(S* p, Vec v) { stream_vector(p, v); }
    static Vec load_some(const S* p, int n) { return load_bytes<Vec>(p, n * static_cast<int>(sizeof(S))); }
    static void store_some(S* p, Vec v, int n) { store_bytes(p, v, n * static_cast<int>(sizeof(S))); }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return fused<R>(a, b, c); }
    static Vec conjugate(Vec a) { return a; }
    static Vec broadcast(S x) { return x - Vec{}; }
    static S sum(Vec v) {
        S total = v[0];
        for (int i = 1; i < width; ++i) total += v[i];
        return total;
    }
};

template <class R, int... I>
inline Vector<R> even_twice(Vector<R> v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I & ~1)...);
}
template <class R, int... I>
inline Vector<R> odd_twice(Vector<R> v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I | 1)...);
}
template <class R, int... I>
inline Vector<R> swapped(Vector<R> v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I ^ 1)...);
}
template <class R, int... I>
inline Vector<R> alternating(R even, R odd, std::integer_sequence<int, I...>) {
    return Vector<R>{(I & 1 ? odd : even)...};
}

template <class Real>
struct Lanes<std::complex<Real>> {  // (real, imaginary) pairs, as they lie in memory
    using S = std::complex<Real>;
    using R = Real;
    using Vec = Vector<R>;
    using Index = std::make_integer_sequence<int, lanes<R>>;
    static constexpr int width = lanes<R> / 2, reals = 2;
    static Vec load(const S* p) { return RETROGRAD_ISA::load(reinterpret_cast<const R*>(p)); }
    static void store(S* p, Vec v) { RETROGRAD_ISA::store(reinterpret_cast<R*>(p), v); }
    static void stream(S* p, Vec v) { stream_vector(p, v); }
    static Vec load_some(const S* p, int n) { return load_bytes<Vec>(p, n * static_cast<int>(sizeof(S))); }
    static void store_some(S* p, Vec v, int n) { store_bytes(p, v, n * static_cast<int>(sizeof(S))); }
    static Vec multiply_add(Vec a, Vec b, Vec c) {
        const Vec first = fused<R>(even_twice<R>(a, Index()), b, c);
        return fused<R>(odd_twice<R>(a, Index()) * alternating<R>(-1, 1, Index()), swapped<R>(b, Index()), first);
    }
    static Vec conjugate(Vec a) { return a * alternating<R>(1, -1, Index()); }
    static Vec broadcast(S x) { return alternating<R>(x.real(), x.imag(), Index()); }
    static S sum(Vec v) {
        R real = v[0], imag = v[1];
        for (int i = 2; i < lanes<R>; i += 2) {
            real += v[i];
            imag += v[i + 1];
        }
        return S(real, imag);
    }
};

// Half precision: stored in 16 bits, computed in float.
template <class S>
struct HalfLanes {
    using R = float;
    using Vec = Vector<float>;
    static constexpr int width = lanes<float>, reals = 1;
    typedef std::uint16_t Bits __attribute__((vector_size(vector_bytes / 2)));
    typedef std::uint32_t Wide __attribute__((vector_size(vector_bytes)));
    static Vec load(const S* p) {
        Bits bits;
        std::memcpy(&bits, p, sizeof bits);
        return widen(bits);
    }
    static void store(S* p, Vec v) {
        const Bits bits = narrow(v);
        std::memcpy(p, &bits, sizeof bits);
    }
    static void stream(S* p, Vec v) {
        const Bits bits = narrow(v);
#if defined(__AVX512F__)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(p), std::bit_cast<__m256i>(bits));
#elif defined(__AVX2__)
        _mm_stream_si128(reinterpret_cast<__m128i*>(p), std::bit_cast<__m128i>(bits));
#else
        std::memcpy(p, &bits, sizeof bits);
#endif
    }
    static Vec load_some(const S* p, int n) {
        Bits bits = {};
        std::memcpy(&bits, p, sizeof(S) * static_cast<std::size_t>(n));
        return widen(bits);
    }
    static void store_some(S* p, Vec v, int n) {
        const Bits bits = narrow(v);
        std::memcpy(p, &bits, sizeof(S) * static_cast<std::size_t>(n));
    }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return fused<R>(a, b, c); }
    static Vec conjugate(Vec a) { return a; }

    // Bits 16 to 31 of every lane: one shuffle.
    template <int... I>
    static Bits upper_halves(Wide x, std::integer_sequence<int, I...>) {
        typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes)));
        const auto halves = std::bit_cast<Halves>(x);
        return __builtin_shufflevector(halves, halves, (2 * I + 1)...);
    }

#if defined(__AVX512F__)
    // The conversions that keep no lane start from an undefined vector in GCC's headers, which it then warns about.
    static constexpr __mmask16 whole = 0xFFFF;
#endif
    static Vec widen(Bits bits) {
        if constexpr (std::is_same_v<S, BFloat16>) {
            return std::bit_cast<Vec>(__builtin_convertvector(bits, Wide) << 16);
        } else {
#if defined(__AVX512F__)
            return std::bit_cast<Vec>(_mm512_maskz_cvtph_ps(whole, std::bit_cast<__m256i>(bits)));
#elif defined(__F16C__)
            return std::bit_cast<Vec>(_mm256_cvtph_ps(std::bit_cast<__m128i>(bits)));
#else
            Vec v = {};
            for (int i = 0; i < width; ++i) {
                _Float16 h;
                const std::uint16_t b = bits[i];
                std::memcpy(&h, &b, sizeof h);
                v[i] = static_cast<float>(h);
            }
            return v;
#endif
        }
    }
    // To the nearest, ties to even. A NaN stays one: what is stored came out of arithmetic on values of 16 bits, which
    // leaves the lower 16 bits of a NaN zero and its quiet bit set, so that no carry reaches the exponent.
    static Bits narrow(Vec v) {
        if constexpr (std::is_same_v<S, BFloat16>) {
            const Wide x = std::bit_cast<Wide>(v);
            return upper_halves(x + 0x7FFF + ((x >> 16) & 1), std::make_integer_sequence<int, width>());
        } else {
#if defined(__AVX512F__)
            return std::bit_cast<Bits>(_mm512_maskz_cvtps_ph(whole, std::bit_cast<__m512>(v),
                                                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
            return std::bit_cast<Bits>(_mm256_cvtps_ph(std::bit_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
#else
            Bits bits = {};
            for (int i = 0; i < width; ++i) {
                const _Float16 h = static_cast<_Float16>(v[i]);
                std::uint16_t b;
                std::memcpy(&b, &h, sizeof b);
                bits[i] = b;
            }
            return bits;
#endif
        }
    }
};
template <>
struct Lanes<BFloat16> : HalfLanes<BFloat16> {};
template <>
struct Lanes<Float16> : HalfLanes<Float16> {};

// One channel at a time: for rows too narrow for a vector.
template <class S>
struct Single {
    using R = typename Carry<S>::type;
    using Vec = S;
    static constexpr int width = 1, reals = Carry<S>::reals;
    static S load(const S* p) { return *p; }
    static void store(S* p, S x) { *p = x; }
    static void stream(S* p, S x) { *p = x; }
    static S load_some(const S* p, int) { return *p; }
    static void store_some(S* p, S x, int) { *p = x; }
    static R fused(R a, R b, R c) {
#if defined(__FMA__) || defined(__aarch64__)
        if constexpr (sizeof(R) == 4) return __builtin_fmaf(a, b, c);
        else return __builtin_fma(a, b, c);
#else
        return a * b + c;
#endif
    }
    static S multiply_add(S a, S b, S c) {
        if constexpr (reals == 1) return fused(a, b, c);
        else
            return S(fused(-a.imag(), b.imag(), fused(a.real(), b.real(), c.real())),
                     fused(a.imag(), b.real(), fused(a.real(), b.imag(), c.imag())));
    }
    static S conjugate(S x) { return conjugate_scalar(x); }
};

RETROGRAD_END
