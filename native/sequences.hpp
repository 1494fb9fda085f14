// The sequences of a problem, in the order of memory.
#pragma once

#include <algorithm>

#include "rows.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

// A type of this file's own: the standard library's templates of it then belong to one instruction set (threads.hpp).
struct Line : Segment {
    std::int64_t index;  // in the table
    std::int64_t length() const { return end - begin; }
};

// The segments that are not empty, or else the rows, in the order (row, begin).
class Lines {
  public:
    explicit Lines(const Extents& e) : lines_(e.segments ? e.segment_count : e.batch) {
        if (e.segments) {
            for (std::int64_t i = 0; i < e.segment_count; ++i)
                if (e.segments[i].end > e.segments[i].begin) lines_.data()[count_++] = Line{e.segments[i], i};
            std::sort(lines_.data(), lines_.data() + count_, [](const Line& a, const Line& b) {
                return a.row != b.row ? a.row < b.row : a.begin < b.begin;
            });
        } else {
            for (; count_ < e.batch; ++count_) lines_.data()[count_] = Line{{count_, 0, e.time, count_, count_}, count_};
        }
    }
    std::int64_t count() const { return count_; }
    const Line& operator[](std::int64_t i) const { return lines_.data()[i]; }

  private:
    Buffer<Line> lines_;
    std::int64_t count_ = 0;
};

// d_h0 of the segments without a step.
template <class S>
void pass_on_empty(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    for (std::int64_t i = 0; i < e.segment_count; ++i) {
        const Segment& s = e.segments[i];
        if (s.begin < s.end || s.start < 0 || s.final < 0) continue;
        for (std::int64_t c = 0; c < e.width; ++c) p.d_h0.at(s.start, 0)[c] = p.g_final.at(s.final, 0)[c];
    }
}

}  // namespace
RETROGRAD_END
