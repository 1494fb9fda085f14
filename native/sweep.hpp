// A time-invariant dense recurrence as a sweep over steps k = 0, 1, ...: x_k = add_k + x_{k-1} M. The scan sweeps
// forward from h_0 with M = A^T, its adjoint backward with M = conj(A), from x_0 = add_0 + g_final on.
//
// Rows never wait for one another. Where they are few and time is long (`divides`), time is cut into chunks that run
// side by side as rows of their own:
//   1. each chunk's last steps, from zero, give the state that the next one starts from;
//   2. every chunk runs from there.
// Step 1 needs `warm` steps where ||M^warm|| is nothing (below the smallest number of S): what came before has no part
// in the state. Where M forgets more slowly it takes whole chunks, and x_end = local_end + x_start M^length, with the
// power by repeated squaring in double. Powers that grow beyond `growth` and states that are not finite go back to one
// sweep from the first step to the last: the result then is what that gives, overflow and NaN included.
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

// Spans side by side, all of one kind, the longest first.
template <class S>
void run(const Sweep<S>& s, const Span<S>* spans, int rows, const StepKernels<S>& kernels, const S* packed) {
    const std::int64_t width = s.extents.width;
    const std::int64_t direction = s.index(1) - s.index(0);
    const S *previous[block_rows], *add[block_rows];
    S *next[block_rows], *spare[block_rows];
    const bool ends = spans[0].end != nullptr;
    Buffer<S> scratch(ends ? rows * width : 0);
    for (int r = 0; r < rows; ++r) {
        const std::int64_t t = s.index(spans[r].first);
        previous[r] = spans[r].before;
        add[r] = s.add.at(spans[r].row, t);
        next[r] = ends ? spans[r].end : s.out.at(spans[r].row, t);
        // States fall on two places in turn, the last one on `end`.
        if (ends) {
            spare[r] = scratch.data() + r * width;
            if (spans[r].length() % 2 == 0) std::swap(next[r], spare[r]);
        }
        if (previous[r]) {
            kernels.of_rows[0](previous + r, add + r, next + r, packed, width);
        } else {
            const S* start = s.start.at(spans[r].row, 0);
            for (std::int64_t i = 0; i < width; ++i) next[r][i] = add[r][i] + start[i];
        }
    }
    for (std::int64_t k = 1; k < spans[0].length(); ++k) {
        while (spans[rows - 1].length() <= k) --rows;
        for (int r = 0; r < rows; ++r) {
            previous[r] = next[r];
            add[r] += direction * s.add.time;
            if (ends) std::swap(next[r], spare[r]);
            else next[r] += direction * s.out.time;
        }
        kernels.of_rows[rows - 1](previous, add, next, packed, width);
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
        kernels.of_rows[rows - 1](previous, add, to, packed.data(), width);
    });
}

// The largest sum of a row: a norm of the matrix as an operator (complex: a bound of it). NaN where an element is.
template <class W>
double norm(const W* power, std::int64_t width) {
    const std::int64_t reals = width * Carry<W>::reals;
    const auto* elements = reinterpret_cast<const double*>(power);
    double largest = 0;
    for (std::int64_t i = 0; i < width; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < reals; ++j) sum += __builtin_fabs(elements[i * reals + j]);
        if (!(sum <= largest)) largest = sum;
    }
    return largest;
}

// How a state comes over a chunk of `length` steps.
template <class S>
class Jump {
  public:
    using W = typename Widened<S>::type;
    static constexpr double growth = 1e12;

    // Chunks for about `wanted` of them: 2^n steps and a few more, so that their starts fall on different cache sets.
    static std::int64_t length_for(std::int64_t time, std::int64_t width, std::int64_t wanted) {
        std::int64_t length = 1;
        while (length * wanted < time) length *= 2;
        return length + few(width);
    }

    Jump(const S* A, Form form, std::int64_t width, std::int64_t length, int threads)
        : warm(length), power(width * width) {
        W* here = power.data();
        Buffer<W> other(width * width), short_power(width * width);
        W* there = other.data();
        for (std::int64_t i = 0; i < width; ++i)
            for (std::int64_t j = 0; j < width; ++j)
                here[i * width + j] = W(element(A, width, form, i, j));
        const std::int64_t whole = length - few(width);
        double norms[64];  // of M^1, M^2, M^4, ...
        int known = 0;
        for (std::int64_t n = 1;; n *= 2) {
            const double last = norms[known++] = norm(here, width);
            if (!(last <= growth)) return;
            if (last <= nothing) {
                usable = true;
                warm = shortest(norms, known);
                return;
            }
            if (n == few(width)) std::memcpy(static_cast<void*>(short_power.data()), here, bytes(width));
            if (n == whole) break;
            multiply(here, here, there, width, threads);
            std::swap(here, there);
        }
        multiply(here, short_power.data(), there, width, threads);
        if (there != power.data()) std::memcpy(static_cast<void*>(power.data()), there, bytes(width));
        usable = true;
    }

    bool usable = false;
    std::int64_t warm;  // less than the length: M^warm is nothing; otherwise `power` is M^length
    Buffer<W> power;

  private:
    static constexpr double nothing = std::numeric_limits<typename Carry<S>::type>::min();

    static std::int64_t few(std::int64_t width) {
        std::int64_t steps = 1;
        while (steps * width * static_cast<std::int64_t>(sizeof(S)) < 64) steps *= 2;
        return steps;
    }
    static std::size_t bytes(std::int64_t width) { return sizeof(W) * static_cast<std::size_t>(width * width); }

    // Fewest steps n, as a sum of powers of two, with the product of the norms of those powers at most nothing.
    static std::int64_t shortest(const double* norms, int known) {
        std::int64_t steps = 0;
        double product = 1;
        for (int i = known; i-- > 0;) {
            double below = product;
            for (int j = 0; j < i; ++j) below *= norms[j];
            if (below <= nothing) continue;
            steps += std::int64_t(1) << i;
            product *= norms[i];
            if (product <= nothing) break;
        }
        return steps;
    }
};

// Chunks pay where a block of rows would be mostly empty and time is long enough for the powers: by shapes alone.
inline bool divides(const Extents& e) {
    const std::int64_t groups = e.batch / e.rows_per_transition;
    return e.rows_per_transition < 4 && groups < 8 && e.time >= 1024 && e.time >= 8 * e.width;
}

template <class S>
bool finite(const S* x, std::int64_t n) {
    using R = typename Carry<S>::type;
    const auto* reals = reinterpret_cast<const R*>(x);
    for (std::int64_t i = 0; i < n * Carry<S>::reals; ++i)
        if (!(reals[i] - reals[i] == 0)) return false;
    return true;
}

// One group's rows in chunks; false where only one sweep can tell.
template <class S>
bool sweep_in_chunks(const Sweep<S>& s, std::int64_t group) {
    using W = typename Widened<S>::type;
    const Extents& e = s.extents;
    const std::int64_t width = e.width, rows = e.rows_per_transition, row0 = group * rows;
    const std::int64_t length = Jump<S>::length_for(e.time, width, 32), chunks = ceil_div(e.time, length);
    const Jump<S> jump(s.A.at(group, 0), s.form(), width, length, e.threads);
    if (!jump.usable) return false;

    // Span (chunk, row) is chunk * rows + row: the short ones, of the last chunk, come last.
    const auto kernels = StepKernels<S>::many_rows(width);
    const PackedTransition<S> packed(s.A.at(group, 0), width, kernels.panel, s.form());
    Buffer<S> starts(chunks * rows * width);
    std::memset(static_cast<void*>(starts.data()), 0, sizeof(S) * static_cast<std::size_t>(rows * width));
    const S* zeros = starts.data();
    std::vector<Span<S>> spans;
    for (std::int64_t chunk = 0; chunk + 1 < chunks; ++chunk)
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t last = (chunk + 1) * length, first = last - jump.warm;
            S* end = starts.data() + ((chunk + 1) * rows + r) * width;
            spans.push_back({row0 + r, first, last, first == 0 ? s.at_start(row0 + r) : zeros, end});
        }
    run_all(s, spans, kernels, packed.data());

    if (jump.warm == length) {
        Buffer<W> carry(2 * width);
        for (std::int64_t r = 0; r < rows; ++r) {
            W *here = carry.data(), *there = here + width;
            for (std::int64_t i = 0; i < width; ++i) here[i] = W(starts.data()[(rows + r) * width + i]);
            for (std::int64_t chunk = 2; chunk < chunks; ++chunk) {
                S* start = starts.data() + (chunk * rows + r) * width;
                for (std::int64_t i = 0; i < width; ++i) there[i] = W(start[i]);
                for (std::int64_t k = 0; k < width; ++k)
                    for (std::int64_t i = 0; i < width; ++i) there[i] += here[k] * jump.power.data()[k * width + i];
                for (std::int64_t i = 0; i < width; ++i) start[i] = S(there[i]);
                std::swap(here, there);
            }
        }
    }

    spans.clear();
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t first = chunk * length, last = first + length < e.time ? first + length : e.time;
            const S* before = chunk == 0 ? s.at_start(row0 + r) : starts.data() + (chunk * rows + r) * width;
            spans.push_back({row0 + r, first, last, before});
        }
    run_all(s, spans, kernels, packed.data());
    for (const Span<S>& span : spans)
        if (!finite(s.out.at(span.row, s.index(span.last - 1)), width)) return false;
    return true;
}

template <class S>
void sweep(const Sweep<S>& s) {
    const Extents& e = s.extents;
    const std::int64_t rows = e.rows_per_transition, groups = e.batch / rows;
    const auto kernels = rows == 1 ? StepKernels<S>::one_row(e.width) : StepKernels<S>::many_rows(e.width);
    Buffer<bool> done(groups);
    for (std::int64_t group = 0; group < groups; ++group)
        done.data()[group] = divides(e) && sweep_in_chunks(s, group);

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
            kernels.of_rows[0](&last, &nothing, &d_h0, M->data(), e.width);
        }
    });
}

}  // namespace
RETROGRAD_END
