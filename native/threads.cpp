// OpenMP runs the loops, on the threads that torch uses too. libgomp's threads do not survive fork(), and it would wait
// for them for ever: in a forked child every loop starts its own. A build for the thread sanitizer does too
// (RETROGRAD_STD_THREADS): libgomp's barriers are not instrumented, and every region would look like a race with the
// code behind it. The shares of the work are the same.
#include "threads.hpp"

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace retrograd {
namespace {

#ifdef _OPENMP
bool openmp = true;
#endif

// Calls share(i), which does not throw, for every i < shares.
template <class Share>
void run_shares(int shares, const Share& share) {
#ifdef _OPENMP
    if (openmp) {
#pragma omp parallel for num_threads(shares) schedule(static, 1)
        for (int i = 0; i < shares; ++i) share(i);
        return;
    }
#endif
#if defined(_OPENMP) || defined(RETROGRAD_STD_THREADS)
    std::vector<std::thread> team;
    team.reserve(static_cast<std::size_t>(shares));
    for (int i = 1; i < shares; ++i) {
        try {
            team.emplace_back([&share, i] { share(i); });
        } catch (const std::system_error&) {  // no more threads to be had
            share(i);
        }
    }
    share(0);
    for (std::thread& thread : team) thread.join();
#else
    for (int i = 0; i < shares; ++i) share(i);
#endif
}

}  // namespace

void avoid_openmp() {
#ifdef _OPENMP
    openmp = false;
#endif
}

void run_tasks(std::int64_t tasks, int threads, void (*task)(const void*, std::int64_t), const void* context) {
    const int shares = static_cast<int>(std::min<std::int64_t>(tasks, threads));
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(shares));
    run_shares(shares, [&](int share) {
        const FlushSubnormals flush;
        try {
            for (std::int64_t i = tasks * share / shares; i < tasks * (share + 1) / shares; ++i) task(context, i);
        } catch (...) {
            failures[static_cast<std::size_t>(share)] = std::current_exception();
        }
    });
    for (const std::exception_ptr& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

}  // namespace retrograd
