#include "sendbuf.h"

#include <stdlib.h>

#include "check.h"
#include "quicengine.h"

static int drain(qe_chunk **released) {
  int pinned = 0;
  while (*released != NULL) {
    qe_chunk *c = *released;
    *released = c->next;
    pinned += c->owner != NULL;
    free(c);
  }
  return pinned;
}

static size_t chunks(const qe_sendbuf *b) {
  size_t n = 0;
  for (const qe_chunk *c = b->head; c != NULL; c = c->next) {
    n++;
  }
  return n;
}

static void test_small_copies_share_a_chunk(void) {
  qe_sendbuf b;
  qe_chunk *rel = NULL;
  qe_sendbuf_init(&b);
  for (int i = 0; i < 256; i++) {
    uint8_t byte = (uint8_t)i;
    CHECK_EQ(qe_sendbuf_write(&b, &byte, 1, NULL, &rel), 0);
  }
  CHECK_EQ(chunks(&b), 1);
  uint8_t big[1000] = {0};
  CHECK_EQ(qe_sendbuf_write(&b, big, 1000, NULL, &rel), 0);
  CHECK_EQ(chunks(&b), 2);
  CHECK_EQ(qe_sendbuf_queued(&b), 1256);
  ngtcp2_vec v[4];
  size_t total;
  CHECK_EQ(qe_sendbuf_peek(&b, UINT64_MAX, v, 4, &total), 2);
  CHECK_EQ(total, 1256);
  CHECK_EQ(v[0].base[255], 255);
  CHECK_EQ(qe_sendbuf_peek(&b, UINT64_MAX, v, 1, &total), 1);
  CHECK_EQ(total, 256);
  CHECK_EQ(qe_sendbuf_peek(&b, 10, v, 4, &total), 1);
  CHECK_EQ(total, 10);
  CHECK_EQ(qe_sendbuf_peek(&b, 0, v, 4, &total), 0);
  qe_sendbuf_clear(&b, &rel);
  CHECK_EQ(drain(&rel), 0);
}

static void test_copy_stays_when_more_is_appended(void) {
  qe_sendbuf b;
  qe_chunk *rel = NULL;
  ngtcp2_vec v[2], w[2];
  size_t total;
  qe_sendbuf_init(&b);
  CHECK_EQ(qe_sendbuf_write(&b, (const uint8_t *)"abc", 3, NULL, &rel), 0);
  qe_sendbuf_peek(&b, 100, v, 2, &total);
  qe_sendbuf_advance(&b, 3);
  CHECK_EQ(qe_sendbuf_peek(&b, 100, w, 2, &total), 0);
  CHECK_EQ(qe_sendbuf_write(&b, (const uint8_t *)"def", 3, NULL, &rel), 0);
  CHECK_EQ(memcmp(v[0].base, "abc", 3), 0); /* in flight, untouched */
  CHECK_EQ(qe_sendbuf_peek(&b, 100, w, 2, &total), 1);
  CHECK_EQ(total, 3);
  CHECK_EQ(memcmp(w[0].base, "def", 3), 0);
  CHECK_EQ(chunks(&b), 1);
  qe_sendbuf_ack(&b, 3, &rel);
  CHECK(rel == NULL); /* the chunk holds unsent bytes */
  qe_sendbuf_advance(&b, 3);
  qe_sendbuf_ack(&b, 6, &rel);
  CHECK_EQ(chunks(&b), 0);
  CHECK_EQ(qe_sendbuf_unacked(&b), 0);
  drain(&rel);
}

static void test_pinned(void) {
  static const uint8_t data[100];
  int o1, o2, o3;
  qe_sendbuf b;
  qe_chunk *rel = NULL;
  qe_sendbuf_init(&b);
  CHECK_EQ(qe_sendbuf_write(&b, data, 100, &o1, &rel), 0);
  CHECK_EQ(qe_sendbuf_write(&b, data, 50, &o2, &rel), 0);
  CHECK(rel == NULL);
  CHECK_EQ(qe_sendbuf_write(&b, data, 0, &o3, &rel), 0); /* nothing to keep */
  CHECK_EQ(drain(&rel), 1);
  ngtcp2_vec v[4];
  size_t total;
  CHECK_EQ(qe_sendbuf_peek(&b, 120, v, 4, &total), 2);
  CHECK(v[0].base == data && v[1].len == 20);
  qe_sendbuf_advance(&b, 120);
  qe_sendbuf_ack(&b, 99, &rel);
  CHECK_EQ(drain(&rel), 0);
  qe_sendbuf_ack(&b, 100, &rel);
  CHECK_EQ(drain(&rel), 1);
  qe_sendbuf_ack(&b, 1000, &rel); /* never beyond what was sent */
  CHECK_EQ(b.acked, 120);
  CHECK_EQ(drain(&rel), 0);
  qe_sendbuf_clear(&b, &rel);
  CHECK_EQ(drain(&rel), 1);
  CHECK_EQ(qe_sendbuf_queued(&b), 0);
}

static void test_truncate(void) {
  static const uint8_t data[100];
  int owner;
  qe_sendbuf b;
  qe_chunk *rel = NULL;
  ngtcp2_vec v[4];
  size_t total;
  qe_sendbuf_init(&b);
  qe_sendbuf_write(&b, data, 100, NULL, &rel);
  qe_sendbuf_write(&b, data, 100, &owner, &rel);
  qe_sendbuf_write(&b, data, 100, &owner, &rel);
  qe_sendbuf_peek(&b, 30, v, 4, &total);
  qe_sendbuf_advance(&b, 30);
  qe_sendbuf_truncate(&b, 150, &rel);
  CHECK_EQ(b.end, 150);
  CHECK_EQ(drain(&rel), 1);
  CHECK_EQ(qe_sendbuf_peek(&b, 1000, v, 4, &total), 2);
  CHECK_EQ(total, 120);
  qe_sendbuf_truncate(&b, 0, &rel); /* what is in flight stays */
  CHECK_EQ(b.end, 30);
  CHECK_EQ(drain(&rel), 1);
  CHECK_EQ(qe_sendbuf_peek(&b, 1000, v, 4, &total), 0);
  CHECK_EQ(chunks(&b), 1);
  qe_sendbuf_ack(&b, 30, &rel);
  CHECK_EQ(chunks(&b), 0);
  drain(&rel);
}

static void test_unsent_is_dropped_whole(void) {
  int owner;
  static const uint8_t data[10];
  qe_sendbuf b;
  qe_chunk *rel = NULL;
  qe_sendbuf_init(&b);
  qe_sendbuf_write(&b, data, 10, &owner, &rel);
  qe_sendbuf_truncate(&b, 0, &rel);
  CHECK_EQ(drain(&rel), 1);
  CHECK_EQ(chunks(&b), 0);
  CHECK(b.tail == NULL && b.cursor == NULL);
  qe_sendbuf_clear(&b, &rel);
}

/* Random use against a plain copy of the bytes. */
static void test_model(void) {
  static uint8_t model[1 << 20];
  uint32_t r = 12345;
  for (int round = 0; round < 50; round++) {
    qe_sendbuf b;
    qe_chunk *rel = NULL;
    uint64_t written = 0, sent = 0, acked = 0;
    int owner, pinned = 0, released = 0;
    qe_sendbuf_init(&b);
    for (int step = 0; step < 2000; step++) {
      r = r * 1103515245 + 12345;
      size_t n = (r >> 16) % 700;
      switch ((r >> 8) % 4) {
      case 0:
      case 1:
        if (written + n > sizeof(model)) {
          break;
        }
        for (size_t i = 0; i < n; i++) {
          model[written + i] = (uint8_t)(r + i * 7);
        }
        if (n > 300) {
          pinned++;
        }
        CHECK_EQ(qe_sendbuf_write(&b, model + written, n, n > 300 ? &owner : NULL, &rel), 0);
        written += n;
        break;
      case 2: {
        ngtcp2_vec v[5];
        size_t total, off = 0;
        size_t k = qe_sendbuf_peek(&b, n, v, 5, &total);
        for (size_t i = 0; i < k; i++) {
          CHECK_EQ(memcmp(v[i].base, model + sent + off, v[i].len), 0);
          off += v[i].len;
        }
        CHECK_EQ(off, total);
        total -= total > 0 ? r % 2 : 0;
        qe_sendbuf_advance(&b, total);
        sent += total;
        break;
      }
      default:
        acked += acked + n <= sent ? n : 0;
        qe_sendbuf_ack(&b, acked, &rel);
        released += drain(&rel);
      }
      CHECK_EQ(qe_sendbuf_queued(&b), written - sent);
      CHECK_EQ(qe_sendbuf_unacked(&b), written - acked);
    }
    qe_sendbuf_clear(&b, &rel);
    released += drain(&rel);
    CHECK_EQ(released, pinned);
  }
}

int main(void) {
  RUN(test_small_copies_share_a_chunk);
  RUN(test_copy_stays_when_more_is_appended);
  RUN(test_pinned);
  RUN(test_truncate);
  RUN(test_unsent_is_dropped_whole);
  RUN(test_model);
  return check_report();
}
