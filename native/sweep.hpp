// A time-invariant dense recurrence as a sweep over steps k = 0, 1, ...: x_k = add_k + x_{k-1} M. The scan sweeps
// forward from h_0 with M = A^T, its adjoint backward with M = conj(A), from x_0 = add_0 + g_final on.
//
// Sequences never wait for one another: a thread keeps a block of rows full, the next sequence entering where one ends.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "panel.hpp"
#include "sequences.hpp"

RETROGRAD_BEGIN
namespace {

template <class S>
struct Sweep {
    Extents extents;
    Sequence<const S> A, add, start;  // start: h_0, or g_final
    Sequence<S> out, d_h0;            // of the adjoint alone: d_h0, and h_0 where d_A is asked for
    Sequence<const S> h0;
    bool forward;

    std::int64_t index(std::int64_t step) const { return step_index(extents, step, !forward); }
    Form form() const { return forward ? Form::transposed : Form::conjugated; }
};

// Steps [first, last) of one row. Before them stands the state `before`; where that is null x_first is add + start, or,
// where that is null too, add alone. The states go to `out`, or, where only the last one is wanted, that one to `end`.
template <class S>
struct Span {
    std::int64_t row, first, last;
    const S *before, *start;
    S *end = nullptr, *d_h0 = nullptr;
    const S* h0 = nullptr;
    std::int64_t length() const { return last - first; }
};

// A problem's sequences as spans, in the order (row, begin).
template <class S>
std::vector<Span<S>> spans_of(const Sweep<S>& s) {
    const Lines lines(s.extents);
    const bool backward = s.index(0) != 0;
    std::vector<Span<S>> spans;
    for (std::int64_t i = 0; i < lines.count(); ++i) {
        const Line& line = lines[i];
        const std::int64_t first = backward ? s.extents.time - line.end : line.begin;
        Span<S> span{line.row, first, first + line.length(), nullptr, nullptr};
        if (s.forward) span.before = line.start < 0 ? nullptr : s.start.at(line.start, 0);
        else span.start = line.final < 0 ? nullptr : s.start.at(line.final, 0);
        if (!s.forward && line.start >= 0) {
            span.d_h0 = s.d_h0.at(line.start, 0);
            span.h0 = s.h0.data ? s.h0.at(line.start, 0) : nullptr;
        }
        spans.push_back(span);
    }
    return spans;
}

// Spans shared out by length: the longest first, each to the share that has least.
template <class S>
class Shares {
  public:
    Shares(const Span<S>* spans, std::int64_t count, std::int64_t shares) : lists_(static_cast<std::size_t>(shares)) {
        std::vector<Span<S>> sorted(spans, spans + count);
        const auto longer = [](const Span<S>& a, const Span<S>& b) { return a.length() > b.length(); };
        if (!std::is_sorted(sorted.begin(), sorted.end(), longer))
            std::stable_sort(sorted.begin(), sorted.end(), longer);
        for (const Span<S>& span : sorted) {
            List* least = &lists_[0];
            for (List& list : lists_)
                if (list.steps < least->steps) least = &list;
            least->spans.push_back(span);
            least->steps += span.length();
        }
    }
    std::int64_t count() const { return static_cast<std::int64_t>(lists_.size()); }
    const std::vector<Span<S>>& operator[](std::int64_t i) const { return lists_[static_cast<std::size_t>(i)].spans; }

  private:
    struct List {
        std::vector<Span<S>> spans;
        std::int64_t steps = 0;
    };
    std::vector<List> lists_;
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
    void operator()(const Span<S>* spans, std::int64_t count) const {
        std::int64_t i = 0;
        for (; i + together <= count; i += together) side_by_side<together>(spans + i);
        for (; i < count; ++i) side_by_side<1>(spans + i);
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
        std::int64_t shortest = spans[0].length();
        for (int r = 0; r < Rows; ++r) {
            const Span<S>& span = spans[r];
            if (span.length() < shortest) shortest = span.length();
            row[r].add = s_.add.at(span.row, s_.index(span.first));
            row[r].out = span.end ? nullptr : s_.out.at(span.row, s_.index(span.first));
            for (int i = 0; i < Width; ++i)
                row[r].state[i] = span.before  ? span.before[i]
                                  : span.start ? row[r].add[i] + span.start[i]
                                               : row[r].add[i];
            if (span.before) step(row[r], 0);
            else store(row[r], 0);
        }
        for (std::int64_t k = 1; k < shortest; ++k)
            for (int r = 0; r < Rows; ++r) step(row[r], k);
        for (int r = 0; r < Rows; ++r) {
            for (std::int64_t k = shortest; k < spans[r].length(); ++k) step(row[r], k);
            if (spans[r].end)
                for (int i = 0; i < Width; ++i) spans[r].end[i] = row[r].state[i];
        }
    }
};

// Wider rows, a block of them in slots. States go straight to `out` where rows are whole vectors, otherwise by way of
// two padded lines in turn.
template <class S>
class BlockRun {
  public:
    BlockRun(const Sweep<S>& s, const StepKernels<S>& kernels, const S* packed)
        : s_(s),
          kernels_(kernels),
          packed_(packed),
          width_(s.extents.width),
          direction_(s.index(1) - s.index(0)),
          padded_(width_ % Lanes<S>::width != 0),
          line_(ceil_div(width_, Lanes<S>::width) * Lanes<S>::width),
          lines_(2 * block_rows * line_) {}

    void operator()(const Span<S>* spans, std::int64_t count) {
        only_ends_ = count > 0 && spans[0].end != nullptr;
        active_ = 0;
        for (const Span<S>*next = spans, *last = spans + count;;) {
            for (int r = 0; r < active_ || (active_ < kernels_.most_rows && next < last);) {
                if (r == active_) enter(active_++, *next++);
                if (left_[r] > 0) ++r;
                else if (next < last) enter(r, *next++);
                else move(--active_, r);
            }
            if (active_ == 0) return;
            std::int64_t steps = left_[0];
            for (int r = 1; r < active_; ++r) steps = left_[r] < steps ? left_[r] : steps;
            for (std::int64_t k = 0; k < steps; ++k) step();
            for (int r = 0; r < active_; ++r)
                if ((left_[r] -= steps) == 0) leave(r);
        }
    }

  private:
    const Sweep<S>& s_;
    const StepKernels<S>& kernels_;
    const S* packed_;
    std::int64_t width_, direction_;
    bool padded_, only_ends_ = false;
    std::int64_t line_;
    Buffer<S> lines_;
    int active_ = 0, turn_ = 0;
    const S *previous_[block_rows], *add_[block_rows];
    S *out_[block_rows], *end_[block_rows];
    std::int64_t left_[block_rows];

    bool direct() const { return !only_ends_ && !padded_; }
    S* destination(int r, int turn) { return direct() ? out_[r] : lines_.data() + (2 * r + turn) * line_; }
    void copy(const S* from, S* to) {
        std::memcpy(static_cast<void*>(to), from, sizeof(S) * static_cast<std::size_t>(width_));
    }

    void enter(int r, const Span<S>& span) {
        const std::int64_t t = s_.index(span.first);
        add_[r] = s_.add.at(span.row, t);
        out_[r] = s_.out.at(span.row, t);
        end_[r] = span.end;
        left_[r] = span.length();
        if ((previous_[r] = span.before)) return;
        S* x = destination(r, 1 - turn_);
        for (std::int64_t i = 0; i < width_; ++i) x[i] = span.start ? add_[r][i] + span.start[i] : add_[r][i];
        advance(r, x);
        if (--left_[r] == 0) leave(r);
    }
    void move(int from, int r) {
        previous_[r] = previous_[from];
        add_[r] = add_[from];
        out_[r] = out_[from];
        end_[r] = end_[from];
        left_[r] = left_[from];
    }
    void leave(int r) {
        if (only_ends_) copy(previous_[r], end_[r]);
    }
    void advance(int r, const S* x) {
        if (padded_ && !only_ends_) copy(x, out_[r]);
        previous_[r] = x;
        add_[r] += direction_ * s_.add.time;
        out_[r] += direction_ * s_.out.time;
    }
    void step() {
        S* next[block_rows];
        for (int r = 0; r < active_; ++r) next[r] = destination(r, turn_);
        kernels_.of_rows[active_ - 1](previous_, add_, next, packed_, width_, width_, padded_);
        for (int r = 0; r < active_; ++r) advance(r, next[r]);
        turn_ = 1 - turn_;
    }
};

template <class S>
void run(const Sweep<S>& s, const std::vector<Span<S>>& spans, const StepKernels<S>& kernels, const S* packed) {
    const auto count = static_cast<std::int64_t>(spans.size());
    switch (s.extents.width) {
        case 1: return NarrowRun<S, 1>(s, packed, kernels.panel)(spans.data(), count);
        case 2: return NarrowRun<S, 2>(s, packed, kernels.panel)(spans.data(), count);
        case 3: return NarrowRun<S, 3>(s, packed, kernels.panel)(spans.data(), count);
        case 4: return NarrowRun<S, 4>(s, packed, kernels.panel)(spans.data(), count);
        default: return BlockRun<S>(s, kernels, packed)(spans.data(), count);
    }
}

}  // namespace
RETROGRAD_END
