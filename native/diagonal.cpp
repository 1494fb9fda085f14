// Diagonal transitions: h_t = a_t * h_{t-1} + u_t, element by element, from a_t or its logarithm.
// Recurrence and adjoint: recurrence.hpp.
//
// A part (parts.hpp) streams through time, the carried values in registers (few channels) or in the first-level cache,
// reading each array once and writing each result once, past the cache when it would not fit. Time that runs backward
// walks the channels backward too: to the prefetcher that is one descending stream.
//
// The loops over steps (scan_steps, adjoint_steps) are compiled for every number of registers; what happens once a part
// (scan_part, adjoint_part) is compiled once a scalar type, and hands the carried values over in memory.
#include "gates.hpp"
#include "parts.hpp"

RETROGRAD_BEGIN
namespace {

// Results larger than this go past the cache.
constexpr std::int64_t stream_bytes = std::int64_t(1) << 22;
// A sum over time is one of partial sums over so many steps: roundings stay few.
constexpr std::int64_t partial_steps = 1024;

// The gradient of a that is wanted: nothing, delta_t conj(h_{t-1}) of each step, or its sum over time.
enum class Gradient { none, each_step, summed };

// May whole vectors of this result be streamed: is every row's start on a vector's bound?
template <class S>
bool streams(const Extents& e, const Sequence<S>& result, const Tasks& k) {
    const auto bytes = static_cast<std::int64_t>(sizeof(S)) * Lanes<S>::width;
    const auto aligned = [&](std::int64_t elements) {
        return elements * static_cast<std::int64_t>(sizeof(S)) % bytes == 0;
    };
    return static_cast<std::int64_t>(sizeof(S)) * e.batch * e.time * e.width >= stream_bytes &&
           reinterpret_cast<std::uintptr_t>(result.data) % static_cast<std::uintptr_t>(bytes) == 0 &&
           aligned(result.batch) && aligned(result.time) && (k.channel_blocks == 1 || aligned(k.channels));
}

// Carried values while a loop runs: `Vectors` of them in registers, or, where that is 0, in the memory they came from.
template <class Vec, int Vectors>
struct Held {
    Vec* home;
    Vec values[Vectors];
    explicit Held(Vec* from) : home(from) {
        for_each_index<Vectors>([&](int i) RETROGRAD_INLINED { values[i] = home[i]; });
    }
    ~Held() {
        for_each_index<Vectors>([&](int i) RETROGRAD_INLINED { home[i] = values[i]; });
    }
    Vec& operator[](std::int64_t i) { return values[i]; }
};
template <class Vec>
struct Held<Vec, 0> {
    Vec* home;
    explicit Held(Vec* from) : home(from) {}
    Vec& operator[](std::int64_t i) { return home[i]; }
};

// A place in one array that moves on with the steps of a part.
template <class S>
struct Cursor {
    S* here = nullptr;
    std::int64_t step = 0, row = 0;
    Cursor() = default;
    Cursor(const Sequence<S>& array, std::int64_t row0, const Part& part, const Walk& walk, std::int64_t k)
        : here(array.at(row0, walk.at(k)) + part.c0), step(walk.direction * array.time), row(array.batch) {}
    S* of_row(std::int64_t r) const { return here + r * row; }
    void advance() { here += step; }
};

// Steps [first, last) of a part: h_t = a_t h_{t-1} + u_t. `carried`: h_{t-1} of every row.
template <class S, class L, int Vectors, bool Stream, Holds holds>
void scan_steps(const Scan<S>& p, const Part& part, std::int64_t first, std::int64_t last, typename L::Vec* carried) {
    using Vec = typename L::Vec;
    const Row<S, L, Vectors> row(part.channels);
    const Walk walk(p.extents, part, false);
    const std::int64_t rows = Vectors > 0 ? 1 : part.rows;
    Cursor<const S> a_t(p.A, part.group, part, walk, first), u_t(p.u, part.row0, part, walk, first);
    Cursor<S> h_t(p.states, part.row0, part, walk, first);
    Held<Vec, Vectors> held(carried);
    Gates<S, L, holds> gates(row, p.extents, a_t.here, rows);
    for (std::int64_t k = first; k < last; ++k) {
        const S* a = a_t.here;
        for (std::int64_t r = 0; r < rows; ++r) {
            const S* u = u_t.of_row(r);
            S* h = h_t.of_row(r);
            row.each(walk.direction < 0, [&](int i, auto whole) RETROGRAD_INLINED {
                Vec& carry = held[r * row.count + i];
                const Vec state = L::multiply_add(gates(row, a, i, whole, r), carry, row.load(u, i, whole));
                carry = state;
                row.template store<Stream>(h, i, state, whole);
            });
        }
        a_t.advance();
        u_t.advance();
        h_t.advance();
    }
    if constexpr (Stream) stream_fence();
}

// Steps [first, last) of a part, none at an end of a sequence: delta_t = g_t + conj(a_{t+1}) delta_{t+1}, and
// d_a = delta_t conj(h_{t-1}), summed over the part's rows. `carried`: delta_{t+1} of every row; `sum`: of d_a.
// Of logarithms, `carried`: a_{t+1} delta_{t+1}, so that a step wants one gate alone; and d_l in d_a's place.
template <class S, class L, int Vectors, bool Stream, Gradient kind, Holds holds>
void adjoint_steps(const Adjoint<S>& p, const Part& part, std::int64_t first, std::int64_t last,
                   typename L::Vec* carried, typename L::Vec* sum) {
    using Vec = typename L::Vec;
    const Row<S, L, Vectors> row(part.channels);
    const Walk walk(p.extents, part, true);
    const std::int64_t rows = Vectors > 0 ? 1 : part.rows;
    constexpr bool logarithms = holds == Holds::logarithms;
    Cursor<const S> a_k(p.A, part.group, part, walk, logarithms ? first : first - 1), h_before;
    Cursor<const S> g_t(p.g, part.row0, part, walk, first);
    Cursor<S> delta_t(p.delta, part.row0, part, walk, first), d_a_t;
    if constexpr (kind != Gradient::none) h_before = {p.states, part.row0, part, walk, first + 1};
    if constexpr (kind == Gradient::each_step) d_a_t = {p.d_A, part.group, part, walk, first};
    Held<Vec, Vectors> held(carried);
    Held<Vec, kind == Gradient::summed ? Vectors : 0> sums(sum);
    Gates<S, L, holds> gates(row, p.extents, a_k.here, rows);
    for (std::int64_t k = first; k < last; ++k) {
        const S* a = a_k.here;
        [[maybe_unused]] S* d_a = d_a_t.here;
        for (std::int64_t r = 0; r < rows; ++r) {
            const S* g = g_t.of_row(r);
            S* out = delta_t.of_row(r);
            [[maybe_unused]] const S* h = h_before.of_row(r);
            [[maybe_unused]] const bool sets = r == 0 && !part.adds, adds = r == 0 && part.adds, stores = r + 1 == rows;
            row.each(walk.direction < 0, [&](int i, auto whole) RETROGRAD_INLINED {
                Vec& carry = held[r * row.count + i];
                const Vec gate = L::conjugate(gates(row, a, i, whole, r)), g_here = row.load(g, i, whole);
                const Vec delta = logarithms ? Vec(g_here + carry) : L::multiply_add(gate, carry, g_here);
                carry = logarithms ? L::multiply_add(gate, delta, Vec{}) : delta;
                row.template store<Stream>(out, i, delta, whole);
                if constexpr (kind == Gradient::summed) {
                    sums[i] = L::multiply_add(carry, L::conjugate(row.load(h, i, whole)), sums[i]);
                } else if constexpr (kind == Gradient::each_step) {
                    const Vec so_far = sets ? Vec{} : adds ? Vec(row.load(d_a, i, whole)) : sums[i];
                    const Vec term = L::multiply_add(carry, L::conjugate(row.load(h, i, whole)), so_far);
                    if (stores) row.template store<Stream>(d_a, i, term, whole);
                    else sums[i] = term;
                }
            });
        }
        a_k.advance();
        g_t.advance();
        delta_t.advance();
        h_before.advance();
        d_a_t.advance();
    }
    if constexpr (Stream) stream_fence();
}

// An adjoint step at an end of a sequence, or both: delta_T = g_T + g_final; the state before the first step is h_0.
template <class S, class L, Holds holds>
void adjoint_end(const Adjoint<S>& p, const Part& part, std::int64_t k, Gradient kind, typename L::Vec* carried,
                 typename L::Vec* sum) {
    using Vec = typename L::Vec;
    const Row<S, L> row(part.channels);
    const Walk walk(p.extents, part, true);
    const std::int64_t t = walk.at(k);
    const bool opens = part.opens && k == 0, closes = part.closes && k + 1 == part.steps();
    for (std::int64_t r = 0; r < part.rows; ++r) {
        const std::int64_t b = part.row0 + r;
        const S* g = p.g.at(b, t) + part.c0;
        constexpr bool logarithms = holds == Holds::logarithms;
        const S* a = logarithms ? p.A.at(part.group, t) + part.c0
                     : opens    ? nullptr
                                : p.A.at(part.group, t - walk.direction) + part.c0;
        const S* more = opens && part.before >= 0 ? p.g_final.at(part.before + r, 0) + part.c0 : nullptr;
        const S *previous = nullptr, *h0 = part.after >= 0 ? p.h0.at(part.after + r, 0) + part.c0 : nullptr;
        if (kind != Gradient::none) previous = closes ? h0 : p.states.at(b, t + walk.direction) + part.c0;
        S* d_a = kind == Gradient::each_step ? p.d_A.at(part.group, t) + part.c0 : nullptr;
        for (int i = 0; i < row.count; ++i) {
            Vec& carry = carried[r * row.count + i];
            Vec delta;
            if (opens) delta = more ? row.load(g, i) + row.load(more, i) : row.load(g, i);
            else if (logarithms) delta = row.load(g, i) + carry;
            else delta = L::multiply_add(L::conjugate(row.load(a, i)), carry, row.load(g, i));
            const auto gate = [&] { return L::conjugate(Gates<S, L, holds>::gate(row.load(a, i))); };
            carry = logarithms ? L::multiply_add(gate(), delta, Vec{}) : delta;
            row.template store<false>(p.delta.at(b, t) + part.c0, i, delta);
            if (kind == Gradient::none) continue;
            Vec term = !d_a || r > 0 ? sum[i] : part.adds ? row.load(d_a, i) : Vec{};
            if (previous) term = L::multiply_add(carry, L::conjugate(row.load(previous, i)), term);
            if (d_a && r + 1 == part.rows) row.template store<false>(d_a, i, term);
            else sum[i] = term;
        }
    }
}

template <class S, class L>
using ScanSteps = void (*)(const Scan<S>&, const Part&, std::int64_t, std::int64_t, typename L::Vec*);
template <class S, class L>
using AdjointSteps = void (*)(const Adjoint<S>&, const Part&, std::int64_t, std::int64_t, typename L::Vec*,
                              typename L::Vec*);

// Takes up the result that stands before the part where the part continues it, else zero.
template <class S, class L>
void take_up(const Sequence<S>& result, const Part& part, const Walk& walk, typename L::Vec* carried) {
    const Row<S, L> row(part.channels);
    for (std::int64_t r = 0; r < part.rows; ++r)
        for (int i = 0; i < row.count; ++i)
            carried[r * row.count + i] =
                part.continues ? row.load(result.at(part.row0 + r, walk.at(-1)) + part.c0, i) : typename L::Vec{};
}

template <class S, class L>
void scan_part(const Scan<S>& p, const Part& part, ScanSteps<S, L> steps) {
    const Row<S, L> row(part.channels);
    const Walk walk(p.extents, part, false);
    SmallBuffer<typename L::Vec> carried(part.rows * row.count);
    const bool alone = part.opens && part.before < 0;  // the first state is its input alone
    if (!part.opens) take_up<S, L>(p.states, part, walk, carried.data());
    for (std::int64_t r = 0; part.opens && r < part.rows; ++r) {
        const S* from = (alone ? p.u.at(part.row0 + r, walk.first) : p.h0.at(part.before + r, 0)) + part.c0;
        for (int i = 0; i < row.count; ++i) {
            auto& state = carried.data()[r * row.count + i] = row.load(from, i);
            if (alone) row.template store<false>(p.states.at(part.row0 + r, walk.first) + part.c0, i, state);
        }
    }
    steps(p, part, alone ? 1 : 0, part.steps(), carried.data());
}

template <class S, class L, Holds holds>
void adjoint_part(const Adjoint<S>& p, const Part& part, Gradient kind, AdjointSteps<S, L> steps) {
    using Vec = typename L::Vec;
    const Row<S, L> row(part.channels);
    const Walk walk(p.extents, part, true);
    constexpr bool logarithms = holds == Holds::logarithms;
    SmallBuffer<Vec> carried(part.rows * row.count), sum(row.count), total(row.count);
    for (int i = 0; i < row.count; ++i) sum.data()[i] = total.data()[i] = Vec{};
    // a^H x for the step k of the part, what stands before it too, and vector i.
    const auto through = [&](std::int64_t k, int i, Vec x) {
        const Vec a = row.load(p.A.at(part.group, walk.at(k)) + part.c0, i);
        return L::multiply_add(L::conjugate(Gates<S, L, holds>::gate(a)), x, Vec{});
    };
    const auto end = [&](std::int64_t k) { adjoint_end<S, L, holds>(p, part, k, kind, carried.data(), sum.data()); };
    const auto fold = [&] {
        for (int i = 0; i < row.count; ++i) total.data()[i] += std::exchange(sum.data()[i], Vec{});
    };
    std::int64_t k = 0;
    const std::int64_t count = part.steps(), inner = part.closes ? count - 1 : count;
    if (!part.opens) take_up<S, L>(p.delta, part, walk, carried.data());
    else if (k < inner) end(k++);
    for (std::int64_t r = 0; logarithms && part.continues && r < part.rows; ++r)
        for (int i = 0; i < row.count; ++i) {
            Vec& carry = carried.data()[r * row.count + i];
            carry = through(-1, i, carry);
        }
    while (k < inner) {
        const std::int64_t stop = kind == Gradient::summed && k + partial_steps < inner ? k + partial_steps : inner;
        steps(p, part, k, stop, carried.data(), sum.data());
        k = stop;
        if (kind == Gradient::summed) fold();
    }
    if (part.closes) end(k);
    for (std::int64_t r = 0; part.closes && part.after >= 0 && r < part.rows; ++r)  // d_h0 = conj(a_1) delta_1
        for (int i = 0; i < row.count; ++i) {
            const Vec carry = carried.data()[r * row.count + i];
            row.template store<false>(p.d_h0.at(part.after + r, 0) + part.c0, i,
                                      logarithms ? carry : through(k, i, carry));
        }
    if (kind != Gradient::summed) return;
    // The sums over time leave in the carried type, one row for every batch row.
    fold();
    std::memcpy(p.sums.at(part.sums, 0) + part.c0 * L::reals, total.data(),
                sizeof(typename L::R) * static_cast<std::size_t>(part.channels * L::reals));
}

// Calls call(lanes, vectors): one channel at a time for narrow rows; few vectors of one row stay in registers.
template <class S, Holds holds, class Call>
void with_lanes(const Part& part, const Call& call) {
    if constexpr (sizeof(S) > 2 && holds == Holds::gates) {
        if (part.rows == 1) switch (part.channels) {
            case 1: return call(Single<S>(), std::integral_constant<int, 1>());
            case 2: return call(Single<S>(), std::integral_constant<int, 2>());
            case 3: return call(Single<S>(), std::integral_constant<int, 3>());
            default: break;
        }
    }
    const std::int64_t vectors = part.rows == 1 ? ceil_div(part.channels, Lanes<S>::width) : 0;
    if (vectors == 1) return call(Lanes<S>(), std::integral_constant<int, 1>());
    if constexpr (holds == Holds::gates) {  // beside an exponential the carried value's way is short
        if (vectors == 2) return call(Lanes<S>(), std::integral_constant<int, 2>());
        if (vectors == 4) return call(Lanes<S>(), std::integral_constant<int, 4>());
    }
    return call(Lanes<S>(), std::integral_constant<int, 0>());
}

template <class S, Holds holds>
void run_scan(const Scan<S>& p, const Part& part, bool stream) {
    with_lanes<S, holds>(part, [&](auto lanes, auto vectors) {
        using L = decltype(lanes);
        constexpr int V = decltype(vectors)::value;
        constexpr bool streams = L::width > 1;
        scan_part<S, L>(p, part, stream ? scan_steps<S, L, V, streams, holds> : scan_steps<S, L, V, false, holds>);
    });
}

template <class S, Holds holds>
void run_adjoint(const Adjoint<S>& p, const Part& part, Gradient kind, bool stream) {
    with_lanes<S, holds>(part, [&](auto lanes, auto vectors) {
        using L = decltype(lanes);
        using enum Gradient;
        constexpr int V = decltype(vectors)::value;
        constexpr bool streams = L::width > 1;
        constexpr AdjointSteps<S, L> steps[][2] = {
            {adjoint_steps<S, L, V, false, none, holds>, adjoint_steps<S, L, V, streams, none, holds>},
            {adjoint_steps<S, L, V, false, each_step, holds>, adjoint_steps<S, L, V, streams, each_step, holds>},
            {adjoint_steps<S, L, V, false, summed, holds>, adjoint_steps<S, L, V, streams, summed, holds>}};
        adjoint_part<S, L, holds>(p, part, kind, steps[static_cast<int>(kind)][stream]);
    });
}

template <class S, Holds holds>
void scan(const Scan<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    const Tasks k(e, sizeof(S) > 2);  // a state stored in 16 bits is not the one that was carried
    const bool stream = streams(e, p.states, k);
    const auto run = [&](const Part& part) { run_scan<S, holds>(p, part, stream); };
    const auto again = [&](const Part& part) { run_scan<S, holds>(p, part, false); };
    if (e.segments) run_segments(e, false, false, run);
    else run_rows(e, k, false, p.states, run, again);
}

template <class S, Holds holds>
void adjoint(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.width == 0) return;
    if (e.time == 0) {
        for (std::int64_t b = 0; b < e.batch; ++b)
            for (std::int64_t c = 0; c < e.width; ++c) {
                p.d_h0.at(b, 0)[c] = p.g_final.at(b, 0)[c];
                for (int i = 0; p.sums.data && i < Lanes<S>::reals; ++i) p.sums.at(b, 0)[c * Lanes<S>::reals + i] = 0;
            }
        return;
    }
    const Gradient kind = !p.states.data     ? Gradient::none
                          : e.time_invariant ? Gradient::summed
                                             : Gradient::each_step;
    const bool meet = kind == Gradient::each_step && e.rows_per_transition > 1;
    const Tasks k(e, sizeof(S) > 2 && kind != Gradient::summed);
    const bool stream = streams(e, p.delta, k) && (!p.d_A.data || streams(e, p.d_A, k)) && !(e.segments && meet);
    const auto run = [&](const Part& part) { run_adjoint<S, holds>(p, part, kind, stream); };
    const auto again = [&](const Part& part) { run_adjoint<S, holds>(p, part, kind, false); };
    pass_on_empty(p);
    if (e.segments) run_segments(e, true, meet, run);
    else run_rows(e, k, true, p.delta, run, again);
}

}  // namespace

template <class S>
void fill_diagonal(Kernels<S>& table) {
    table.diagonal_scan = scan<S, Holds::gates>;
    table.diagonal_adjoint = adjoint<S, Holds::gates>;
    table.log_diagonal_scan = scan<S, Holds::logarithms>;
    table.log_diagonal_adjoint = adjoint<S, Holds::logarithms>;
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
