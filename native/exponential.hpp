// exp of a vector, real or complex: the same bits in every lane and at any place in a row.
//
//   x = n ln 2 + r,    |r| <= ln 2 / 2    exp(x) = 2^n (1 + r + r^2 / 2! + r^3 / 3! + ...)
//   y = n pi / 2 + r,  |r| <= pi / 4      cos(y), sin(y): +-cos(r) or +-sin(r), by n
//                                         exp(x + iy) = exp(x) (cos(y) + i sin(y))
//
// n ln 2 is taken off in parts, all but the last exact (Cody and Waite, Software Manual for the Elementary Functions,
// 1980, ch. 6 and 8). A series ends where its rest is below a tenth of a rounding. Within 1 ulp of the true value, of a
// complex one within 2 epsilon of its size (1.5 and 3 without fused multiply-adds); of -inf 0, beyond the range inf, of
// NaN NaN (tests/backends/test_native_exponential.py). Kernels run with subnormal numbers as zero (threads.hpp): there
// such a result is 0.
#pragma once

#include "simd.hpp"

RETROGRAD_BEGIN
namespace {

template <class R> struct Exponential;
template <>
struct Exponential<float> {
    using Bits = std::int32_t;
    // Below `least` exp is 0 (2^-150 is half of the smallest number), above `most` infinite.
    static constexpr float least = -104, most = 89;
    static constexpr float ln2[] = {0x1.62e4p-1f, 0x1.7f7d1cp-20f};
    static constexpr float half_pi[] = {0x1.92p0f, 0x1.fb4p-12f, 0x1.4442d2p-24f};
    static constexpr float farthest = 0x1p13f;       // angle, of either sign, up to which n times the parts is exact
    static constexpr float to_integer = 0x1.8p23f;  // added, it rounds to an integer, which stands in the lowest bits
    static constexpr int last = 7, last_of_angle = 5, mantissa = 23, bias = 127;  // last: of a series' terms, from 0 on
};
template <>
struct Exponential<double> {
    using Bits = std::int64_t;
    static constexpr double least = -746, most = 710;
    static constexpr double ln2[] = {0x1.62e42feep-1, 0x1.a39ef35793c76p-33};
    static constexpr double half_pi[] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
    static constexpr double farthest = 0x1p20;
    static constexpr double to_integer = 0x1.8p52;
    static constexpr int last = 13, last_of_angle = 8, mantissa = 52, bias = 1023;
};
template <class R>
using Integers = Vector<typename Exponential<R>::Bits>;

template <class R>
inline Vector<R> everywhere(R x) { return x - Vector<R>{}; }

// 1 / (first + step k)!, with alternating signs where step is 2.
template <class R>
consteval R coefficient(int first, int step, int k) {
    double factorial = 1;
    for (int i = 2; i <= first + step * k; ++i) factorial *= i;  // exact
    return static_cast<R>((step == 2 && k % 2 ? -1 : 1) / factorial);
}
template <class R, int first, int step, int... K>
inline Vector<R> series(Vector<R> x, std::integer_sequence<int, K...>) {
    constexpr int last = static_cast<int>(sizeof...(K));
    Vector<R> sum = everywhere(coefficient<R>(first, step, last));
    ((sum = fused<R>(sum, x, everywhere(coefficient<R>(first, step, last - 1 - K)))), ...);
    return sum;
}

template <class R>
inline Vector<R> exponential(Vector<R> x) {
    using C = Exponential<R>;
    x = x < C::least ? everywhere(C::least) : x;  // a NaN stays
    x = x > C::most ? everywhere(C::most) : x;
    constexpr R log2_of_e = static_cast<R>(0x1.71547652b82fep0);
    const Vector<R> shifted = fused<R>(x, everywhere(log2_of_e), everywhere(C::to_integer));
    const Vector<R> n = shifted - C::to_integer;
    const Vector<R> r = fused<R>(n, everywhere(-C::ln2[1]), fused<R>(n, everywhere(-C::ln2[0]), x));
    const Vector<R> sum = series<R, 0, 1>(r, std::make_integer_sequence<int, C::last>());
#if defined(__AVX512F__)
    // With a mask of all lanes: without one GCC's header starts from an undefined vector, which it then warns about.
    if constexpr (sizeof(R) == 4)
        return std::bit_cast<Vector<R>>(
            _mm512_maskz_scalef_ps(0xFFFF, std::bit_cast<__m512>(sum), std::bit_cast<__m512>(n)));
    else
        return std::bit_cast<Vector<R>>(
            _mm512_maskz_scalef_pd(0xFF, std::bit_cast<__m512d>(sum), std::bit_cast<__m512d>(n)));
#else
    // 2^n in two factors: one alone would leave the range before the result does.
    const Integers<R> exponent = std::bit_cast<Integers<R>>(shifted) - std::bit_cast<typename C::Bits>(C::to_integer);
    const Integers<R> half = exponent >> 1, rest = exponent - half;
    const auto power = [](Integers<R> k) { return std::bit_cast<Vector<R>>((k + C::bias) << C::mantissa); };
    return sum * power(half) * power(rest);
#endif
}

// Is a lane of a comparison true?
template <class Mask>
inline bool any(Mask mask) {
#if defined(__AVX512BW__)
    return _mm512_movepi8_mask(std::bit_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8(std::bit_cast<__m256i>(mask)) != 0;
#else
    bool found = false;
    for (int i = 0; i < vector_bytes / static_cast<int>(sizeof mask[0]); ++i) found |= mask[i] != 0;
    return found;
#endif
}

// Puts the C library's values where an angle is farther than `farthest`, or none at all. The calls are builtins: a
// function of <cmath> compiled for one instruction set could be what the linker gives to the others.
template <class R>
__attribute__((noinline, cold)) Vector<R> with_far_angles(Vector<R> found, Vector<R> y, Integers<R> near) {
    for (int i = 0; i < lanes<R>; ++i) {
        if (near[i]) continue;
        if constexpr (sizeof(R) == 4) found[i] = i & 1 ? __builtin_sinf(y[i]) : __builtin_cosf(y[i]);
        else found[i] = i & 1 ? __builtin_sin(y[i]) : __builtin_cos(y[i]);
    }
    return found;
}

// cos(y) in even lanes, sin(y) in odd ones.
template <class R, int... I>
inline Vector<R> cosine_and_sine(Vector<R> y, std::integer_sequence<int, I...>) {
    using C = Exponential<R>;
    constexpr R two_over_pi = static_cast<R>(0x1.45f306dc9c883p-1);
    const Vector<R> shifted = fused<R>(y, everywhere(two_over_pi), everywhere(C::to_integer));
    const Vector<R> n = shifted - C::to_integer;
    Vector<R> r = fused<R>(n, everywhere(-C::half_pi[0]), y);
    r = fused<R>(n, everywhere(-C::half_pi[1]), r);
    r = fused<R>(n, everywhere(-C::half_pi[2]), r);
    constexpr std::make_integer_sequence<int, C::last_of_angle> terms;
    const Vector<R> cosine = series<R, 0, 2>(r * r, terms), sine = r * series<R, 1, 2>(r * r, terms);
    // cos(y) = sin(y + pi / 2)
    const Integers<R> quadrant = std::bit_cast<Integers<R>>(shifted) + Integers<R>{(I & 1 ? 0 : 1)...};
    const Vector<R> size = (quadrant & 1) != 0 ? cosine : sine, found = (quadrant & 2) != 0 ? -size : size;
    const Integers<R> near = (y <= C::farthest) & (y >= -C::farthest);
    return any(near == 0) ? with_far_angles<R>(found, y, near) : found;
}

// exp of (real, imaginary) pairs.
template <class R>
inline Vector<R> complex_exponential(Vector<R> x) {
    constexpr std::make_integer_sequence<int, lanes<R>> all;
    return exponential<R>(even_twice<R>(x, all)) * cosine_and_sine<R>(odd_twice<R>(x, all), all);
}

}  // namespace
RETROGRAD_END
