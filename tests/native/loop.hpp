// The recurrence and its adjoint as recurrence.hpp writes them, one element at a time in long double. Beside every
// value stands the largest error, in units of rounding, that the operations can have made of it (tests/oracle.py).
#pragma once

#include <cmath>
#include <cstdlib>
#include <functional>

#include "arrays.hpp"

namespace retrograd::tests {

struct Running {
    Value value = 0;
    Real error = 0;
};

class Running3 {  // (rows, time, width)
  public:
    Running3(std::int64_t rows, std::int64_t time, std::int64_t width)
        : time_(time), width_(width), data_(static_cast<std::size_t>(rows * time * width)) {}
    Running& at(std::int64_t row, std::int64_t t, std::int64_t i) {
        return data_[static_cast<std::size_t>((row * time_ + t) * width_ + i)];
    }

  private:
    std::int64_t time_, width_;
    std::vector<Running> data_;
};

// Element (i, j) of row b's transition at step t.
using Transition = std::function<Value(std::int64_t b, std::int64_t t, std::int64_t i, std::int64_t j)>;

// A h, or A^H h.
inline std::vector<Running> apply(const Transition& A, bool dense, bool adjoint, std::int64_t b, std::int64_t t,
                                  const std::vector<Running>& h) {
    const auto width = static_cast<std::int64_t>(h.size());
    std::vector<Running> out(h.size());
    for (std::int64_t i = 0; i < width; ++i)
        for (std::int64_t j = dense ? 0 : i; j < (dense ? width : i + 1); ++j) {
            const Running& x = h[static_cast<std::size_t>(j)];
            const Value a = adjoint ? std::conj(A(b, t, j, i)) : A(b, t, i, j);
            Running& y = out[static_cast<std::size_t>(i)];
            y.value += a * x.value;
            y.error += std::abs(a) * (x.error + Real(dense ? width : 1) * std::abs(x.value));
        }
    return out;
}

// The sequences of a problem: its segments, or its rows.
inline std::vector<Segment> sequences(const Extents& e) {
    if (e.segments) return {e.segments, e.segments + e.segment_count};
    std::vector<Segment> rows;
    for (std::int64_t b = 0; b < e.batch; ++b) rows.push_back({b, 0, e.time, b, b});
    return rows;
}

template <class T>
void loop_scan(const Extents& e, bool dense, const Transition& A, const Array<T>& u, const Array<T>& h0,
               Running3& states) {
    for (const Segment& s : sequences(e)) {
        std::vector<Running> h(static_cast<std::size_t>(e.width));
        for (std::int64_t i = 0; s.start >= 0 && i < e.width; ++i)
            h[static_cast<std::size_t>(i)].value = h0.at(s.start, 0, i);
        for (std::int64_t step = 0; step < s.end - s.begin; ++step) {
            const std::int64_t t = e.reverse ? s.end - 1 - step : s.begin + step;
            h = apply(A, dense, false, s.row, t, h);
            for (std::int64_t i = 0; i < e.width; ++i) {
                Running& x = h[static_cast<std::size_t>(i)];
                x.value += u.at(s.row, t, i);
                x.error += std::abs(x.value);
                states.at(s.row, t, i) = x;
            }
        }
    }
}

// d_A: one a group, and step where it varies in time; of a time-invariant diagonal one sum a sequence; null where not
// asked for; of `logarithms` a_t times that.
template <class T>
void loop_adjoint(const Extents& e, bool dense, const Transition& A, const Array<T>& g, const Array<T>& g_final,
                  const Array<T>& states, const Array<T>& h0, Running3& deltas, Running3& d_h0, Running3* d_A,
                  bool logarithms) {
    const std::vector<Segment> all = sequences(e);
    for (std::size_t index = 0; index < all.size(); ++index) {
        const Segment& s = all[index];
        const std::int64_t b = s.row, steps = s.end - s.begin;
        std::vector<Running> carry(static_cast<std::size_t>(e.width));
        for (std::int64_t i = 0; s.final >= 0 && i < e.width; ++i)
            carry[static_cast<std::size_t>(i)].value = g_final.at(s.final, 0, i);
        for (std::int64_t step = steps; step-- > 0;) {
            const std::int64_t t = e.reverse ? s.end - 1 - step : s.begin + step, before = e.reverse ? t + 1 : t - 1;
            for (std::int64_t i = 0; i < e.width; ++i) {
                Running& d = carry[static_cast<std::size_t>(i)];
                d.value += g.at(b, t, i);
                d.error += std::abs(d.value);
                deltas.at(b, t, i) = d;
            }
            for (std::int64_t i = 0; d_A && i < e.width; ++i)
                for (std::int64_t j = dense ? 0 : i; j < (dense ? e.width : i + 1); ++j) {
                    const Value state = step > 0       ? states.at(b, before, j)
                                        : s.start >= 0 ? h0.at(s.start, 0, j)
                                                       : Value(0);
                    const Value previous = logarithms ? state * A(b, t, i, i) : state;
                    const Running& d = carry[static_cast<std::size_t>(i)];
                    const std::int64_t group = b / e.rows_per_transition;
                    Running& sum = dense              ? d_A->at(group, e.time_invariant ? 0 : t, i * e.width + j)
                                   : e.time_invariant ? d_A->at(static_cast<std::int64_t>(index), 0, i)
                                                      : d_A->at(group, t, i);
                    sum.value += d.value * std::conj(previous);
                    const Real terms = static_cast<Real>((e.time_invariant ? e.time : 1) *
                                                         (e.time_invariant && !dense ? 1 : e.rows_per_transition));
                    sum.error += std::abs(previous) * (d.error + terms * std::abs(d.value));
                }
            carry = apply(A, dense, true, b, t, carry);
        }
        for (std::int64_t i = 0; s.start >= 0 && i < e.width; ++i)
            d_h0.at(s.start, 0, i) = carry[static_cast<std::size_t>(i)];
    }
}

}  // namespace retrograd::tests
