// Every kernel of every instruction set that this machine has, in every scalar type, against the loop: odd lengths,
// no steps and no rows, tails, broadcast and padded arrays, both directions; and bitwise the same on every number of
// threads. What it proves beyond tests/ is seen under the sanitizers (make sanitize).
#include <cstdio>
#include <memory>
#include <string>

#include "isa.hpp"
#include "loop.hpp"

namespace retrograd::tests {
namespace {

constexpr Real factor = 8;
int checks = 0;

struct Problem {
    Extents extents{};
    bool dense = false, logarithms = false, gradient = true;
    double scale = 1;  // of a dense transition, against one that keeps a state's size
    Layout A = Layout::contiguous, input = Layout::contiguous, output = Layout::contiguous;
    std::vector<Segment> segments;

    // Rows of h_0, g_final and of the sums over time.
    std::int64_t starts() const {
        return segments.empty() ? extents.batch : static_cast<std::int64_t>(segments.size());
    }
};

[[noreturn]] void fail(const Problem& p, const std::string& isa, const std::string& what) {
    const Extents& e = p.extents;
    std::fprintf(stderr,
                 "%s, %s %s%s, batch %lld, time %lld, width %lld, rows a transition %lld, layouts %d %d %d: %s\n",
                 isa.c_str(), p.dense ? "dense" : p.logarithms ? "log diagonal" : "diagonal", e.time_invariant ? "invariant" : "varying",
                 e.reverse ? " reverse" : "", static_cast<long long>(e.batch), static_cast<long long>(e.time),
                 static_cast<long long>(e.width), static_cast<long long>(e.rows_per_transition), static_cast<int>(p.A),
                 static_cast<int>(p.input), static_cast<int>(p.output), what.c_str());
    std::exit(1);
}

template <class T>
void compare(const Problem& p, const std::string& isa, const char* what, const Array<T>& got, Running3& want,
             std::int64_t rows, std::int64_t time, std::int64_t width, Real carried) {
    for (std::int64_t b = 0; b < rows; ++b)
        for (std::int64_t t = 0; t < time; ++t)
            for (std::int64_t i = 0; i < width; ++i) {
                const Running& w = want.at(b, t, i);
                const Real allowed = factor * (carried * w.error + Scalar<T>::stored_eps * std::abs(w.value) +
                                               Scalar<T>::stored_eps * Scalar<T>::tiny);
                if (!(std::abs(got.at(b, t, i) - w.value) <= allowed))  // a NaN is caught too
                    fail(p, isa, std::string(what) + " is off at " + std::to_string(b) + ", " + std::to_string(t) +
                                     ", " + std::to_string(i) + " by " +
                                     std::to_string(static_cast<double>(std::abs(got.at(b, t, i) - w.value) / allowed)) +
                                     " of what is allowed");
            }
    ++checks;
}

// The results of one problem, on arrays of their own.
template <class T>
struct Results {
    // An invariant diagonal gives its sums over time as scalars of the carried type.
    using Sum = std::conditional_t<Carry<T>::reals == 2, T, typename Carry<T>::type>;
    Array<T> states, delta, d_h0, d_A;
    Array<Sum> sums;

    Results(const Problem& p, std::int64_t groups)
        : states(p.extents.batch, p.extents.time, p.extents.width, p.output),
          delta(p.extents.batch, p.extents.time, p.extents.width, p.output),
          d_h0(p.starts(), 1, p.extents.width, Layout::contiguous),
          d_A(groups, p.extents.time_invariant ? 1 : p.extents.time, p.extents.width * (p.dense ? p.extents.width : 1),
              Layout::contiguous),
          sums(p.starts(), 1, p.extents.width, Layout::contiguous) {
        if (p.segments.empty()) return;
        for (Array<T>* out : {&states, &delta, &d_h0, &d_A}) out->clear();  // the caller's part
        sums.clear();
    }

    bool same_bits(const Results& o) const {
        return states.same_bits(o.states) && delta.same_bits(o.delta) && d_h0.same_bits(o.d_h0) &&
               d_A.same_bits(o.d_A) && sums.same_bits(o.sums);
    }
};

template <class T>
void check(Problem p, Draw& draw) {
    Extents& e = p.extents;
    if (!p.segments.empty()) {
        e.segments = p.segments.data();
        e.segment_count = p.starts();
    }
    const std::int64_t groups = e.batch / e.rows_per_transition, steps = e.time_invariant ? 1 : e.time;
    const std::int64_t starts = p.starts();
    const std::int64_t elements = e.width * (p.dense ? e.width : 1);
    Array<T> A(groups, steps, elements, p.A), u(e.batch, e.time, e.width, p.input);
    Array<T> h0(starts, 1, e.width, p.input), g(e.batch, e.time, e.width, p.input);
    Array<T> g_final(starts, 1, e.width, p.input), states(e.batch, e.time, e.width, p.input);
    A.fill(draw, p.dense ? p.scale / std::sqrt(static_cast<double>(e.width)) : 0.7, p.logarithms ? -0.8 : 0);
    if (e.time_invariant) A.sequence.time = 0;
    for (Array<T>* input : {&u, &h0, &g, &g_final, &states}) input->fill(draw, 1);

    const Transition transition = [&](std::int64_t b, std::int64_t t, std::int64_t i, std::int64_t j) {
        const Value a = A.at(b / e.rows_per_transition, t, p.dense ? i * e.width + j : i);
        return p.logarithms ? std::exp(a) : a;
    };
    const bool sums = p.gradient && e.time_invariant && !p.dense, d_A = p.gradient && !sums;
    Running3 want_states(e.batch, e.time, e.width), want_delta(e.batch, e.time, e.width), want_d_h0(starts, 1, e.width);
    const std::int64_t d_A_steps = e.time_invariant ? 1 : e.time;
    Running3 want_d_A(sums ? starts : groups, d_A_steps, elements);
    loop_scan(e, p.dense, transition, u, h0, want_states);
    loop_adjoint(e, p.dense, transition, g, g_final, states, h0, want_delta, want_d_h0,
                 sums || d_A ? &want_d_A : nullptr, p.logarithms);

    for (const std::string& isa : isas()) {
        const Kernels<T> kernels = Isa(isa).kernels<T>();
        std::unique_ptr<Results<T>> first;
        for (const int threads : {1, 2, 4}) {
            e.threads = threads;
            auto out = std::make_unique<Results<T>>(p, groups);
            const Scan<T> scan{e, A.read(), u.read(), h0.read(), out->states.sequence};
            (p.dense        ? kernels.dense_scan
             : p.logarithms ? kernels.log_diagonal_scan
                            : kernels.diagonal_scan)(scan);
            Adjoint<T> adjoint{e, A.read(), g.read(), g_final.read(), out->delta.sequence, out->d_h0.sequence,
                               {}, {}, {}, {}};
            if (sums || d_A) {
                adjoint.states = states.read();
                adjoint.h0 = h0.read();
            }
            if (d_A) adjoint.d_A = out->d_A.sequence;
            if (sums)
                adjoint.sums = {reinterpret_cast<typename Carry<T>::type*>(out->sums.sequence.data),
                                out->sums.sequence.batch * Carry<T>::reals, 0};
            (p.dense        ? kernels.dense_adjoint
             : p.logarithms ? kernels.log_diagonal_adjoint
                            : kernels.diagonal_adjoint)(adjoint);
            if (first) {
                if (!first->same_bits(*out)) fail(p, isa, "differs on " + std::to_string(threads) + " threads");
                continue;
            }
            const Real eps = carried_eps<T>;
            compare(p, isa, "states", out->states, want_states, e.batch, e.time, e.width, eps);
            compare(p, isa, "delta", out->delta, want_delta, e.batch, e.time, e.width, eps);
            // With no steps at all the dense kernel has nothing to start from: the caller never asks.
            if (e.time) compare(p, isa, "d_h0", out->d_h0, want_d_h0, starts, 1, e.width, eps);
            if (d_A && e.time) compare(p, isa, "d_A", out->d_A, want_d_A, groups, d_A_steps, elements, eps);
            if (sums) compare(p, isa, "sums", out->sums, want_d_A, starts, 1, e.width, eps);
            if (!out->states.gaps_untouched() || !out->delta.gaps_untouched()) fail(p, isa, "wrote between the rows");
            first = std::move(out);
        }
    }
}

template <class T>
void check_shapes(bool dense, Draw& draw, bool logarithms = false) {
    for (const std::int64_t width : {1, 2, 3, 5, 8, 13, 16, 17, 31, 33, 47, 64, 65, 70, 130})
        for (int turn = 0; turn < (width > 60 && dense ? 3 : 8); ++turn) {
            Problem p;
            p.dense = dense;
            p.logarithms = logarithms;
            p.gradient = turn % 4 != 3;
            p.A = draw.one_of({Layout::contiguous, Layout::time_major, Layout::off_bounds});
            p.input = draw.one_of({Layout::contiguous, Layout::padded, Layout::time_major, Layout::shared_rows,
                                   Layout::shared_time, Layout::off_bounds});
            p.output = draw.one_of({Layout::contiguous, Layout::padded, Layout::time_major, Layout::off_bounds});
            const std::int64_t groups = draw.one_of<std::int64_t>({0, 1, 1, 2, 3, 5});
            Extents& e = p.extents;
            e.rows_per_transition = draw.one_of<std::int64_t>({1, 1, 2, 3, 9, 19});
            e.batch = groups * e.rows_per_transition;
            e.time = draw.one_of<std::int64_t>({0, 1, 2, 3, 7});
            e.width = width;
            e.time_invariant = draw.coin();
            e.reverse = draw.coin();
            check<T>(p, draw);
        }
}

// Results of four MiB and more go past the cache where rows begin on a vector's bound, and through it where not.
template <class T>
void check_streams(Draw& draw, bool logarithms = false) {
    for (const bool invariant : {false, true})
        for (const Layout layout : {Layout::contiguous, Layout::off_bounds}) {
            Problem p;
            Extents& e = p.extents;
            p.logarithms = logarithms;
            p.output = layout;
            e.batch = 2;
            e.rows_per_transition = draw.coin() ? 1 : 2;
            e.width = 512;
            e.time = (1 << 22) / (2 * 512 * static_cast<std::int64_t>(sizeof(T))) + 1;
            e.time_invariant = invariant;
            e.reverse = draw.coin();
            check<T>(p, draw);
        }
}

// Long enough for blocks and chunks of time.
template <class T>
void check_long(Draw& draw, bool logarithms = false) {
    for (const std::int64_t width : {1, 2, 3, 20, 40})
        for (const bool dense : {false, true}) {
            if (dense && (logarithms || sizeof(T) == 2)) continue;
            Problem p;
            p.dense = dense;
            p.logarithms = logarithms;
            p.scale = 0.6;
            p.input = draw.one_of({Layout::contiguous, Layout::padded});
            Extents& e = p.extents;
            e.rows_per_transition = dense ? draw.one_of<std::int64_t>({1, 3}) : 1;
            e.batch = e.rows_per_transition;
            e.time = dense ? 1100 : 4400;
            e.width = width;
            e.time_invariant = dense;
            e.reverse = draw.coin();
            check<T>(p, draw);
        }
}

// Rows cut anywhere, with gaps, sequences of no step, and starts and ends that nothing stands at.
template <class T>
void check_segments(bool dense, Draw& draw, bool logarithms = false) {
    for (const std::int64_t width : {1, 2, 3, 7, 16, 33, 70})
        for (int turn = 0; turn < 6; ++turn) {
            Problem p;
            p.dense = dense;
            p.logarithms = logarithms;
            p.gradient = turn % 4 != 3;
            p.scale = 0.6;
            p.input = draw.one_of({Layout::contiguous, Layout::padded});
            p.output = draw.one_of({Layout::contiguous, Layout::off_bounds});
            Extents& e = p.extents;
            const bool few = turn == 0 && width < 20 && sizeof(T) > 2;  // and long enough for chunks
            const std::int64_t groups = few ? 1 : draw.one_of<std::int64_t>({1, 2, 3});
            // In 16 bits the caller sums over the rows of a group.
            e.rows_per_transition = few || sizeof(T) == 2 ? 1 : draw.one_of<std::int64_t>({1, 2, 5});
            e.batch = groups * e.rows_per_transition;
            e.time = few ? 2600 : draw.one_of<std::int64_t>({1, 7, 60, 300});
            if (width > 20 && e.time > 60) e.time = 60;
            e.width = width;
            e.time_invariant = few || draw.coin();
            e.reverse = draw.coin();
            for (std::int64_t row = 0; row < e.batch; ++row)
                for (std::int64_t t = 0; t < e.time;) {
                    std::int64_t length = few ? 1200 : draw.one_of<std::int64_t>({0, 1, 3, 20, 150});
                    if (length > e.time - t) length = e.time - t;
                    const auto index = static_cast<std::int64_t>(p.segments.size());
                    const bool empty = length == 0;
                    p.segments.push_back({row, t, t + length, empty || draw.coin() ? index : -1,
                                          empty || draw.coin() ? index : -1});
                    t += length + (empty ? 1 : draw.one_of<std::int64_t>({0, 0, 2}));
                }
            check<T>(p, draw);
        }
}

// x W^T + bias in every shape of kernel: the bits of a row alone, on any number of threads.
template <class T>
void check_product(Draw& draw) {
    for (const std::int64_t rows : {0, 1, 7, 8, 150})
        for (const std::int64_t inner : {1, 3, 4, 5, 33})
            for (const std::int64_t columns : {1, 2, 3, 16, 17, 70}) {
                const bool transposed = draw.coin(), biased = draw.coin();
                Array<T> x(rows, 1, inner, draw.one_of({Layout::contiguous, Layout::padded, Layout::shared_rows}));
                Array<T> weight(1, 1, columns * inner, Layout::contiguous), bias(1, 1, columns, Layout::contiguous);
                for (Array<T>* input : {&x, &weight, &bias}) input->fill(draw, 1);
                const auto run = [&](const Kernels<T>& kernels, std::int64_t first, std::int64_t last, int threads) {
                    Array<T> result(last - first, 1, columns, Layout::contiguous);
                    kernels.product({last - first, inner, columns, threads,
                                     {x.sequence.at(first, 0), x.sequence.batch, 0}, weight.sequence.data, transposed,
                                     biased ? bias.sequence.data : nullptr, result.sequence.data});
                    return result;
                };
                for (const std::string& isa : isas()) {
                    const Kernels<T> kernels = Isa(isa).kernels<T>();
                    const Array<T> result = run(kernels, 0, rows, 1);
                    for (std::int64_t r = 0; r < rows; ++r)
                        for (std::int64_t c = 0; c < columns; ++c) {
                            Value want = biased ? bias.at(0, 0, c) : Value(0);
                            Real size = std::abs(want);
                            for (std::int64_t k = 0; k < inner; ++k) {
                                const Value w = weight.at(0, 0, transposed ? k * columns + c : c * inner + k);
                                want += x.at(r, 0, k) * w;
                                size += std::abs(x.at(r, 0, k) * w);
                            }
                            const Real allowed = static_cast<Real>(inner + 2) * 2 * carried_eps<T> * size;
                            if (!(std::abs(result.at(r, 0, c) - want) <= allowed)) fail({}, isa, "a product is off");
                        }
                    for (const int threads : {2, 4})
                        if (!result.same_bits(run(kernels, 0, rows, threads)))
                            fail({}, isa, "a product differs on " + std::to_string(threads) + " threads");
                    if (rows < 2) continue;
                    const Array<T> alone = run(kernels, rows - 1, rows, 1);
                    for (std::int64_t c = 0; c < columns; ++c)
                        if (alone.at(0, 0, c) != result.at(rows - 1, 0, c)) fail({}, isa, "a row depends on others");
                }
                ++checks;
            }
}

template <class T>
void check_type(const char* name, Draw& draw) {
    const int before = checks;
    check_shapes<T>(false, draw);
    if constexpr (sizeof(T) > 2) check_shapes<T>(true, draw);
    check_streams<T>(draw);
    check_long<T>(draw);
    check_segments<T>(false, draw);
    if constexpr (sizeof(T) > 2) check_segments<T>(true, draw);
    if constexpr (sizeof(T) > 2) check_product<T>(draw);
    check_shapes<T>(false, draw, true);
    check_streams<T>(draw, true);
    check_long<T>(draw, true);
    check_segments<T>(false, draw, true);
    std::printf("%s: %d arrays\n", name, checks - before);
    std::fflush(stdout);
}

void check_triad() {
    const std::int64_t n = 1 << 18;
    Array<float> x(1, 1, n, Layout::contiguous), y(1, 1, n, Layout::contiguous), z(1, 1, n, Layout::contiguous);
    Draw draw(1);
    x.fill(draw, 1);
    y.fill(draw, 1);
    for (const std::string& isa : isas()) {
        Isa(isa).triad()(x.sequence.data, y.sequence.data, z.sequence.data, n, 4);
        for (std::int64_t i = 0; i < n; ++i)
            if (std::abs(z.at(0, 0, i) - x.at(0, 0, i) - Real(3) * y.at(0, 0, i)) > 1e-6L) fail({}, isa, "triad is off");
    }
}

}  // namespace
}  // namespace retrograd::tests

int main() {
    using namespace retrograd::tests;
    Draw draw(20240607);
    check_type<float>("float32", draw);
    check_type<double>("float64", draw);
    check_type<std::complex<float>>("complex64", draw);
    check_type<std::complex<double>>("complex128", draw);
    check_type<retrograd::BFloat16>("bfloat16", draw);
    check_type<retrograd::Float16>("float16", draw);
    check_triad();
    std::printf("kernels: %d arrays within rounding, the same bits on 1, 2 and 4 threads\n", checks);
}
