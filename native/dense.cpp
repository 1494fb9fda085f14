// Dense transitions: h_t = A_t h_{t-1} + u_t. Recurrence and adjoint: recurrence.hpp.
//
// Time-invariant: a sweep over steps of one small matrix product each (sweep.hpp), in chunks of time where rows are
// few (chunks.hpp). Time-varying: each A_t is used once, straight from memory: dot products forward, sums of rows in the
// adjoint. The gradient of a time-invariant A is one product over (batch, time), after the sweep (outer.hpp).
#include <memory>
#include <vector>

#include "chunks.hpp"
#include "outer.hpp"
#include "product.hpp"

RETROGRAD_BEGIN
namespace {

// d_h0 = A^H delta of each sequence's first step.
template <class S>
void into_h0(const Sweep<S>& s, const std::vector<Span<S>>& spans, const StepKernels<S>& kernels, const S* M) {
    const S *first[block_rows], *nothing[block_rows] = {};
    S* d_h0[block_rows];
    int rows = 0;
    for (const Span<S>& span : spans) {
        if (span.d_h0) {
            first[rows] = s.out.at(span.row, s.index(span.last - 1));
            d_h0[rows++] = span.d_h0;
        }
        if (rows == kernels.most_rows || (rows > 0 && &span == &spans.back())) {
            kernels.of_rows[rows - 1](first, nothing, d_h0, M, s.extents.width, s.extents.width, false);
            rows = 0;
        }
    }
}

template <class S>
void sweep(const Sweep<S>& s) {
    const Extents& e = s.extents;
    const std::int64_t groups = e.batch / e.rows_per_transition;
    std::vector<std::vector<Span<S>>> sequences(static_cast<std::size_t>(groups));
    bool alone = true;  // does every transition serve one sequence at most?
    for (const Span<S>& span : spans_of(s)) {
        auto& of_group = sequences[static_cast<std::size_t>(span.row / e.rows_per_transition)];
        of_group.push_back(span);
        alone = alone && of_group.size() == 1;
    }
    const auto kernels = alone ? StepKernels<S>::one_row(e.width) : StepKernels<S>::many_rows(e.width);

    // Some sequences of one group.
    struct Task {
        const PackedTransition<S>* M;
        const std::vector<Span<S>>* spans;
    };
    std::vector<std::unique_ptr<PackedTransition<S>>> packed;
    std::vector<std::unique_ptr<Shares<S>>> shares;
    std::vector<Task> tasks, all;
    for (std::int64_t group = 0; group < groups; ++group) {
        const auto& spans = sequences[static_cast<std::size_t>(group)];
        const auto here = static_cast<std::int64_t>(spans.size());
        const S* A = s.A.at(group, 0);
        const bool done = divides(spans, groups, e.width) && ChunkedSweep<S>(s, A, spans)();
        if (here == 0 || (done && s.forward)) continue;
        packed.emplace_back(std::make_unique<PackedTransition<S>>(A, e.width, kernels.panel, s.form()));
        const std::int64_t wanted = groups >= 4 * e.threads ? 1 : e.threads;
        shares.emplace_back(std::make_unique<Shares<S>>(spans.data(), here, wanted < here ? wanted : here));
        for (std::int64_t i = 0; i < shares.back()->count(); ++i) {
            all.push_back({packed.back().get(), &(*shares.back())[i]});
            if (!done) tasks.push_back(all.back());
        }
    }
    const auto each = [&](const std::vector<Task>& of, const auto& work) {
        parallel_for(static_cast<std::int64_t>(of.size()), e.threads,
                     [&](std::int64_t i) { work(of[static_cast<std::size_t>(i)]); });
    };
    if (s.forward) return each(tasks, [&](const Task& task) { run(s, *task.spans, kernels, task.M->data()); });
    if (tasks.size() < all.size()) {
        each(tasks, [&](const Task& task) { run(s, *task.spans, kernels, task.M->data()); });
        return each(all, [&](const Task& task) { into_h0(s, *task.spans, kernels, task.M->data()); });
    }
    each(all, [&](const Task& task) {
        run(s, *task.spans, kernels, task.M->data());
        into_h0(s, *task.spans, kernels, task.M->data());
    });
}

// All sequences, whatever their transitions, one after the other.
template <class S>
void scan_varying(const Sweep<S>& s) {
    using L = Lanes<S>;
    const Extents& e = s.extents;
    const Row<S> row(e.width);
    const std::vector<Span<S>> spans = spans_of(s);
    const Shares<S> shares(spans.data(), static_cast<std::int64_t>(spans.size()), e.threads);
    parallel_for(shares.count(), e.threads, [&](std::int64_t share) {
        for (const Span<S>& span : shares[share]) {
            const S* previous = span.before;
            for (std::int64_t k = span.first; k < span.last; ++k) {
                const std::int64_t t = s.index(k);
                const S *A = s.A.at(span.row / e.rows_per_transition, t), *u = s.add.at(span.row, t);
                S* h = s.out.at(span.row, t);
                for (std::int64_t i = 0; i < e.width; ++i, A += e.width) {
                    typename L::Vec sum = {};
                    for (int v = 0; previous && v < row.count; ++v)
                        sum = L::multiply_add(row.load(A, v), row.load(previous, v), sum);
                    h[i] = previous ? u[i] + L::sum(sum) : u[i];
                }
                previous = h;
            }
        }
    });
}

// Where d_A is wanted and rows share transitions, a task takes all rows of a group, so that the sum of d_A has a fixed
// order: step by step where rows are whole sequences, else segment by segment.
template <class S>
class VaryingAdjoint {
  public:
    VaryingAdjoint(const Adjoint<S>& p, const Sweep<S>& s) : p_(p), s_(s), row_(p.extents.width) {}

    void operator()() const {
        const Extents& e = p_.extents;
        const std::vector<Span<S>> spans = spans_of(s_);
        const auto count = static_cast<std::int64_t>(spans.size());
        const std::int64_t rows = e.rows_per_transition;
        if (!p_.d_A.data || rows == 1) {
            const Shares<S> shares(spans.data(), count, e.threads);
            parallel_for(shares.count(), e.threads, [&](std::int64_t share) {
                Buffer<S> carry(e.width);
                for (const Span<S>& span : shares[share])
                    for (std::int64_t k = span.first; k < span.last; ++k) step(span, k, carry.data(), true);
            });
            return;
        }
        parallel_for(e.batch / rows, e.threads, [&](std::int64_t group) {
            Buffer<S> carries(rows * e.width);
            const auto carry = [&](const Span<S>& span) { return carries.data() + span.row % rows * e.width; };
            if (!e.segments) {
                for (std::int64_t k = 0; k < e.time; ++k)
                    for (std::int64_t r = 0; r < rows; ++r) {
                        const Span<S>& span = spans[static_cast<std::size_t>(group * rows + r)];
                        step(span, k, carry(span), r == 0);
                    }
                return;
            }
            for (const Span<S>& span : spans)
                if (span.row / rows == group)
                    for (std::int64_t k = span.first; k < span.last; ++k) step(span, k, carry(span), false);
        });
    }

  private:
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    const Adjoint<S>& p_;
    const Sweep<S>& s_;
    Row<S> row_;

    // d_A is set where `sets`, else added to.
    void step(const Span<S>& span, std::int64_t k, S* carry, bool sets) const {
        const std::int64_t width = p_.extents.width, t = s_.index(k), group = span.row / p_.extents.rows_per_transition;
        const bool opens = k == span.first, closes = k + 1 == span.last;
        const S *A = p_.A.at(group, t), *g = p_.g.at(span.row, t), *more = opens ? span.start : carry;
        S* delta = p_.delta.at(span.row, t);
        for (int v = 0; v < row_.count; ++v)
            row_.template store<false>(delta, v, more ? row_.load(g, v) + row_.load(more, v) : row_.load(g, v));
        S* next = closes ? span.d_h0 : carry;
        for (int v = 0; next && v < row_.count; ++v) {
            Vec sum = {};
            for (std::int64_t i = 0; i < width; ++i)
                sum = L::multiply_add(L::broadcast(delta[i]), L::conjugate(row_.load(A + i * width, v)), sum);
            row_.template store<false>(next, v, sum);
        }
        if (!p_.d_A.data) return;
        const S* previous = !closes ? p_.states.at(span.row, s_.index(k + 1)) : span.h0;
        S* d_A = p_.d_A.at(group, t);
        for (std::int64_t i = 0; i < width; ++i, d_A += width)
            for (int v = 0; v < row_.count; ++v) {
                Vec sum = sets ? Vec{} : row_.load(d_A, v);
                if (previous)
                    sum = L::multiply_add(L::broadcast(delta[i]), L::conjugate(row_.load(previous, v)), sum);
                row_.template store<false>(d_A, v, sum);
            }
    }
};

template <class S>
void scan(const Scan<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    const Sweep<S> s{e, p.A, p.u, p.h0, p.states, {}, {}, true};
    e.time_invariant ? sweep(s) : scan_varying(s);
}

template <class S>
void adjoint(const Adjoint<S>& p) {
    const Extents& e = p.extents;
    if (e.batch == 0 || e.time == 0 || e.width == 0) return;
    pass_on_empty(p);
    const Sweep<S> s{e, p.A, p.g, p.g_final, p.delta, p.d_h0, p.h0, false};
    if (!e.time_invariant) return VaryingAdjoint<S>(p, s)();
    sweep(s);
    if (p.d_A.data) {
        const Sequence<const S> delta{p.delta.data, p.delta.batch, p.delta.time};
        outer_sum(OuterSum<S>{e, e.width, delta, p.states, p.h0, p.d_A.data});
    }
}

}  // namespace

template <class S>
void fill_dense(Kernels<S>& table) {
    table.dense_scan = scan<S>;
    table.dense_adjoint = adjoint<S>;
    table.outer_sum = outer_sum<S>;
    table.product = product<S>;
}
template void fill_dense(Kernels<float>&);
template void fill_dense(Kernels<double>&);
template void fill_dense(Kernels<std::complex<float>>&);
template void fill_dense(Kernels<std::complex<double>>&);

RETROGRAD_END
