/* Preloaded (LD_PRELOAD), it gives a process another clock and a bad disk, by what a shared file says at the moment.
 *
 * SOAK_FAULTS names the file: five 64-bit integers. 0: milliseconds that the clock is off (monotonic clocks stay);
 * 1: milliseconds of every flush; 2: microseconds of every write; 3: whether the disk is full; 4: failed writes so far.
 * SOAK_FOLDER is where the full disk is: writes to files elsewhere go on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[5];
static volatile int64_t *faults = none;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("SOAK_FAULTS");
    folder = getenv("SOAK_FOLDER");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(0, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) faults = shared;
}

static void rest(int64_t microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    if (microseconds > 0) nanosleep(&time, 0);
}

/* Whether a write to this file fails, as the disk is full. */
static int full(int file) {
    char link[64], path[4096];
    if (!faults[3] || !folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, folder, strlen(folder))) return 0;
    __sync_fetch_and_add(&faults[4], 1);
    errno = ENOSPC;
    return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += faults[0] / 1000;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(gettimeofday);
    int failed = real(now, zone);
    if (!failed && now) now->tv_sec += faults[0] / 1000;
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

int fsync(int file) {
    REAL(fsync);
    rest(faults[1] * 1000);
    return real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    rest(faults[1] * 1000);
    return real(file);
}

ssize_t write(int file, const void *from, size_t count) {
    REAL(write);
    if (full(file)) return -1;
    rest(faults[2]);
    return real(file, from, count);
}

ssize_t pwrite(int file, const void *from, size_t count, off_t at) {
    REAL(pwrite);
    if (full(file)) return -1;
    rest(faults[2]);
    return real(file, from, count, at);
}

ssize_t pwrite64(int file, const void *from, size_t count, off64_t at) {
    REAL(pwrite64);
    if (full(file)) return -1;
    rest(faults[2]);
    return real(file, from, count, at);
}
