#include "sendbuf.h"

#include <stdlib.h>
#include <string.h>

#include "quicengine.h"

#define MIN_COPY ((size_t)256)
#define MAX_COPY ((size_t)65536)

void qe_sendbuf_init(qe_sendbuf *b) {
  memset(b, 0, sizeof(*b));
  b->next_cap = MIN_COPY;
}

static void push_released(qe_chunk **released, qe_chunk *c) {
  c->next = *released;
  *released = c;
}

static void append(qe_sendbuf *b, qe_chunk *c) {
  c->next = NULL;
  if (b->tail == NULL) {
    b->head = c;
    b->base = b->end;
  } else {
    b->tail->next = c;
  }
  b->tail = c;
  if (b->cursor == NULL) {
    b->cursor = c;
    b->cursor_off = 0;
  }
  b->end += c->len;
}

static qe_chunk *chunk_new(size_t cap) {
  qe_chunk *c = malloc(sizeof(*c) + cap);
  if (c != NULL) {
    c->next = NULL;
    c->data = c->store;
    c->len = 0;
    c->cap = cap;
    c->owner = NULL;
  }
  return c;
}

static int write_copy(qe_sendbuf *b, const uint8_t *data, size_t len) {
  size_t room = b->tail != NULL ? b->tail->cap - (b->tail->cap == 0 ? 0 : b->tail->len) : 0;
  size_t first = len < room ? len : room;
  qe_chunk *fresh = NULL;

  if (first < len) { /* allocate before anything changes */
    size_t cap = len - first;
    if (b->head == NULL) {
      b->next_cap = MIN_COPY;
    }
    if (cap < b->next_cap) {
      cap = b->next_cap;
    }
    fresh = chunk_new(cap);
    if (fresh == NULL) {
      return QE_ERR_NOMEM;
    }
    if (b->next_cap < MAX_COPY) {
      b->next_cap *= 2;
    }
  }
  if (first > 0) {
    memcpy(b->tail->store + b->tail->len, data, first);
    if (b->cursor == NULL) { /* everything was sent: continue after it */
      b->cursor = b->tail;
      b->cursor_off = b->tail->len;
    }
    b->tail->len += first;
    b->end += first;
  }
  if (fresh != NULL) {
    memcpy(fresh->store, data + first, len - first);
    fresh->len = len - first;
    append(b, fresh);
  }
  return 0;
}

int qe_sendbuf_write(qe_sendbuf *b, const uint8_t *data, size_t len, void *owner,
                     qe_chunk **released) {
  if (owner == NULL) {
    return len == 0 ? 0 : write_copy(b, data, len);
  }
  qe_chunk *c = chunk_new(0);
  if (c == NULL) {
    return QE_ERR_NOMEM;
  }
  c->data = data;
  c->len = len;
  c->owner = owner;
  if (len == 0) {
    push_released(released, c);
  } else {
    append(b, c);
  }
  return 0;
}

size_t qe_sendbuf_peek(const qe_sendbuf *b, uint64_t limit, ngtcp2_vec *vec, size_t max,
                       size_t *total) {
  size_t n = 0;
  size_t off = b->cursor_off;

  *total = 0;
  for (const qe_chunk *c = b->cursor; c != NULL && n < max && *total < limit; c = c->next) {
    size_t len = c->len - off;
    if (len > limit - *total) {
      len = (size_t)(limit - *total);
    }
    vec[n].base = (uint8_t *)c->data + off; /* the library only reads it */
    vec[n].len = len;
    n++;
    *total += len;
    off = 0;
  }
  return n;
}

void qe_sendbuf_advance(qe_sendbuf *b, size_t n) {
  b->sent += n;
  while (n > 0 && b->cursor != NULL) {
    size_t left = b->cursor->len - b->cursor_off;
    if (n < left) {
      b->cursor_off += n;
      return;
    }
    n -= left;
    b->cursor = b->cursor->next;
    b->cursor_off = 0;
  }
}

/* Frees the chunks that are entirely below acked. */
static void trim(qe_sendbuf *b, qe_chunk **released) {
  while (b->head != NULL && b->base + b->head->len <= b->acked) {
    qe_chunk *c = b->head;
    b->base += c->len;
    b->head = c->next;
    if (b->head == NULL) {
      b->tail = NULL;
    }
    if (b->cursor == c) {
      b->cursor = b->head;
      b->cursor_off = 0;
    }
    push_released(released, c);
  }
}

void qe_sendbuf_ack(qe_sendbuf *b, uint64_t offset, qe_chunk **released) {
  if (offset > b->sent) {
    offset = b->sent;
  }
  if (offset > b->acked) {
    b->acked = offset;
  }
  trim(b, released);
}

void qe_sendbuf_truncate(qe_sendbuf *b, uint64_t end, qe_chunk **released) {
  if (end < b->sent) {
    end = b->sent;
  }
  if (end >= b->end) {
    return;
  }
  uint64_t off = b->base;
  qe_chunk **link = &b->head;
  qe_chunk *last = NULL;

  while (*link != NULL && off < end) {
    qe_chunk *c = *link;
    if (off + c->len > end) {
      c->len = (size_t)(end - off);
      c->cap = c->cap == 0 ? 0 : c->len; /* nothing may be appended after the cut */
    }
    off += c->len;
    last = c;
    link = &c->next;
  }
  qe_chunk *drop = *link;
  *link = NULL;
  b->tail = last;
  b->end = end;
  if (b->sent == end) {
    b->cursor = NULL;
    b->cursor_off = 0;
  }
  while (drop != NULL) {
    qe_chunk *next = drop->next;
    push_released(released, drop);
    drop = next;
  }
}

void qe_sendbuf_clear(qe_sendbuf *b, qe_chunk **released) {
  qe_chunk *c = b->head;
  while (c != NULL) {
    qe_chunk *next = c->next;
    push_released(released, c);
    c = next;
  }
  b->head = b->tail = b->cursor = NULL;
  b->cursor_off = 0;
  b->end = b->sent; /* nothing is queued now; unacked bytes are still counted */
  b->base = b->sent;
}
