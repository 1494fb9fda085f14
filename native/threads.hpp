// Loops over independent tasks. Results never depend on the number of threads: a task is never split.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace retrograd {

// While it lives, subnormal numbers count as zero on this thread. A state or gradient that decays passes through them,
// and each operation on one costs as much as a hundred others.
class FlushSubnormals {
  public:
#if defined(__SSE__)
    FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // flush to zero, subnormals are zero
    ~FlushSubnormals() { _mm_setcsr(before_); }
#elif defined(__aarch64__)
    FlushSubnormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ | (std::uint64_t(1) << 24)));
    }
    ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }
#else
    FlushSubnormals() {}
#endif
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

  private:
#if defined(__SSE__)
    unsigned before_;
#elif defined(__aarch64__)
    std::uint64_t before_;
#endif
};

// Makes later loops start threads of their own. A forked child calls it: OpenMP would wait for threads that stayed with
// the parent.
void avoid_openmp();

// Calls task(context, i) for every i < tasks, on up to `threads` threads; the first exception is thrown at the end.
// Compiled once, for any machine (threads.cpp): a standard template instantiated in the kernels of one instruction set
// could be what the linker gives to the others.
void run_tasks(std::int64_t tasks, int threads, void (*task)(const void*, std::int64_t), const void* context);

namespace {

template <class Task>
void parallel_for(std::int64_t tasks, int threads, const Task& task) {
    if (threads <= 1 || tasks <= 1) {
        const FlushSubnormals flush;
        for (std::int64_t i = 0; i < tasks; ++i) task(i);
    } else {
        run_tasks(tasks, threads, [](const void* t, std::int64_t i) { (*static_cast<const Task*>(t))(i); }, &task);
    }
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace retrograd
