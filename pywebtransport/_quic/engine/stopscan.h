/*
 * stopscan.h - finds STOP_SENDING frames in one decrypted 1-RTT payload.
 *
 * The QUIC library answers a STOP_SENDING by itself but does not tell the
 * application its error code, so the decrypt hook lets this walk look first.
 * Read-only: no allocation, no writes.  It runs before duplicates are
 * detected, therefore found() must be idempotent.
 */
#ifndef QE_STOPSCAN_H
#define QE_STOPSCAN_H

#include <stddef.h>
#include <stdint.h>

typedef void (*qe_stopscan_found)(void *ctx, int64_t stream_id, uint64_t code);

/* Calls found() for each STOP_SENDING up to the first frame that is malformed
 * or unknown.  Knows RFC 9000 section 19 and RFC 9221. */
void qe_stopscan(const uint8_t *payload, size_t len, qe_stopscan_found found, void *ctx);

#endif
