// Loops over independent tasks. No region is opened for one thread: libgomp's pool does not survive fork(), and
// data-loader workers run with one thread. Results never depend on the number of threads: a task is never split.
#pragma once

#include <cstdint>
#include <exception>

namespace retrograd {
namespace {

template <class Task>
void parallel_for(std::int64_t tasks, int threads, const Task& task) {
    if (threads <= 1 || tasks <= 1) {
        for (std::int64_t i = 0; i < tasks; ++i) task(i);
        return;
    }
    // An exception (out of memory) may not leave an OpenMP region: keep the first and throw it after the region.
    std::exception_ptr failure;
#ifdef _OPENMP
    const int used = static_cast<int>(tasks < threads ? tasks : threads);
#pragma omp parallel for num_threads(used) schedule(static)
#endif
    for (std::int64_t i = 0; i < tasks; ++i) {
        try {
            task(i);
        } catch (...) {
#ifdef _OPENMP
#pragma omp critical(retrograd_failure)
#endif
            if (!failure) failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace retrograd
