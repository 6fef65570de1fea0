/*
 * native.c - what the regression guard needs inside the measured process; preloaded.
 *
 * Time is virtual.  Each look at the monotonic clock moves it by GUARD_STEP, and a wait
 * for descriptors that nothing ends moves it to the end of the wait.  Under valgrind
 * everything but time is 50 times slower: with the real clock, timers would fire and
 * packets would be cut as on no real machine, and never twice alike.  With this one a
 * run depends on the program only.  Calendar time stays real: certificates need it.
 *
 * Counting is switched on and off from inside, so that nothing but the workload is in.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>
#include <valgrind/callgrind.h>
#if defined(__x86_64__)
#include <cpuid.h>
#else
#include <sys/auxv.h>
#endif

/* About what passes between two looks at the clock on a machine of today. */
#define GUARD_STEP UINT64_C(10000)
#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)

typedef int (*clock_gettime_fn)(clockid_t, struct timespec *);
typedef int (*epoll_wait_fn)(int, struct epoll_event *, int, int);

int guard_counting_start(void);
int guard_counting_stop(void);
void guard_cpu_features(uint32_t words[4]);

static uint64_t virtual_now; /* nanoseconds; 0 until the first look */

static int real_clock(clockid_t clock, struct timespec *ts) {
  static clock_gettime_fn next;
  if (next == NULL) {
    next = (clock_gettime_fn)dlsym(RTLD_NEXT, "clock_gettime");
  }
  return next(clock, ts);
}

static int real_wait(int fd, struct epoll_event *events, int max, int timeout) {
  static epoll_wait_fn next;
  if (next == NULL) {
    next = (epoll_wait_fn)dlsym(RTLD_NEXT, "epoll_wait");
  }
  return next(fd, events, max, timeout);
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
  if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_RAW && clock != CLOCK_MONOTONIC_COARSE &&
      clock != CLOCK_BOOTTIME) {
    return real_clock(clock, ts);
  }
  if (virtual_now == 0) {
    virtual_now = 1000 * SECOND;
  }
  virtual_now += GUARD_STEP;
  ts->tv_sec = (time_t)(virtual_now / SECOND);
  ts->tv_nsec = (long)(virtual_now % SECOND);
  return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout) {
  if (timeout <= 0) {
    return real_wait(fd, events, max, timeout);
  }
  /* What was sent over loopback is there when sendmsg returns, or in a moment if the
   * kernel was busy. */
  int n = real_wait(fd, events, max, 1);
  if (n == 0) {
    virtual_now += (uint64_t)timeout * MILLISECOND;
  }
  return n;
}

/* Both return whether valgrind runs this process. */
int guard_counting_start(void) {
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  return RUNNING_ON_VALGRIND > 0;
}

int guard_counting_stop(void) {
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT("workload");
  return RUNNING_ON_VALGRIND > 0;
}

/* What libraries see that choose their code by the processor; under valgrind it is what
 * valgrind can run.  x86: leaf 1 ECX and EDX, leaf 7 EBX and ECX; others: AT_HWCAP. */
void guard_cpu_features(uint32_t words[4]) {
#if defined(__x86_64__)
  uint32_t a, b, c, d;
  words[0] = words[1] = words[2] = words[3] = 0;
  if (__get_cpuid(1, &a, &b, &c, &d)) {
    words[0] = c;
    words[1] = d;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    words[2] = b;
    words[3] = c;
  }
#else
  uint64_t first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  words[0] = (uint32_t)first;
  words[1] = (uint32_t)(first >> 32);
  words[2] = (uint32_t)second;
  words[3] = (uint32_t)(second >> 32);
#endif
}
