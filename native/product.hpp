// A linear map of every row, result = x W^T + bias.
//
// A row's sums have one order, so that its bits depend neither on the rows beside it nor on the number of threads. A
// library's product cuts the columns among threads, and rounds otherwise at a cut.
#pragma once

#include "panel.hpp"

RETROGRAD_BEGIN
namespace {

// Rows that meet one panel of W before the next: they stay in the second-level cache.
constexpr std::int64_t product_rows = 96;

// How rows are multiplied, by shapes alone.
enum class ProductShape {
    blocks,       // several rows by 2 vectors of columns at a time (panel.hpp)
    short_rows,   // of few inner elements: one vector of columns after the other
    few_columns,  // one dot product each
};

template <class S>
class ProductRows {
  public:
    explicit ProductRows(const Product<S>& p)
        : p_(p),
          shape_(p.inner <= 4                       ? ProductShape::short_rows
                 : p.columns * 8 <= Lanes<S>::width ? ProductShape::few_columns
                                                    : ProductShape::blocks),
          kernels_(StepKernels<S>::many_rows(p.columns)),
          panel_(shape_ == ProductShape::blocks       ? kernels_.panel
                 : shape_ == ProductShape::short_rows ? ceil_div(p.columns, Lanes<S>::width) * Lanes<S>::width
                                                      : 1),
          packed_(ceil_div(p.columns, panel_) * panel_ * p.inner) {
        const Form form = p.transposed ? Form::as_it_is : Form::transposed;
        pack(p.weight, p.inner, p.columns, panel_, form, packed_.data());
    }

    // Rows [first, end).
    void operator()(std::int64_t first, std::int64_t end) const {
        if (shape_ == ProductShape::blocks) return blocks(first, end);
        for (std::int64_t i = first; i < end; ++i)
            if (shape_ == ProductShape::short_rows) short_row(p_.x.at(i, 0), p_.result + i * p_.columns);
            else few_columns(p_.x.at(i, 0), p_.result + i * p_.columns);
    }

  private:
    using L = Lanes<S>;
    using Vec = typename L::Vec;
    const Product<S>& p_;
    ProductShape shape_;
    StepKernels<S> kernels_;
    std::int64_t panel_;
    Buffer<S> packed_;  // panel.hpp; few columns: W itself, row by row

    void blocks(std::int64_t first, std::int64_t end) const {
        const std::int64_t together = kernels_.most_rows;
        for (std::int64_t c = 0; c < p_.columns; c += panel_)
            for (std::int64_t i = first; i < end; i += together) {
                const std::int64_t columns = p_.columns - c < panel_ ? p_.columns - c : panel_;
                const int rows = static_cast<int>(end - i < together ? end - i : together);
                const S *x[block_rows], *bias[block_rows];
                S* result[block_rows];
                for (int r = 0; r < rows; ++r) {
                    x[r] = p_.x.at(i + r, 0);
                    bias[r] = p_.bias ? p_.bias + c : nullptr;
                    result[r] = p_.result + (i + r) * p_.columns + c;
                }
                kernels_.of_rows[rows - 1](x, bias, result, packed_.data() + c * p_.inner, p_.inner, columns, false);
            }
    }
    void short_row(const S* x, S* result) const {
        const Row<S> row(p_.columns);
        row.each(false, [&](int v, auto whole) RETROGRAD_INLINED {
            Vec sum = p_.bias ? Vec(row.load(p_.bias, v, whole)) : Vec{};
            for (std::int64_t k = 0; k < p_.inner; ++k)
                sum = L::multiply_add(L::broadcast(x[k]), L::load(packed_.data() + k * panel_ + v * L::width), sum);
            row.template store<false>(result, v, sum, whole);
        });
    }
    void few_columns(const S* x, S* result) const {
        const Row<S> row(p_.inner);
        for (std::int64_t c = 0; c < p_.columns; ++c) {
            Vec sum = {};
            for (int v = 0; v < row.count; ++v)
                sum = L::multiply_add(row.load(packed_.data() + c * p_.inner, v), row.load(x, v), sum);
            result[c] = p_.bias ? p_.bias[c] + L::sum(sum) : L::sum(sum);
        }
    }
};

template <class S>
void product(const Product<S>& p) {
    if (p.rows == 0 || p.columns == 0) return;
    const ProductRows<S> rows(p);
    // Where the product is small the threads' meeting costs more than it saves.
    const bool small = p.rows * p.columns * (p.inner + 8) < (std::int64_t(1) << 16);
    parallel_for(ceil_div(p.rows, product_rows), small ? 1 : p.threads, [&](std::int64_t task) {
        const std::int64_t first = task * product_rows, end = first + product_rows;
        rows(first, end < p.rows ? end : p.rows);
    });
}

}  // namespace
RETROGRAD_END
