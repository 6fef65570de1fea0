#include <stdlib.h>

#include "check.h"
#include "stopscan.h"

typedef struct seen {
  unsigned count;
  int64_t id[8];
  uint64_t code[8];
} seen;

static void found(void *ctx, int64_t id, uint64_t code) {
  seen *s = ctx;
  if (s->count < 8) {
    s->id[s->count] = id;
    s->code[s->count] = code;
  }
  s->count++;
}

/* Scans an exact-size heap copy, so that a read past the end is an error that
 * a sanitizer or valgrind sees. */
static seen scan(const uint8_t *payload, size_t len) {
  seen s = {0};
  uint8_t *copy = malloc(len == 0 ? 1 : len);
  if (copy != NULL) {
    if (len > 0) {
      memcpy(copy, payload, len);
    }
    qe_stopscan(copy, len, found, &s);
    free(copy);
  }
  return s;
}

#define SCAN(...) scan((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_plain_frame(void) {
  seen s = SCAN(0x05, 0x04, 0x2a);
  CHECK_EQ(s.count, 1);
  CHECK_EQ(s.id[0], 4);
  CHECK_EQ(s.code[0], 0x2a);
}

static void test_varint_lengths(void) {
  seen s = SCAN(0x05, 0x40, 0x04, 0x80, 0x00, 0x01, 0x00);
  CHECK_EQ(s.count, 1);
  CHECK_EQ(s.id[0], 4);
  CHECK_EQ(s.code[0], 256);
  s = SCAN(0x05, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* id = 2^62 - 1 */
           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe);
  CHECK_EQ(s.count, 1);
  CHECK_EQ(s.id[0], ((int64_t)1 << 62) - 1);
  CHECK_EQ(s.code[0], ((int64_t)1 << 62) - 2);
}

static void test_several_frames(void) {
  seen s = SCAN(0x05, 0x00, 0x01, 0x01, 0x05, 0x04, 0x02, 0x00, 0x00, 0x05, 0x08, 0x03);
  CHECK_EQ(s.count, 3);
  CHECK_EQ(s.id[2], 8);
  CHECK_EQ(s.code[2], 3);
}

#define STOP 0x05, 0x10, 0x11
#define EXPECT_STOP_AFTER(...)                                                                     \
  do {                                                                                             \
    seen r = SCAN(__VA_ARGS__, STOP);                                                              \
    CHECK_EQ(r.count, 1);                                                                          \
    CHECK_EQ(r.id[0], 0x10);                                                                       \
    CHECK_EQ(r.code[0], 0x11);                                                                     \
  } while (0)

static void test_every_frame_is_skipped(void) {
  EXPECT_STOP_AFTER(0x00, 0x00, 0x00);                                     /* PADDING */
  EXPECT_STOP_AFTER(0x01);                                                 /* PING */
  EXPECT_STOP_AFTER(0x02, 0x05, 0x00, 0x00, 0x05);                         /* ACK */
  EXPECT_STOP_AFTER(0x02, 0x05, 0x00, 0x02, 0x01, 0x05, 0x05, 0x05, 0x05); /* ACK, 2 ranges */
  EXPECT_STOP_AFTER(0x03, 0x05, 0x00, 0x01, 0x05, 0x05, 0x05, 5, 5, 5);    /* ACK with ECN */
  EXPECT_STOP_AFTER(0x04, 0x05, 0x05, 0x05);                               /* RESET_STREAM */
  EXPECT_STOP_AFTER(0x06, 0x05, 0x02, 0x05, 0x05);                         /* CRYPTO */
  EXPECT_STOP_AFTER(0x07, 0x02, 0x05, 0x05);                               /* NEW_TOKEN */
  EXPECT_STOP_AFTER(0x0a, 0x05, 0x02, 0x05, 0x05);                         /* STREAM LEN */
  EXPECT_STOP_AFTER(0x0b, 0x05, 0x00);                                     /* STREAM LEN FIN */
  EXPECT_STOP_AFTER(0x0e, 0x05, 0x05, 0x02, 0x05, 0x05);                   /* STREAM OFF LEN */
  EXPECT_STOP_AFTER(0x0f, 0x05, 0x05, 0x02, 0x05, 0x05);                   /* and FIN */
  EXPECT_STOP_AFTER(0x10, 0x05);                                           /* MAX_DATA */
  EXPECT_STOP_AFTER(0x11, 0x05, 0x05);                                     /* MAX_STREAM_DATA */
  EXPECT_STOP_AFTER(0x12, 0x05);                                           /* MAX_STREAMS */
  EXPECT_STOP_AFTER(0x13, 0x05);
  EXPECT_STOP_AFTER(0x14, 0x05);       /* DATA_BLOCKED */
  EXPECT_STOP_AFTER(0x15, 0x05, 0x05); /* STREAM_DATA_BLOCKED */
  EXPECT_STOP_AFTER(0x16, 0x05);       /* STREAMS_BLOCKED */
  EXPECT_STOP_AFTER(0x17, 0x05);
  EXPECT_STOP_AFTER(0x18, 0x05, 0x00, 0x02, 0x05, 0x05, /* NEW_CONNECTION_ID */
                    5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5);
  EXPECT_STOP_AFTER(0x19, 0x05);                         /* RETIRE_CONNECTION_ID */
  EXPECT_STOP_AFTER(0x1a, 5, 5, 5, 5, 5, 5, 5, 5);       /* PATH_CHALLENGE */
  EXPECT_STOP_AFTER(0x1b, 5, 5, 5, 5, 5, 5, 5, 5);       /* PATH_RESPONSE */
  EXPECT_STOP_AFTER(0x1c, 0x05, 0x05, 0x02, 0x05, 0x05); /* CONNECTION_CLOSE */
  EXPECT_STOP_AFTER(0x1d, 0x05, 0x02, 0x05, 0x05);       /* of the application */
  EXPECT_STOP_AFTER(0x1e);                               /* HANDSHAKE_DONE */
  EXPECT_STOP_AFTER(0x31, 0x02, 0x05, 0x05);             /* DATAGRAM with length */
}

static void test_frames_without_length_take_the_rest(void) {
  CHECK_EQ(SCAN(0x08, 0x04, STOP).count, 0);       /* STREAM */
  CHECK_EQ(SCAN(0x09, 0x04, STOP).count, 0);       /* STREAM FIN */
  CHECK_EQ(SCAN(0x0c, 0x04, 0x00, STOP).count, 0); /* STREAM OFF */
  CHECK_EQ(SCAN(0x30, STOP).count, 0);             /* DATAGRAM */
}

static void test_frame_content_is_not_taken_for_frames(void) {
  CHECK_EQ(SCAN(0x0a, 0x04, 0x03, STOP).count, 0);
  CHECK_EQ(SCAN(0x31, 0x03, STOP).count, 0);
  CHECK_EQ(SCAN(0x06, 0x00, 0x03, STOP).count, 0);
}

static void test_malformed_stops_quietly(void) {
  CHECK_EQ(scan(NULL, 0).count, 0);
  CHECK_EQ(SCAN(0x05).count, 0);
  CHECK_EQ(SCAN(0x05, 0x04).count, 0);
  CHECK_EQ(SCAN(0x05, 0x04, 0x80).count, 0);
  CHECK_EQ(SCAN(0x1f, STOP).count, 0);                   /* unknown type */
  CHECK_EQ(SCAN(0x24, STOP).count, 0);                   /* RESET_STREAM_AT */
  CHECK_EQ(SCAN(0x40, 0x05, 0x04, 0x05).count, 0);       /* type not in shortest form */
  CHECK_EQ(SCAN(0x0a, 0x04, 0x7f, 0xff, STOP).count, 0); /* longer than the packet */
  CHECK_EQ(SCAN(0x02, 0x05, 0x00, 0xbf, 0xff, 0xff, 0xff, 0x00, STOP).count, 0);
  CHECK_EQ(SCAN(0x18, 0x05, 0x00, 0x15, STOP).count, 0); /* connection ID of 21 bytes */
  CHECK_EQ(SCAN(0x18, 0x05, 0x00, 0x00, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, STOP).count,
           0); /* of none */
  CHECK_EQ(SCAN(0x07, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, STOP).count, 0);
  seen s = SCAN(STOP, 0x1f, STOP); /* what came before the bad frame counts */
  CHECK_EQ(s.count, 1);
}

static void test_every_truncation_is_safe(void) {
  static const uint8_t payload[] = {0x02, 0x05, 0x00, 0x01, 0x01, 0x05, 0x05, 0x0a, 0x04, 0x02,
                                    0x05, 0x05, 0x18, 0x05, 0x00, 0x02, 5,    5,    5,    5,
                                    5,    5,    5,    5,    5,    5,    5,    5,    5,    5,
                                    5,    5,    5,    5,    0x05, 0x40, 0x04, 0x40, 0x07};
  for (size_t len = 0; len < sizeof(payload); len++) {
    CHECK_EQ(scan(payload, len).count, 0);
  }
  CHECK_EQ(scan(payload, sizeof(payload)).count, 1);
}

/* What qe_idscan() found, as text. */
static char found_text[256];

static void say(const char *what, uint64_t a, uint64_t b) {
  size_t n = strlen(found_text);
  snprintf(found_text + n, sizeof(found_text) - n, "%s %llu %llu; ", what, (unsigned long long)a,
           (unsigned long long)b);
}

static void on_new_id(void *ctx, uint64_t seq, uint64_t retire) {
  (void)ctx;
  say("new", seq, retire);
}

static void on_challenge(void *ctx) {
  (void)ctx;
  say("challenge", 0, 0);
}

static void on_retire_id(void *ctx, uint64_t seq) {
  (void)ctx;
  say("retire", seq, 0);
}

static void on_acked(void *ctx, uint64_t first, uint64_t last) {
  (void)ctx;
  say("acked", first, last);
}

static const char *idscan(const uint8_t *bytes, size_t len) {
  static const qe_idscan_found all = {on_new_id, on_challenge, on_retire_id, on_acked};
  static const qe_idscan_found none;
  found_text[0] = '\0';
  qe_idscan(bytes, len, &none, NULL);
  qe_idscan(bytes, len, &all, NULL);
  return found_text;
}

#define IDSCAN(...) idscan((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_frames_about_ids_are_found(void) {
#define ID 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  CHECK(strcmp(IDSCAN(0x18, 5, 3, ID, 0x19, 2, 0x1a, 1, 2, 3, 4, 5, 6, 7, 8),
               "new 5 3; retire 2 0; challenge 0 0; ") == 0);
  /* 20 to 18, a gap of two (17, 16), 15; a gap of one (14), 13 to 10 */
  CHECK(strcmp(IDSCAN(0x02, 20, 0, 2, 2, 1, 0, 0, 3), "acked 18 20; acked 15 15; acked 10 13; ") ==
        0);
  CHECK(strcmp(IDSCAN(0x03, 7, 0, 0, 7, 9, 9, 9, 0x19, 1), "acked 0 7; retire 1 0; ") == 0);
  CHECK(strcmp(IDSCAN(0x02, 7, 0, 0, 8), "") == 0);                  /* below 0 */
  CHECK(strcmp(IDSCAN(0x02, 7, 0, 1, 0, 6, 0), "acked 7 7; ") == 0); /* the second one is */
  CHECK(strcmp(IDSCAN(0x18, 5, 3, 21), "") == 0);
  CHECK(strcmp(IDSCAN(0x05, 1, 1, 0x06, 0, 2, 0x19, 0x19, 0x19, 4), "retire 4 0; ") == 0);
  CHECK_EQ(qe_stopscan((const uint8_t[]){0x18, 5, 3, ID}, 28, NULL, NULL), QE_SCAN_IDS);
  CHECK_EQ(qe_stopscan((const uint8_t[]){0x01, 0x06, 0, 1, 0x18}, 5, NULL, NULL), 0);
}

int main(void) {
  RUN(test_plain_frame);
  RUN(test_varint_lengths);
  RUN(test_several_frames);
  RUN(test_every_frame_is_skipped);
  RUN(test_frames_without_length_take_the_rest);
  RUN(test_frame_content_is_not_taken_for_frames);
  RUN(test_malformed_stops_quietly);
  RUN(test_every_truncation_is_safe);
  RUN(test_frames_about_ids_are_found);
  return check_report();
}
