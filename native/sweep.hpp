// A time-invariant dense recurrence as a sweep over steps k = 0, 1, ...: x_k = add_k + x_{k-1} M. The scan sweeps
// forward from h_0 with M = A^T, its adjoint backward with M = conj(A), from x_0 = add_0 + g_final on.
//
// Rows never wait for one another. Where they are few and time is long (`divides`), time is cut into chunks that run
// side by side as rows of their own:
//   1. each chunk's last steps, from zero, give the state that the next one starts from;
//   2. every chunk runs from there.
// Step 1 needs `warm` steps where ||M^warm|| is next to nothing, so that what came before has no part in the state; that
// is checked afterwards, against the states themselves. Where it has, or M forgets too slowly, whole chunks run in step
// 1, and x_end = local_end + x_start M^length, with the power in double. Powers that grow beyond `growth` and states
// that are not finite go back to one sweep from the first step to the last: the result then is what that gives,
// overflow and NaN included.
#pragma once

#include <cstring>
#include <limits>
#include <memory>
#include <vector>

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
            for (int i = 0; i < Width; ++i) M_[k][i] = packed[k * panel + i];
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

// All spans, in blocks of rows that share the threads evenly.
template <class S>
void run_all(const Sweep<S>& s, const std::vector<Span<S>>& spans, const StepKernels<S>& kernels, const S* packed) {
    const auto count = static_cast<std::int64_t>(spans.size());
    const std::int64_t blocks = ceil_div(ceil_div(count, block_rows), s.extents.threads) * s.extents.threads;
    const std::int64_t rows = ceil_div(count, blocks < count ? blocks : count);
    parallel_for(ceil_div(count, rows), s.extents.threads, [&](std::int64_t block) {
        const std::int64_t first = block * rows, left = count - first;
        run(s, spans.data() + first, static_cast<int>(left < rows ? left : rows), kernels, packed);
    });
}

template <class S>
struct Widened { using type = double; };
template <class R>
struct Widened<std::complex<R>> { using type = std::complex<double>; };

// next = power power', row blocks in parallel; all (width, width), row-major.
template <class W>
void multiply(const W* power, const W* other, W* next, std::int64_t width, int threads) {
    const auto kernels = StepKernels<W>::many_rows(width);
    const PackedTransition<W> packed(other, width, kernels.panel, Form::as_it_is);
    parallel_for(ceil_div(width, block_rows), threads, [&](std::int64_t block) {
        const W *previous[block_rows], *add[block_rows] = {};
        W* to[block_rows];
        const std::int64_t first = block * block_rows, left = width - first;
        const int rows = static_cast<int>(left < block_rows ? left : block_rows);
        for (int r = 0; r < rows; ++r) {
            previous[r] = power + (first + r) * width;
            to[r] = next + (first + r) * width;
        }
        kernels.of_rows[rows - 1](previous, add, to, packed.data(), width, false);
    });
}

// The largest sum of a column: a norm of the matrix as an operator (complex: a bound of it). NaN where an element is.
template <class W>
double norm(const W* power, std::int64_t width) {
    const std::int64_t reals = width * Carry<W>::reals;
    const auto* elements = reinterpret_cast<const double*>(power);
    Buffer<double> sums(reals);
    for (std::int64_t j = 0; j < reals; ++j) sums.data()[j] = 0;
    for (std::int64_t i = 0; i < width; ++i)
        for (std::int64_t j = 0; j < reals; ++j) sums.data()[j] += __builtin_fabs(elements[i * reals + j]);
    double largest = 0;
    for (std::int64_t j = 0; j < reals; j += Carry<W>::reals) {
        double sum = sums.data()[j];
        for (int part = 1; part < Carry<W>::reals; ++part) sum += sums.data()[j + part];
        if (!(sum <= largest)) largest = sum;
    }
    return largest;
}

// How a state comes over a chunk of `length` steps.
template <class S>
class Jump {
  public:
    using W = typename Widened<S>::type;
    using R = typename Carry<S>::type;
    static constexpr double growth = 1e12;
    // Far below rounding, so that the check of what was left out fails only where a state all but vanishes.
    static constexpr double nothing = sizeof(R) == 4 ? 0x1p-100 : 0x1p-160;

    Jump(const S* A, Form form, std::int64_t width, std::int64_t length, int threads)
        : width_(width), length_(length), threads_(threads), here_(width * width), there_(width * width),
          product_(width * width) {
        Buffer<S> M(width * width);
        pack(A, width, width, form, M.data());
        for (std::int64_t i = 0; i < width * width; ++i) here_.data()[i] = W(M.data()[i]);
        norms_[0] = norm(here_.data(), width);
        while (norms_[known_] <= growth && norms_[known_] > nothing && (std::int64_t(2) << known_) <= length) square();
        if (norms_[known_] <= nothing) shorten();
    }

    bool usable() const { return norms_[known_] <= growth; }  // not where it is NaN
    // Fewest steps n known to have ||M^n|| <= left_out <= nothing; the length itself where there are none so few.
    std::int64_t warm() const { return warm_ < length_ ? warm_ : length_; }
    double left_out() const { return left_out_; }

    // M^length; null where a power on the way grows beyond bounds.
    const W* power() {
        while ((std::int64_t(2) << known_) <= length_) {
            if (!usable()) return nullptr;
            square();
        }
        take(known_);
        return usable() ? product_.data() : nullptr;
    }

  private:
    std::int64_t width_, length_, warm_ = INT64_MAX;
    int threads_, known_ = 0;
    double left_out_ = 0;
    double norms_[64];  // of M^1, M^2, M^4, ...
    bool taken_ = false;
    Buffer<W> here_, there_, product_;  // M^(2^known), and the product of the powers that make up the length so far

    void take(int n) {
        if (!(length_ >> n & 1)) return;
        if (taken_) {
            multiply(product_.data(), here_.data(), there_.data(), width_, threads_);
            product_.swap(there_);
        } else {
            std::memcpy(static_cast<void*>(product_.data()), here_.data(),
                        sizeof(W) * static_cast<std::size_t>(width_ * width_));
        }
        taken_ = true;
    }
    void square() {
        take(known_);
        multiply(here_.data(), here_.data(), there_.data(), width_, threads_);
        here_.swap(there_);
        norms_[++known_] = norm(here_.data(), width_);
    }

    // As a sum of powers of two: the product of their norms bounds that of the power.
    void shorten() {
        warm_ = 0;
        left_out_ = 1;
        for (int i = known_ + 1; i-- > 0 && left_out_ > nothing;) {
            double below = left_out_;
            for (int j = 0; j < i; ++j) below *= norms_[j];
            if (below <= nothing) continue;
            warm_ += std::int64_t(1) << i;
            left_out_ *= norms_[i];
        }
    }
};

// Chunks pay where a block of rows would be mostly empty and time is long enough for the powers: by shapes alone.
inline bool divides(const Extents& e) {
    const std::int64_t groups = e.batch / e.rows_per_transition;
    return e.rows_per_transition < 4 && groups < 8 && e.time >= 1024 && e.time >= 8 * e.width;
}

template <class S>
struct Magnitudes {
    typename Carry<S>::type least, most;  // of the elements; `most` is NaN or infinite where one is

    Magnitudes(const S* x, std::int64_t n) : least(std::numeric_limits<decltype(least)>::max()), most(0) {
        for (std::int64_t i = 0; i < n; ++i) {
            const auto* reals = reinterpret_cast<const decltype(least)*>(x + i);
            auto size = reals[0] < 0 ? -reals[0] : reals[0];
            for (int part = 1; part < Carry<S>::reals; ++part) {
                const auto other = reals[part] < 0 ? -reals[part] : reals[part];
                if (!(other <= size)) size = other;
            }
            if (size < least) least = size;
            if (!(size <= most)) most = size;
        }
    }
    bool finite() const { return most <= std::numeric_limits<decltype(most)>::max(); }
};

// One group's rows in chunks.
template <class S>
class ChunkedSweep {
  public:
    ChunkedSweep(const Sweep<S>& s, std::int64_t group)
        : s_(s),
          width_(s.extents.width),
          rows_(s.extents.rows_per_transition),
          row0_(group * rows_),
          length_(length_of(s.extents)),
          chunks_(ceil_div(s.extents.time, length_)),
          jump_(s.A.at(group, 0), s.form(), width_, length_, s.extents.threads),
          kernels_(StepKernels<S>::many_rows(width_)),
          packed_(s.A.at(group, 0), width_, kernels_.panel, s.form()),
          starts_(chunks_ * rows_ * width_) {}

    // False where only one sweep can tell.
    bool operator()() {
        if (!jump_.usable()) return false;
        if (jump_.warm() < length_) {
            find_starts(jump_.warm());
            run_chunks();
            if (!finite()) return false;
            if (nothing_was_left_out()) return true;
        }
        const auto* power = jump_.power();
        if (!power) return false;
        find_starts(length_);
        for (std::int64_t r = 0; r < rows_; ++r) carry(power, r);
        run_chunks();
        return finite();
    }

  private:
    using W = typename Widened<S>::type;
    const Sweep<S>& s_;
    std::int64_t width_, rows_, row0_, length_, chunks_;
    Jump<S> jump_;
    StepKernels<S> kernels_;
    PackedTransition<S> packed_;
    Buffer<S> starts_;  // (chunks, rows, width); the first stay zero

    // About 16 chunks, whose starts do not fall on the same sets of the cache.
    static std::int64_t length_of(const Extents& e) {
        std::int64_t length = ceil_div(e.time, 16);
        while (length * e.width * static_cast<std::int64_t>(sizeof(S)) % 4096 < 64) ++length;
        return length;
    }

    S* start(std::int64_t chunk, std::int64_t row) { return starts_.data() + (chunk * rows_ + row) * width_; }
    const S* state(std::int64_t row, std::int64_t step) const { return s_.out.at(row0_ + row, s_.index(step)); }

    // Step 1; spans are (chunk, row), so that the short ones, of the last chunk, come last.
    void find_starts(std::int64_t warm) {
        std::memset(static_cast<void*>(starts_.data()), 0, sizeof(S) * static_cast<std::size_t>(rows_ * width_));
        std::vector<Span<S>> spans;
        for (std::int64_t chunk = 1; chunk < chunks_; ++chunk)
            for (std::int64_t r = 0; r < rows_; ++r) {
                const std::int64_t last = chunk * length_, first = last - warm;
                const S* before = first == 0 ? s_.at_start(row0_ + r) : start(0, r);
                spans.push_back({row0_ + r, first, last, before, start(chunk, r)});
            }
        run_all(s_, spans, kernels_, packed_.data());
    }

    // From each chunk's own end and the power to its whole end.
    void carry(const W* power, std::int64_t r) {
        Buffer<W> states(2 * width_);
        W *here = states.data(), *there = here + width_;
        for (std::int64_t i = 0; i < width_; ++i) here[i] = W(start(1, r)[i]);
        for (std::int64_t chunk = 2; chunk < chunks_; ++chunk, std::swap(here, there)) {
            for (std::int64_t i = 0; i < width_; ++i) there[i] = W(start(chunk, r)[i]);
            for (std::int64_t k = 0; k < width_; ++k)
                for (std::int64_t i = 0; i < width_; ++i) there[i] += here[k] * power[k * width_ + i];
            for (std::int64_t i = 0; i < width_; ++i) start(chunk, r)[i] = S(there[i]);
        }
    }

    // Step 2.
    void run_chunks() {
        std::vector<Span<S>> spans;
        for (std::int64_t chunk = 0; chunk < chunks_; ++chunk)
            for (std::int64_t r = 0; r < rows_; ++r) {
                const std::int64_t first = chunk * length_, end = first + length_, time = s_.extents.time;
                const S* before = chunk == 0 ? s_.at_start(row0_ + r) : start(chunk, r);
                spans.push_back({row0_ + r, first, end < time ? end : time, before});
            }
        run_all(s_, spans, kernels_, packed_.data());
    }

    bool finite() const {
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t chunk = 1; chunk <= chunks_; ++chunk) {
                const std::int64_t last = (chunk < chunks_ ? chunk * length_ : s_.extents.time) - 1;
                if (!Magnitudes<S>(state(r, last), width_).finite()) return false;
            }
        return true;
    }

    // Is M^warm times the state before the warm steps below the rounding of every element that it is missing from?
    bool nothing_was_left_out() const {
        constexpr double share = std::numeric_limits<typename Carry<S>::type>::epsilon() / 16;
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t chunk = 1; chunk < chunks_; ++chunk) {
                const std::int64_t last = chunk * length_ - 1;
                const Magnitudes<S> missed(state(r, last - jump_.warm()), width_), start(state(r, last), width_);
                if (!(jump_.left_out() * 2 * missed.most <= share * start.least)) return false;
            }
        return true;
    }
};

template <class S>
void sweep(const Sweep<S>& s) {
    const Extents& e = s.extents;
    const std::int64_t rows = e.rows_per_transition, groups = e.batch / rows;
    const auto kernels = rows == 1 ? StepKernels<S>::one_row(e.width) : StepKernels<S>::many_rows(e.width);
    Buffer<bool> done(groups);
    for (std::int64_t group = 0; group < groups; ++group)
        done.data()[group] = divides(e) && ChunkedSweep<S>(s, group)();

    std::vector<std::unique_ptr<PackedTransition<S>>> packed;
    const std::int64_t share = ceil_div(rows, e.threads), block = share < block_rows ? share : block_rows;
    const std::int64_t blocks = ceil_div(rows, block);
    for (std::int64_t group = 0; group < groups; ++group)
        if (!done.data()[group] || !s.forward)
            packed.emplace_back(
                std::make_unique<PackedTransition<S>>(s.A.at(group, 0), e.width, kernels.panel, s.form()));
        else
            packed.emplace_back();
    parallel_for(groups * blocks, e.threads, [&](std::int64_t task) {
        const std::int64_t group = task / blocks, first = task % blocks * block;
        const int count = static_cast<int>(rows - first < block ? rows - first : block);
        const PackedTransition<S>* M = packed[static_cast<std::size_t>(group)].get();
        if (!M) return;
        Span<S> spans[block_rows];
        for (int r = 0; r < count; ++r) {
            const std::int64_t row = group * rows + first + r;
            spans[r] = {row, 0, e.time, s.at_start(row)};
        }
        if (!done.data()[group]) run(s, spans, count, kernels, M->data());
        if (s.forward) return;
        for (int r = 0; r < count; ++r) {  // d_h0 = A^H delta_1
            const S *last = s.out.at(spans[r].row, s.index(e.time - 1)), *nothing = nullptr;
            S* d_h0 = s.d_h0.at(spans[r].row, 0);
            kernels.of_rows[0](&last, &nothing, &d_h0, M->data(), e.width, false);
        }
    });
}

}  // namespace
RETROGRAD_END
