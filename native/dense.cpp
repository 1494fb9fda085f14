// Dense transitions: h_t = A_t h_{t-1} + u_t. Recurrence and adjoint: recurrence.hpp.
//
// Time-invariant: A is packed once into panels of two vectors of columns; a block of up to 8 batch rows keeps its
// whole product in registers (`step`). Forward packs A^T (h_t^T = h_{t-1}^T A^T), the adjoint packs A: the same
// step serves both. Rows never wait for one another, so threads meet only at the end.
// Time-varying: each A_t is used once, straight from memory: dot products forward, sums of rows in the adjoint.
// The gradient of a time-invariant A is one matrix product over (batch, time), left to the caller's GEMM.
#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

constexpr std::int64_t block_rows = 8;
template <class T>
constexpr std::int64_t panel = 2 * lanes<T>;

// packed[p][k][j] = M(k, p * panel + j), zero beyond the width.
template <class T>
void pack(const T* A, std::int64_t width, bool transpose, T* packed) {
    for (std::int64_t c0 = 0; c0 < width; c0 += panel<T>)
        for (std::int64_t k = 0; k < width; ++k)
            for (std::int64_t j = 0; j < panel<T>; ++j) {
                const std::int64_t c = c0 + j;
                *packed++ = c >= width ? T(0) : transpose ? A[c * width + k] : A[k * width + c];
            }
}

// next[r] = add[r] + previous[r] M for `Rows` rows; `add` null means zero.
template <class T, int Rows>
void step(const T* const* previous, const T* const* add, T* const* next, const T* packed, std::int64_t width) {
    for (std::int64_t c0 = 0; c0 < width; c0 += panel<T>, packed += width * panel<T>) {
        Vector<T> sum[Rows][2] = {};
        for (std::int64_t k = 0; k < width; ++k) {
            const Vector<T> m0 = load(packed + k * panel<T>), m1 = load(packed + k * panel<T> + lanes<T>);
            for (int r = 0; r < Rows; ++r) {
                const T h = previous[r][k];
                sum[r][0] += h * m0;
                sum[r][1] += h * m1;
            }
        }
        const std::int64_t n = width - c0 < panel<T> ? width - c0 : panel<T>;
        for (int r = 0; r < Rows; ++r) {
            T row[panel<T>];
            store(row, sum[r][0]);
            store(row + lanes<T>, sum[r][1]);
            for (std::int64_t j = 0; j < n; ++j) next[r][c0 + j] = add[r] ? add[r][c0 + j] + row[j] : row[j];
        }
    }
}

template <class T>
using Step = void (*)(const T* const*, const T* const*, T* const*, const T*, std::int64_t);
template <class T>
constexpr Step<T> steps[block_rows] = {step<T, 1>, step<T, 2>, step<T, 3>, step<T, 4>,
                                       step<T, 5>, step<T, 6>, step<T, 7>, step<T, 8>};

// The rows of one task: up to block_rows rows of one group.
struct RowBlocks {
    std::int64_t rows, a_group, count;
    explicit RowBlocks(const Extents& e) {
        // At least one block a thread, so that a batch of 8 does not leave threads idle.
        const std::int64_t spread = ceil_div(e.rows_per_transition, e.threads);
        rows = spread < block_rows ? spread : block_rows;
        a_group = ceil_div(e.rows_per_transition, rows);
        count = e.batch / e.rows_per_transition * a_group;
    }
};

// Every group's matrix, packed: (groups, packed size).
template <class T>
class PackedTransitions {
  public:
    PackedTransitions(const Extents& e, const Sequence<const T>& A, bool transpose)
        : size_(ceil_div(e.width, panel<T>) * panel<T> * e.width),
          buffer_(size_ * (e.batch / e.rows_per_transition)) {
        for (std::int64_t group = 0; group < e.batch / e.rows_per_transition; ++group)
            pack(A.at(group, 0), e.width, transpose, buffer_.data() + group * size_);
    }
    const T* of(std::int64_t group) const { return buffer_.data() + group * size_; }

  private:
    std::int64_t size_;
    Buffer<T> buffer_;
};

template <class T>
void scan_invariant(const Scan<T>& p) {
    const Extents& e = p.extents;
    const RowBlocks blocks(e);
    const PackedTransitions<T> packed(e, p.A, true);
    parallel_for(blocks.count, e.threads, [&](std::int64_t task) {
        const std::int64_t group = task / blocks.a_group, first = task % blocks.a_group * blocks.rows;
        const std::int64_t left = e.rows_per_transition - first;
        const int rows = static_cast<int>(left < blocks.rows ? left : blocks.rows);
        const std::int64_t row0 = group * e.rows_per_transition + first;
        const T *previous[block_rows], *add[block_rows];
        T* next[block_rows];
        for (int r = 0; r < rows; ++r) previous[r] = p.h0.at(row0 + r, 0);
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, false);
            for (int r = 0; r < rows; ++r) {
                add[r] = p.u.at(row0 + r, t);
                next[r] = p.states.at(row0 + r, t);
            }
            steps<T>[rows - 1](previous, add, next, packed.of(group), e.width);
            for (int r = 0; r < rows; ++r) previous[r] = next[r];
        }
    });
}

template <class T>
void adjoint_invariant(const Adjoint<T>& p) {
    const Extents& e = p.extents;
    const RowBlocks blocks(e);
    const PackedTransitions<T> packed(e, p.A, false);
    parallel_for(blocks.count, e.threads, [&](std::int64_t task) {
        const std::int64_t group = task / blocks.a_group, first = task % blocks.a_group * blocks.rows;
        const std::int64_t left = e.rows_per_transition - first;
        const int rows = static_cast<int>(left < blocks.rows ? left : blocks.rows);
        const std::int64_t row0 = group * e.rows_per_transition + first;
        const T *previous[block_rows], *add[block_rows];
        T* next[block_rows];
        const std::int64_t last = step_index(e, 0, true);
        for (int r = 0; r < rows; ++r) {
            T* delta = p.delta.at(row0 + r, last);
            const T *g = p.g.at(row0 + r, last), *g_final = p.g_final.at(row0 + r, 0);
            for (std::int64_t c = 0; c < e.width; ++c) delta[c] = g[c] + g_final[c];
        }
        for (std::int64_t k = 0; k < e.time; ++k) {  // the last turn gives d_h0 = A^T delta_1
            const std::int64_t t = step_index(e, k, true);
            const bool to_h0 = k + 1 == e.time;
            const std::int64_t before = to_h0 ? t : step_index(e, k + 1, true);
            for (int r = 0; r < rows; ++r) {
                previous[r] = p.delta.at(row0 + r, t);
                add[r] = to_h0 ? nullptr : p.g.at(row0 + r, before);
                next[r] = to_h0 ? p.d_h0.at(row0 + r, 0) : p.delta.at(row0 + r, before);
            }
            steps<T>[rows - 1](previous, add, next, packed.of(group), e.width);
        }
    });
}

template <class T>
void scan_varying(const Scan<T>& p) {
    const Extents& e = p.extents;
    parallel_for(e.batch, e.threads, [&](std::int64_t row) {
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, false), before = e.reverse ? t + 1 : t - 1;
            const T* A = p.A.at(row / e.rows_per_transition, t);
            const T* previous = k == 0 ? p.h0.at(row, 0) : p.states.at(row, before);
            const T* u = p.u.at(row, t);
            T* h = p.states.at(row, t);
            for (std::int64_t i = 0; i < e.width; ++i, A += e.width) {
                constexpr std::int64_t n = lanes<T>;
                Vector<T> sums = {};
                std::int64_t c = 0;
                for (; c + n <= e.width; c += n) sums += load(A + c) * load(previous + c);
                T sum = 0;
                for (std::int64_t j = 0; j < n; ++j) sum += sums[j];
                for (; c < e.width; ++c) sum += A[c] * previous[c];
                h[i] = u[i] + sum;
            }
        }
    });
}

// One task a group: its rows meet in d_A, whose sum then has a fixed order.
template <class T>
void adjoint_varying(const Adjoint<T>& p) {
    const Extents& e = p.extents;
    const std::int64_t rows = p.d_A.data ? e.rows_per_transition : 1;
    parallel_for(e.batch / rows, e.threads, [&](std::int64_t task) {
        for (std::int64_t row = task * rows; row < (task + 1) * rows; ++row)
            std::memcpy(p.d_h0.at(row, 0), p.g_final.at(row, 0), sizeof(T) * e.width);
        for (std::int64_t k = 0; k < e.time; ++k) {
            const std::int64_t t = step_index(e, k, true), before = e.reverse ? t + 1 : t - 1;
            for (std::int64_t row = task * rows; row < (task + 1) * rows; ++row) {
                const std::int64_t group = row / e.rows_per_transition;
                const T* A = p.A.at(group, t);
                const T* g = p.g.at(row, t);
                T* __restrict carry = p.d_h0.at(row, 0);
                T* __restrict delta = p.delta.at(row, t);
                for (std::int64_t c = 0; c < e.width; ++c) {
                    delta[c] = g[c] + carry[c];
                    carry[c] = 0;
                }
                for (std::int64_t i = 0; i < e.width; ++i)
                    for (std::int64_t c = 0; c < e.width; ++c) carry[c] += A[i * e.width + c] * delta[i];
                if (!p.d_A.data) continue;
                const T* previous = k + 1 == e.time ? p.h0.at(row, 0) : p.states.at(row, before);
                T* __restrict d_A = p.d_A.at(group, t);
                const bool first = row == task * rows;
                for (std::int64_t i = 0; i < e.width; ++i)
                    for (std::int64_t c = 0; c < e.width; ++c) {
                        const T term = delta[i] * previous[c];
                        d_A[i * e.width + c] = first ? term : d_A[i * e.width + c] + term;
                    }
            }
        }
    });
}

template <class T>
void scan(const Scan<T>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    e.time_invariant ? scan_invariant(p) : scan_varying(p);
}

template <class T>
void adjoint(const Adjoint<T>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    e.time_invariant ? adjoint_invariant(p) : adjoint_varying(p);
}

}  // namespace

template <class T>
void fill_dense(Kernels<T>& table) {
    table.dense_scan = scan<T>;
    table.dense_adjoint = adjoint<T>;
}
template void fill_dense(Kernels<float>&);
template void fill_dense(Kernels<double>&);

RETROGRAD_END
