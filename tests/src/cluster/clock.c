/* Stands before the C library's clock_gettime in a node under test: its wall clock is the machine's plus as many
   milliseconds as the file says that VERTEBRA_TEST_CLOCK names (8 bytes, signed, read anew at every call). Every other
   clock is the machine's: only what can be set is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int (*machine)(clockid_t, struct timespec *);
static const int64_t *ahead_ms;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VERTEBRA_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = mmap(NULL, sizeof *ahead_ms, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        abort();
    close(file);
    *(void **)&machine = dlsym(RTLD_NEXT, "clock_gettime");
    ahead_ms = map;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = machine ? machine(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && ahead_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ms = __atomic_load_n(ahead_ms, __ATOMIC_RELAXED);
        int64_t ns = now->tv_nsec + ms % 1000 * 1000000;
        now->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
        now->tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
    }
    return result;
}
