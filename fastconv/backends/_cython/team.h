// Threads that do the parts of a kernel, and what is written down of kernels to be run again.
//
// Who calls a kernel posts its parts as a job and begins with the first; helpers take the others,
// and who is done takes what is left: a processor that does something else delays nobody by more
// than the part that it has begun. What a part computes depends on its number and on nothing else, so
// that results are the same whoever computes it. Several callers may post at once; with all jobs
// taken the next caller does its parts alone, as it does where there is one.
//
// Helpers spin for SPIN microseconds, longer than the pauses between the kernels of a training step,
// then sleep; so does a caller that waits for the last parts. A forked child has none of its parent's
// threads, and begins with a team of its own.
//
// A recording is the parts of several calls, each with a copy of what it works on, to be run again
// in their order.

#ifndef FASTCONV_TEAM_H
#define FASTCONV_TEAM_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

// The parts of one run. `next_unit` deals units to them: each has a share, in a line of its own.
struct Crew {
    int size;
    char* shares;
};

// `type_of` is NULL, and looked at for its type only, which tells Cython the kernel's dtype.
typedef void (*Part)(const void* type_of, void* work, int t, const Crew* crew);

namespace team {

enum { HUGE_PAGE = 1 << 21 };  // bytes

enum { SPIN = 500, JOBS = 16, MOST_PARTS = 1 << 15, LINE_BYTES = 64, LOOKS = 32 };

inline void pause() {
#if defined(__SSE2__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins until `done()` or the time is over; says which.
template <class Done>
inline bool spin_until(Done done) {
    typedef std::chrono::steady_clock clock;
    auto end = clock::time_point::min();
    for (;;) {
        for (int i = 0; i < LOOKS; ++i) {
            if (done()) return true;
            pause();
        }
        auto now = clock::now();
        if (end == clock::time_point::min()) end = now + std::chrono::microseconds(SPIN);
        if (now >= end) return false;
    }
}

// Its ticket is what threads agree on: the number of the run, how many parts it has, which is next.
struct Job {
    alignas(LINE_BYTES) std::atomic<std::uint64_t> ticket{0};
    alignas(LINE_BYTES) std::atomic<int> undone{0};
    std::atomic<bool> taken{false}, waiting{false};
    Part part = nullptr;
    void* work = nullptr;
    Crew crew{0, nullptr};
    std::vector<char> memory;  // of the shares
    std::mutex lock;
    std::condition_variable done;

    // The next part, or -1; all else in the job stands still until that part is done.
    int claim() {
        std::uint64_t seen = ticket.load(std::memory_order_acquire);
        for (;;) {
            std::uint64_t next = seen & 0xffff, parts = seen >> 16 & 0xffff;
            if (next >= parts) return -1;
            if (ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel))
                return int(next);
        }
    }

    void finish() {
        if (undone.fetch_sub(1) == 1 && waiting.load()) {
            std::lock_guard<std::mutex> hold(lock);
            done.notify_one();
        }
    }

    // Does parts until none is left; says whether there was one.
    bool help() {
        bool helped = false;
        for (int t = claim(); t >= 0; t = claim()) {
            part(nullptr, work, t, &crew);
            finish();
            helped = true;
        }
        return helped;
    }

    void wait() {
        auto over = [this] { return undone.load() == 0; };
        if (spin_until(over)) return;
        std::unique_lock<std::mutex> hold(lock);
        waiting.store(true);
        done.wait(hold, over);
        waiting.store(false);
    }
};

struct Team {
    Job jobs[JOBS];
    alignas(LINE_BYTES) std::atomic<std::uint32_t> posted{0};
    alignas(LINE_BYTES) std::atomic<int> helpers{0};
    std::atomic<int> sleeping{0}, spinning{0};
    std::mutex lock;
    std::condition_variable wake;

    bool help() {
        bool helped = false;
        for (Job& job : jobs) helped |= job.help();
        return helped;
    }

    void work() {
        for (;;) {
            std::uint32_t seen = posted.load();
            if (help()) continue;
            auto more = [&] { return posted.load() != seen; };
            spinning.fetch_add(1);
            bool found = spin_until(more);
            spinning.fetch_sub(1);
            if (found) continue;
            std::unique_lock<std::mutex> hold(lock);
            sleeping.fetch_add(1);
            wake.wait(hold, more);
            sleeping.fetch_sub(1);
        }
    }

    // So many helpers, or as many as the system gives.
    void employ(int wanted) {
        if (helpers.load() >= wanted) return;
        std::lock_guard<std::mutex> hold(lock);
        for (; helpers.load() < wanted; helpers.fetch_add(1)) {
            try {
                std::thread([this] { work(); }).detach();
            } catch (const std::system_error&) {
                return;
            }
        }
    }

    void call(int wanted) {
        posted.fetch_add(1);
        if (sleeping.load() == 0 || spinning.load() >= wanted) return;
        std::lock_guard<std::mutex> hold(lock);
        for (int i = spinning.load(); i < wanted; ++i) wake.notify_one();
    }
};

// Never destroyed: its threads may outlive everything else. As a static of an inline function it is
// one for all builds that a process loads, where the linker knows such (gcc's does).
inline Team*& current() {
    static Team* team = nullptr;
    return team;
}

inline void begin_anew() { current() = new (std::nothrow) Team; }

inline Team* of_this_process() {
    static std::once_flag once;
    std::call_once(once, [] {
        begin_anew();
#if !defined(_WIN32)
        pthread_atfork(nullptr, nullptr, begin_anew);
#endif
    });
    return current();
}

inline Job* free_job(Team* team) {
    if (team == nullptr) return nullptr;
    for (Job& job : team->jobs)
        if (!job.taken.load(std::memory_order_relaxed) && !job.taken.exchange(true)) return &job;
    return nullptr;
}

inline void deal(const Crew& crew, std::ptrdiff_t units) {
    for (int t = 0; t < crew.size; ++t) {
        auto* share = reinterpret_cast<std::ptrdiff_t*>(crew.shares + t * LINE_BYTES);
        share[0] = units * t / crew.size;
        share[1] = units * (t + 1) / crew.size;
    }
}

// All parts, one after the other.
inline void run_alone(Part part, void* work, int size, std::ptrdiff_t units) {
    alignas(LINE_BYTES) char one[LINE_BYTES];
    std::vector<char> several(size > 1 ? std::size_t(size) * LINE_BYTES : 0);
    Crew crew{size, size > 1 ? several.data() : one};
    deal(crew, units);
    for (int t = 0; t < size; ++t) part(nullptr, work, t, &crew);
}

inline void run(Part part, void* work, int size, std::ptrdiff_t units) {
    if (size > MOST_PARTS) size = MOST_PARTS;
    Team* team = size > 1 ? of_this_process() : nullptr;
    Job* job = free_job(team);
    if (job == nullptr) return run_alone(part, work, size, units);
    team->employ(size - 1);
    job->memory.resize((std::size_t(size) + 1) * LINE_BYTES);
    auto begin = reinterpret_cast<std::uintptr_t>(job->memory.data());
    job->crew = {size, reinterpret_cast<char*>((begin + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES)};
    deal(job->crew, units);
    job->part = part;
    job->work = work;
    job->undone.store(size);
    std::uint64_t number = (job->ticket.load() >> 32) + 1;
    job->ticket.store(
        number << 32 | std::uint64_t(size) << 16 | 1, std::memory_order_release);
    team->call(size - 1);
    part(nullptr, work, 0, &job->crew);
    job->finish();
    job->help();
    job->wait();
    job->taken.store(false, std::memory_order_release);
}

// To be given back by `free`; NULL where there is none. What weights become is read once for each
// image, and of many megabytes in pages of 4 KB finding the pages takes a third of that time.
inline void* new_memory(std::ptrdiff_t bytes) {
#if defined(__linux__)
    if (bytes >= HUGE_PAGE) {
        void* memory = nullptr;
        if (posix_memalign(&memory, HUGE_PAGE, std::size_t(bytes)) != 0) return nullptr;
        madvise(memory, std::size_t(bytes) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
        return memory;
    }
#endif
    return std::malloc(std::size_t(bytes));
}

struct Step {
    Part part;
    std::vector<std::max_align_t> work;
    int size;
    std::ptrdiff_t units;
    const std::ptrdiff_t* flag = nullptr;  // it runs where the flag has this value
    std::ptrdiff_t value = 0;

    bool due() const { return flag == nullptr || *flag == value; }
};

struct Piece {
    void* memory;
    std::ptrdiff_t bytes;
};

// Its memory is what the calls worked in: a call uses again what one before it has given back.
struct Recording {
    std::vector<Step> steps;
    std::vector<Piece> pieces, free_pieces;
    int most = 1;  // parts of a step
    const std::ptrdiff_t* flag = nullptr;  // of the steps that are noted now
    std::ptrdiff_t value = 0;
    bool weights_stay = true;  // so that what is made of them is made once

    ~Recording() {
        for (Piece& piece : pieces) std::free(piece.memory);
    }

    // A piece that no call has had; NULL where there is no memory.
    void* take_new(std::ptrdiff_t bytes) {
        void* memory = new_memory(bytes);
        if (memory != nullptr) pieces.push_back({memory, bytes});
        return memory;
    }

    // The smallest free piece that is large enough, or a new one.
    void* take(std::ptrdiff_t* bytes) {
        auto best = free_pieces.end();
        for (auto one = free_pieces.begin(); one != free_pieces.end(); ++one)
            if (one->bytes >= *bytes && (best == free_pieces.end() || one->bytes < best->bytes))
                best = one;
        if (best != free_pieces.end()) {
            Piece found = *best;
            free_pieces.erase(best);
            *bytes = found.bytes;
            return found.memory;
        }
        return take_new(*bytes);
    }

    void give(void* memory, std::ptrdiff_t bytes) { free_pieces.push_back({memory, bytes}); }

    // What `work` points to must outlive the recording.
    template <class Work>
    void note(Part part, const Work* work, int size, std::ptrdiff_t units) {
        std::size_t items = (sizeof(Work) + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t);
        steps.push_back({part, std::vector<std::max_align_t>(items), size, units, flag, value});
        std::memcpy(static_cast<void*>(steps.back().work.data()), work, sizeof(Work));
        if (size > most) most = size;
    }

    void run() {
        // Who sleeps is awake when the first step for several comes.
        if (Team* team = most > 1 ? of_this_process() : nullptr) team->call(most - 1);
        for (Step& step : steps)
            if (step.due()) team::run(step.part, step.work.data(), step.size, step.units);
    }
};

// Of the calling thread, while it records.
inline Recording*& recording() {
    static thread_local Recording* current = nullptr;
    return current;
}

inline void set_recording(Recording* to) { recording() = to; }

// What is noted from now on runs where `flag` has `value`; with NULL, always.
inline void only_if(const std::ptrdiff_t* flag, std::ptrdiff_t value) {
    if (Recording* to = recording()) to->flag = flag, to->value = value;
}

// Whether what is noted now would run; true where nothing is recorded.
inline bool due() {
    const Recording* to = recording();
    return to == nullptr || to->flag == nullptr || *to->flag == to->value;
}

// Of a flag that several parts may clear.
inline void clear_flag(std::ptrdiff_t* flag) { __atomic_store_n(flag, 0, __ATOMIC_RELAXED); }

}  // namespace team

// Runs `size` parts of a kernel on the team, with `units` dealt to them; a recording notes it with a
// copy of `work`.
template <class Work>
inline void run_parts(Part part, Work* work, int size, std::ptrdiff_t units) {
    if (team::Recording* to = team::recording()) {
        to->note(part, work, size, units);
        if (!team::due()) return;
    }
    team::run(part, work, size, units);
}

// `run_parts` of what depends on weights alone: not noted where these stay as they are.
template <class Work>
inline void run_on_weights(Part part, Work* work, int size, std::ptrdiff_t units) {
    team::Recording* to = team::recording();
    if (to != nullptr && !to->weights_stay) to->note(part, work, size, units);
    team::run(part, work, size, units);
}

// First of the units that are part t's, whoever is done first.
inline std::ptrdiff_t share(std::ptrdiff_t units, int t, int size) { return units * t / size; }

// A unit of part t's share, or else of another's, or -1 when all are taken.
inline std::ptrdiff_t next_unit(const Crew* crew, int t) {
    for (int i = 0; i < crew->size; ++i) {
        auto* share = reinterpret_cast<std::ptrdiff_t*>(
            crew->shares + (t + i) % crew->size * team::LINE_BYTES);
        if (__atomic_load_n(share, __ATOMIC_RELAXED) >= share[1]) continue;
        std::ptrdiff_t unit = __atomic_fetch_add(share, 1, __ATOMIC_RELAXED);
        if (unit < share[1]) return unit;
    }
    return -1;
}

#endif
