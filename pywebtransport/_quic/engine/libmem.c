#include "libmem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"
#include "conn.h"
#include "engine.h"

/* Nothing else that the library allocates with realloc() starts so large. */
#define SCRATCH_LEAST 256

void qe_scratch_free(qe_scratch *s) {
  for (size_t i = 0; i < QE_SCRATCH_BUFFERS; i++) {
    free(s->buffers[i]);
    s->buffers[i] = NULL;
  }
}

static bool is_lent(const qe_libmem *m, const void *p) {
  for (size_t i = 0; i < m->lent; i++) {
    if (p == m->scratch->buffers[i]) {
      return true;
    }
  }
  return false;
}

/* NULL if out of memory. */
static void *lend(qe_libmem *m) {
  uint8_t **buffer = &m->scratch->buffers[m->lent];

  if (*buffer == NULL) {
    *buffer = malloc(QE_SCRATCH_SIZE);
  }
  if (*buffer != NULL) {
    m->lent++;
  }
  return *buffer;
}

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

  if (is_lent(m, p)) {
    return;
  }
  m->bytes -= malloc_usable_size(p);
  free(p);
}

static void *mem_realloc(void *p, size_t size, void *user_data) {
  qe_libmem *m = user_data;

  if (p == NULL && size >= SCRATCH_LEAST && size <= QE_SCRATCH_SIZE && m->scratch != NULL &&
      m->lent < QE_SCRATCH_BUFFERS) {
    return lend(m);
  }
  if (is_lent(m, p)) {
    if (size <= QE_SCRATCH_SIZE) {
      return p;
    }
    void *own = count(m, malloc(size));
    return own == NULL ? NULL : memcpy(own, p, QE_SCRATCH_SIZE);
  }
  size_t before = malloc_usable_size(p);
  void *q = realloc(p, size);
  if (q != NULL || size == 0) {
    m->bytes -= before;
  }
  return count(m, q);
}

void qe_libmem_init(qe_libmem *m, qe_scratch *scratch) {
  m->mem = (ngtcp2_mem){.user_data = m,
                        .malloc = mem_malloc,
                        .free = mem_free,
                        .calloc = mem_calloc,
                        .realloc = mem_realloc};
  m->bytes = m->told = 0;
  m->scratch = qe_can_share_scratch() ? scratch : NULL;
  m->lent = 0;
}

static void tell(qe_conn *c, uint64_t held) {
  uint64_t told = c->libmem.told;

  if (held != 0 && (held > told ? held - told : told - held) < QE_LIBMEM_STEP) {
    return;
  }
  if (held != told) {
    c->libmem.told = held;
    QE_UPCALL(c->engine, library_memory, (int64_t)(held - told));
  }
}

void qe_libmem_check(qe_conn *c) {
  ngtcp2_conn_info info;
  uint64_t bytes = c->libmem.bytes;

  if (bytes <= QE_LIBMEM_FREE) {
    tell(c, 0);
    return;
  }
  ngtcp2_conn_get_conn_info(c->ng, &info);
  uint64_t usual = QE_LIBMEM_FREE + info.bytes_in_flight;
  tell(c, bytes > usual ? bytes - usual : 0);
  /* The peer may fill all of its window with gaps. */
  uint64_t credit = qe_max(c->engine->set.max_unread_data, qe_credit_window(c));
  if (bytes > QE_LIBMEM_SPARE + credit + info.bytes_in_flight) {
    qe_conn_end_excessive(c, "too many pieces out of order");
  }
}

void qe_libmem_forget(qe_conn *c) {
  tell(c, 0);
}

uint64_t qe_conn_held(const qe_conn *c) {
  return c->handed_bytes - c->returned_bytes + c->libmem.told;
}
