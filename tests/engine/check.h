/*
 * check.h - macros for the C tests.
 *
 *   static void test_something(void) { CHECK(cond); CHECK_EQ(actual, expected); }
 *   int main(void) { RUN(test_something); return check_report(); }
 *
 * A failed check prints file:line and both values, and the test continues; a test with a failed
 * check counts as failed. Each .c file is one test program.
 */
#ifndef QE_CHECK_H
#define QE_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned check_passed, check_failed, check_failures;

#define CHECK(cond)                                                                                \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      check_failures++;                                                                            \
      printf("  %s:%d: CHECK(%s) does not hold\n", __FILE__, __LINE__, #cond);                     \
    }                                                                                              \
  } while (0)

/* Integers of any type; compared and shown as 64-bit values. */
#define CHECK_EQ(a, b)                                                                             \
  do {                                                                                             \
    int64_t check_a = (int64_t)(a), check_b = (int64_t)(b);                                        \
    if (check_a != check_b) {                                                                      \
      check_failures++;                                                                            \
      printf("  %s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #a,                  \
             (long long)check_a, #b, (long long)check_b);                                          \
    }                                                                                              \
  } while (0)

#define CHECK_STR(a, b)                                                                            \
  do {                                                                                             \
    const char *check_a = (a), *check_b = (b);                                                     \
    if (strcmp(check_a, check_b) != 0) {                                                           \
      check_failures++;                                                                            \
      printf("  %s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #a, check_a,          \
             check_b);                                                                             \
    }                                                                                              \
  } while (0)

/* Check that the string contains the part. */
#define CHECK_HAS(text, part)                                                                      \
  do {                                                                                             \
    const char *check_a = (text), *check_b = (part);                                               \
    if (strstr(check_a, check_b) == NULL) {                                                        \
      check_failures++;                                                                            \
      printf("  %s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, check_a, check_b);   \
    }                                                                                              \
  } while (0)

/* A check that the rest of a test depends on: if it fails, the test returns. */
#define REQUIRE(cond)                                                                              \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      check_failures++;                                                                            \
      printf("  %s:%d: REQUIRE(%s) does not hold\n", __FILE__, __LINE__, #cond);                   \
      return;                                                                                      \
    }                                                                                              \
  } while (0)

#define RUN(fn) check_run(#fn, fn)

static inline void check_run(const char *name, void (*fn)(void)) {
  unsigned before = check_failures;
  fn();
  if (check_failures == before) {
    check_passed++;
  } else {
    check_failed++;
    printf("FAILED %s\n", name);
  }
  fflush(stdout);
}

/* Prints the summary; returns the exit status for main(). */
static inline int check_report(void) {
  printf("%u passed, %u failed\n", check_passed, check_failed);
  return check_failed == 0 && check_passed > 0 ? 0 : 1;
}

#endif
