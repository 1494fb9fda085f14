// How a diagonal problem is dealt to threads, in parts that need nothing of one another.
//
// A part is the rows that share one transition (all of a group where it varies in time, so that the sum of d_a over the
// group has a fixed order; else one row). With fewer of them than threads, time is cut into blocks. All but the first
// start from zero, side by side; then each in turn is mended: run again from the state that it should have started
// from, until a state agrees in every bit with the one that stands there, from where on all do. That gives the bits of
// one run whatever the transitions are, and is short where they forget. Where a sum over time is wanted, or time is
// short, the channels are cut instead.
//
// Segments are parts of their own, dealt to the threads in the order of memory, so many steps to each.
#pragma once

#include "sequences.hpp"

RETROGRAD_BEGIN
namespace {

// Blocks of time shorter than this are not worth their mending.
constexpr std::int64_t least_block = 1024;
// Steps that mending runs before it looks whether the states agree; an eighth of all so far where that is more.
constexpr std::int64_t least_mended = 64;

// Some rows of one group, some channels, some steps (in the order in which they run).
struct Part {
    std::int64_t group, row0, rows, c0, channels, begin, end;
    bool opens, closes;          // does it hold a sequence's first step, the last?
    bool continues = false;      // does it start from the result before it? Else, unless it opens, from zero
    std::int64_t before, after;  // row of what stands before the first step (h_0; g_final), after the last (d_h0);
                                 // of the first of `rows`; -1: nothing
    std::int64_t sums = 0;
    bool adds = false;           // to d_A, instead of setting it
    std::int64_t steps() const { return end - begin; }
};

// Step k of a part touches time `first` + k * `direction`.
struct Walk {
    std::int64_t first, direction;
    Walk(const Extents& e, const Part& part, bool backward)
        : first(step_index(e, part.begin, backward)), direction(e.reverse != backward ? -1 : 1) {}
    std::int64_t at(std::int64_t k) const { return first + k * direction; }
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

// Runs a part that started from zero again, from the result before it, until a step agrees with what stood there.
template <class S, class Run>
void mend(const Extents& e, const Part& whole, bool backward, const Sequence<S>& result, const Run& run) {
    const auto bytes = sizeof(S) * static_cast<std::size_t>(whole.channels);
    Buffer<S> stood(whole.rows * whole.channels);
    Part part = whole;
    part.opens = false;
    part.continues = true;
    for (bool agree = false; !agree && part.begin < whole.end; part.begin = part.end) {
        const std::int64_t eighth = (part.begin - whole.begin) / 8, left = whole.end - part.begin;
        const std::int64_t steps = eighth > least_mended ? eighth : least_mended;
        part.end = part.begin + (steps < left ? steps : left);
        part.closes = whole.closes && part.end == whole.end;
        const std::int64_t t = Walk(e, part, backward).at(part.steps() - 1);
        const auto last = [&](std::int64_t r) { return result.at(part.row0 + r, t) + part.c0; };
        const auto copy = [&](std::int64_t r) { return static_cast<void*>(stood.data() + r * part.channels); };
        for (std::int64_t r = 0; r < part.rows; ++r) std::memcpy(copy(r), last(r), bytes);
        run(part);
        agree = true;
        for (std::int64_t r = 0; agree && r < part.rows; ++r) agree = std::memcmp(copy(r), last(r), bytes) == 0;
    }
}

// run(part) for every task and block of time, then the blocks' mending, in order.
template <class S, class Run, class Mend>
void run_rows(const Extents& e, const Tasks& k, bool backward, const Sequence<S>& result, const Run& run,
              const Mend& run_again) {
    parallel_for(k.count, e.threads, [&](std::int64_t i) { run(k.part(e, i / k.time_blocks, i % k.time_blocks)); });
    if (k.time_blocks == 1) return;
    parallel_for(k.count / k.time_blocks, e.threads, [&](std::int64_t task) {
        for (std::int64_t block = 1; block < k.time_blocks; ++block)
            mend(e, k.part(e, task, block), backward, result, run_again);
    });
}

// The segments one by one; those of a group by one task where they meet in d_A.
template <class Run>
void run_segments(const Extents& e, bool backward, bool meet, const Run& run) {
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
            run(part);
        }
    });
}

}  // namespace
RETROGRAD_END
