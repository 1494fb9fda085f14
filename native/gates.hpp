// A diagonal's gates a_t: read as they are, or made of their logarithms in registers.
#pragma once

#include "exponential.hpp"
#include "parts.hpp"

RETROGRAD_BEGIN
namespace {

// What A's array has: the gates a_t, or their logarithms.
enum class Holds { gates, logarithms };

// The gates of one step. Those that more than one row or step wants are exponentiated once, and kept.
template <class S, class L, Holds holds>
class Gates {
  public:
    using Vec = typename L::Vec;
    template <class AnyRow>
    Gates(const AnyRow& row, const Extents& e, const S* a, std::int64_t rows)
        : constant_(e.time_invariant),
          kept_(constant_ || rows > 1),
          made_(holds == Holds::logarithms && kept_ ? row.count : 0) {
        if constexpr (holds == Holds::logarithms)
            for (int i = 0; constant_ && i < row.count; ++i) made_.data()[i] = gate(row.load(a, i));
    }
    // Vector i of row r of the part: r runs from 0 up in every step.
    template <class AnyRow, class Whole>
    Vec operator()(const AnyRow& row, const S* a, int i, Whole whole, std::int64_t r) {
        if constexpr (holds == Holds::logarithms) {
            if (!kept_) return gate(row.load(a, i, whole));
            if (!constant_ && r == 0) made_.data()[i] = gate(row.load(a, i, whole));
            return made_.data()[i];
        } else {
            return row.load(a, i, whole);
        }
    }
    static Vec gate(Vec a) {
        if constexpr (holds == Holds::gates) return a;
        else if constexpr (L::reals == 2) return complex_exponential<typename L::R>(a);
        else return exponential<typename L::R>(a);
    }

  private:
    bool constant_, kept_;
    Buffer<Vec> made_;
};

}  // namespace
RETROGRAD_END
