/*
 * internal.h - types and small helpers that the files of the engine share. Not for the binding.
 */
#ifndef QE_INTERNAL_H
#define QE_INTERNAL_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "compat.h"
#include "quicengine.h"
#include "timers.h"

/* What a connection ID or a timer belongs to. It is the first member of its owner. */
typedef enum qe_target_kind { QE_TARGET_CONN, QE_TARGET_LINGER } qe_target_kind;

typedef struct qe_target {
  qe_target_kind kind;
  qe_timer timer;
} qe_target;

static inline qe_target *qe_target_of_timer(qe_timer *t) {
  return (qe_target *)(void *)((char *)t - offsetof(qe_target, timer));
}

/* Runs an upcall if the user provided one. Counts the depth, because some functions must defer
 * their work when they are called from inside an upcall. */
#define QE_UPCALL(e, name, ...)                                                                    \
  do {                                                                                             \
    if ((e)->cb.name != NULL) {                                                                    \
      (e)->upcalls++;                                                                              \
      (e)->cb.name((e)->user, __VA_ARGS__);                                                        \
      (e)->upcalls--;                                                                              \
    }                                                                                              \
  } while (0)

static inline uint64_t qe_min(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static inline uint64_t qe_max(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

static inline uint64_t qe_add_sat(uint64_t a, uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Whether the QUIC library can store the address: IPv4 or IPv6, with exactly the right size. */
static inline int qe_addr_ok(const struct sockaddr *sa, socklen_t len) {
  if (sa == NULL) {
    return 0;
  }
  return (sa->sa_family == AF_INET && len == sizeof(struct sockaddr_in)) ||
         (sa->sa_family == AF_INET6 && len == sizeof(struct sockaddr_in6));
}

static inline ngtcp2_addr qe_addr(const struct sockaddr *sa, socklen_t len) {
  ngtcp2_addr a = {(struct sockaddr *)(uintptr_t)sa, len};
  return a;
}

/* Whether host and port are the same. */
static inline int qe_addr_eq(const struct sockaddr *a, const struct sockaddr *b) {
  if (a->sa_family != b->sa_family) {
    return 0;
  }
  if (a->sa_family == AF_INET) {
    const struct sockaddr_in *x = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_in *y = (const struct sockaddr_in *)(const void *)b;
    return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
  }
  const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)(const void *)a;
  const struct sockaddr_in6 *y = (const struct sockaddr_in6 *)(const void *)b;
  return x->sin6_port == y->sin6_port &&
         memcmp(&x->sin6_addr, &y->sin6_addr, sizeof(x->sin6_addr)) == 0;
}

/* A path refers to its socket by number, so that a freed socket is noticed. */
static inline uintptr_t qe_path_sock_id(const ngtcp2_path *path) {
  return (uintptr_t)path->user_data;
}

int qe_random(uint8_t *out, size_t len); /* 0 or QE_ERR_INTERNAL */

#endif
