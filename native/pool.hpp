// Memory for large results. Fresh pages cost more than the arithmetic that fills them, so blocks come on huge-page
// bounds and, when their tensor is freed, are kept for the next one of about that size: never more than `limit`.
//
// Safe from any thread and after fork() (the child owns its copies). The pool itself is never destroyed: tensors may
// outlive the interpreter's last module.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace retrograd {

class Pool {
  public:
    struct Stats {
        std::size_t in_use, cached, peak_in_use, limit, fresh, reused;
    };

    static Pool& instance() {
        static Pool* pool = new Pool;
        return *pool;
    }

    void* take(std::size_t bytes) {
        const std::size_t size = rounded(bytes);
        void* block = nullptr;
        std::size_t held = size;
        {
            std::lock_guard lock(mutex_);
            // A block may serve a request down to three quarters of its size.
            const auto fit = free_.lower_bound(size);
            if (fit != free_.end() && fit->first <= size + size / 3) {
                held = fit->first;
                block = fit->second;
                cached_ -= held;
                free_.erase(fit);
                ++reused_;
            }
        }
        if (!block) {
            block = map(size);
            if (!block) {  // give back what is kept and try once more
                release();
                block = map(size);
            }
            if (!block) throw std::bad_alloc();
        }
        std::lock_guard lock(mutex_);
        used_[block] = held;
        in_use_ += held;
        if (in_use_ > peak_) peak_ = in_use_;
        if (poison_) std::memset(block, 0xFF, held);  // NaN in every floating dtype
        return block;
    }

    void give(void* block) {
        std::size_t size = 0;
        {
            std::lock_guard lock(mutex_);
            const auto entry = used_.find(block);
            size = entry->second;
            used_.erase(entry);
            in_use_ -= size;
            if (cached_ + size <= limit_) {
                cached_ += size;
                free_.emplace(size, block);
                return;
            }
        }
        unmap(block, size);
    }

    // Give every kept block back to the system.
    void release() {
        std::multimap<std::size_t, void*> blocks;
        {
            std::lock_guard lock(mutex_);
            blocks.swap(free_);
            cached_ = 0;
        }
        for (const auto& [size, block] : blocks) unmap(block, size);
    }

    Stats stats() {
        std::lock_guard lock(mutex_);
        return {in_use_, cached_, peak_, limit_, fresh_, reused_};
    }

    void set_poison(bool on) {
        std::lock_guard lock(mutex_);
        poison_ = on;
    }

  private:
    static constexpr std::size_t huge = std::size_t(1) << 21, small_step = std::size_t(1) << 16;

    Pool() {
        const char* given = std::getenv("RETROGRAD_POOL_BYTES");
        if (given && *given) {
            limit_ = bytes_of(given);
        } else {
#ifdef _SC_PHYS_PAGES
            limit_ = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE)) / 8;
#else
            limit_ = std::size_t(1) << 30;
#endif
        }
        pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                       [] { instance().mutex_.unlock(); });
    }

    static std::size_t bytes_of(const char* given) {
        char* end = nullptr;
        errno = 0;
        const unsigned long long bytes = std::strtoull(given, &end, 10);
        if (*given < '0' || *given > '9' || *end || errno == ERANGE)
            throw std::invalid_argument(std::string("RETROGRAD_POOL_BYTES is '") + given +
                                        "', expected a number of bytes, as 1073741824; 0 keeps none");
        return static_cast<std::size_t>(bytes);
    }

    static std::size_t rounded(std::size_t bytes) {
        const std::size_t step = bytes < huge ? small_step : huge;
        if (bytes > SIZE_MAX - 2 * huge) throw std::bad_alloc();
        return bytes == 0 ? step : (bytes + step - 1) / step * step;
    }

    void* map(std::size_t size) {
        const std::size_t alignment = size < huge ? small_step : huge, padded = size + alignment;
        void* raw = mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED) return nullptr;
        const auto start = reinterpret_cast<std::uintptr_t>(raw);
        const std::uintptr_t aligned = (start + alignment - 1) / alignment * alignment;
        if (aligned > start) munmap(raw, aligned - start);
        if (start + padded > aligned + size) munmap(reinterpret_cast<void*>(aligned + size), start + padded - aligned - size);
        void* block = reinterpret_cast<void*>(aligned);
#ifdef MADV_HUGEPAGE
        if (size >= huge) madvise(block, size, MADV_HUGEPAGE);  // refused: plain pages serve as well
#endif
        std::lock_guard lock(mutex_);
        ++fresh_;
        return block;
    }

    static void unmap(void* block, std::size_t size) { munmap(block, size); }

    std::mutex mutex_;
    std::multimap<std::size_t, void*> free_;
    std::unordered_map<void*, std::size_t> used_;
    std::size_t in_use_ = 0, cached_ = 0, peak_ = 0, limit_ = 0, fresh_ = 0, reused_ = 0;
    bool poison_ = false;
};

}  // namespace retrograd
