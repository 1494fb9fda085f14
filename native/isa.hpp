// The instruction sets of this build and machine, and the kernels of each.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "recurrence.hpp"

#define RETROGRAD_DECLARE(ISA)                                         \
    namespace retrograd::ISA {                                         \
    template <class T> void fill_diagonal(Kernels<T>&);                \
    template <class T> void fill_dense(Kernels<T>&);                   \
    void triad(const float*, const float*, float*, std::int64_t, int); \
    }
RETROGRAD_DECLARE(baseline)
#ifdef RETROGRAD_X86
RETROGRAD_DECLARE(avx2)
RETROGRAD_DECLARE(avx512)
#endif
#undef RETROGRAD_DECLARE

namespace retrograd {

// Best first.
inline std::vector<std::string> isas() {
    std::vector<std::string> names;
#ifdef RETROGRAD_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        names.emplace_back("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.emplace_back("avx2");
#endif
    names.emplace_back("baseline");
    return names;
}

using Triad = void (*)(const float*, const float*, float*, std::int64_t, int);

// One instruction set: its name, and its kernels for every scalar type.
struct Isa {
    std::string name;

    explicit Isa(std::string wanted) : name(std::move(wanted)) {
        std::string all;
        for (const std::string& known : isas()) {
            if (known == name) return;
            all += (all.empty() ? "" : ", ") + known;
        }
        throw std::invalid_argument("RETROGRAD_ISA is '" + name + "', which this machine or build lacks; it has " + all);
    }

    template <class T>
    Kernels<T> kernels() const {
        constexpr bool dense = sizeof(T) > 2;  // half precision: diagonal transitions only
        Kernels<T> table = {};
#define RETROGRAD_FILL(ISA)                             \
    if (name == #ISA) {                                 \
        ISA::fill_diagonal(table);                      \
        if constexpr (dense) ISA::fill_dense(table);    \
    }
        RETROGRAD_FILL(baseline)
#ifdef RETROGRAD_X86
        RETROGRAD_FILL(avx2)
        RETROGRAD_FILL(avx512)
#endif
#undef RETROGRAD_FILL
        return table;
    }

    Triad triad() const {
#ifdef RETROGRAD_X86
        if (name == "avx512") return avx512::triad;
        if (name == "avx2") return avx2::triad;
#endif
        return baseline::triad;
    }
};

}  // namespace retrograd
