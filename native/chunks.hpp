// A sweep (sweep.hpp) in chunks of time. Where rows are few and time is long (`divides`), time is cut into chunks that run
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
#include <vector>

#include "sweep.hpp"

RETROGRAD_BEGIN
namespace {

template <class S>
struct Widened { using type = double; };
template <class R>
struct Widened<std::complex<R>> { using type = std::complex<double>; };

// next = power other; all (width, width), row-major. In parallel where that is more than the threads' meeting costs.
template <class W>
void multiply(const W* power, const W* other, W* next, std::int64_t width, int threads) {
    const auto kernels = StepKernels<W>::many_rows(width);
    const PackedTransition<W> packed(other, width, kernels.panel, Form::as_it_is);
    parallel_for(ceil_div(width, block_rows), width < 96 ? 1 : threads, [&](std::int64_t block) {
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
    using R = typename Carry<W>::type;
    const std::int64_t reals = width * Carry<W>::reals;
    const auto* row = reinterpret_cast<const R*>(power);
    Buffer<R> buffer(reals);
    R* __restrict sums = buffer.data();
    for (std::int64_t j = 0; j < reals; ++j) sums[j] = 0;
    for (std::int64_t i = 0; i < width; ++i, row += reals)
#pragma GCC ivdep
        for (std::int64_t j = 0; j < reals; ++j) sums[j] += row[j] < 0 ? -row[j] : row[j];
    double largest = 0;
    for (std::int64_t j = 0; j < reals; j += Carry<W>::reals) {
        double sum = 0;
        for (int part = 0; part < Carry<W>::reals; ++part) sum += static_cast<double>(sums[j + part]);
        if (!(sum <= largest)) largest = sum;
    }
    return largest;
}

// M, M^2, M^4, ... one after the other, with bounds of their norms that hold in spite of rounding.
template <class S, class W>
class Powers {
  public:
    Powers(const S* A, Form form, std::int64_t width, int threads)
        : width_(width), threads_(threads), here_(width * width), there_(width * width) {
        Buffer<S> M(width * width);
        pack(A, width, width, form, M.data());
        for (std::int64_t i = 0; i < width * width; ++i) here_.data()[i] = W(M.data()[i]);
        norms_[0] = norm(here_.data(), width);
    }
    const W* data() const { return here_.data(); }
    int exponent() const { return exponent_; }  // of the last power, M^(2^exponent)
    double norm_of(int exponent) const { return norms_[exponent]; }
    double last_norm() const { return norms_[exponent_]; }
    void square() {
        multiply(here_.data(), here_.data(), there_.data(), width_, threads_);
        here_.swap(there_);
        constexpr double rounding = std::numeric_limits<typename Carry<W>::type>::epsilon();
        const double last = norms_[exponent_];  // bounds what the power should be, and what it came out as
        error_ = static_cast<double>(width_) * 4 * rounding * last * last + (2 * last + error_) * error_;
        norms_[++exponent_] = norm(here_.data(), width_) + error_;
    }

  private:
    std::int64_t width_;
    int threads_, exponent_ = 0;
    double norms_[64], error_ = 0;
    Buffer<W> here_, there_;
};

constexpr double growth = 1e12;  // of a power, beyond which a sum over chunks says nothing

// The fewest steps known to forget: ||M^steps|| <= left_out <= nothing.
template <class S>
struct Memory {
    // Far below rounding, so that the check of what was left out fails only where a state all but vanishes.
    static constexpr double nothing = sizeof(typename Carry<S>::type) == 4 ? 0x1p-56 : 0x1p-88;
    std::int64_t steps = INT64_MAX;
    double left_out = 1;
    bool bounded = false;  // are the powers up to `length`, as far as they were looked at?

    Memory(const S* A, Form form, std::int64_t width, std::int64_t length, int threads) {
        Powers<S, S> powers(A, form, width, threads);
        while (powers.last_norm() <= growth && powers.last_norm() > nothing &&
               (std::int64_t(2) << powers.exponent()) <= length)
            powers.square();
        bounded = powers.last_norm() <= growth;  // not where it is NaN
        if (!(powers.last_norm() <= nothing)) return;
        // As a sum of powers of two: the product of their norms bounds that of the power.
        steps = 0;
        for (int i = powers.exponent() + 1; i-- > 0 && left_out > nothing;) {
            double below = left_out;
            for (int j = 0; j < i; ++j) below *= powers.norm_of(j);
            if (below <= nothing) continue;
            steps += std::int64_t(1) << i;
            left_out *= powers.norm_of(i);
        }
    }
};

// M^length in double; false where a power on the way grows beyond bounds.
template <class S, class W>
bool raise(const S* A, Form form, std::int64_t width, std::int64_t length, int threads, Buffer<W>& product) {
    Powers<S, W> powers(A, form, width, threads);
    Buffer<W> other(width * width);
    bool begun = false;
    for (;; powers.square()) {
        if (!(powers.last_norm() <= growth)) return false;
        if (length >> powers.exponent() & 1) {
            if (begun) multiply(product.data(), powers.data(), other.data(), width, threads);
            else std::memcpy(static_cast<void*>(other.data()), powers.data(), sizeof(W) * static_cast<std::size_t>(width * width));
            product.swap(other);
            begun = true;
        }
        if ((std::int64_t(2) << powers.exponent()) > length) break;
    }
    return norm(product.data(), width) <= growth;
}

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
          A_(s.A.at(group, 0)),
          width_(s.extents.width),
          rows_(s.extents.rows_per_transition),
          row0_(group * rows_),
          length_(length_of(s.extents)),
          chunks_(ceil_div(s.extents.time, length_)),
          kernels_(StepKernels<S>::many_rows(width_)),
          packed_(A_, width_, kernels_.panel, s.form()),
          starts_(chunks_ * rows_ * width_) {}

    // False where only one sweep can tell.
    bool operator()() {
        const Memory<S> memory(A_, s_.form(), width_, length_, s_.extents.threads);
        if (!memory.bounded) return false;
        if (memory.steps < length_) {
            run_spans(chunk_ends(memory.steps), whole_chunks());
            if (!finite()) return false;
            if (nothing_was_left_out(memory)) return true;
        }
        Buffer<W> power(width_ * width_);
        if (!raise<S, W>(A_, s_.form(), width_, length_, s_.extents.threads, power)) return false;
        run_spans(chunk_ends(length_), {});
        for (std::int64_t r = 0; r < rows_; ++r) carry(power.data(), r);
        run_spans({}, whole_chunks());
        return finite();
    }

  private:
    using W = typename Widened<S>::type;
    const Sweep<S>& s_;
    const S* A_;
    std::int64_t width_, rows_, row0_, length_, chunks_;
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

    // The last `warm` steps of every chunk but the last, from zero, to where the next one starts. In the order (chunk,
    // row), so that the shorter ones come last.
    std::vector<Span<S>> chunk_ends(std::int64_t warm) {
        std::memset(static_cast<void*>(starts_.data()), 0, sizeof(S) * static_cast<std::size_t>(rows_ * width_));
        std::vector<Span<S>> spans;
        for (std::int64_t chunk = 1; chunk < chunks_; ++chunk)
            for (std::int64_t r = 0; r < rows_; ++r) {
                const std::int64_t last = chunk * length_, first = last - warm;
                const S* before = first == 0 ? s_.at_start(row0_ + r) : start(0, r);
                spans.push_back({row0_ + r, first, last, before, start(chunk, r)});
            }
        return spans;
    }
    std::vector<Span<S>> whole_chunks() {
        std::vector<Span<S>> spans;
        for (std::int64_t chunk = 0; chunk < chunks_; ++chunk)
            for (std::int64_t r = 0; r < rows_; ++r) {
                const std::int64_t first = chunk * length_, end = first + length_, time = s_.extents.time;
                const S* before = chunk == 0 ? s_.at_start(row0_ + r) : start(chunk, r);
                spans.push_back({row0_ + r, first, end < time ? end : time, before});
            }
        return spans;
    }

    // In blocks of rows that share the threads evenly; a chunk after the steps that give its start, where both are given.
    void run_spans(const std::vector<Span<S>>& ends, const std::vector<Span<S>>& wholes) {
        const std::int64_t count = chunks_ * rows_, threads = s_.extents.threads;
        const std::int64_t blocks = ceil_div(ceil_div(count, block_rows), threads) * threads;
        const std::int64_t rows = ceil_div(count, blocks < count ? blocks : count);
        parallel_for(ceil_div(count, rows), threads, [&](std::int64_t block) {
            const std::int64_t first = block * rows, last = first + rows < count ? first + rows : count;
            const std::int64_t skipped = first < rows_ ? rows_ : first;  // the first chunk has no steps before it
            if (!ends.empty() && skipped < last)
                run(s_, ends.data() + skipped - rows_, static_cast<int>(last - skipped), kernels_, packed_.data());
            if (!wholes.empty())
                run(s_, wholes.data() + first, static_cast<int>(last - first), kernels_, packed_.data());
        });
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

    bool finite() const {
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t chunk = 1; chunk <= chunks_; ++chunk) {
                const std::int64_t last = (chunk < chunks_ ? chunk * length_ : s_.extents.time) - 1;
                if (!Magnitudes<S>(state(r, last), width_).finite()) return false;
            }
        return true;
    }

    // Is M^steps times the state before those steps below the rounding of every element that it is missing from?
    bool nothing_was_left_out(const Memory<S>& memory) const {
        constexpr double share = std::numeric_limits<typename Carry<S>::type>::epsilon() / 16;
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t chunk = 1; chunk < chunks_; ++chunk) {
                const std::int64_t last = chunk * length_ - 1;
                const Magnitudes<S> missed(state(r, last - memory.steps), width_), start(state(r, last), width_);
                if (!(memory.left_out * 2 * missed.most <= share * start.least)) return false;
            }
        return true;
    }
};

}  // namespace
RETROGRAD_END
