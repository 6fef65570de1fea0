/*
 * greeting.h - bytes that a server sends before the handshake is complete.
 *
 * They begin the server's first unidirectional stream of each connection, and leave with its part
 * of the handshake (0.5-RTT data, RFC 9001 section 5.7), so that the client has them a round trip
 * earlier. Until the user takes the stream, the engine keeps its events.
 */
#ifndef QE_GREETING_H
#define QE_GREETING_H

#include "internal.h"

/* Server: opens the stream and queues the bytes, if the engine has any and the client allows the
 * stream. Call it when the keys to send 1-RTT packets are there. Returns 0 or QE_ERR_NOMEM. */
int qe_greeting_open(qe_conn *c);

#endif
