#include "batch.h"

#include <stdlib.h>

#include "udp.h"

void qe_batch_init(qe_batch *b, qe_outlet out) {
  memset(b, 0, sizeof(*b));
  b->out = out;
  b->want = QE_BATCH_MIN_ARENA;
  for (size_t i = 0; i < QE_BATCH_TRAINS + 1; i++) {
    ngtcp2_path_storage_zero(&b->trains[i].path);
  }
}

void qe_batch_free(qe_batch *b) {
  free(b->arena);
  qe_batch_init(b, b->out);
}

static void copy_train(qe_train *dst, const qe_train *src) {
  dst->offset = src->offset;
  dst->len = src->len;
  dst->segment = src->segment;
  dst->count = src->count;
  dst->ecn = src->ecn;
  dst->closed = src->closed;
  ngtcp2_path_copy(&dst->path.path, &src->path.path);
}

void qe_batch_flush(qe_batch *b) {
  qe_packets out[QE_BATCH_TRAINS + 1];
  size_t taken;

  if (b->n == 0 || b->blocked) {
    return;
  }
  for (size_t i = 0; i < b->n; i++) {
    qe_train *t = &b->trains[i];
    out[i].sock = b->out.sock(b->out.owner, qe_path_sock_id(&t->path.path));
    out[i].local = t->path.path.local.addr;
    out[i].local_len = t->path.path.local.addrlen;
    out[i].remote = t->path.path.remote.addr;
    out[i].remote_len = t->path.path.remote.addrlen;
    out[i].data = b->arena + t->offset;
    out[i].len = t->len;
    out[i].segment_size = t->segment;
    out[i].ecn = t->ecn;
  }
  if (b->out.send != NULL) {
    taken = b->out.send(b->out.send_ctx, out, b->n);
    b->out.stats->send_calls++;
  } else {
    taken = qe_udp_send(out, b->n); /* counts its own system calls */
  }
  if (taken > b->n) {
    taken = b->n;
  }
  for (size_t i = 0; i < taken; i++) {
    b->out.stats->packets_sent += b->trains[i].count;
    b->out.stats->bytes_sent += b->trains[i].len;
  }
  if (taken < b->n) {
    b->blocked = 1;
    for (size_t i = taken; i < b->n; i++) {
      copy_train(&b->trains[i - taken], &b->trains[i]);
    }
  }
  b->n -= taken;
  if (b->n == 0) {
    b->used = 0;
  }
}

/* Grows the arena; it must be empty, because packets in it cannot move. */
static int ensure_arena(qe_batch *b, size_t len) {
  size_t want = b->want > len ? b->want : len;
  if (b->arena != NULL && (b->used > 0 || b->cap >= want)) {
    return b->cap >= len;
  }
  uint8_t *arena = malloc(want);
  if (arena == NULL) {
    return b->arena != NULL && b->cap >= len;
  }
  free(b->arena);
  b->arena = arena;
  b->cap = want;
  return 1;
}

uint8_t *qe_batch_reserve(qe_batch *b, size_t len) {
  if (b->n > QE_BATCH_TRAINS || (b->used > 0 && b->cap - b->used < len)) {
    if (b->n <= QE_BATCH_TRAINS && b->want < QE_BATCH_MAX_ARENA) {
      b->want = b->cap * 2; /* the bytes ran out before the trains */
    }
    qe_batch_flush(b);
    if (b->used > 0 && (b->n > QE_BATCH_TRAINS || b->cap - b->used < len)) {
      return NULL;
    }
  }
  if (!ensure_arena(b, len)) {
    b->starved = 1;
    return NULL;
  }
  return b->arena + b->used;
}

void qe_batch_commit(qe_batch *b, const ngtcp2_path *path, unsigned ecn, size_t len, int alone) {
  qe_train *t = b->n > 0 ? &b->trains[b->n - 1] : NULL;

  if (t != NULL && !alone && !t->closed && t->offset + t->len == b->used && t->ecn == ecn &&
      len <= t->segment && t->count < QE_BATCH_SEGMENTS && t->len + len <= QE_BATCH_TRAIN_BYTES &&
      t->path.path.user_data == path->user_data && ngtcp2_path_eq(&t->path.path, path)) {
    t->closed = len < t->segment;
    t->len += len;
    t->count++;
  } else {
    t = &b->trains[b->n++];
    ngtcp2_path_copy(&t->path.path, path);
    t->offset = b->used;
    t->len = len;
    t->segment = len;
    t->count = 1;
    t->ecn = ecn;
    t->closed = alone;
  }
  b->used += len;
}

int qe_batch_put(qe_batch *b, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                 size_t len) {
  uint8_t *dest = qe_batch_reserve(b, len);
  if (dest == NULL) {
    return QE_ERR_BLOCKED;
  }
  memcpy(dest, data, len);
  qe_batch_commit(b, path, ecn, len, 0);
  return 0;
}
