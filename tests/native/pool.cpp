// The pool under several threads: no block has two owners, and all come back. Under the thread sanitizer a block that
// passed from one thread to another without the lock would be a race.
#include "pool.hpp"

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Held {
    unsigned char* block;
    std::size_t bytes;
    unsigned char mark;
};

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "pool: %s\n", what.c_str());
    std::exit(1);
}

bool all_are(const Held& held, unsigned char mark) {
    return std::all_of(held.block, held.block + held.bytes, [&](unsigned char c) { return c == mark; });
}

void take_and_give(int thread) {
    retrograd::Pool& pool = retrograd::Pool::instance();
    std::mt19937 draw(static_cast<unsigned>(thread));
    std::vector<Held> held;
    for (int turn = 0; turn < 400; ++turn) {
        if (held.size() < 6 && draw() % 2) {
            const std::size_t bytes = 1 + draw() % (draw() % 16 ? 200'000 : 3'000'000);
            Held fresh{static_cast<unsigned char*>(pool.take(bytes)), bytes, static_cast<unsigned char>(draw() % 255)};
            if (!all_are(fresh, 0xFF)) fail("a block came without its poison");
            std::fill_n(fresh.block, bytes, fresh.mark);
            held.push_back(fresh);
        } else if (!held.empty()) {
            const std::size_t i = draw() % held.size();
            if (!all_are(held[i], held[i].mark)) fail("a block changed under its owner");
            pool.give(held[i].block);
            held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
        }
        if (turn % 97 == 0) pool.release();
        if (pool.stats().cached > pool.stats().limit) fail("it keeps more than its limit");
    }
    for (const Held& last : held) pool.give(last.block);
}

}  // namespace

int main() {
    retrograd::Pool& pool = retrograd::Pool::instance();
    pool.set_poison(true);
    std::vector<std::thread> team;
    for (int thread = 0; thread < 4; ++thread) team.emplace_back(take_and_give, thread);
    for (std::thread& thread : team) thread.join();
    if (pool.stats().in_use != 0) fail("blocks are missing");
    pool.release();
    if (pool.stats().cached != 0) fail("it keeps blocks after release()");

    void *first = pool.take(0), *second = pool.take(0);  // even nothing has an address of its own
    if (first == second) fail("two owners of an empty block");
    pool.give(first);
    pool.give(second);
    try {
        pool.take(static_cast<std::size_t>(-1));
        fail("it promised more than there is");
    } catch (const std::bad_alloc&) {
    }
    std::printf("pool: %zu blocks fresh, %zu reused, none with two owners\n", pool.stats().fresh, pool.stats().reused);
}
