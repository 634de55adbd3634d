/* Preloaded (LD_PRELOAD), it makes a process's clock run backwards, a thousand times as fast; monotonic clocks go on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static time_t start;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (clock != CLOCK_REALTIME || failed) return failed;
    if (!start) start = now->tv_sec;
    long long back = (now->tv_sec - start) * 1000LL + now->tv_nsec / 1000000;
    now->tv_sec = start - back;
    now->tv_nsec = 0;
    return 0;
}
