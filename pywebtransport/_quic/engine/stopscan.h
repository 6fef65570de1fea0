/*
 * stopscan.h - scans one decrypted 1-RTT payload for frames.
 *
 * The QUIC library answers STOP_SENDING by itself but does not tell the application its error code.
 * On a client it asserts that some frames do not arrive before the end of the handshake. So the
 * decrypt callback runs these scans first. They only read: they allocate and write nothing. They
 * run before duplicates are detected, so found() must be idempotent.
 */
#ifndef QE_STOPSCAN_H
#define QE_STOPSCAN_H

#include <stddef.h>
#include <stdint.h>

typedef void (*qe_stopscan_found)(void *ctx, int64_t stream_id, uint64_t code);

/* The payload has a frame about connection IDs or paths: NEW_CONNECTION_ID or PATH_CHALLENGE. */
#define QE_SCAN_IDS 1u

/* Calls found() for each STOP_SENDING, up to the first malformed or unknown frame. Knows the
 * frames of RFC 9000 section 19 and RFC 9221. Returns QE_SCAN_IDS or 0. */
unsigned qe_stopscan(const uint8_t *payload, size_t len, qe_stopscan_found found, void *ctx);

/* For a client whose library is still in the handshake: whether the payload has a frame that
 * would make the library abort. These are HANDSHAKE_DONE, which no honest server can send yet
 * (1.11 to 1.25), and NEW_CONNECTION_ID that retires the ID in use (before 1.22). */
int qe_scan_early(const uint8_t *payload, size_t len);

/* What qe_idscan looks for; NULL members are skipped. */
typedef struct qe_idscan_found {
  void (*new_id)(void *ctx, uint64_t seq, uint64_t retire_prior_to);
  void (*challenge)(void *ctx);
  void (*retire_id)(void *ctx, uint64_t seq);
  void (*acked)(void *ctx, uint64_t first, uint64_t last);
} qe_idscan_found;

/* Calls the function for each such frame, and for each range of each ACK, in order. */
void qe_idscan(const uint8_t *payload, size_t len, const qe_idscan_found *found, void *ctx);

#endif
