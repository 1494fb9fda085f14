// One step of several rows at once, next = add + previous M: forward M = A^T (h_t^T = h_{t-1}^T A^T), in the adjoint
// M = conj(A). M is packed once into panels of columns. Two shapes of kernel:
//   many rows  6 or 8 rows by 2 vectors of columns in registers: the speed of one big matrix product;
//   one row    up to 8 vectors of columns, the sum over k in up to 4 interleaved parts: enough independent chains to
//              hide the latency of a multiply-add.
// A row's sums have the same order in every block of many rows: how rows are shared out changes no result.
#pragma once

#include "rows.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

constexpr int block_rows = 8;  // at most
// Real sums of 8 rows by 2 vectors would fill all 16 registers of sets that have no more. Narrow rows are quick to add
// up, and 8 at a time all the same.
template <class S>
int rows_together([[maybe_unused]] std::int64_t width) {
#if defined(__AVX512F__) || defined(__aarch64__)
    return block_rows;
#else
    return Lanes<S>::reals == 1 && width >= 16 ? 6 : block_rows;
#endif
}

// What M is, of a row-major matrix.
enum class Form { as_it_is, transposed, conjugated };

// packed[p][k][j] = M(k, p * panel + j), M of shape (inner, width); zero beyond the width. A's rows are of M, or where
// `transposed` its columns.
template <class S>
void pack(const S* A, std::int64_t inner, std::int64_t width, std::int64_t panel, Form form, S* packed) {
    for (std::int64_t c0 = 0; c0 < width; c0 += panel, packed += inner * panel) {
        const std::int64_t columns = width - c0 < panel ? width - c0 : panel;
        for (std::int64_t k = 0; k < inner; ++k)
            for (std::int64_t c = columns; c < panel; ++c) packed[k * panel + c] = S(0);
        if (form == Form::transposed) {
            for (std::int64_t c = 0; c < columns; ++c)
                for (std::int64_t k = 0; k < inner; ++k) packed[k * panel + c] = A[(c0 + c) * inner + k];
        } else if (form == Form::as_it_is) {
            for (std::int64_t k = 0; k < inner; ++k)
                for (std::int64_t c = 0; c < columns; ++c) packed[k * panel + c] = A[k * width + c0 + c];
        } else {
            for (std::int64_t k = 0; k < inner; ++k)
                for (std::int64_t c = 0; c < columns; ++c)
                    packed[k * panel + c] = conjugate_scalar(A[k * width + c0 + c]);
        }
    }
}

// next[r] = add[r] + previous[r] M for `Rows` rows and one panel of `Vecs` vectors; `add` null means zero. M is
// (inner, width). The sum over k runs in `Parts` interleaved parts, added in order at the end.
//
// `padded` rows have memory for whole vectors, which are stored: the next step reads a state one element at a time, and
// a partial store makes those reads wait.
template <class S, int Rows, int Vecs, int Parts>
inline void panel_step(const S* const* previous, const S* const* add, S* const* next, const S* packed,
                       std::int64_t inner, std::int64_t width, std::int64_t c0, bool padded) {
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    constexpr std::int64_t panel = Vecs * L::width;
    Vec sum[Parts][Rows][Vecs] = {};
    std::int64_t k = 0;
    for (; k + Parts <= inner; k += Parts)
        for (int part = 0; part < Parts; ++part)
            for (int r = 0; r < Rows; ++r) {
                const Vec h = L::broadcast(previous[r][k + part]);
                for (int v = 0; v < Vecs; ++v)
                    sum[part][r][v] =
                        L::multiply_add(h, L::load(packed + (k + part) * panel + v * L::width), sum[part][r][v]);
            }
    for (; k < inner; ++k)
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
            if (padded) L::store(next[r] + c0 + v * L::width, total);
            else row.template store<false>(next[r] + c0, v, total);
        }
}

template <class S>
using Step = void (*)(const S* const*, const S* const*, S* const*, const S*, std::int64_t, std::int64_t, bool);

template <class S, int Rows, int Vecs, int Parts>
void step(const S* const* previous, const S* const* add, S* const* next, const S* packed, std::int64_t inner,
          std::int64_t width, bool padded) {
    constexpr std::int64_t panel = Vecs * Lanes<S>::width;
    for (std::int64_t c0 = 0; c0 < width; c0 += panel, packed += inner * panel)
        panel_step<S, Rows, Vecs, Parts>(previous, add, next, packed, inner, width, c0, padded);
}

// The kernels of one shape, by number of rows less one, and the panel that they want M packed in.
template <class S>
struct StepKernels {
    std::int64_t panel;
    int most_rows;
    Step<S> of_rows[block_rows];

    static StepKernels one_row(std::int64_t width) {
        const std::int64_t vectors = ceil_div(width, Lanes<S>::width);
        if (vectors == 1) return {Lanes<S>::width, 1, {step<S, 1, 1, 4>}};
        if (vectors == 2) return {2 * Lanes<S>::width, 1, {step<S, 1, 2, 4>}};
        if (vectors <= 4) return {4 * Lanes<S>::width, 1, {step<S, 1, 4, 2>}};
        return {8 * Lanes<S>::width, 1, {step<S, 1, 8, 1>}};
    }
    static StepKernels many_rows(std::int64_t width) {
        constexpr auto all = std::make_integer_sequence<int, block_rows>();
        return width <= Lanes<S>::width ? many<1>(width, all) : many<2>(width, all);
    }

  private:
    template <int Vecs, int... I>
    static StepKernels many(std::int64_t width, std::integer_sequence<int, I...>) {
        return {Vecs * Lanes<S>::width, rows_together<S>(width), {step<S, I + 1, Vecs, 1>...}};
    }
};

// One M, packed.
template <class S>
class PackedTransition {
  public:
    PackedTransition(const S* A, std::int64_t width, std::int64_t panel, Form form)
        : buffer_(ceil_div(width, panel) * panel * width) {
        pack(A, width, width, panel, form, buffer_.data());
    }
    const S* data() const { return buffer_.data(); }

  private:
    Buffer<S> buffer_;
};

}  // namespace
RETROGRAD_END
