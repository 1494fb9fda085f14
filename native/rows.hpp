// A row of channels as vectors, and the working memory of kernels.
#pragma once

#include <new>

#include "simd.hpp"

RETROGRAD_BEGIN

// f(0), ..., f(Count - 1), written out, so that an array indexed by f can stay in registers.
template <int... I, class F>
inline void for_indices(std::integer_sequence<int, I...>, const F& f) { (f(I), ...); }
template <int Count, class F>
inline void for_each_index(const F& f) { for_indices(std::make_integer_sequence<int, Count>(), f); }

// A row's share of channels as vectors: `whole` full ones, then `rest` scalars. `Vectors` is their number where the
// compiler knows it, else 0.
template <class S, class L = Lanes<S>, int Vectors = 0>
struct Row {
    using Vec = typename L::Vec;
    int whole, rest, count;
    explicit Row(std::int64_t channels)
        : whole(static_cast<int>(channels / L::width)),
          rest(static_cast<int>(channels % L::width)),
          count(Vectors > 0 ? Vectors : whole + (rest != 0)) {}
    Vec load(const S* p, int i) const { return i < whole ? load(p, i, std::true_type()) : load(p, i, std::false_type()); }
    template <bool Whole>
    Vec load(const S* p, int i, std::bool_constant<Whole>) const {
        if constexpr (Whole) return L::load(p + i * L::width);
        else return L::load_some(p + i * L::width, rest);
    }
    template <bool Stream>
    void store(S* p, int i, Vec v) const {
        if (i < whole) store<Stream>(p, i, v, std::true_type());
        else store<Stream>(p, i, v, std::false_type());
    }
    template <bool Stream, bool Whole>
    void store(S* p, int i, Vec v, std::bool_constant<Whole>) const {
        if constexpr (!Whole) L::store_some(p + i * L::width, v, rest);
        else if constexpr (Stream) L::stream(p + i * L::width, v);
        else L::store(p + i * L::width, v);
    }
    // Calls f(i, is it whole?) for every vector, the whole ones in ascending or descending order.
    template <class F>
    void each([[maybe_unused]] bool descending, const F& f) const {
        constexpr std::true_type full;
        constexpr std::false_type part;
        if constexpr (Vectors > 0) {
            for_each_index<Vectors - 1>([&](int i) RETROGRAD_INLINED { f(i, full); });
            if (L::width == 1 || rest == 0) f(Vectors - 1, full);
            else f(Vectors - 1, part);
        } else {
            int i = descending ? whole - 1 : 0;
            const int next = descending ? -1 : 1;
            for (int left = whole; left > 0; --left, i += next) f(i, full);
            if (rest != 0) f(whole, part);
        }
    }
};

// Uninitialised working memory on cache-line bounds.
template <class T>
class Buffer {
  public:
    explicit Buffer(std::int64_t n)
        : data_(n > 0 ? static_cast<T*>(::operator new(bytes(n), std::align_val_t(64))) : nullptr) {}
    ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    T* data() const { return data_; }
    void swap(Buffer& other) { std::swap(data_, other.data_); }

  private:
    static std::size_t bytes(std::int64_t n) { return sizeof(T) * static_cast<std::size_t>(n); }
    T* data_;
};

// Working memory that lies in the object itself where it is small.
template <class T>
class SmallBuffer {
  public:
    explicit SmallBuffer(std::int64_t n) : large_(n > here ? n : 0) {}
    T* data() { return large_.data() ? large_.data() : small_; }

  private:
    static constexpr std::int64_t here = 4;
    T small_[here];
    Buffer<T> large_;
};

RETROGRAD_END
