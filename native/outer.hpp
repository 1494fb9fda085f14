// The gradient of a weight matrix: sum over rows and time of gradient_t factor_t^H, a product over (batch, time).
//
// A tile of the result (8 rows by 2 vectors) stays in registers over a piece of time that stays in the cache; both
// arrays are read where they lie. Every element is summed in an order that depends on shapes alone: threads share the
// tiles, or, where the result is small, fixed ranges of pieces whose sums are added in order at the end.
#pragma once

#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

constexpr int tile_rows = 8;
constexpr std::int64_t piece_steps = 256;

// tile[r][v] += sum over k < steps of gradient[k][r] conj(factor[k][v]); one vector has `lanes_used` lanes of its own.
template <class S, int Rows, int Vecs>
void outer_tile(const S* gradient, std::int64_t gradient_step, const S* factor, std::int64_t factor_step,
                std::int64_t steps, S* tile, std::int64_t tile_step, int lanes_used) {
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    constexpr int parts = Rows * Vecs <= 4 ? 4 : 1;  // independent chains that hide the latency of a multiply-add
    Vec sum[parts][Rows][Vecs] = {};
    const auto vector = [&](const S* p, int v) {
        return Vecs == 1 && lanes_used < L::width ? L::load_some(p, lanes_used) : L::load(p + v * L::width);
    };
    const auto add = [&](std::int64_t k, int part) {
        const S* d = gradient + k * gradient_step;
        Vec h[Vecs];
        for (int v = 0; v < Vecs; ++v) h[v] = L::conjugate(vector(factor + k * factor_step, v));
        for (int r = 0; r < Rows; ++r) {
            const Vec x = L::broadcast(d[r]);
            for (int v = 0; v < Vecs; ++v) sum[part][r][v] = L::multiply_add(x, h[v], sum[part][r][v]);
        }
    };
    std::int64_t k = 0;
    for (; k + parts <= steps; k += parts)
        for (int part = 0; part < parts; ++part) add(k + part, part);
    for (; k < steps; ++k) add(k, 0);
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vecs; ++v) {
            Vec total = sum[0][r][v];
            for (int part = 1; part < parts; ++part) total += sum[part][r][v];
            S* at = tile + r * tile_step;
            if (Vecs == 1 && lanes_used < L::width) L::store_some(at, vector(at, v) + total, lanes_used);
            else L::store(at + v * L::width, vector(at, v) + total);
        }
}

template <class S>
using OuterTile = void (*)(const S*, std::int64_t, const S*, std::int64_t, std::int64_t, S*, std::int64_t, int);

template <class S, int Vecs, int... I>
OuterTile<S> outer_kernel(int rows, std::integer_sequence<int, I...>) {
    constexpr OuterTile<S> kernels[] = {outer_tile<S, I + 1, Vecs>...};
    return kernels[rows - 1];
}

// Adds one piece, `steps` pairs, to every tile of a share of the result (height, width).
template <class S>
void add_piece(const OuterSum<S>& p, const S* gradient, std::int64_t gradient_step, const S* factor,
               std::int64_t factor_step, std::int64_t steps, S* result, std::int64_t first_tile, std::int64_t last_tile) {
    constexpr std::int64_t lanes = Lanes<S>::width;
    constexpr auto every = std::make_integer_sequence<int, tile_rows>();
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        // Down first: the factor's columns stay in the first-level cache.
        const std::int64_t across = tile / p.tiles_down(), i = tile % p.tiles_down() * tile_rows;
        const std::int64_t j = across * 2 * lanes;
        const int rows = static_cast<int>(p.height - i < tile_rows ? p.height - i : tile_rows);
        S* at = result + i * p.width + j;
        if (p.width - j >= 2 * lanes) {
            outer_kernel<S, 2>(rows, every)(gradient + i, gradient_step, factor + j, factor_step, steps, at, p.width, 0);
            continue;
        }
        for (std::int64_t c = j; c < p.width; c += lanes) {
            const int used = static_cast<int>(p.width - c < lanes ? p.width - c : lanes);
            outer_kernel<S, 1>(rows, every)(gradient + i, gradient_step, factor + c, factor_step, steps, at + (c - j),
                                            p.width, used);
        }
    }
}

template <class S>
void outer_sum(const OuterSum<S>& p) {
    const std::int64_t groups = p.rows_per_sum == 0 ? 1 : p.batch / p.rows_per_sum, size = p.height * p.width;
    if (p.rows_per_sum == 0 || p.time == 0 || size == 0) {
        for (std::int64_t i = 0; i < groups * size; ++i) p.result[i] = S(0);
        return;
    }
    constexpr std::int64_t lanes = Lanes<S>::width;
    const std::int64_t tiles_across = ceil_div(p.width, 2 * lanes), tiles = p.tiles_down() * tiles_across;
    const std::int64_t pieces = p.rows_per_sum * ceil_div(p.time, piece_steps);
    const std::int64_t splits = tiles * groups >= 16 ? 1 : ceil_div(pieces, 8) < 16 ? ceil_div(pieces, 8) : 16;
    const std::int64_t shares = splits * groups > 1 ? 1 : tiles < p.threads ? tiles : p.threads;
    Buffer<S> partial(splits > 1 ? splits * groups * size : 0);
    const std::int64_t pieces_of_row = ceil_div(p.time, piece_steps);
    parallel_for(groups * splits * shares, p.threads, [&](std::int64_t task) {
        const std::int64_t share = task % shares, split = task / shares % splits, group = task / shares / splits;
        const std::int64_t tile0 = tiles * share / shares, tile1 = tiles * (share + 1) / shares;
        S* result = splits > 1 ? partial.data() + (group * splits + split) * size : p.result + group * size;
        if (shares == 1 || splits > 1) {
            for (std::int64_t i = 0; i < size; ++i) result[i] = S(0);
        } else {
            for (std::int64_t tile = tile0; tile < tile1; ++tile) {
                const std::int64_t i = tile % p.tiles_down() * tile_rows, j = tile / p.tiles_down() * 2 * lanes;
                for (std::int64_t r = i; r < i + tile_rows && r < p.height; ++r)
                    for (std::int64_t c = j; c < j + 2 * lanes && c < p.width; ++c) result[r * p.width + c] = S(0);
            }
        }
        const std::int64_t piece1 = pieces * (split + 1) / splits;
        for (std::int64_t piece = pieces * split / splits; piece < piece1; ++piece) {
            const std::int64_t row = group * p.rows_per_sum + piece / pieces_of_row;
            std::int64_t t = piece % pieces_of_row * piece_steps, steps = p.time - t;
            if (steps > piece_steps) steps = piece_steps;
            const auto add = [&](const S* factor, std::int64_t first, std::int64_t count) {
                add_piece(p, p.gradient.at(row, first), p.gradient.time, factor, p.factor.time, count, result, tile0,
                          tile1);
            };
            if (!p.before.data) {
                add(p.factor.at(row, t), t, steps);
                continue;
            }
            // Each gradient meets the factor of the step before it, the first one `before`.
            const std::int64_t first = p.reverse ? p.time - 1 : 0;
            if (t <= first && first < t + steps) {
                add(p.before.at(row, 0), first, 1);
                if (!p.reverse) ++t;
                --steps;
            }
            if (steps > 0) add(p.factor.at(row, p.reverse ? t + 1 : t - 1), t, steps);
        }
    });
    if (splits == 1) return;
    for (std::int64_t group = 0; group < groups; ++group)
        for (std::int64_t i = 0; i < size; ++i) {
            S sum(0);
            for (std::int64_t split = 0; split < splits; ++split)
                sum += partial.data()[(group * splits + split) * size + i];
            p.result[group * size + i] = sum;
        }
}

}  // namespace
RETROGRAD_END
