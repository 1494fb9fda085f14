// Diagonal transitions: h_t = a_t * h_{t-1} + u_t, element by element. Recurrence and adjoint: recurrence.hpp.
//
// A task is the rows that share one transition (all of a group when it varies in time, so that the sum of d_a over
// the group has a fixed order; one row when it does not) times a block of channels. It streams through time with the
// carried state in cache. Each array is read once and each output written once.
#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

struct Tasks {
    std::int64_t rows, channels, blocks, count;  // rows a task, channels a block
};

Tasks tasks_of(const Extents& e) {
    Tasks k;
    k.rows = e.time_invariant ? 1 : e.rows_per_transition;
    const std::int64_t groups = e.batch / k.rows;
    // Whole rows stream best; they are cut only when there are fewer groups than threads, at 64-element bounds.
    const std::int64_t wanted = groups >= e.threads ? 1 : ceil_div(e.threads, groups);
    k.channels = ceil_div(ceil_div(e.width, wanted), 64) * 64;
    k.blocks = ceil_div(e.width, k.channels);
    k.count = groups * k.blocks;
    return k;
}

template <class T>
void scan(const Scan<T>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    const Tasks k = tasks_of(e);
    parallel_for(k.count, e.threads, [&](std::int64_t task) {
        const std::int64_t row0 = task / k.blocks * k.rows, c0 = task % k.blocks * k.channels;
        const std::int64_t n = e.width - c0 < k.channels ? e.width - c0 : k.channels;
        for (std::int64_t step = 0; step < e.time; ++step) {
            const std::int64_t t = step_index(e, step, false), before = e.reverse ? t + 1 : t - 1;
            for (std::int64_t row = row0; row < row0 + k.rows; ++row) {
                const T* a = p.A.at(row / e.rows_per_transition, t) + c0;
                const T* u = p.u.at(row, t) + c0;
                const T* previous = (step == 0 ? p.h0.at(row, 0) : p.states.at(row, before)) + c0;
                T* __restrict h = p.states.at(row, t) + c0;
                for (std::int64_t c = 0; c < n; ++c) h[c] = multiply_add(a[c], previous[c], u[c]);
            }
        }
    });
}

template <class T>
void adjoint(const Adjoint<T>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.width == 0) return;
    const Tasks k = tasks_of(e);
    const bool gradient_of_a = p.d_A.data != nullptr;
    parallel_for(k.count, e.threads, [&](std::int64_t task) {
        const std::int64_t row0 = task / k.blocks * k.rows, c0 = task % k.blocks * k.channels;
        const std::int64_t n = e.width - c0 < k.channels ? e.width - c0 : k.channels;
        // carry = a_t^* delta_t lives in d_h0, its place after the last step.
        for (std::int64_t row = row0; row < row0 + k.rows; ++row)
            std::memcpy(static_cast<void*>(p.d_h0.at(row, 0) + c0), p.g_final.at(row, 0) + c0, sizeof(T) * n);
        for (std::int64_t step = 0; step < e.time; ++step) {
            const std::int64_t t = step_index(e, step, true), before = e.reverse ? t + 1 : t - 1;
            for (std::int64_t row = row0; row < row0 + k.rows; ++row) {
                const std::int64_t group = row / e.rows_per_transition;
                const T* a = p.A.at(group, t) + c0;
                const T* g = p.g.at(row, t) + c0;
                T* __restrict carry = p.d_h0.at(row, 0) + c0;
                T* __restrict delta = p.delta.at(row, t) + c0;
                if (!gradient_of_a) {
                    for (std::int64_t c = 0; c < n; ++c) {
                        const T d = g[c] + carry[c];
                        delta[c] = d;
                        carry[c] = multiply_add(conjugate(a[c]), d, T(0));
                    }
                    continue;
                }
                const T* previous = (step + 1 == e.time ? p.h0.at(row, 0) : p.states.at(row, before)) + c0;
                T* __restrict d_a = (e.time_invariant ? p.d_A.at(row, 0) : p.d_A.at(group, t)) + c0;
                const bool first = e.time_invariant ? step == 0 : row == row0;
                for (std::int64_t c = 0; c < n; ++c) {
                    const T d = g[c] + carry[c];
                    delta[c] = d;
                    carry[c] = multiply_add(conjugate(a[c]), d, T(0));
                    d_a[c] = multiply_add(d, conjugate(previous[c]), first ? T(0) : d_a[c]);
                }
            }
        }
    });
}

}  // namespace

template <class T>
void fill_diagonal(Kernels<T>& table) {
    table.diagonal_scan = scan<T>;
    table.diagonal_adjoint = adjoint<T>;
}
template void fill_diagonal(Kernels<float>&);
template void fill_diagonal(Kernels<double>&);
template void fill_diagonal(Kernels<std::complex<float>>&);
template void fill_diagonal(Kernels<std::complex<double>>&);

RETROGRAD_END
