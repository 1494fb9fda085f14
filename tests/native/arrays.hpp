// Exact arithmetic on every scalar type, and arrays that lie in memory as a caller may have them.
#pragma once

#include <complex>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "recurrence.hpp"

namespace retrograd::tests {

using Real = long double;
using Value = std::complex<Real>;

template <class T>
struct Scalar {
    using R = typename Carry<T>::type;
    static constexpr Real stored_eps = std::numeric_limits<R>::epsilon(), tiny = std::numeric_limits<R>::min();
    static Value value(T x) { return Value(x); }
    static T from(double real, double imag) {
        if constexpr (Carry<T>::reals == 2) return T(static_cast<R>(real), static_cast<R>(imag));
        else return static_cast<T>(real);
    }
};
template <>
struct Scalar<BFloat16> {
    static constexpr Real stored_eps = 0x1p-7L, tiny = 0x1p-126L;
    static Value value(BFloat16 x) {
        const std::uint32_t bits = std::uint32_t(x.bits) << 16;
        float f;
        std::memcpy(&f, &bits, sizeof f);
        return f;
    }
    static BFloat16 from(double real, double) {
        const auto f = static_cast<float>(real);
        std::uint32_t bits;
        std::memcpy(&bits, &f, sizeof f);
        return {static_cast<std::uint16_t>(bits >> 16)};
    }
};
template <>
struct Scalar<Float16> {
    static constexpr Real stored_eps = 0x1p-10L, tiny = 0x1p-14L;
    static Value value(Float16 x) {
        _Float16 h;
        std::memcpy(&h, &x.bits, sizeof h);
        return static_cast<float>(h);
    }
    static Float16 from(double real, double) {
        const auto h = static_cast<_Float16>(real);
        Float16 x;
        std::memcpy(&x.bits, &h, sizeof h);
        return x;
    }
};
template <class T>
constexpr Real carried_eps = std::numeric_limits<typename Carry<T>::type>::epsilon();

// The standard distributions differ between libraries: these draws are the same everywhere.
class Draw {
  public:
    explicit Draw(unsigned seed) : engine_(seed) {}
    std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(engine_() % static_cast<std::uint32_t>(n)); }
    double signed_unit() { return engine_() / 2147483648.0 - 1; }
    bool coin() { return engine_() & 1; }
    template <class X>
    X one_of(std::initializer_list<X> all) { return all.begin()[below(static_cast<std::int64_t>(all.size()))]; }

  private:
    std::mt19937 engine_;
};

enum class Layout { contiguous, padded, time_major, shared_rows, shared_time, off_bounds };

// Memory that ends where it must: with the address sanitizer's own allocator, or, every second time, on the bounds of
// a page that nobody may touch. The sanitizer does not look into masked and streaming instructions; the page does.
class Memory {
  public:
    explicit Memory(std::size_t bytes) : guarded_(next_guarded = !next_guarded) {
        if (!guarded_) {
            start_ = ::operator new(bytes, std::align_val_t(64));
            return;
        }
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t used = (bytes + page - 1) / page * page;
        mapped_ = used + page;
        map_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map_ == MAP_FAILED || mprotect(static_cast<char*>(map_) + used, page, PROT_NONE)) throw std::bad_alloc();
        start_ = static_cast<char*>(map_) + used - bytes;
    }
    ~Memory() {
        if (guarded_) munmap(map_, mapped_);
        else ::operator delete(start_, std::align_val_t(64));
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    void* start() const { return start_; }

  private:
    inline static bool next_guarded = false;
    bool guarded_;
    void *start_ = nullptr, *map_ = nullptr;
    std::size_t mapped_ = 0;
};

// (rows, time, width), the memory exactly as large as its last element wants.
template <class T>
class Array {
  public:
    Sequence<T> sequence;

    Array(std::int64_t rows, std::int64_t time, std::int64_t width, Layout layout)
        : rows_(rows), time_(time), width_(width) {
        const std::int64_t step = layout == Layout::padded ? width + 3 : width;
        sequence.time = step;
        sequence.batch = time * step;
        if (layout == Layout::time_major) {
            sequence.time = rows * step;
            sequence.batch = step;
        }
        if (layout == Layout::shared_rows) sequence.batch = 0;
        if (layout == Layout::shared_time) {
            sequence.batch = step;
            sequence.time = 0;
        }
        const std::int64_t first = layout == Layout::off_bounds;
        const bool none = rows * time * width == 0;
        size_ = none ? 0 : first + (rows - 1) * sequence.batch + (time - 1) * sequence.time + width;
        owner_ = std::make_unique<Memory>(bytes());
        memory_ = static_cast<T*>(owner_->start());
        std::memset(static_cast<void*>(memory_), 0xFF, bytes());
        sequence.data = none ? memory_ : memory_ + first;
    }

    void fill(Draw& draw, double scale, double middle = 0) {
        for (std::int64_t i = 0; i < size_; ++i)
            memory_[i] = Scalar<T>::from(middle + scale * draw.signed_unit(), scale * draw.signed_unit());
    }
    void clear() {  // its own elements, not what lies between the rows
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t t = 0; t < time_; ++t)
                for (std::int64_t i = 0; i < width_; ++i) sequence.at(r, t)[i] = T{};
    }
    Sequence<const T> read() const { return {sequence.data, sequence.batch, sequence.time}; }
    Value at(std::int64_t row, std::int64_t t, std::int64_t i) const { return Scalar<T>::value(sequence.at(row, t)[i]); }

    bool same_bits(const Array& other) const {
        return size_ == other.size_ && std::memcmp(memory_, other.memory_, bytes()) == 0;
    }
    // Is what lies between the rows as it was?
    bool gaps_untouched() const {
        std::vector<bool> owned(static_cast<std::size_t>(size_));
        for (std::int64_t r = 0; r < rows_; ++r)
            for (std::int64_t t = 0; t < time_; ++t)
                for (std::int64_t i = 0; i < width_; ++i)
                    owned[static_cast<std::size_t>(sequence.at(r, t) + i - memory_)] = true;
        T poison;
        std::memset(static_cast<void*>(&poison), 0xFF, sizeof poison);
        for (std::int64_t i = 0; i < size_; ++i)
            if (!owned[static_cast<std::size_t>(i)] && std::memcmp(memory_ + i, &poison, sizeof poison)) return false;
        return true;
    }

  private:
    std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
    std::int64_t rows_, time_, width_, size_;
    std::unique_ptr<Memory> owner_;
    T* memory_;
};

}  // namespace retrograd::tests
