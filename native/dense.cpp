// Dense transitions: h_t = A_t h_{t-1} + u_t. Recurrence and adjoint: recurrence.hpp.
//
// Time-invariant: a sweep over steps of one small matrix product each (sweep.hpp), in chunks of time where rows are
// few (chunks.hpp). Time-varying: each A_t is used once, straight from memory: dot products forward, sums of rows in the
// adjoint. The gradient of a time-invariant A is one product over (batch, time), after the sweep (outer.hpp).
#include <memory>
#include <vector>

#include "chunks.hpp"
#include "outer.hpp"

RETROGRAD_BEGIN
namespace {

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

template <class S>
void scan_varying(const Scan<S>& p) {
    using L = Lanes<S>;
    const Extents& e = p.extents;
    const Row<S> row(e.width);
    parallel_for(e.batch, e.threads, [&](std::int64_t b) {
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, false), before = e.reverse ? t + 1 : t - 1;
            const S* A = p.A.at(b / e.rows_per_transition, t);
            const S* previous = k == 0 ? p.h0.at(b, 0) : p.states.at(b, before);
            const S* u = p.u.at(b, t);
            S* h = p.states.at(b, t);
            for (std::int64_t i = 0; i < e.width; ++i, A += e.width) {
                typename L::Vec sum = {};
                for (int v = 0; v < row.count; ++v) sum = L::multiply_add(row.load(A, v), row.load(previous, v), sum);
                h[i] = u[i] + L::sum(sum);
            }
        }
    });
}

// One task a group: its rows meet in d_A, whose sum then has a fixed order.
template <class S>
void adjoint_varying(const Adjoint<S>& p) {
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    const Extents& e = p.extents;
    const Row<S> row(e.width);
    const std::int64_t rows = p.d_A.data ? e.rows_per_transition : 1;
    parallel_for(e.batch / rows, e.threads, [&](std::int64_t task) {
        for (std::int64_t b = task * rows; b < (task + 1) * rows; ++b)
            for (int v = 0; v < row.count; ++v)
                row.template store<false>(p.d_h0.at(b, 0), v, row.load(p.g_final.at(b, 0), v));
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, true), before = e.reverse ? t + 1 : t - 1;
            for (std::int64_t b = task * rows; b < (task + 1) * rows; ++b) {
                const std::int64_t group = b / e.rows_per_transition;
                const S *A = p.A.at(group, t), *g = p.g.at(b, t);
                S *carry = p.d_h0.at(b, 0), *delta = p.delta.at(b, t);
                for (int v = 0; v < row.count; ++v)
                    row.template store<false>(delta, v, row.load(g, v) + row.load(carry, v));
                for (int v = 0; v < row.count; ++v) {
                    Vec sum = {};
                    for (std::int64_t i = 0; i < e.width; ++i)
                        sum = L::multiply_add(L::broadcast(delta[i]), L::conjugate(row.load(A + i * e.width, v)), sum);
                    row.template store<false>(carry, v, sum);
                }
                if (!p.d_A.data) continue;
                const S* previous = k + 1 == e.time ? p.h0.at(b, 0) : p.states.at(b, before);
                S* d_A = p.d_A.at(group, t);
                const bool first = b == task * rows;
                for (std::int64_t i = 0; i < e.width; ++i, d_A += e.width)
                    for (int v = 0; v < row.count; ++v) {
                        const Vec sum = first ? Vec{} : row.load(d_A, v);
                        row.template store<false>(
                            d_A, v, L::multiply_add(L::broadcast(delta[i]), L::conjugate(row.load(previous, v)), sum));
                    }
            }
        }
    });
}

template <class S>
void scan(const Scan<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    e.time_invariant ? sweep(Sweep<S>{e, p.A, p.u, p.h0, p.states, {}, true}) : scan_varying(p);
}

template <class S>
void adjoint(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    if (!e.time_invariant) return adjoint_varying(p);
    sweep(Sweep<S>{e, p.A, p.g, p.g_final, p.delta, p.d_h0, false});
    if (p.d_A.data) {
        const Sequence<const S> delta{p.delta.data, p.delta.batch, p.delta.time};
        outer_sum(OuterSum<S>{e.batch, e.time, e.width, e.width, e.rows_per_transition, e.reverse, e.threads, delta,
                              p.states, p.h0, p.d_A.data});
    }
}

}  // namespace

template <class S>
void fill_dense(Kernels<S>& table) {
    table.dense_scan = scan<S>;
    table.dense_adjoint = adjoint<S>;
    table.outer_sum = outer_sum<S>;
}
template void fill_dense(Kernels<float>&);
template void fill_dense(Kernels<double>&);
template void fill_dense(Kernels<std::complex<float>>&);
template void fill_dense(Kernels<std::complex<double>>&);

RETROGRAD_END
