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

}  // namespace
RETROGRAD_END
