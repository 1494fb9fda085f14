// Diagonal transitions: h_t = a_t * h_{t-1} + u_t, element by element. Recurrence and adjoint: recurrence.hpp.
//
// A task is the rows that share one transition (all of a group when it varies in time, so that the sum of d_a over
// the group has a fixed order; one row when it does not) times a block of channels. It streams through time, the
// carried state in registers (few channels) or in the first-level cache, reading each array once and writing each
// result once, past the cache when it would not fit. Time that runs backward walks the channels backward too: to the
// prefetcher that is one descending stream.
#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

// Results larger than this go past the cache.
constexpr std::int64_t stream_bytes = std::int64_t(1) << 22;

struct Tasks {
    std::int64_t rows, channels, blocks, count;  // rows a task, channels a block
};

Tasks tasks_of(const Extents& e) {
    Tasks k;
    k.rows = e.time_invariant ? 1 : e.rows_per_transition;
    const std::int64_t groups = e.batch / k.rows;
    // Whole rows stream best; they are cut only when there are fewer groups than threads, at cache-line bounds.
    const std::int64_t wanted = groups >= e.threads ? 1 : ceil_div(e.threads, groups);
    k.channels = ceil_div(ceil_div(e.width, wanted), 64) * 64;
    if (e.width <= 64 && wanted > 1) k.channels = ceil_div(ceil_div(e.width, wanted), 16) * 16;
    k.blocks = ceil_div(e.width, k.channels);
    k.count = groups * k.blocks;
    return k;
}

// May whole vectors of this result be streamed: is every row's start on a vector's bound?
template <class S>
bool streams(const Extents& e, const Sequence<S>& result, std::int64_t channels) {
    const auto bytes = static_cast<std::int64_t>(sizeof(S)) * Lanes<S>::width;
    const auto aligned = [&](std::int64_t elements) {
        return elements * static_cast<std::int64_t>(sizeof(S)) % bytes == 0;
    };
    return static_cast<std::int64_t>(sizeof(S)) * e.batch * e.time * e.width >= stream_bytes &&
           reinterpret_cast<std::uintptr_t>(result.data) % static_cast<std::uintptr_t>(bytes) == 0 &&
           aligned(result.batch) && aligned(result.time) && aligned(channels);
}

// The carried values of a task's rows: in registers when `Vectors` is given, in memory when it is 0.
template <class S, int Vectors>
struct Carried {
    using Vec = typename Lanes<S>::Vec;
    Vec values[Vectors] = {};
    explicit Carried(std::int64_t) {}
    Vec& at(std::int64_t, int i, int) { return values[i]; }
};
template <class S>
struct Carried<S, 0> {
    using Vec = typename Lanes<S>::Vec;
    Buffer<Vec> values;
    explicit Carried(std::int64_t n) : values(n) {}
    Vec& at(std::int64_t row, int i, int count) { return values.data()[row * count + i]; }
};

// Calls f(i) for the row's vectors, in ascending or descending order.
template <int Vectors, class F>
inline void each(int count, bool descending, const F& f) {
    if constexpr (Vectors > 0) {
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) f(i);
    } else if (descending) {
        for (int i = count; i-- > 0;) f(i);
    } else {
        for (int i = 0; i < count; ++i) f(i);
    }
}

template <class S, int Vectors, bool Stream>
void scan_task(const Scan<S>& p, std::int64_t row0, std::int64_t rows, std::int64_t c0, std::int64_t n) {
    using L = Lanes<S>;
    const Extents& e = p.extents;
    const Row<S> row(n);
    Carried<S, Vectors> carry(rows * row.count);
    for (std::int64_t r = 0; r < rows; ++r)
        each<Vectors>(row.count, false, [&](int i) { carry.at(r, i, row.count) = row.load(p.h0.at(row0 + r, 0) + c0, i); });
    for (std::int64_t step = 0; step < e.time; ++step) {
        const std::int64_t t = step_index(e, step, false);
        for (std::int64_t r = 0; r < rows; ++r) {
            const S* a = p.A.at((row0 + r) / e.rows_per_transition, t) + c0;
            const S* u = p.u.at(row0 + r, t) + c0;
            S* h = p.states.at(row0 + r, t) + c0;
            each<Vectors>(row.count, e.reverse, [&](int i) {
                auto& state = carry.at(r, i, row.count);
                state = L::multiply_add(row.load(a, i), state, row.load(u, i));
                row.template store<Stream>(h, i, state);
            });
        }
    }
    if (Stream) stream_fence();
}

template <class S, int Vectors, bool Stream, bool GradientOfA>
void adjoint_task(const Adjoint<S>& p, std::int64_t row0, std::int64_t rows, std::int64_t c0, std::int64_t n) {
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    const Extents& e = p.extents;
    const Row<S> row(n);
    const bool descending = !e.reverse;
    Carried<S, Vectors> carry(rows * row.count);
    // Time-invariant: the sum over t. Time-varying: the sum over the group's rows, at one t.
    Carried<S, GradientOfA ? Vectors : 0> sum(GradientOfA ? row.count : 0);
    for (std::int64_t r = 0; r < rows; ++r)
        each<Vectors>(row.count, false, [&](int i) {
            carry.at(r, i, row.count) = row.load(p.g_final.at(row0 + r, 0) + c0, i);
            if constexpr (GradientOfA) sum.at(0, i, row.count) = Vec{};
        });
    for (std::int64_t step = 0; step < e.time; ++step) {
        const std::int64_t t = step_index(e, step, true), before = e.reverse ? t + 1 : t - 1;
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t b = row0 + r, group = b / e.rows_per_transition;
            const S* a = p.A.at(group, t) + c0;
            const S* g = p.g.at(b, t) + c0;
            S* delta = p.delta.at(b, t) + c0;
            const S* previous = nullptr;
            S* d_a = nullptr;
            if constexpr (GradientOfA) {
                previous = (step + 1 == e.time ? p.h0.at(b, 0) : p.states.at(b, before)) + c0;
                d_a = e.time_invariant ? nullptr : p.d_A.at(group, t) + c0;
            }
            const bool first = r == 0, last = r + 1 == rows;
            each<Vectors>(row.count, descending, [&](int i) {
                auto& carried = carry.at(r, i, row.count);
                const Vec d = row.load(g, i) + carried;
                row.template store<Stream>(delta, i, d);
                carried = L::multiply_add(L::conjugate(row.load(a, i)), d, Vec{});
                if constexpr (GradientOfA) {
                    auto& s = sum.at(0, i, row.count);
                    const Vec h = L::conjugate(row.load(previous, i));
                    if (d_a == nullptr) {
                        s = L::multiply_add(d, h, s);
                    } else {
                        const Vec term = L::multiply_add(d, h, first ? Vec{} : s);
                        if (last) row.template store<Stream>(d_a, i, term);
                        else s = term;
                    }
                }
            });
        }
    }
    for (std::int64_t r = 0; r < rows; ++r)
        each<Vectors>(row.count, false, [&](int i) {
            row.template store<false>(p.d_h0.at(row0 + r, 0) + c0, i, carry.at(r, i, row.count));
        });
    if constexpr (GradientOfA) {
        // The sums over time leave in the carried type, one row for every batch row.
        if (e.time_invariant) {
            using R = typename L::R;
            R* out = p.sums.at(row0, 0) + c0 * L::reals;
            for (int i = 0; i < row.count; ++i)
                store_bytes(out + i * L::width * L::reals, sum.at(0, i, row.count),
                            (i < row.whole ? L::width : row.rest) * L::reals * static_cast<int>(sizeof(R)));
        }
    }
    if (Stream) stream_fence();
}

// Few channels of one row keep their carry in registers.
template <class Call>
void with_vectors(std::int64_t rows, std::int64_t vectors, const Call& call) {
    if (rows > 1) return call(std::integral_constant<int, 0>());
    switch (vectors) {
        case 1: return call(std::integral_constant<int, 1>());
        case 2: return call(std::integral_constant<int, 2>());
        case 3: return call(std::integral_constant<int, 3>());
        case 4: return call(std::integral_constant<int, 4>());
        default: return call(std::integral_constant<int, 0>());
    }
}

template <class S>
void scan(const Scan<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    const Tasks k = tasks_of(e);
    const bool stream = streams(e, p.states, k.blocks > 1 ? k.channels : 0);
    parallel_for(k.count, e.threads, [&](std::int64_t task) {
        const std::int64_t row0 = task / k.blocks * k.rows, c0 = task % k.blocks * k.channels;
        const std::int64_t n = e.width - c0 < k.channels ? e.width - c0 : k.channels;
        with_vectors(k.rows, ceil_div(n, Lanes<S>::width), [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            if (stream) scan_task<S, V, true>(p, row0, k.rows, c0, n);
            else scan_task<S, V, false>(p, row0, k.rows, c0, n);
        });
    });
}

template <class S>
void adjoint(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.width == 0) return;
    const Tasks k = tasks_of(e);
    const bool gradient_of_a = p.states.data != nullptr;
    const std::int64_t cut = k.blocks > 1 ? k.channels : 0;
    const bool stream = streams(e, p.delta, cut) && (!p.d_A.data || streams(e, p.d_A, cut));
    parallel_for(k.count, e.threads, [&](std::int64_t task) {
        const std::int64_t row0 = task / k.blocks * k.rows, c0 = task % k.blocks * k.channels;
        const std::int64_t n = e.width - c0 < k.channels ? e.width - c0 : k.channels;
        with_vectors(k.rows, ceil_div(n, Lanes<S>::width), [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            if (gradient_of_a) {
                if (stream) adjoint_task<S, V, true, true>(p, row0, k.rows, c0, n);
                else adjoint_task<S, V, false, true>(p, row0, k.rows, c0, n);
            } else {
                if (stream) adjoint_task<S, V, true, false>(p, row0, k.rows, c0, n);
                else adjoint_task<S, V, false, false>(p, row0, k.rows, c0, n);
            }
        });
    });
}

}  // namespace

template <class S>
void fill_diagonal(Kernels<S>& table) {
    table.diagonal_scan = scan<S>;
    table.diagonal_adjoint = adjoint<S>;
}
template void fill_diagonal(Kernels<float>&);
template void fill_diagonal(Kernels<double>&);
template void fill_diagonal(Kernels<std::complex<float>>&);
template void fill_diagonal(Kernels<std::complex<double>>&);
template void fill_diagonal(Kernels<BFloat16>&);
template void fill_diagonal(Kernels<Float16>&);

// z = x + 3 y past the cache: the stream bandwidth that `make bench` holds the kernels against.
void triad(const float* x, const float* y, float* z, std::int64_t n, int threads) {
    const std::int64_t block = 1 << 16;
    parallel_for(n / block, threads, [&](std::int64_t task) {
        for (std::int64_t i = task * block; i < (task + 1) * block; i += lanes<float>)
            stream_vector(z + i, load(x + i) + 3.0f * load(y + i));
        stream_fence();
    });
}

RETROGRAD_END
