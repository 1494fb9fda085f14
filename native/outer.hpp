// The gradient of a weight matrix: sum over rows and time of gradient_t factor_t^H, a product over (batch, time).
//
// A tile of the result (8 rows by 2 vectors) stays in registers over a piece of time that stays in the cache; both
// arrays are read where they lie. Every element is summed in an order that depends on shapes alone: threads share the
// fixed ranges of pieces, whose sums are added in order at the end, and the tiles.
#pragma once

#include <cstring>

#include "simd.hpp"
#include "threads.hpp"

RETROGRAD_BEGIN
namespace {

constexpr int tile_rows = 8;
constexpr std::int64_t piece_steps = 128;

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

// A large piece is copied into the order in which its tiles read it: its rows lie too far apart for the caches' sets.
template <class S>
class PackedPiece {
  public:
    explicit PackedPiece(const OuterSum<S>& p)
        : used(p.height >= 128 && p.width >= 128),
          gradient_(used ? p.height * piece_steps : 0),
          factor_(used ? strip * piece_steps : 0) {}

    static constexpr std::int64_t strip = 2 * Lanes<S>::width;
    const bool used;

    // Rows i .. i + 7 of every step, side by side; only whole tiles.
    void pack_gradient(const S* gradient, std::int64_t step, std::int64_t steps, std::int64_t height) {
        S* to = gradient_.data();
        for (std::int64_t i = 0; i + tile_rows <= height; i += tile_rows)
            for (std::int64_t k = 0; k < steps; ++k, to += tile_rows)
                std::memcpy(static_cast<void*>(to), gradient + k * step + i, sizeof(S) * tile_rows);
    }
    void pack_factor(const S* factor, std::int64_t step, std::int64_t steps) {
        for (std::int64_t k = 0; k < steps; ++k)
            std::memcpy(static_cast<void*>(factor_.data() + k * strip), factor + k * step, sizeof(S) * strip);
    }
    const S* gradient(std::int64_t i, std::int64_t steps) const { return gradient_.data() + i * steps; }
    const S* factor() const { return factor_.data(); }

  private:
    Buffer<S> gradient_, factor_;
};

// Adds one piece, `steps` pairs, to the tiles [first_tile, last_tile) of the result (height, width).
template <class S>
void add_piece(const OuterSum<S>& p, const S* gradient, std::int64_t gradient_step, const S* factor,
               std::int64_t factor_step, std::int64_t steps, S* result, std::int64_t first_tile, std::int64_t last_tile,
               PackedPiece<S>& packed) {
    constexpr std::int64_t lanes = Lanes<S>::width, strip = 2 * lanes;
    constexpr auto every = std::make_integer_sequence<int, tile_rows>();
    const bool pack = packed.used && steps >= piece_steps / 4;
    if (pack) packed.pack_gradient(gradient, gradient_step, steps, p.height);
    std::int64_t at_hand = -1;
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        // Down first: the factor's strip stays in the first-level cache.
        const std::int64_t i = tile % p.tiles_down() * tile_rows, j = tile / p.tiles_down() * strip;
        const int rows = static_cast<int>(p.height - i < tile_rows ? p.height - i : tile_rows);
        const bool rows_packed = pack && rows == tile_rows;
        const S* d = rows_packed ? packed.gradient(i, steps) : gradient + i;
        const std::int64_t d_step = rows_packed ? tile_rows : gradient_step;
        S* at = result + i * p.width + j;
        if (p.width - j >= strip) {
            if (pack && at_hand != j) packed.pack_factor(factor + (at_hand = j), factor_step, steps);
            const S* h = pack ? packed.factor() : factor + j;
            outer_kernel<S, 2>(rows, every)(d, d_step, h, pack ? strip : factor_step, steps, at, p.width, 0);
            continue;
        }
        for (std::int64_t c = j; c < p.width; c += lanes) {
            const int used = static_cast<int>(p.width - c < lanes ? p.width - c : lanes);
            outer_kernel<S, 1>(rows, every)(d, d_step, factor + c, factor_step, steps, at + (c - j), p.width, used);
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
    const std::int64_t tiles = p.tiles_down() * ceil_div(p.width, PackedPiece<S>::strip);
    const std::int64_t pieces_of_row = ceil_div(p.time, piece_steps), pieces = p.rows_per_sum * pieces_of_row;
    // Ranges of pieces, by shapes alone; what threads are left over share the tiles.
    const std::int64_t splits = ceil_div(pieces, 8) < 16 ? ceil_div(pieces, 8) : 16;
    const std::int64_t spare = ceil_div(p.threads, groups * splits), shares = spare < tiles ? spare : tiles;
    Buffer<S> partial(splits > 1 ? splits * groups * size : 0);
    S* results = splits > 1 ? partial.data() : p.result;
    for (std::int64_t i = 0; i < groups * splits * size; ++i) results[i] = S(0);
    parallel_for(groups * splits * shares, p.threads, [&](std::int64_t task) {
        const std::int64_t share = task % shares, split = task / shares % splits, group = task / shares / splits;
        const std::int64_t tile0 = tiles * share / shares, tile1 = tiles * (share + 1) / shares;
        S* result = results + (group * splits + split) * size;
        PackedPiece<S> packed(p);
        const std::int64_t piece1 = pieces * (split + 1) / splits;
        for (std::int64_t piece = pieces * split / splits; piece < piece1; ++piece) {
            const std::int64_t row = group * p.rows_per_sum + piece / pieces_of_row;
            std::int64_t t = piece % pieces_of_row * piece_steps, steps = p.time - t;
            if (steps > piece_steps) steps = piece_steps;
            const auto add = [&](const S* factor, std::int64_t first, std::int64_t count) {
                add_piece(p, p.gradient.at(row, first), p.gradient.time, factor, p.factor.time, count, result, tile0,
                          tile1, packed);
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
            for (std::int64_t split = 0; split < splits; ++split) sum += results[(group * splits + split) * size + i];
            p.result[group * size + i] = sum;
        }
}

}  // namespace
RETROGRAD_END
