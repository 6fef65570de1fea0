#include "libmem.h"

#include <malloc.h>
#include <stdlib.h>

#include "conn.h"
#include "engine.h"

static void *count(qe_libmem *m, void *p) {
  m->bytes += malloc_usable_size(p); /* 0 of NULL */
  return p;
}

static void *mem_malloc(size_t size, void *user_data) {
  return count(user_data, malloc(size));
}

static void *mem_calloc(size_t n, size_t size, void *user_data) {
  return count(user_data, calloc(n, size));
}

static void mem_free(void *p, void *user_data) {
  qe_libmem *m = user_data;
  m->bytes -= malloc_usable_size(p);
  free(p);
}

static void *mem_realloc(void *p, size_t size, void *user_data) {
  qe_libmem *m = user_data;
  size_t before = malloc_usable_size(p);
  void *q = realloc(p, size);
  if (q != NULL || size == 0) {
    m->bytes -= before;
  }
  return count(m, q);
}

void qe_libmem_init(qe_libmem *m) {
  m->mem = (ngtcp2_mem){.user_data = m,
                        .malloc = mem_malloc,
                        .free = mem_free,
                        .calloc = mem_calloc,
                        .realloc = mem_realloc};
  m->bytes = 0;
}

void qe_libmem_check(qe_conn *c) {
  const qe_settings *set = &c->engine->set;
  ngtcp2_conn_info info;

  if (c->libmem.bytes <= QE_LIBMEM_SPARE) {
    return;
  }
  /* The window doubles as the user reads, and the peer may fill all of it with gaps. */
  uint64_t credit = qe_max(set->initial_max_data, 2 * c->returned_bytes);
  credit = qe_min(credit, set->max_data_window);
  ngtcp2_conn_get_conn_info(c->ng, &info);
  if (c->libmem.bytes > QE_LIBMEM_SPARE + credit + info.bytes_in_flight) {
    qe_conn_end_excessive(c, "too many pieces out of order");
  }
}
