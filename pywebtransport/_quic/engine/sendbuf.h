/*
 * sendbuf.h - the outgoing bytes of one stream, kept until they are acknowledged.
 *
 *   base        acked        sent           end
 *    |  (freed as whole chunks) |   in flight  |   queued   |
 *
 * Chunks are either pinned (the caller's memory, released exactly once) or copies; small copies
 * share a growing tail chunk. Bytes never move once they are in a chunk, so pointers from
 * qe_sendbuf_peek stay valid until the bytes are acknowledged.
 */
#ifndef QE_SENDBUF_H
#define QE_SENDBUF_H

#include <stddef.h>
#include <stdint.h>

#include <ngtcp2/ngtcp2.h>

typedef struct qe_chunk {
  struct qe_chunk *next;
  const uint8_t *data;
  size_t len;
  size_t cap;  /* bytes of store; 0 when pinned */
  void *owner; /* pinned only */
  uint8_t store[];
} qe_chunk;

typedef struct qe_sendbuf {
  qe_chunk *head, *tail;
  qe_chunk *cursor;  /* holds the next unsent byte; NULL when nothing is queued */
  size_t cursor_off; /* its offset inside the cursor chunk */
  uint64_t base;     /* stream offset of the first byte of head */
  uint64_t acked, sent, end;
  size_t next_cap; /* size of the next copy chunk */
} qe_sendbuf;

void qe_sendbuf_init(qe_sendbuf *b);
/* Appends bytes; owner == NULL: copies them. Returns 0, or QE_ERR_NOMEM with nothing changed. A
 * zero-length pinned write is put on *released immediately. */
int qe_sendbuf_write(qe_sendbuf *b, const uint8_t *data, size_t len, void *owner,
                     qe_chunk **released);
/* Gets up to limit unsent bytes in up to max vectors. Returns the number of vectors, and sets
 * *total to the number of bytes. */
size_t qe_sendbuf_peek(const qe_sendbuf *b, uint64_t limit, ngtcp2_vec *vec, size_t max,
                       size_t *total);
/* Marks n peeked bytes as sent. */
void qe_sendbuf_advance(qe_sendbuf *b, size_t n);
/* Marks everything below offset as acknowledged; pushes finished chunks on *released. */
void qe_sendbuf_ack(qe_sendbuf *b, uint64_t offset, qe_chunk **released);
/* Drops the unsent bytes from offset `end` on (`end` is not below sent). Keeps chunks with bytes
 * in flight. */
void qe_sendbuf_truncate(qe_sendbuf *b, uint64_t end, qe_chunk **released);
/* Drops everything. */
void qe_sendbuf_clear(qe_sendbuf *b, qe_chunk **released);

static inline uint64_t qe_sendbuf_queued(const qe_sendbuf *b) {
  return b->end - b->sent;
}

static inline uint64_t qe_sendbuf_unacked(const qe_sendbuf *b) {
  return b->end - b->acked;
}

#endif
