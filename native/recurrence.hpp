// The mathematics, once.
//
//   scan      h_t = A_t h_{t-1} + u_t,  t = 1..T,  h_0 given
//   adjoint   delta_T = g_T + g_final;   carry = A_t^H delta_t;   delta_{t-1} = g_{t-1} + carry
//             d_u_t = delta_t     d_h0 = A_1^H delta_1     d_A_t = delta_t h_{t-1}^H (kept to A's structure)
//
// The adjoint is the same recurrence, transposed and run backward. With `reverse` the scan itself runs from
// t = T to 1 (h_t = A_t h_{t+1} + u_t, h_0 standing after the last step) and its adjoint from 1 to T: both only
// turn the order of the steps round, which is what `step_index` does.
//
// A diagonal may come as its logarithm, a_t = exp(l_t):
//
//   adjoint   carry = conj(a_t) delta_t;   d_l_t = carry conj(h_{t-1})
//
// Arrays are (batch, time, width) with unit stride over the width; batch and time strides are free (0 broadcasts).
// Batch row r uses the transition of row r / rows_per_transition; a time stride of 0 makes it time-invariant.
#pragma once

#include <complex>
#include <cstdint>

namespace retrograd {

// Stored in 16 bits; the state is carried in float.
struct BFloat16 { std::uint16_t bits; };
struct Float16 { std::uint16_t bits; };

// The real type that carries the state, and how many of them make one scalar.
template <class S> struct Carry { using type = S; static constexpr int reals = 1; };
template <class R> struct Carry<std::complex<R>> { using type = R; static constexpr int reals = 2; };
template <> struct Carry<BFloat16> { using type = float; static constexpr int reals = 1; };
template <> struct Carry<Float16> { using type = float; static constexpr int reals = 1; };

template <class T>
struct Sequence {            // (batch, time, width)
    T* data = nullptr;
    std::int64_t batch = 0;  // strides, in elements
    std::int64_t time = 0;
    T* at(std::int64_t row, std::int64_t t) const { return data + row * batch + t * time; }
};

// Steps [begin, end) of a row that follow one another. Row `start` of h_0 (of d_h0) stands before the first, row `final`
// of g_final comes on top of the last; -1: none does, and then the first state is its input alone. A step in no segment
// is padding: not read, not written. Empty ones pass g_final on to d_h0.
struct Segment {
    std::int64_t row, begin, end, start, final;
};

struct Extents {
    std::int64_t batch, time, width;
    std::int64_t rows_per_transition;
    bool time_invariant;
    bool reverse;
    int threads;
    const Segment* segments = nullptr;  // null: every row is one, and rows of h_0 and g_final are its rows
    std::int64_t segment_count = 0;
};

// The first step of a scan reads h_0; the k-th step touches this time index.
inline std::int64_t step_index(const Extents& e, std::int64_t step, bool backward) {
    return e.reverse != backward ? e.time - 1 - step : step;
}

template <class T>
struct Scan {
    Extents extents;
    Sequence<const T> A;  // diagonal: (.., time, width), a or l; dense: (.., time, width * width), row-major matrices
    Sequence<const T> u;
    Sequence<const T> h0;  // (batch, width): time stride unused
    Sequence<T> states;
};

template <class T>
struct Adjoint {
    Extents extents;
    Sequence<const T> A;
    Sequence<const T> g;        // dL/dh_t sent straight into step t
    Sequence<const T> g_final;  // (batch, width), on top of the last step
    Sequence<T> delta;
    Sequence<T> d_h0;           // (batch, width)
    // Below: only where d_A is asked for; otherwise null.
    Sequence<const T> states;
    Sequence<const T> h0;
    Sequence<T> d_A;
    // Time-invariant diagonal: in place of d_A one sum over time for every batch row, or segment, in the carried type,
    // as reals; the caller sums over those of a group. (Time-varying with segments: d_A is added to.)
    Sequence<typename Carry<T>::type> sums;
};

// result (batch / rows_per_transition, height, extents.width) = sum over rows and time of gradient_t factor_t^H; or,
// where `before` is given, of gradient_t and the factor of the step before it, which at the first step is `before`.
template <class T>
struct OuterSum {
    Extents extents;  // of the factor
    std::int64_t height;
    Sequence<const T> gradient, factor, before;
    T* result;
    std::int64_t tiles_down() const { return (height + 7) / 8; }
};

// result (rows, columns) = x W^T + bias: of every row what one row alone would give, on any number of threads.
template <class T>
struct Product {
    std::int64_t rows, inner, columns;
    int threads;
    Sequence<const T> x;          // (rows, inner), rows as its batch
    const T* weight;              // (columns, inner), or where `transposed` (inner, columns); row-major
    bool transposed;
    const T* bias;                // (columns), or null
    T* result;                    // (rows, columns), row-major
};

// One table an instruction set and scalar type.
template <class T>
struct Kernels {
    void (*diagonal_scan)(const Scan<T>&);
    void (*diagonal_adjoint)(const Adjoint<T>&);
    void (*log_diagonal_scan)(const Scan<T>&);
    void (*log_diagonal_adjoint)(const Adjoint<T>&);
    void (*dense_scan)(const Scan<T>&);
    void (*dense_adjoint)(const Adjoint<T>&);
    void (*outer_sum)(const OuterSum<T>&);
    void (*product)(const Product<T>&);
};

}  // namespace retrograd
