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
    const std::int64_t together = kernels.most_rows;
    parallel_for(ceil_div(width, together), width < 96 ? 1 : threads, [&](std::int64_t block) {
        const W *previous[block_rows], *add[block_rows] = {};
        W* to[block_rows];
        const std::int64_t first = block * together, left = width - first;
        const int rows = static_cast<int>(left < together ? left : together);
        for (int r = 0; r < rows; ++r) {
            previous[r] = power + (first + r) * width;
            to[r] = next + (first + r) * width;
        }
        kernels.of_rows[rows - 1](previous, add, to, packed.data(), width, width, false);
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
        pack(A, width, width, width, form, M.data());
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

constexpr double growth = 1e12;  // of a power: a sum over chunks loses too many digits beyond it

// The fewest steps after which a state is known to be forgotten: ||M^steps|| <= left_out <= nothing.
template <class S>
struct Forgetting {
    // Far below rounding, so that the check of what was left out fails only where a state all but vanishes.
    static constexpr double nothing = sizeof(typename Carry<S>::type) == 4 ? 0x1p-56 : 0x1p-88;
    std::int64_t steps = INT64_MAX;
    double left_out = 1;
    bool bounded = false;  // are the powers up to `length`, as far as they were looked at?

    Forgetting(const S* A, Form form, std::int64_t width, std::int64_t length, int threads) {
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

// M^length in double; false where a power on the way grows beyond bounds, or where its own rounding would show: squaring
// doubles a relative error, so that of M^length is about length * eps, where the loop's grows with the root of that.
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
    constexpr double of_power = std::numeric_limits<double>::epsilon();
    constexpr double of_state = std::numeric_limits<typename Carry<S>::type>::epsilon();
    return norm(product.data(), width) * static_cast<double>(length) * of_power <= 64 * of_state;
}

// Chunks pay where a block of rows would be mostly empty and time is long enough for the powers. Shapes alone decide.
template <class S>
bool divides(const std::vector<Span<S>>& spans, std::int64_t groups, std::int64_t width) {
    std::int64_t steps = 0;
    for (const Span<S>& span : spans) steps += span.length();
    const auto count = static_cast<std::int64_t>(spans.size());
    return 0 < count && count < 4 && groups < 8 && steps >= 1024 * count && steps >= 8 * width * count;
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

// One group's sequences in chunks.
template <class S>
class ChunkedSweep {
  public:
    ChunkedSweep(const Sweep<S>& s, const S* A, const std::vector<Span<S>>& sequences)
        : s_(s),
          A_(A),
          width_(s.extents.width),
          length_(length_of(sequences)),
          kernels_(StepKernels<S>::many_rows(width_)),
          packed_(A_, width_, kernels_.panel, s.form()) {
        for (const Span<S>& sequence : sequences)
            for (std::int64_t first = sequence.first; first < sequence.last; first += length_) {
                Span<S> chunk = sequence;
                chunk.first = first;
                chunk.last = first + length_ < sequence.last ? first + length_ : sequence.last;
                chunks_.push_back({chunk, first == sequence.first});
            }
        Buffer<S> starts(count() * width_);
        starts_.swap(starts);
        for (std::int64_t c = 0; c < count(); ++c)
            if (!at(c).opens) at(c).span.before = start(c);
    }

    // False where only one sweep gives the result.
    bool operator()() {
        const Forgetting<S> forgetting(A_, s_.form(), width_, length_, s_.extents.threads);
        if (!forgetting.bounded) return false;
        if (forgetting.steps < length_) {
            run_chunks(forgetting.steps, true);
            if (!finite()) return false;
            if (nothing_was_left_out(forgetting)) return true;
        }
        Buffer<W> power(width_ * width_);
        if (!raise<S, W>(A_, s_.form(), width_, length_, s_.extents.threads, power)) return false;
        run_chunks(length_, false);
        join(power.data());
        run_chunks(0, true);
        return finite();
    }

  private:
    using W = typename Widened<S>::type;
    struct Chunk {
        Span<S> span;
        bool opens;  // the first of its sequence
    };
    const Sweep<S>& s_;
    const S* A_;
    std::int64_t width_, length_;
    StepKernels<S> kernels_;
    PackedTransition<S> packed_;
    std::vector<Chunk> chunks_;  // in the order of their sequences
    Buffer<S> starts_ = Buffer<S>(0);  // (chunks, width)

    // About 16 chunks, whose starts do not fall on the same sets of the cache.
    std::int64_t length_of(const std::vector<Span<S>>& sequences) const {
        std::int64_t steps = 0;
        for (const Span<S>& sequence : sequences) steps += sequence.length();
        std::int64_t length = ceil_div(steps / static_cast<std::int64_t>(sequences.size()), 16);
        while (length * width_ * static_cast<std::int64_t>(sizeof(S)) % 4096 < 64) ++length;
        return length;
    }

    std::int64_t count() const { return static_cast<std::int64_t>(chunks_.size()); }
    Chunk& at(std::int64_t chunk) { return chunks_[static_cast<std::size_t>(chunk)]; }
    S* start(std::int64_t chunk) { return starts_.data() + chunk * width_; }
    const S* state(const Span<S>& span, std::int64_t step) const { return s_.out.at(span.row, s_.index(step)); }

    // The last `warm` steps before every chunk that follows another, from zero, to where it starts; the chunks
    // themselves where they are `wanted`. In blocks that share the threads evenly.
    void run_chunks(std::int64_t warm, bool wanted) {
        const std::int64_t threads = s_.extents.threads;
        const std::int64_t blocks = ceil_div(ceil_div(count(), kernels_.most_rows), threads) * threads;
        const std::int64_t size = ceil_div(count(), blocks < count() ? blocks : count());
        parallel_for(ceil_div(count(), size), threads, [&](std::int64_t block) {
            std::vector<Span<S>> ends, wholes;
            for (std::int64_t c = block * size; c < count() && c < (block + 1) * size; ++c) {
                const Chunk& chunk = at(c);
                if (!chunk.opens && warm > 0) {
                    const Chunk& last = at(c - 1);
                    Span<S> end = last.span;
                    end.first = chunk.span.first - warm;
                    end.last = chunk.span.first;
                    if (!last.opens || warm < length_) end.before = end.start = nullptr;
                    end.end = start(c);
                    ends.push_back(end);
                }
                wholes.push_back(chunk.span);
            }
            run(s_, ends, kernels_, packed_.data());
            if (wanted) run(s_, wholes, kernels_, packed_.data());
        });
    }

    // Makes each chunk's own end, from zero, its whole end, by the power and the chunks before.
    void join(const W* power) {
        Buffer<W> states(2 * width_);
        W *here = states.data(), *there = here + width_;
        for (std::int64_t c = 1; c < count(); ++c, std::swap(here, there)) {
            for (std::int64_t i = 0; i < width_; ++i) there[i] = W(at(c).opens ? S(0) : start(c)[i]);
            if (at(c).opens || at(c - 1).opens) continue;
            for (std::int64_t k = 0; k < width_; ++k)
                for (std::int64_t i = 0; i < width_; ++i) there[i] += here[k] * power[k * width_ + i];
            for (std::int64_t i = 0; i < width_; ++i) start(c)[i] = S(there[i]);
        }
    }

    bool finite() {
        for (std::int64_t c = 0; c < count(); ++c)
            if (!Magnitudes<S>(state(at(c).span, at(c).span.last - 1), width_).finite()) return false;
        return true;
    }

    // Is M^steps times the state before those steps below the rounding of every element that it is missing from?
    bool nothing_was_left_out(const Forgetting<S>& forgetting) {
        constexpr double share = std::numeric_limits<typename Carry<S>::type>::epsilon() / 16;
        for (std::int64_t c = 0; c < count(); ++c) {
            if (at(c).opens) continue;
            const Span<S>& span = at(c).span;
            const std::int64_t last = span.first - 1;
            const Magnitudes<S> missed(state(span, last - forgetting.steps), width_), start(state(span, last), width_);
            if (!(forgetting.left_out * 2 * missed.most <= share * start.least)) return false;
        }
        return true;
    }
};

}  // namespace
RETROGRAD_END
