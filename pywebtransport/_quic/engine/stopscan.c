#include "stopscan.h"

#include <stdbool.h>

enum {
  FRAME_PADDING = 0x00,
  FRAME_PING = 0x01,
  FRAME_ACK = 0x02,
  FRAME_ACK_ECN = 0x03,
  FRAME_RESET_STREAM = 0x04,
  FRAME_STOP_SENDING = 0x05,
  FRAME_CRYPTO = 0x06,
  FRAME_NEW_TOKEN = 0x07,
  FRAME_STREAM_FIRST = 0x08,
  FRAME_STREAM_LAST = 0x0f,
  FRAME_MAX_DATA = 0x10,
  FRAME_MAX_STREAM_DATA = 0x11,
  FRAME_MAX_STREAMS_BIDI = 0x12,
  FRAME_MAX_STREAMS_UNI = 0x13,
  FRAME_DATA_BLOCKED = 0x14,
  FRAME_STREAM_DATA_BLOCKED = 0x15,
  FRAME_STREAMS_BLOCKED_BIDI = 0x16,
  FRAME_STREAMS_BLOCKED_UNI = 0x17,
  FRAME_NEW_CONNECTION_ID = 0x18,
  FRAME_RETIRE_CONNECTION_ID = 0x19,
  FRAME_PATH_CHALLENGE = 0x1a,
  FRAME_PATH_RESPONSE = 0x1b,
  FRAME_CONNECTION_CLOSE = 0x1c,
  FRAME_CONNECTION_CLOSE_APP = 0x1d,
  FRAME_HANDSHAKE_DONE = 0x1e,
  FRAME_DATAGRAM = 0x30,
  FRAME_DATAGRAM_LEN = 0x31,
};

enum { STREAM_BIT_LEN = 0x02, STREAM_BIT_OFF = 0x04 };

enum { MAX_CID_LEN = 20, RESET_TOKEN_LEN = 16, PATH_DATA_LEN = 8 };

typedef struct cursor {
  const uint8_t *p, *end;
} cursor;

static bool get_varint(cursor *c, uint64_t *out) {
  if (c->p == c->end) {
    return false;
  }
  size_t n = (size_t)1 << (*c->p >> 6);
  if ((size_t)(c->end - c->p) < n) {
    return false;
  }
  uint64_t v = *c->p & 0x3f;
  for (size_t i = 1; i < n; i++) {
    v = (v << 8) | c->p[i];
  }
  c->p += n;
  *out = v;
  return true;
}

static bool skip_varints(cursor *c, unsigned count) {
  uint64_t ignored;
  while (count-- > 0) {
    if (!get_varint(c, &ignored)) {
      return false;
    }
  }
  return true;
}

static bool skip_bytes(cursor *c, uint64_t n) {
  if ((uint64_t)(c->end - c->p) < n) {
    return false;
  }
  c->p += n;
  return true;
}

/* Skips a length and that many bytes. */
static bool skip_block(cursor *c) {
  uint64_t len;
  return get_varint(c, &len) && skip_bytes(c, len);
}

static bool skip_ack(cursor *c, bool ecn) {
  uint64_t ranges;
  /* Largest acknowledged, delay; count; first range. */
  if (!skip_varints(c, 2) || !get_varint(c, &ranges) || !skip_varints(c, 1)) {
    return false;
  }
  /* Each range takes at least two bytes, so a larger count is false. */
  if (ranges > (uint64_t)(c->end - c->p) / 2) {
    return false;
  }
  return skip_varints(c, 2 * (unsigned)ranges) && (!ecn || skip_varints(c, 3));
}

static bool skip_stream(cursor *c, uint8_t type) {
  if (!skip_varints(c, (type & STREAM_BIT_OFF) ? 2 : 1)) {
    return false;
  }
  if (type & STREAM_BIT_LEN) {
    return skip_block(c);
  }
  c->p = c->end;
  return true;
}

static bool skip_new_connection_id(cursor *c) {
  /* Sequence number, retire prior to, then one length byte (not a varint). */
  if (!skip_varints(c, 2) || c->p == c->end) {
    return false;
  }
  uint8_t cid_len = *c->p++;
  return cid_len >= 1 && cid_len <= MAX_CID_LEN && skip_bytes(c, cid_len + RESET_TOKEN_LEN);
}

static bool skip_frame(cursor *c, uint8_t type) {
  switch (type) {
  case FRAME_PADDING:
    while (c->p < c->end && *c->p == FRAME_PADDING) {
      c->p++;
    }
    return true;
  case FRAME_PING:
  case FRAME_HANDSHAKE_DONE:
    return true;
  case FRAME_ACK:
  case FRAME_ACK_ECN:
    return skip_ack(c, type == FRAME_ACK_ECN);
  case FRAME_RESET_STREAM:
    return skip_varints(c, 3);
  case FRAME_CRYPTO:
    return skip_varints(c, 1) && skip_block(c);
  case FRAME_NEW_TOKEN:
  case FRAME_DATAGRAM_LEN:
    return skip_block(c);
  case FRAME_MAX_DATA:
  case FRAME_MAX_STREAMS_BIDI:
  case FRAME_MAX_STREAMS_UNI:
  case FRAME_DATA_BLOCKED:
  case FRAME_STREAMS_BLOCKED_BIDI:
  case FRAME_STREAMS_BLOCKED_UNI:
  case FRAME_RETIRE_CONNECTION_ID:
    return skip_varints(c, 1);
  case FRAME_MAX_STREAM_DATA:
  case FRAME_STREAM_DATA_BLOCKED:
    return skip_varints(c, 2);
  case FRAME_NEW_CONNECTION_ID:
    return skip_new_connection_id(c);
  case FRAME_PATH_CHALLENGE:
  case FRAME_PATH_RESPONSE:
    return skip_bytes(c, PATH_DATA_LEN);
  case FRAME_CONNECTION_CLOSE:
    return skip_varints(c, 2) && skip_block(c);
  case FRAME_CONNECTION_CLOSE_APP:
    return skip_varints(c, 1) && skip_block(c);
  case FRAME_DATAGRAM:
    c->p = c->end;
    return true;
  default:
    return type >= FRAME_STREAM_FIRST && type <= FRAME_STREAM_LAST && skip_stream(c, type);
  }
}

unsigned qe_stopscan(const uint8_t *payload, size_t len, qe_stopscan_found found, void *ctx) {
  unsigned seen = 0;

  if (len == 0) {
    return seen;
  }
  cursor c = {payload, payload + len};
  while (c.p < c.end) {
    uint8_t type = *c.p++;
    if (type == FRAME_STOP_SENDING) {
      uint64_t id, code;
      if (!get_varint(&c, &id) || !get_varint(&c, &code)) {
        return seen;
      }
      found(ctx, (int64_t)id, code);
    } else if (!skip_frame(&c, type)) {
      return seen;
    }
    if (type == FRAME_NEW_CONNECTION_ID || type == FRAME_PATH_CHALLENGE) {
      seen |= QE_SCAN_IDS;
    }
  }
  return seen;
}

/* c: at the first byte after the type of an ACK that skip_ack() has accepted. */
static void walk_ack(cursor c, const qe_idscan_found *found, void *ctx) {
  uint64_t largest, delay, ranges, length, gap;

  if (!get_varint(&c, &largest) || !get_varint(&c, &delay) || !get_varint(&c, &ranges) ||
      !get_varint(&c, &length)) {
    return;
  }
  while (length <= largest) { /* below 0 is an error, which the library reports to the peer */
    uint64_t smallest = largest - length;
    found->acked(ctx, smallest, largest);
    if (ranges-- == 0 || !get_varint(&c, &gap) || !get_varint(&c, &length) || smallest < gap + 2) {
      return;
    }
    largest = smallest - gap - 2; /* RFC 9000 section 19.3.1 */
  }
}

void qe_idscan(const uint8_t *payload, size_t len, const qe_idscan_found *found, void *ctx) {
  if (len == 0) {
    return;
  }
  cursor c = {payload, payload + len};
  while (c.p < c.end) {
    uint8_t type = *c.p++;
    cursor at = c;
    uint64_t seq, retire;
    if (type == FRAME_STOP_SENDING ? !skip_varints(&c, 2) : !skip_frame(&c, type)) {
      return;
    }
    if (type == FRAME_NEW_CONNECTION_ID && found->new_id != NULL && get_varint(&at, &seq) &&
        get_varint(&at, &retire)) {
      found->new_id(ctx, seq, retire);
    } else if (type == FRAME_RETIRE_CONNECTION_ID && found->retire_id != NULL &&
               get_varint(&at, &seq)) {
      found->retire_id(ctx, seq);
    } else if (type == FRAME_PATH_CHALLENGE && found->challenge != NULL) {
      found->challenge(ctx);
    } else if ((type == FRAME_ACK || type == FRAME_ACK_ECN) && found->acked != NULL) {
      walk_ack(at, found, ctx);
    }
  }
}

int qe_scan_early(const uint8_t *payload, size_t len) {
  if (len == 0) {
    return 0;
  }
  cursor c = {payload, payload + len};
  while (c.p < c.end) {
    uint8_t type = *c.p++;
    if (type == FRAME_HANDSHAKE_DONE) {
      return 1;
    }
    if (type == FRAME_NEW_CONNECTION_ID) {
      cursor peek = c;
      uint64_t seq, retire;
      if (get_varint(&peek, &seq) && get_varint(&peek, &retire) && retire > 0) {
        return 1;
      }
    }
    if (type == FRAME_STOP_SENDING ? !skip_varints(&c, 2) : !skip_frame(&c, type)) {
      return 0; /* the library closes the connection here and reads no further */
    }
  }
  return 0;
}
