// The bindings, the only file that knows Python: arrays are typed, checked against one another, and the GIL is released
// around the kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/complex.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <complex>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa.hpp"
#include "pool.hpp"
#include "recurrence.hpp"
#include "threads.hpp"

namespace nb = nanobind;

// The two 16-bit types, described to nanobind.
template <>
struct nanobind::detail::dtype_traits<retrograd::BFloat16> {
    static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Bfloat), 16, 1};
    static constexpr auto name = const_name("bfloat16");
};
template <>
struct nanobind::detail::dtype_traits<retrograd::Float16> {
    static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = const_name("float16");
};

using namespace nb::literals;

namespace retrograd {

namespace {

std::string active_isa;
Triad active_triad = nullptr;

template <class T>
Kernels<T> table = {};

void use_isa(const std::string& name) {
    const Isa isa(name);
    table<float> = isa.kernels<float>();
    table<double> = isa.kernels<double>();
    table<std::complex<float>> = isa.kernels<std::complex<float>>();
    table<std::complex<double>> = isa.kernels<std::complex<double>>();
    table<BFloat16> = isa.kernels<BFloat16>();
    table<Float16> = isa.kernels<Float16>();
    active_triad = isa.triad();
    active_isa = isa.name;
}

template <class T>
using Carried = typename Carry<T>::type;

template <class T, int Rank>
using Array = nb::ndarray<T, nb::ndim<Rank>, nb::device::cpu>;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

// (batch, time, width) or, for dense transitions, (batch, time, width, width) with row-major matrices.
template <class T, int Rank>
Sequence<T> sequence(const Array<T, Rank>& a) {
    const auto n = static_cast<std::int64_t>(a.shape(Rank - 1));
    require(n <= 1 || a.stride(Rank - 1) == 1, "the last dimension of an array is not contiguous");
    if constexpr (Rank == 4) require(n <= 1 || a.stride(2) == n, "a transition matrix is not row-major");
    if constexpr (Rank == 2) return {a.data(), a.stride(0), 0};
    else return {a.data(), a.shape(0) == 1 ? 0 : a.stride(0), a.shape(1) == 1 ? 0 : a.stride(1)};
}

template <class X, class Y>
void require_shape(const X& x, const Y& y, int rank, const char* what) {
    for (int i = 0; i < rank; ++i) require(x.shape(i) == y.shape(i), what);
}

using Table = std::optional<Array<const std::int64_t, 2>>;  // of segments

// Without a table h_0 and g_final have a row for every row of u.
template <class T>
void take_segments(Extents& e, const Table& table, const Array<const T, 2>& starts) {
    const auto rows = static_cast<std::int64_t>(starts.shape(0));
    if (!table) return require(rows == e.batch, "h0 or g_final is not (batch, width)");
    static const Segment none{};
    e.segments = &none;  // not null, even of a table without a line
    e.segment_count = static_cast<std::int64_t>(table->shape(0));
    if (e.segment_count == 0) return;
    require(table->shape(1) == 5 && table->stride(1) == 1 && (e.segment_count == 1 || table->stride(0) == 5),
            "segments are not a contiguous (segments, 5)");
    e.segments = reinterpret_cast<const Segment*>(table->data());
    for (std::int64_t i = 0; i < e.segment_count; ++i) {
        const Segment& s = e.segments[i];
        require(0 <= s.row && s.row < e.batch && 0 <= s.begin && s.begin <= s.end && s.end <= e.time,
                "a segment lies outside (batch, time)");
        require(-1 <= s.start && s.start < rows && -1 <= s.final && s.final < rows,
                "a segment's start or final is not a row of h0");
    }
}

template <class T, int Rank>
Extents extents(const Array<const T, Rank>& A, const Array<const T, 3>& u, const Array<const T, 2>& starts,
                const Table& segments, bool reverse, int threads) {
    require(starts.shape(1) == u.shape(2), "h0 or g_final is not (batch, width)");
    Extents e;
    e.batch = static_cast<std::int64_t>(u.shape(0));
    e.time = static_cast<std::int64_t>(u.shape(1));
    e.width = static_cast<std::int64_t>(u.shape(2));
    const auto groups = static_cast<std::int64_t>(A.shape(0)), steps = static_cast<std::int64_t>(A.shape(1));
    require(groups > 0 && e.batch % groups == 0, "A's batch does not divide u's");
    require(steps == 1 || steps == e.time, "A's time is neither 1 nor u's");
    for (int i = 2; i < Rank; ++i) require(A.shape(i) == u.shape(2), "A's width is not u's");
    e.rows_per_transition = e.batch == 0 ? 1 : e.batch / groups;
    e.time_invariant = steps == 1;
    e.reverse = reverse;
    e.threads = threads;
    take_segments<T>(e, segments, starts);
    return e;
}

// What A's array has: a matrix or a diagonal, or the logarithm of a diagonal.
enum class Holds { elements, logarithms };

template <class T, int Rank, Holds holds>
void scan(Array<const T, Rank> A, Array<const T, 3> u, Array<const T, 2> h0, Array<T, 3> states, Table segments,
          bool reverse, int threads) {
    Scan<T> p;
    p.extents = extents<T, Rank>(A, u, h0, segments, reverse, threads);
    require_shape(u, states, 3, "states are not of u's shape");
    p.A = sequence<const T, Rank>(A);
    p.u = sequence<const T, 3>(u);
    p.h0 = sequence<const T, 2>(h0);
    p.states = sequence<T, 3>(states);
    const auto kernel = holds == Holds::logarithms ? table<T>.log_diagonal_scan
                        : Rank == 3               ? table<T>.diagonal_scan
                                                  : table<T>.dense_scan;
    nb::gil_scoped_release release;
    kernel(p);
}

template <class T, int Rank, Holds holds>
void adjoint(Array<const T, Rank> A, Array<const T, 3> g, Array<const T, 2> g_final, Array<T, 3> delta,
             Array<T, 2> d_h0, std::optional<Array<const T, 3>> states, std::optional<Array<const T, 2>> h0,
             std::optional<Array<T, Rank>> d_A, std::optional<Array<Carried<T>, 2>> sums, Table segments, bool reverse,
             int threads) {
    Adjoint<T> p;
    p.extents = extents<T, Rank>(A, g, g_final, segments, reverse, threads);
    require_shape(g, delta, 3, "delta is not of g's shape");
    require_shape(g_final, d_h0, 2, "d_h0 is not of g_final's shape");
    p.A = sequence<const T, Rank>(A);
    p.g = sequence<const T, 3>(g);
    p.g_final = sequence<const T, 2>(g_final);
    p.delta = sequence<T, 3>(delta);
    p.d_h0 = sequence<T, 2>(d_h0);
    if (d_A || sums) {
        require(states && h0, "d_A needs states and h0");
        require_shape(*states, g, 3, "states are not of g's shape");
        require_shape(*h0, g_final, 2, "h0 is not of g_final's shape");
        require(p.extents.time_invariant && Rank == 3 ? sums && !d_A : d_A && !sums,
                "sums are for time-invariant diagonal transitions, d_A for all others");
        p.states = sequence<const T, 3>(*states);
        p.h0 = sequence<const T, 2>(*h0);
        if (d_A) {
            require_shape(*d_A, A, Rank, "d_A is not of A's shape");
            p.d_A = sequence<T, Rank>(*d_A);
            // By shape, not by stride(1): torch 2.6 gives stride 1 to an axis of length 1.
            const auto sizes = static_cast<std::int64_t>(d_A->shape(1) * d_A->shape(2) * d_A->shape(Rank - 1));
            require(Rank == 3 || !p.extents.time_invariant || d_A->shape(0) == 1 || d_A->stride(0) == sizes,
                    "d_A is not contiguous");
        } else {
            require(sums->shape(0) == (segments ? segments->shape(0) : g.shape(0)) &&
                        sums->shape(1) == g.shape(2) * Carry<T>::reals,
                    "sums are not (batch, width) or (segments, width)");
            p.sums = sequence<Carried<T>, 2>(*sums);
        }
    }
    const auto kernel = holds == Holds::logarithms ? table<T>.log_diagonal_adjoint
                        : Rank == 3               ? table<T>.diagonal_adjoint
                                                  : table<T>.dense_adjoint;
    nb::gil_scoped_release release;
    kernel(p);
}

template <class T>
void outer_sum(Array<const T, 3> gradient, Array<const T, 3> factor, std::optional<Array<const T, 2>> before,
               Array<T, 2> result, bool reverse, int threads) {
    require(gradient.shape(0) == factor.shape(0) && gradient.shape(1) == factor.shape(1),
            "gradient and factor differ in (batch, time)");
    require(result.shape(0) == gradient.shape(2) && result.shape(1) == factor.shape(2) &&
                (result.shape(0) <= 1 || result.stride(0) == static_cast<std::int64_t>(result.shape(1))),
            "result is not a contiguous (height, width)");
    OuterSum<T> p;
    Extents& e = p.extents;
    e.batch = e.rows_per_transition = static_cast<std::int64_t>(gradient.shape(0));
    e.time = static_cast<std::int64_t>(gradient.shape(1));
    e.width = static_cast<std::int64_t>(factor.shape(2));
    e.time_invariant = true;
    e.reverse = reverse;
    e.threads = threads;
    p.height = static_cast<std::int64_t>(gradient.shape(2));
    p.gradient = sequence<const T, 3>(gradient);
    p.factor = sequence<const T, 3>(factor);
    if (before) {
        require(before->shape(0) == factor.shape(0) && before->shape(1) == factor.shape(2), "before is not (batch, width)");
        p.before = sequence<const T, 2>(*before);
    }
    p.result = result.data();
    nb::gil_scoped_release release;
    table<T>.outer_sum(p);
}

template <class T>
void define_outer_sum(nb::module_& m) {
    m.def("outer_sum", &outer_sum<T>, "gradient"_a.noconvert(), "factor"_a.noconvert(), "before"_a.noconvert().none(),
          "result"_a.noconvert(), "reverse"_a, "threads"_a);
}

template <class T>
void linear(Array<const T, 2> x, Array<const T, 2> weight, std::optional<Array<const T, 1>> bias, Array<T, 2> result,
            int threads) {
    Product<T> p;
    p.rows = static_cast<std::int64_t>(x.shape(0));
    p.inner = static_cast<std::int64_t>(x.shape(1));
    p.columns = static_cast<std::int64_t>(weight.shape(0));
    p.threads = threads;
    require(weight.shape(1) == x.shape(1), "weight's width is not x's");
    require(result.shape(0) == x.shape(0) && result.shape(1) == weight.shape(0), "result is not (rows, columns)");
    require(!bias || bias->shape(0) == weight.shape(0), "bias is not (columns,)");
    const auto contiguous = [](std::int64_t n, std::int64_t stride, std::int64_t want) { return n <= 1 || stride == want; };
    p.transposed = !contiguous(p.inner, weight.stride(1), 1);
    if (p.transposed) require(contiguous(p.columns, weight.stride(0), 1) && weight.stride(1) == p.columns,
                              "weight is not contiguous, nor its transpose");
    else require(contiguous(p.columns, weight.stride(0), p.inner), "weight is not contiguous, nor its transpose");
    require(contiguous(p.columns, result.stride(1), 1) && contiguous(p.rows, result.stride(0), p.columns),
            "result is not contiguous");
    require(!bias || contiguous(p.columns, bias->stride(0), 1), "bias is not contiguous");
    p.x = sequence<const T, 2>(x);
    p.weight = weight.data();
    p.bias = bias ? bias->data() : nullptr;
    p.result = result.data();
    nb::gil_scoped_release release;
    table<T>.product(p);
}

template <class T>
void define_linear(nb::module_& m) {
    m.def("linear", &linear<T>, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert().none(),
          "result"_a.noconvert(), "threads"_a);
}

template <class T, int Rank, Holds holds = Holds::elements>
void define(nb::module_& m, const char* scan_name, const char* adjoint_name) {
    m.def(scan_name, &scan<T, Rank, holds>, "A"_a.noconvert(), "u"_a.noconvert(), "h0"_a.noconvert(),
          "states"_a.noconvert(), "segments"_a.noconvert().none(), "reverse"_a, "threads"_a);
    m.def(adjoint_name, &adjoint<T, Rank, holds>, "A"_a.noconvert(), "g"_a.noconvert(), "g_final"_a.noconvert(),
          "delta"_a.noconvert(), "d_h0"_a.noconvert(), "states"_a.noconvert().none(), "h0"_a.noconvert().none(),
          "d_A"_a.noconvert().none(), "sums"_a.noconvert().none(), "segments"_a.noconvert().none(), "reverse"_a,
          "threads"_a);
}

// An uninitialised torch tensor over a block of the pool, which gets it back when the tensor dies.
nb::ndarray<nb::pytorch> empty(const std::vector<std::size_t>& shape, const std::string& kind, int bits) {
    std::size_t bytes = static_cast<std::size_t>(bits) / 8;
    for (const std::size_t n : shape)
        if (__builtin_mul_overflow(bytes, n, &bytes)) throw std::bad_alloc();
    nb::dlpack::dtype dtype;
    dtype.code = static_cast<std::uint8_t>(kind == "complex"  ? nb::dlpack::dtype_code::Complex
                                           : kind == "bfloat" ? nb::dlpack::dtype_code::Bfloat
                                                              : nb::dlpack::dtype_code::Float);
    dtype.bits = static_cast<std::uint8_t>(bits);
    dtype.lanes = 1;
    void* block = Pool::instance().take(bytes);
    nb::capsule owner(block, [](void* p) noexcept { Pool::instance().give(p); });
    return nb::ndarray<nb::pytorch>(block, shape.size(), shape.data(), owner, nullptr, dtype);
}

nb::typed<nb::dict, nb::str, std::size_t> stats() {
    const Pool::Stats s = Pool::instance().stats();
    nb::dict d;
    d["in_use"] = s.in_use;
    d["cached"] = s.cached;
    d["peak_in_use"] = s.peak_in_use;
    d["limit"] = s.limit;
    d["fresh"] = s.fresh;
    d["reused"] = s.reused;
    return d;
}

}  // namespace
}  // namespace retrograd

NB_MODULE(_native, m) {
    using namespace retrograd;
    m.doc() = "retrograd's CPU kernels. Arrays are (batch, time, width); results go into the arrays given for them.";
    define<float, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<double, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<std::complex<float>, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<std::complex<double>, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<BFloat16, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<Float16, 3>(m, "diagonal_scan", "diagonal_adjoint");
    define<float, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<double, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<std::complex<float>, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<std::complex<double>, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<BFloat16, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<Float16, 3, Holds::logarithms>(m, "log_diagonal_scan", "log_diagonal_adjoint");
    define<float, 4>(m, "dense_scan", "dense_adjoint");
    define<double, 4>(m, "dense_scan", "dense_adjoint");
    define<std::complex<float>, 4>(m, "dense_scan", "dense_adjoint");
    define<std::complex<double>, 4>(m, "dense_scan", "dense_adjoint");

    define_outer_sum<float>(m);
    define_outer_sum<double>(m);
    define_outer_sum<std::complex<float>>(m);
    define_outer_sum<std::complex<double>>(m);
    define_linear<float>(m);
    define_linear<double>(m);
    define_linear<std::complex<float>>(m);
    define_linear<std::complex<double>>(m);

    m.def(
        "triad",
        [](Array<const float, 1> x, Array<const float, 1> y, Array<float, 1> z, int threads) {
            require(x.shape(0) == z.shape(0) && y.shape(0) == z.shape(0), "x, y and z differ in length");
            nb::gil_scoped_release release;
            active_triad(x.data(), y.data(), z.data(), static_cast<std::int64_t>(z.shape(0)), threads);
        },
        "x"_a, "y"_a, "z"_a, "threads"_a, "z = x + 3 y, past the cache: what the memory can do.");
    m.def("empty", &empty, "shape"_a, "kind"_a, "bits"_a, "An uninitialised tensor over a block of the pool.");
    m.def("pool_stats", &stats, "Bytes and blocks of the pool.");
    m.def("pool_release", [] { Pool::instance().release(); }, nb::call_guard<nb::gil_scoped_release>(),
          "Give every block that the pool keeps back to the system.");
    m.def("pool_poison", [](bool on) { Pool::instance().set_poison(on); }, "on"_a, "Fill new blocks with NaN, or not.");

    m.def("use_isa", &use_isa, "isa"_a, "Choose the instruction set of every later call.");
    m.def("isa", [] { return active_isa; }, "The instruction set in use.");
#ifdef _OPENMP
    m.attr("openmp") = true;
#else
    m.attr("openmp") = false;
#endif
    m.def("isas", &isas, "The instruction sets that this build and machine have, best first.");
    const char* forced = std::getenv("RETROGRAD_ISA");
    use_isa(forced && *forced ? forced : isas().front());
    Pool::instance();  // a limit that cannot be read is an error now, not in the first large call
    pthread_atfork(nullptr, nullptr, [] { avoid_openmp(); });
}
