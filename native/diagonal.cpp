// Diagonal transitions: h_t = a_t * h_{t-1} + u_t, element by element. Recurrence and adjoint: recurrence.hpp.
//
// A task is the rows that share one transition (all of a group when it varies in time, so that the sum of d_a over
// the group has a fixed order; one row when it does not). It streams through time, the carried state in registers (few
// channels) or in the first-level cache, reading each array once and writing each result once, past the cache when it
// would not fit. Time that runs backward walks the channels backward too: to the prefetcher that is one descending
// stream.
//
// With fewer tasks than threads, time is cut into blocks. All but the first start from zero, side by side; then each in
// turn is mended: run again from the state it should have started from, until the two runs agree in every bit, from
// where on they are the same. That gives the bits of one run whatever the transitions are, and is short where they
// forget. (Where a sum over time is wanted, or time is short, the channels are cut instead.)
//
// Segments are tasks of their own, dealt to the threads in the order of memory, so many steps to each.
#include "sequences.hpp"

RETROGRAD_BEGIN
namespace {

// Results larger than this go past the cache.
constexpr std::int64_t stream_bytes = std::int64_t(1) << 22;
// Blocks of time shorter than this are not worth their mending.
constexpr std::int64_t least_block = 1024;
// Steps between two looks whether the runs agree.
constexpr std::int64_t look = 8;
// A sum over time is one of partial sums over so many steps: roundings stay few.
constexpr std::int64_t partial_steps = 1024;

enum class Mode { store, stream, mend };

// What one call works on: some rows of one group, some channels, some steps (in the order of the sweep).
struct Part {
    std::int64_t group, row0, rows, c0, channels, begin, end;
    bool opens, closes;              // does it hold the first step of the sweep, the last?
    std::int64_t before, after;      // row of what stands before the first step (h_0; g_final), after the last (d_h0);
                                     // of the first of `rows`; -1: nothing
    std::int64_t sums = 0;
    bool adds = false;               // to d_A, instead of setting it
};

struct Tasks {
    std::int64_t rows, channels, channel_blocks, time_blocks, count;  // rows a task, channels a block

    Tasks(const Extents& e, bool time_may_be_cut) {
        rows = e.time_invariant ? 1 : e.rows_per_transition;
        const std::int64_t groups = e.batch / rows, wanted = groups >= e.threads ? 1 : ceil_div(e.threads, groups);
        channels = e.width;
        channel_blocks = time_blocks = 1;
        if (time_may_be_cut && e.time >= wanted * least_block) {
            time_blocks = wanted;
        } else if (wanted > 1) {
            // Whole rows stream best; they are cut at cache-line bounds.
            const std::int64_t line = e.width <= 64 ? 16 : 64;
            channels = ceil_div(ceil_div(e.width, wanted), line) * line;
            channel_blocks = ceil_div(e.width, channels);
        }
        count = groups * channel_blocks * time_blocks;
    }

    Part part(const Extents& e, std::int64_t task, std::int64_t time_block) const {
        Part p;
        p.row0 = task / channel_blocks * rows;
        p.rows = rows;
        p.group = p.row0 / e.rows_per_transition;
        p.c0 = task % channel_blocks * channels;
        p.channels = e.width - p.c0 < channels ? e.width - p.c0 : channels;
        p.begin = e.time * time_block / time_blocks;
        p.end = e.time * (time_block + 1) / time_blocks;
        p.opens = time_block == 0;
        p.closes = time_block + 1 == time_blocks;
        p.before = p.after = p.sums = p.row0;
        return p;
    }
};

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

// The carried values of a part's rows: in registers when `Vectors` is given, in memory when it is 0.
template <class Vec, int Vectors>
struct Carried {
    Vec values[Vectors] = {};
    explicit Carried(std::int64_t) {}
    Vec& at(std::int64_t, int i, int) { return values[i]; }
};
template <class Vec>
struct Carried<Vec, 0> {
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

// Runs the part; in mend mode from the state before it, as stored, and false where the runs never agree.
template <class S, class L, int Vectors, Mode mode>
bool scan_part(const Scan<S>& p, const Part& part) {
    using Vec = typename L::Vec;
    const Extents& e = p.extents;
    const Row<S, L> row(part.channels);
    const std::int64_t direction = e.reverse ? -1 : 1, t0 = step_index(e, part.begin, false);
    Carried<Vec, Vectors> carry(part.rows * row.count);
    for (std::int64_t r = 0; r < part.rows; ++r) {
        const S* before = nullptr;
        if (part.opens && part.before >= 0) before = p.h0.at(part.before + r, 0) + part.c0;
        if (!part.opens && mode == Mode::mend) before = p.states.at(part.row0 + r, t0 - direction) + part.c0;
        each<Vectors>(row.count, false,
                      [&](int i) { carry.at(r, i, row.count) = before ? row.load(before, i) : Vec{}; });
    }
    const S* a0 = p.A.at(part.group, t0) + part.c0;
    // True where the runs agree.
    const auto step = [&](std::int64_t k, auto alone) {
        const S* a = a0 + k * direction * p.A.time;
        bool apart = false;
        for (std::int64_t r = 0; r < part.rows; ++r) {
            const std::int64_t t = t0 + k * direction;
            const S* u = p.u.at(part.row0 + r, t) + part.c0;
            S* h = p.states.at(part.row0 + r, t) + part.c0;
            each<Vectors>(row.count, e.reverse, [&](int i) {
                auto& state = carry.at(r, i, row.count);
                if constexpr (alone) state = row.load(u, i);
                else state = L::multiply_add(row.load(a, i), state, row.load(u, i));
                if constexpr (mode == Mode::mend)
                    if (k % look == 0 && !apart) apart = differ(state, Vec(row.load(h, i)));
                row.template store<mode == Mode::stream>(h, i, state);
            });
        }
        return mode == Mode::mend && k % look == 0 && !apart;
    };
    std::int64_t k = 0;
    if (part.opens && part.before < 0) step(k++, std::true_type());
    for (; k < part.end - part.begin; ++k)
        if (step(k, std::false_type())) return true;
    if (mode == Mode::stream) stream_fence();
    return false;
}

template <class S, class L, int Vectors, Mode mode, bool GradientOfA>
bool adjoint_part(const Adjoint<S>& p, const Part& part) {
    using Vec = typename L::Vec;
    const Extents& e = p.extents;
    const Row<S, L> row(part.channels);
    const bool descending = !e.reverse;
    const std::int64_t direction = e.reverse ? 1 : -1, t0 = step_index(e, part.begin, true);
    Carried<Vec, Vectors> carry(part.rows * row.count);  // the step after's delta
    // Time-invariant: the sum over t. Time-varying: the sum over the group's rows, at one t.
    Carried<Vec, GradientOfA ? Vectors : 0> sum(GradientOfA ? row.count : 0);
    const bool folds = GradientOfA && e.time_invariant, adds = part.adds;
    Buffer<Vec> total(folds ? row.count : 0);
    if constexpr (GradientOfA) each<Vectors>(row.count, false, [&](int i) { sum.at(0, i, row.count) = Vec{}; });
    for (int i = 0; folds && i < row.count; ++i) total.data()[i] = Vec{};
    const auto fold = [&] {
        for (int i = 0; i < row.count; ++i) {
            total.data()[i] += sum.at(0, i, row.count);
            sum.at(0, i, row.count) = Vec{};
        }
    };
    bool apart = false;
    // delta = g + (first ? from : conj(a of the step after) * carry), and what follows from it.
    const auto step = [&](std::int64_t k, auto from_start, auto closes) {
        const std::int64_t t = t0 + k * direction;
        const S* a = p.A.at(part.group, t - direction) + part.c0;
        for (std::int64_t r = 0; r < part.rows; ++r) {
            const std::int64_t b = part.row0 + r;
            const S* g = p.g.at(b, t) + part.c0;
            S* delta = p.delta.at(b, t) + part.c0;
            const S *from = nullptr, *previous = nullptr;
            S* d_a = nullptr;
            if (from_start && part.before >= 0) from = p.g_final.at(part.before + r, 0) + part.c0;
            if constexpr (GradientOfA) {
                if constexpr (!closes) previous = p.states.at(b, t + direction) + part.c0;
                else if (part.after >= 0) previous = p.h0.at(part.after + r, 0) + part.c0;
                d_a = e.time_invariant ? nullptr : p.d_A.at(part.group, t) + part.c0;
            }
            const bool first = r == 0, last = r + 1 == part.rows;
            each<Vectors>(row.count, descending, [&](int i) {
                auto& carried = carry.at(r, i, row.count);
                Vec d;
                if constexpr (from_start) d = from ? row.load(g, i) + row.load(from, i) : row.load(g, i);
                else d = L::multiply_add(L::conjugate(row.load(a, i)), carried, row.load(g, i));
                if constexpr (mode == Mode::mend)
                    if (k % look == 0 && !apart) apart = differ(d, Vec(row.load(delta, i)));
                row.template store<mode == Mode::stream>(delta, i, d);
                carried = d;
                if constexpr (GradientOfA) {
                    auto& s = sum.at(0, i, row.count);
                    Vec term = s;
                    if (d_a && first) term = adds ? Vec(row.load(d_a, i)) : Vec{};
                    if (!closes || previous) term = L::multiply_add(d, L::conjugate(row.load(previous, i)), term);
                    if (d_a && last) row.template store<mode == Mode::stream>(d_a, i, term);
                    else s = term;
                }
            });
        }
    };
    constexpr std::true_type yes;
    constexpr std::false_type no;
    std::int64_t k = 0;
    const std::int64_t steps = part.end - part.begin, inner = part.closes ? steps - 1 : steps;
    if (part.opens) {
        if (k < inner) step(k++, yes, no);
    } else {
        for (std::int64_t r = 0; r < part.rows; ++r) {
            const S* before = p.delta.at(part.row0 + r, t0 - direction) + part.c0;
            each<Vectors>(row.count, false, [&](int i) {
                carry.at(r, i, row.count) = mode == Mode::mend ? row.load(before, i) : Vec{};
            });
        }
    }
    while (k < inner) {
        const std::int64_t stop = folds && k + partial_steps < inner ? k + partial_steps : inner;
        for (; k < stop; ++k) {
            step(k, no, no);
            if constexpr (mode == Mode::mend)
                if (k % look == 0 && !std::exchange(apart, false)) return true;
        }
        if (folds) fold();
    }
    if (part.closes) {
        if (k == 0 && part.opens) step(k, yes, yes);
        else step(k, no, yes);
    }
    if (part.closes && part.after >= 0)
        for (std::int64_t r = 0; r < part.rows; ++r)
            each<Vectors>(row.count, false, [&](int i) {
                const Vec a = L::conjugate(row.load(p.A.at(part.group, step_index(e, part.end - 1, true)) + part.c0, i));
                row.template store<false>(p.d_h0.at(part.after + r, 0) + part.c0, i,
                                          L::multiply_add(a, carry.at(r, i, row.count), Vec{}));
            });
    if constexpr (GradientOfA) {
        // The sums over time leave in the carried type, one row for every batch row.
        if (e.time_invariant) {
            using R = typename L::R;
            R* out = p.sums.at(part.sums, 0) + part.c0 * L::reals;
            fold();
            for (int i = 0; i < row.count; ++i) {
                std::memcpy(out + i * L::width * L::reals, total.data() + i,
                            static_cast<std::size_t>((i < row.whole ? L::width : row.rest) * L::reals) * sizeof(R));
            }
        }
    }
    if (mode == Mode::stream) stream_fence();
    return false;
}

// Calls call(lanes, vectors): one channel at a time for narrow rows; few vectors of one row keep their carry in
// registers.
template <class S, class Call>
bool with_lanes(const Part& part, const Call& call) {
    if constexpr (sizeof(S) > 2) {
        if (part.rows == 1) switch (part.channels) {
            case 1: return call(Single<S>(), std::integral_constant<int, 1>());
            case 2: return call(Single<S>(), std::integral_constant<int, 2>());
            case 3: return call(Single<S>(), std::integral_constant<int, 3>());
            default: break;
        }
    }
    if (part.rows == 1) switch (ceil_div(part.channels, Lanes<S>::width)) {
        case 1: return call(Lanes<S>(), std::integral_constant<int, 1>());
        case 2: return call(Lanes<S>(), std::integral_constant<int, 2>());
        case 4: return call(Lanes<S>(), std::integral_constant<int, 4>());
        default: break;
    }
    return call(Lanes<S>(), std::integral_constant<int, 0>());
}

// run(part, mode) for every task and block of time, then the blocks' mending, in order.
template <class S, class Run>
void run_tasks_of(const Extents& e, const Tasks& k, bool stream, const Run& run) {
    parallel_for(k.count, e.threads, [&](std::int64_t i) {
        const Part part = k.part(e, i / k.time_blocks, i % k.time_blocks);
        if (stream) run(part, std::integral_constant<Mode, Mode::stream>());
        else run(part, std::integral_constant<Mode, Mode::store>());
    });
    if constexpr (sizeof(S) > 2) {
        if (k.time_blocks == 1) return;
        parallel_for(k.count / k.time_blocks, e.threads, [&](std::int64_t task) {
            for (std::int64_t block = 1; block < k.time_blocks; ++block)
                run(k.part(e, task, block), std::integral_constant<Mode, Mode::mend>());
        });
    }
}

// The segments one by one; those of a group by one task where they meet in d_A.
template <class Run>
void run_segments(const Extents& e, bool backward, bool meet, bool stream, const Run& run) {
    const Lines lines(e);
    std::int64_t steps = 0;
    for (std::int64_t i = 0; i < lines.count(); ++i) steps += lines[i].length();
    Buffer<std::int64_t> share_of(lines.count());
    // Gives each segment the share that its first step, or its group's, falls into; returns the largest share's steps.
    const auto deal = [&](std::int64_t shares) {
        std::int64_t most = 0, share = 0, load = 0, passed = 0;
        for (std::int64_t i = 0; i < lines.count(); passed += lines[i++].length()) {
            const bool tied = meet && i > 0 && lines[i].row / e.rows_per_transition == lines[i - 1].row / e.rows_per_transition;
            if (!tied && passed * shares / steps != share) {
                share = passed * shares / steps;
                load = 0;
            }
            share_of.data()[i] = share;
            load += lines[i].length();
            if (load > most) most = load;
        }
        return most;
    };
    // The channels are cut where segments do not share well.
    std::int64_t shares = e.threads, blocks = 1, channels = e.width;
    const std::int64_t line = e.width <= 64 ? 16 : 64;
    if (deal(shares) * shares > steps + steps / 8 && e.width >= 2 * line) {
        channels = ceil_div(ceil_div(e.width, shares), line) * line;
        blocks = ceil_div(e.width, channels);
        shares = ceil_div(e.threads, blocks);
        deal(shares);
    }
    parallel_for(blocks * shares, e.threads, [&](std::int64_t task) {
        for (std::int64_t i = 0; i < lines.count(); ++i) {
            if (share_of.data()[i] != task / blocks) continue;
            const Line& s = lines[i];
            Part part;
            part.row0 = s.row;
            part.rows = 1;
            part.group = s.row / e.rows_per_transition;
            part.c0 = task % blocks * channels;
            part.channels = e.width - part.c0 < channels ? e.width - part.c0 : channels;
            part.begin = e.reverse != backward ? e.time - s.end : s.begin;
            part.end = part.begin + s.length();
            part.opens = part.closes = true;
            part.before = backward ? s.final : s.start;
            part.after = s.start;
            part.sums = s.index;
            part.adds = meet;
            if (stream) run(part, std::integral_constant<Mode, Mode::stream>());
            else run(part, std::integral_constant<Mode, Mode::store>());
        }
    });
}

template <class S>
void scan(const Scan<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    const Tasks k(e, sizeof(S) > 2);  // a state stored in 16 bits is not the one that was carried
    const bool stream = streams(e, p.states, k);
    const auto run = [&](const Part& part, auto mode) {
        return with_lanes<S>(part, [&](auto lanes, auto vectors) {
            return scan_part<S, decltype(lanes), decltype(vectors)::value, decltype(mode)::value>(p, part);
        });
    };
    if (e.segments) run_segments(e, false, false, stream, run);
    else run_tasks_of<S>(e, k, stream, run);
}

template <class S>
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
    const bool gradient_of_a = p.states.data != nullptr;
    const bool meet = gradient_of_a && !e.time_invariant && e.rows_per_transition > 1;
    const Tasks k(e, sizeof(S) > 2 && !(gradient_of_a && e.time_invariant));
    const bool stream = streams(e, p.delta, k) && (!p.d_A.data || streams(e, p.d_A, k)) && !(e.segments && meet);
    const auto run = [&](const Part& part, auto mode) {
        return with_lanes<S>(part, [&](auto lanes, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            constexpr Mode m = decltype(mode)::value;
            return gradient_of_a ? adjoint_part<S, decltype(lanes), V, m, true>(p, part)
                                 : adjoint_part<S, decltype(lanes), V, m, false>(p, part);
        });
    };
    pass_on_empty(p);
    if (e.segments) run_segments(e, true, meet, stream, run);
    else run_tasks_of<S>(e, k, stream, run);
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
