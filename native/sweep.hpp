// A time-invariant dense recurrence as a sweep over steps k = 0, 1, ...: x_k = add_k + x_{k-1} M. The scan sweeps
// forward from h_0 with M = A^T, its adjoint backward with M = conj(A), from x_0 = add_0 + g_final on.
//
// Rows never wait for one another.
#pragma once

#include <cstring>

#include "panel.hpp"

RETROGRAD_BEGIN
namespace {

template <class S>
struct Sweep {
    Extents extents;
    Sequence<const S> A, add, start;  // start: h_0, or g_final
    Sequence<S> out, d_h0;            // d_h0: of the adjoint alone
    bool forward;

    std::int64_t index(std::int64_t step) const { return step_index(extents, step, !forward); }
    Form form() const { return forward ? Form::transposed : Form::conjugated; }
    const S* at_start(std::int64_t row) const { return forward ? start.at(row, 0) : nullptr; }
};

// Steps [first, last) of one row, after the state `before`; null where x_first is add + start alone. The states go to
// `out`, or, where only the last one is wanted, that one to `end`.
template <class S>
struct Span {
    std::int64_t row, first, last;
    const S* before;
    S* end = nullptr;
    std::int64_t length() const { return last - first; }
};

// Very narrow rows, a few side by side, their states in registers.
template <class S, int Width>
class NarrowRun {
  public:
    NarrowRun(const Sweep<S>& s, const S* packed, std::int64_t panel)
        : s_(s),
          add_step_((s.index(1) - s.index(0)) * s.add.time),
          out_step_((s.index(1) - s.index(0)) * s.out.time) {
        for (int k = 0; k < Width; ++k)
            for (int i = 0; i < Width; ++i) M_[k][i] = packed[(i / panel * Width + k) * panel + i % panel];
    }
    void operator()(const Span<S>* spans, int rows) const {
        int r = 0;
        for (; r + together <= rows; r += together) side_by_side<together>(spans + r);
        for (; r < rows; ++r) side_by_side<1>(spans + r);
    }

  private:
    static constexpr int together = 4;
    const Sweep<S>& s_;
    std::int64_t add_step_, out_step_;
    S M_[Width][Width];

    struct Row {
        S state[Width];
        const S* add;
        S* out;  // null where only the last state is wanted
    };

    void step(Row& row, std::int64_t k) const {
        S next[Width];
        for (int i = 0; i < Width; ++i) {
            next[i] = row.add[k * add_step_ + i];
            for (int j = 0; j < Width; ++j) next[i] = Single<S>::multiply_add(row.state[j], M_[j][i], next[i]);
        }
        for (int i = 0; i < Width; ++i) row.state[i] = next[i];
        store(row, k);
    }
    void store(Row& row, std::int64_t k) const {
        if (row.out)
            for (int i = 0; i < Width; ++i) row.out[k * out_step_ + i] = row.state[i];
    }

    template <int Rows>
    void side_by_side(const Span<S>* spans) const {
        Row row[Rows];
        for (int r = 0; r < Rows; ++r) {
            const Span<S>& span = spans[r];
            row[r].add = s_.add.at(span.row, s_.index(span.first));
            row[r].out = span.end ? nullptr : s_.out.at(span.row, s_.index(span.first));
            const S* start = span.before ? span.before : s_.start.at(span.row, 0);
            for (int i = 0; i < Width; ++i) row[r].state[i] = span.before ? start[i] : row[r].add[i] + start[i];
            if (span.before) step(row[r], 0);
            else store(row[r], 0);
        }
        const std::int64_t shortest = spans[Rows - 1].length();
        for (std::int64_t k = 1; k < shortest; ++k)
            for (int r = 0; r < Rows; ++r) step(row[r], k);
        for (int r = 0; r < Rows; ++r) {
            for (std::int64_t k = shortest; k < spans[r].length(); ++k) step(row[r], k);
            if (spans[r].end)
                for (int i = 0; i < Width; ++i) spans[r].end[i] = row[r].state[i];
        }
    }
};

// Spans side by side, all of one kind, the longest first.
template <class S>
void run(const Sweep<S>& s, const Span<S>* spans, int rows, const StepKernels<S>& kernels, const S* packed) {
    const std::int64_t width = s.extents.width;
    switch (width) {
        case 1: return NarrowRun<S, 1>(s, packed, kernels.panel)(spans, rows);
        case 2: return NarrowRun<S, 2>(s, packed, kernels.panel)(spans, rows);
        case 3: return NarrowRun<S, 3>(s, packed, kernels.panel)(spans, rows);
        case 4: return NarrowRun<S, 4>(s, packed, kernels.panel)(spans, rows);
        default: break;
    }
    const std::int64_t direction = s.index(1) - s.index(0);
    // States go straight to `out` where rows are whole vectors, otherwise by way of two padded lines in turn.
    const bool ends = spans[0].end != nullptr, padded = width % Lanes<S>::width != 0, direct = !ends && !padded;
    const std::int64_t line = ceil_div(width, Lanes<S>::width) * Lanes<S>::width;
    Buffer<S> lines(direct ? 0 : 2 * rows * line);
    const S *previous[block_rows], *add[block_rows];
    S *next[block_rows], *out[block_rows];
    const auto finish = [&](int r, std::int64_t k) {
        S* to = !ends ? out[r] : k + 1 == spans[r].length() ? spans[r].end : nullptr;
        if (to) std::memcpy(static_cast<void*>(to), next[r], sizeof(S) * static_cast<std::size_t>(width));
    };
    for (int r = 0; r < rows; ++r) {
        const std::int64_t t = s.index(spans[r].first);
        previous[r] = spans[r].before;
        add[r] = s.add.at(spans[r].row, t);
        out[r] = s.out.at(spans[r].row, t);
        next[r] = direct ? out[r] : lines.data() + 2 * r * line;
        if (previous[r]) {
            kernels.of_rows[0](previous + r, add + r, next + r, packed, width, padded);
        } else {
            const S* start = s.start.at(spans[r].row, 0);
            for (std::int64_t i = 0; i < width; ++i) next[r][i] = add[r][i] + start[i];
        }
        if (!direct) finish(r, 0);
    }
    for (std::int64_t k = 1; k < spans[0].length(); ++k) {
        while (spans[rows - 1].length() <= k) --rows;
        for (int r = 0; r < rows; ++r) {
            previous[r] = next[r];
            add[r] += direction * s.add.time;
            out[r] += direction * s.out.time;
            next[r] = direct ? out[r] : lines.data() + (2 * r + (k & 1)) * line;
        }
        kernels.of_rows[rows - 1](previous, add, next, packed, width, padded);
        if (!direct)
            for (int r = 0; r < rows; ++r) finish(r, k);
    }
}

}  // namespace
RETROGRAD_END
