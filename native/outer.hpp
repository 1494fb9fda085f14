// The gradient of a weight matrix: sum over rows and time of gradient_t factor_t^H, a product over (batch, time).
//
// A tile of the result (8 rows by 2 vectors) stays in registers over a piece of time that stays in the cache; both
// arrays are read where they lie. Every element is summed in an order that depends on shapes alone: threads share the
// fixed ranges of pieces, whose sums are added in order at the end, and the tiles.
#pragma once

#include <cstring>

#include "sequences.hpp"

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
        : used(p.height >= 128 && p.extents.width >= 128),
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
        S* at = result + i * p.extents.width + j;
        if (p.extents.width - j >= strip) {
            if (pack && at_hand != j) packed.pack_factor(factor + (at_hand = j), factor_step, steps);
            const S* h = pack ? packed.factor() : factor + j;
            outer_kernel<S, 2>(rows, every)(d, d_step, h, pack ? strip : factor_step, steps, at, p.extents.width, 0);
            continue;
        }
        for (std::int64_t c = j; c < p.extents.width; c += lanes) {
            const int used = static_cast<int>(p.extents.width - c < lanes ? p.extents.width - c : lanes);
            outer_kernel<S, 1>(rows, every)(d, d_step, factor + c, factor_step, steps, at + (c - j), p.extents.width, used);
        }
    }
}

// Steps [begin, end) of a row; lines [line0, line1) of the problem meet them.
struct Piece {
    std::int64_t row, begin, end, line0, line1;
};

// The pieces of every group, of stretches of steps without padding.
class Pieces {
  public:
    Pieces(const Extents& e, const Lines& lines) : bounds_(e.batch / e.rows_per_transition + 1) {
        std::int64_t most = 0;
        for (std::int64_t i = 0; i < lines.count(); ++i) most += ceil_div(lines[i].length(), piece_steps);
        Buffer<Piece> pieces(most);
        pieces_.swap(pieces);
        std::int64_t count = 0, group = 0;
        bounds_.data()[0] = 0;
        const auto close = [&](std::int64_t before) {  // no more pieces of the groups before this one
            while (group < before) bounds_.data()[++group] = count;
        };
        for (std::int64_t i = 0; i < lines.count();) {
            std::int64_t last = i + 1;
            while (last < lines.count() && lines[last].row == lines[i].row && lines[last].begin == lines[last - 1].end)
                ++last;
            close(lines[i].row / e.rows_per_transition);
            for (std::int64_t t = lines[i].begin, end = lines[last - 1].end; t < end; t += piece_steps) {
                const std::int64_t to = t + piece_steps < end ? t + piece_steps : end;
                while (lines[i].end <= t) ++i;
                std::int64_t line1 = i + 1;
                while (line1 < last && lines[line1].begin < to) ++line1;
                pieces_.data()[count++] = {lines[i].row, t, to, i, line1};
            }
            i = last;
        }
        close(e.batch / e.rows_per_transition);
    }
    std::int64_t count(std::int64_t group) const { return bounds_.data()[group + 1] - bounds_.data()[group]; }
    const Piece& at(std::int64_t group, std::int64_t i) const { return pieces_.data()[bounds_.data()[group] + i]; }

  private:
    Buffer<Piece> pieces_ = Buffer<Piece>(0);
    Buffer<std::int64_t> bounds_;
};

// The factors that a piece's gradients meet: those of the step before, where they lie if no sequence begins among them.
template <class S>
class Factors {
  public:
    Factors(const OuterSum<S>& p, const Lines& lines)
        : p_(p), lines_(lines), copy_(p.before.data ? piece_steps * p.extents.width : 0) {}
    const S* data = nullptr;
    std::int64_t step = 0;

    void find(const Piece& piece) {
        step = p_.factor.time;
        if (!p_.before.data) {
            data = p_.factor.at(piece.row, piece.begin);
            return;
        }
        const std::int64_t shift = p_.extents.reverse ? 1 : -1, width = p_.extents.width;
        bool begins = false;
        for (std::int64_t i = piece.line0; i < piece.line1; ++i) begins = begins || within(piece, first(lines_[i]));
        if (!begins) {
            data = p_.factor.at(piece.row, piece.begin + shift);
            return;
        }
        S* to = copy_.data();
        for (std::int64_t t = piece.begin, i = piece.line0; t < piece.end; ++t, to += width) {
            while (lines_[i].end <= t) ++i;
            const S* from = t != first(lines_[i])    ? p_.factor.at(piece.row, t + shift)
                            : lines_[i].start >= 0 ? p_.before.at(lines_[i].start, 0)
                                                   : nullptr;
            if (from) std::memcpy(static_cast<void*>(to), from, sizeof(S) * static_cast<std::size_t>(width));
            else for (std::int64_t c = 0; c < width; ++c) to[c] = S(0);
        }
        data = copy_.data();
        step = width;
    }

  private:
    const OuterSum<S>& p_;
    const Lines& lines_;
    Buffer<S> copy_;

    std::int64_t first(const Line& line) const { return p_.extents.reverse ? line.end - 1 : line.begin; }
    static bool within(const Piece& piece, std::int64_t t) { return piece.begin <= t && t < piece.end; }
};

template <class S>
void add_to(S* total, const S* part, std::int64_t count) {
    const Row<S> row(count);
    for (int v = 0; v < row.count; ++v) row.template store<false>(total, v, row.load(total, v) + row.load(part, v));
}

template <class S>
void outer_sum(const OuterSum<S>& p) {
    const Extents& e = p.extents;
    const std::int64_t groups = e.batch == 0 ? 1 : e.batch / e.rows_per_transition, size = p.height * e.width;
    if (e.batch == 0 || e.time == 0 || size == 0) {
        for (std::int64_t i = 0; i < groups * size; ++i) p.result[i] = S(0);
        return;
    }
    const Lines lines(e);
    const Pieces pieces(e, lines);
    std::int64_t most = 0;
    for (std::int64_t group = 0; group < groups; ++group) most = most < pieces.count(group) ? pieces.count(group) : most;
    const std::int64_t tiles = p.tiles_down() * ceil_div(e.width, PackedPiece<S>::strip);
    // Ranges of pieces, by shapes alone; what threads are left over share the tiles.
    const std::int64_t eighths = most == 0 ? 1 : ceil_div(most, 8), splits = eighths < 16 ? eighths : 16;
    const std::int64_t spare = ceil_div(e.threads, groups * splits), shares = spare < tiles ? spare : tiles;
    Buffer<S> partial(splits > 1 ? splits * groups * size : 0);
    S* results = splits > 1 ? partial.data() : p.result;
    const auto clear = [](S* first, std::int64_t count) {
        std::memset(static_cast<void*>(first), 0, sizeof(S) * static_cast<std::size_t>(count));
    };
    if (shares > 1) clear(results, groups * splits * size);
    parallel_for(groups * splits * shares, e.threads, [&](std::int64_t task) {
        const std::int64_t share = task % shares, split = task / shares % splits, group = task / shares / splits;
        const std::int64_t tile0 = tiles * share / shares, tile1 = tiles * (share + 1) / shares;
        S* result = results + (group * splits + split) * size;
        if (shares == 1) clear(result, size);
        PackedPiece<S> packed(p);
        Factors<S> factors(p, lines);
        const std::int64_t count = pieces.count(group), last = count * (split + 1) / splits;
        for (std::int64_t i = count * split / splits; i < last; ++i) {
            const Piece& piece = pieces.at(group, i);
            factors.find(piece);
            add_piece(p, p.gradient.at(piece.row, piece.begin), p.gradient.time, factors.data, factors.step,
                      piece.end - piece.begin, result, tile0, tile1, packed);
        }
    });
    if (splits == 1) return;
    constexpr std::int64_t run = 1024;  // elements
    const std::int64_t runs = ceil_div(size, run);
    parallel_for(groups * runs, size * splits < 16 * run ? 1 : e.threads, [&](std::int64_t task) {
        const std::int64_t group = task / runs, first = task % runs * run;
        const std::int64_t count = size - first < run ? size - first : run;
        S* total = p.result + group * size + first;
        for (std::int64_t split = 0; split < splits; ++split) {
            const S* part = results + (group * splits + split) * size + first;
            if (split == 0) std::memcpy(static_cast<void*>(total), part, sizeof(S) * static_cast<std::size_t>(count));
            else add_to(total, part, count);
        }
    });
}

}  // namespace
RETROGRAD_END
