#include "addrcount.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "quicengine.h"

size_t qe_addr_prefix(const struct sockaddr *addr, uint8_t out[QE_ADDR_PREFIX]) {
  if (addr->sa_family == AF_INET) {
    struct sockaddr_in in;
    memcpy(&in, addr, sizeof(in));
    memcpy(out, &in.sin_addr, 4);
    return 4;
  }
  if (addr->sa_family == AF_INET6) {
    struct sockaddr_in6 in6;
    memcpy(&in6, addr, sizeof(in6));
    if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
      memcpy(out, &in6.sin6_addr.s6_addr[12], 4);
      return 4;
    }
    memcpy(out, &in6.sin6_addr, 8);
    return 8;
  }
  return 0;
}

qe_addrcount *qe_addrcount_find(const qe_cidmap *m, const struct sockaddr *addr) {
  uint8_t prefix[QE_ADDR_PREFIX];
  return qe_cidmap_get(m, prefix, qe_addr_prefix(addr, prefix));
}

int qe_addrcount_enter(qe_cidmap *m, const struct sockaddr *addr, qe_addrcount **out) {
  qe_addrcount *a = qe_addrcount_find(m, addr);
  if (a == NULL) {
    a = calloc(1, sizeof(*a));
    if (a == NULL) {
      return QE_ERR_NOMEM;
    }
    a->prefix_len = (uint8_t)qe_addr_prefix(addr, a->prefix);
    int rv = qe_cidmap_set(m, a->prefix, a->prefix_len, a);
    if (rv != 0) {
      free(a);
      return rv;
    }
  }
  a->half_open++;
  *out = a;
  return 0;
}

void qe_addrcount_complete(qe_addrcount *a) {
  a->half_open--;
  a->connections++;
}

void qe_addrcount_leave(qe_cidmap *m, qe_addrcount *a, int complete) {
  if (complete) {
    a->connections--;
  } else {
    a->half_open--;
  }
  if (a->connections == 0 && a->half_open == 0) {
    qe_cidmap_del(m, a->prefix, a->prefix_len);
    free(a);
  }
}
