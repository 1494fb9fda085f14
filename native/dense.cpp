// Dense transitions: h_t = A_t h_{t-1} + u_t. Recurrence and adjoint: recurrence.hpp.
//
// Time-invariant: A is packed once into panels of columns, and one step is next = add + previous M, with M = A^T
// forward (h_t^T = h_{t-1}^T A^T) and M = conj(A) in the adjoint: the same kernel serves both. Rows never wait for one
// another, so threads meet only at the end. Two shapes of kernel, chosen by the rows that share a transition alone:
//   many rows  8 rows by 2 vectors of columns in registers: the speed of one big matrix product;
//   one row    up to 8 vectors of columns, the sum over k in up to 4 interleaved parts: enough independent chains to
//              hide the latency of a multiply-add.
// Time-varying: each A_t is used once, straight from memory: dot products forward, sums of rows in the adjoint.
// The gradient of a time-invariant A is one matrix product over (batch, time), left to the caller's GEMM.
#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

constexpr int block_rows = 8;

// packed[p][k][j] = M(k, p * panel + j), zero beyond the width.
template <class S>
void pack(const S* A, std::int64_t width, std::int64_t panel, bool forward, S* packed) {
    for (std::int64_t c0 = 0; c0 < width; c0 += panel)
        for (std::int64_t k = 0; k < width; ++k)
            for (std::int64_t c = c0; c < c0 + panel; ++c)
                *packed++ = c >= width ? S(0) : forward ? A[c * width + k] : conjugate_scalar(A[k * width + c]);
}

// next[r] = add[r] + previous[r] M for `Rows` rows and one panel of `Vecs` vectors; `add` null means zero.
// The sum over k runs in `Parts` interleaved parts, added in order at the end.
template <class S, int Rows, int Vecs, int Parts>
inline void panel_step(const S* const* previous, const S* const* add, S* const* next, const S* packed,
                       std::int64_t width, std::int64_t c0) {
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    constexpr std::int64_t panel = Vecs * L::width;
    Vec sum[Parts][Rows][Vecs] = {};
    std::int64_t k = 0;
    for (; k + Parts <= width; k += Parts)
        for (int part = 0; part < Parts; ++part)
            for (int r = 0; r < Rows; ++r) {
                const Vec h = L::broadcast(previous[r][k + part]);
                for (int v = 0; v < Vecs; ++v)
                    sum[part][r][v] =
                        L::multiply_add(h, L::load(packed + (k + part) * panel + v * L::width), sum[part][r][v]);
            }
    for (; k < width; ++k)
        for (int r = 0; r < Rows; ++r) {
            const Vec h = L::broadcast(previous[r][k]);
            for (int v = 0; v < Vecs; ++v)
                sum[0][r][v] = L::multiply_add(h, L::load(packed + k * panel + v * L::width), sum[0][r][v]);
        }
    const Row<S> row(width - c0 < panel ? width - c0 : panel);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vecs && v < row.count; ++v) {
            Vec total = sum[0][r][v];
            for (int part = 1; part < Parts; ++part) total += sum[part][r][v];
            if (add[r]) total += row.load(add[r] + c0, v);
            row.template store<false>(next[r] + c0, v, total);
        }
}

template <class S>
using Step = void (*)(const S* const*, const S* const*, S* const*, const S*, std::int64_t);

template <class S, int Rows, int Vecs, int Parts>
void step(const S* const* previous, const S* const* add, S* const* next, const S* packed, std::int64_t width) {
    constexpr std::int64_t panel = Vecs * Lanes<S>::width;
    for (std::int64_t c0 = 0; c0 < width; c0 += panel, packed += width * panel)
        panel_step<S, Rows, Vecs, Parts>(previous, add, next, packed, width, c0);
}

// Which kernel, and which blocks of rows: by shapes alone, save that no more than an even share of the rows goes to
// one thread. A row's sums have the same order in every block of many rows, so that share changes no result.
template <class S>
struct Plan {
    std::int64_t panel, rows, blocks, count;
    Step<S> kernels[block_rows];  // by number of rows, less one

    explicit Plan(const Extents& e) {
        const std::int64_t vectors = ceil_div(e.width, Lanes<S>::width);
        if (e.rows_per_transition == 1) {
            rows = 1;
            if (vectors == 1) one<1, 4>();
            else if (vectors == 2) one<2, 4>();
            else if (vectors <= 4) one<4, 2>();
            else one<8, 1>();
        } else {
            const std::int64_t share = ceil_div(e.rows_per_transition, e.threads);
            rows = share < block_rows ? share : block_rows;
            panel = 2 * Lanes<S>::width;
            many(std::make_integer_sequence<int, block_rows>());
        }
        blocks = ceil_div(e.rows_per_transition, rows);
        count = e.batch / e.rows_per_transition * blocks;
    }

  private:
    template <int Vecs, int Parts>
    void one() {
        panel = Vecs * Lanes<S>::width;
        kernels[0] = step<S, 1, Vecs, Parts>;
    }
    template <int... I>
    void many(std::integer_sequence<int, I...>) {
        ((kernels[I] = step<S, I + 1, 2, 1>), ...);
    }
};

// Every group's matrix, packed: (groups, packed size).
template <class S>
class PackedTransitions {
  public:
    PackedTransitions(const Extents& e, const Sequence<const S>& A, std::int64_t panel, bool forward)
        : size_(ceil_div(e.width, panel) * panel * e.width), buffer_(size_ * (e.batch / e.rows_per_transition)) {
        for (std::int64_t group = 0; group < e.batch / e.rows_per_transition; ++group)
            pack(A.at(group, 0), e.width, panel, forward, buffer_.data() + group * size_);
    }
    const S* of(std::int64_t group) const { return buffer_.data() + group * size_; }

  private:
    std::int64_t size_;
    Buffer<S> buffer_;
};

// Calls task(first row, rows, packed matrix, kernel) for every block of rows.
template <class S, class Task>
void for_blocks(const Extents& e, const Sequence<const S>& A, bool forward, const Task& task) {
    const Plan<S> plan(e);
    const PackedTransitions<S> packed(e, A, plan.panel, forward);
    parallel_for(plan.count, e.threads, [&](std::int64_t i) {
        const std::int64_t group = i / plan.blocks, first = i % plan.blocks * plan.rows;
        const std::int64_t left = e.rows_per_transition - first;
        const int rows = static_cast<int>(left < plan.rows ? left : plan.rows);
        task(group * e.rows_per_transition + first, rows, packed.of(group), plan.kernels[rows - 1]);
    });
}

template <class S>
void scan_invariant(const Scan<S>& p) {
    const Extents& e = p.extents;
    for_blocks<S>(e, p.A, true, [&](std::int64_t row0, int rows, const S* packed, Step<S> kernel) {
        const S *previous[block_rows], *add[block_rows];
        S* next[block_rows];
        for (int r = 0; r < rows; ++r) previous[r] = p.h0.at(row0 + r, 0);
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, false);
            for (int r = 0; r < rows; ++r) {
                add[r] = p.u.at(row0 + r, t);
                next[r] = p.states.at(row0 + r, t);
            }
            kernel(previous, add, next, packed, e.width);
            for (int r = 0; r < rows; ++r) previous[r] = next[r];
        }
    });
}

template <class S>
void adjoint_invariant(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    for_blocks<S>(e, p.A, false, [&](std::int64_t row0, int rows, const S* packed, Step<S> kernel) {
        const S *previous[block_rows], *add[block_rows];
        S* next[block_rows];
        const std::int64_t last = step_index(e, 0, true);
        for (int r = 0; r < rows; ++r) {
            S* delta = p.delta.at(row0 + r, last);
            const S *g = p.g.at(row0 + r, last), *g_final = p.g_final.at(row0 + r, 0);
            for (std::int64_t c = 0; c < e.width; ++c) delta[c] = g[c] + g_final[c];
        }
        for (std::int64_t k = 0; k < e.time; ++k) {  // the last turn gives d_h0 = A^H delta_1
            const std::int64_t t = step_index(e, k, true);
            const bool to_h0 = k + 1 == e.time;
            const std::int64_t before = to_h0 ? t : step_index(e, k + 1, true);
            for (int r = 0; r < rows; ++r) {
                previous[r] = p.delta.at(row0 + r, t);
                add[r] = to_h0 ? nullptr : p.g.at(row0 + r, before);
                next[r] = to_h0 ? p.d_h0.at(row0 + r, 0) : p.delta.at(row0 + r, before);
            }
            kernel(previous, add, next, packed, e.width);
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
    e.time_invariant ? scan_invariant(p) : scan_varying(p);
}

template <class S>
void adjoint(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    e.time_invariant ? adjoint_invariant(p) : adjoint_varying(p);
}

}  // namespace

template <class S>
void fill_dense(Kernels<S>& table) {
    table.dense_scan = scan<S>;
    table.dense_adjoint = adjoint<S>;
}
template void fill_dense(Kernels<float>&);
template void fill_dense(Kernels<double>&);
template void fill_dense(Kernels<std::complex<float>>&);
template void fill_dense(Kernels<std::complex<double>>&);

RETROGRAD_END
