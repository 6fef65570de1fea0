/*
 * quicengine.h - the public API of the QUIC engine.
 *
 * This is the only engine header that the Python binding uses, and it names no type of the QUIC or
 * TLS library. There is one engine object per endpoint. You pass packets in, call
 * qe_engine_process, and ask for the time of the next call. The engine sends packets in batches and
 * reports events through a struct of callbacks.
 *
 * General rules:
 *   - One engine belongs to one thread. Nothing here locks.
 *   - Time is an argument: nanoseconds of a monotonic clock (qe_tstamp). It must never go
 *     backwards from one call to the next on the same engine.
 *   - Functions that can fail return a negative QE_ERR_* and change nothing unless stated
 *     otherwise. No function aborts or prints.
 *   - Callbacks run only inside qe_engine_packet_in, qe_sock_dispatch, qe_engine_process,
 *     qe_engine_free and qe_conn_abandon. A callback must not call a function that writes packets
 *     or frees a connection (qe_engine_process, qe_engine_packet_in, qe_engine_free); everything
 *     else only sets flags and queues work, and is safe.
 *   - Data pointers passed to a callback are invalid once it returns.
 */
#ifndef QUICENGINE_H
#define QUICENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t qe_tstamp; /* monotonic nanoseconds */

#define QE_NEVER UINT64_MAX
#define QE_SECOND ((uint64_t)1000000000)
#define QE_MILLISECOND ((uint64_t)1000000)
#define QE_MAX_VARINT (((uint64_t)1 << 62) - 1)
#define QE_LB_MAX_ID 13 /* bytes of a server ID */
#define QE_MAX_SECRETS 4
#define QE_REASON_MAX 256 /* bytes of a close reason that are kept */

/* ------------------------------------------------------------------ errors */

enum qe_error {
  QE_OK = 0,
  QE_ERR_NOMEM = -1,           /* an allocation failed */
  QE_ERR_INVALID = -2,         /* an argument is out of its range */
  QE_ERR_CLOSED = -3,          /* the connection or stream is closed or closing */
  QE_ERR_STREAM_LIMIT = -4,    /* the peer's stream limit is reached; see streams_available */
  QE_ERR_STREAM_SHUT = -5,     /* this direction of the stream is finished or reset */
  QE_ERR_BLOCKED = -6,         /* a queue is full; try again after the matching callback */
  QE_ERR_DGRAM_TOO_LARGE = -7, /* larger than qe_conn_max_datagram_size() */
  QE_ERR_DGRAM_DISABLED = -8,  /* the peer does not accept DATAGRAM frames */
  QE_ERR_TLS = -9,             /* TLS set-up failed; see qe_last_error() */
  QE_ERR_CERTIFICATE = -10,    /* a certificate or key could not be used; see qe_last_error() */
  QE_ERR_SYSCALL = -11,        /* a system call failed; errno is kept */
  QE_ERR_LIMIT = -12,          /* a configured limit (connections, ...) is reached */
  QE_ERR_NOT_READY = -13,      /* the handshake is not complete */
  QE_ERR_UNSUPPORTED = -14,    /* the library version or the kernel lacks it */
  QE_ERR_MIGRATION = -15,      /* refused: disabled by the peer, or no spare connection ID */
  QE_ERR_INTERNAL = -16        /* an invariant did not hold */
};

/* A static English description of a QE_ERR_* value; never NULL. */
const char *qe_strerror(int err);

/* Details of the last QE_ERR_TLS, QE_ERR_CERTIFICATE or QE_ERR_SYSCALL of this thread, for
 * instance "file /x.crt: no PEM data found". Never NULL. */
const char *qe_last_error(void);

/* ---------------------------------------------------------------- versions */

/* Version strings of the libraries found at run time. */
const char *qe_ngtcp2_version(void);
const char *qe_gnutls_version(void);
/* Version of ngtcp2 that this was compiled with. */
const char *qe_ngtcp2_build_version(void);
/* 1 if writing qlog is safe with the ngtcp2 found at run time (>= 1.23). */
int qe_qlog_supported(void);

/* ---------------------------------------------------------------- settings */

enum qe_cc { QE_CC_CUBIC = 0, QE_CC_RENO = 1, QE_CC_BBR = 2 };
enum qe_retry { QE_RETRY_OFF = 0, QE_RETRY_AUTO = 1, QE_RETRY_ALWAYS = 2 };

typedef struct qe_settings {
  int is_server;

  /* Timers, nanoseconds. */
  uint64_t idle_timeout;      /* max_idle_timeout; default 30 s */
  uint64_t handshake_timeout; /* default 10 s */
  uint64_t keep_alive;        /* 0 = off; PING after this long without packets */

  /* Receive windows, bytes.  The window grows up to max_*_window when the peer
   * needs it (auto-tuning) and only as the application consumes. */
  uint64_t initial_max_data;        /* connection; default 16 MiB */
  uint64_t initial_max_stream_data; /* every stream kind; default 1 MiB */
  uint64_t max_unread_data;         /* what a connection may hold unread while memory_left allows
                                       it; default: no more than initial_max_data */
  uint64_t max_data_window;         /* auto-tuning ceiling; >= initial_max_data */
  uint64_t max_stream_window;       /* auto-tuning ceiling; >= initial_max_stream_data */

  /* Concurrent streams that the peer may open. Credit is returned only by
   * qe_conn_extend_streams. */
  uint64_t max_streams_bidi; /* default 100 */
  uint64_t max_streams_uni;  /* default 100 */

  uint32_t max_datagram_frame_size; /* 0 = DATAGRAM off; default 65535 */
  uint32_t dgram_queue_count;       /* outgoing datagrams queued per connection; default 1024 */
  uint32_t dgram_queue_bytes;       /* bytes of these; default 1 MiB */

  uint32_t stream_write_low; /* see stream_writable; bytes, default 64 KiB */
  uint64_t max_queued_data;  /* see qe_stream_is_crowded; bytes, default 16 MiB */

  uint32_t max_tx_udp_payload_size; /* 1200..65527; default 1452 */
  int pmtud;                        /* 1 */
  int known_mtu; /* 1: the path carries max_tx_udp_payload_size: use it from the first packet on,
                    without probes; default 0 */
  int ecn;       /* 1 */
  int pacing;    /* 1 */
  enum qe_cc cc; /* QE_CC_CUBIC */
  int prefer_v2; /* client starts with v1 and offers v2; server chooses v2 if offered */
  int enable_migration; /* 1; 0 sets disable_active_migration */

  /* Server only. */
  enum qe_retry retry;      /* QE_RETRY_AUTO */
  uint32_t retry_half_open; /* AUTO: Retry from this many half-open connections; default 128 */
  uint32_t max_half_open;   /* beyond: new Initials are dropped; default 4096 */
  uint32_t max_connections; /* beyond: CONNECTION_REFUSED; default 10000 */
  /* Limits per client address (/64 for IPv6); 0 = no limit. */
  uint32_t max_half_open_per_address;   /* beyond: its new Initials are dropped; default 1024 */
  uint32_t max_connections_per_address; /* beyond: CONNECTION_REFUSED; default 0 */
  uint32_t handshakes_per_address;      /* new connections per second; default 0 */
  uint32_t stateless_resets_per_second; /* also limits all other answers sent without a
                                           connection, which are at most 100 per second; default
                                           5000 */

  /* What a peer may do per connection before the connection is closed with excessive_load_code. */
  uint32_t max_leftovers;         /* ended streams that the library keeps, such as unidirectional
                                     ones that begin with RESET_STREAM; default 1024; 4 more each
                                     second, and 1 more for 8 streams that end properly */
  uint32_t max_resets_per_second; /* RESET_STREAM + STOP_SENDING received; default 20000 */
  uint64_t excessive_load_code;   /* application error code of that close; default 0x107 */

  uint8_t cid_len;  /* length of our connection IDs; 8..18, default 8 */
  int worker_index; /* -1 = not a worker; else 0..255; the first byte of each of our CIDs, or the
                       one after lb_server_id */
  int worker_count; /* 0 = no others; else the number of workers: packets of other workers go to
                       the foreign_packet callback */
  /* Connection IDs that a balancer can route (draft-ietf-quic-load-balancers, plaintext form): a
   * first byte with lb_config and the length, then this ID, the worker's number if there are
   * workers, and at least 4 random bytes. */
  uint8_t lb_server_id[QE_LB_MAX_ID];
  uint8_t lb_server_id_len; /* 0 = none */
  uint8_t lb_config;        /* 0..6 */
  /* Servers with the same secrets accept each other's tokens and send each other's stateless
   * resets; none = a random secret. See qe_engine_set_secrets. */
  uint8_t secrets[QE_MAX_SECRETS][32];
  size_t secret_count;

  /* Work per call: qe_sock_recv reads at most recv_batch UDP datagrams, and qe_engine_process
   * writes at most send_batch bytes per connection. */
  uint32_t recv_batch; /* default 256 */
  uint32_t send_batch; /* default 256 KiB */

  int qlog;  /* 1: qlog_data callback; QE_ERR_UNSUPPORTED if not safe */
  int debug; /* 1: the library's own log goes to the log_line callback */
} qe_settings;

/* Sets the defaults above. */
void qe_settings_init(qe_settings *s, int is_server);
/* Returns 0, or QE_ERR_INVALID and sets *field to the name of the first wrong member. */
int qe_settings_check(const qe_settings *s, const char **field);

/* --------------------------------------------------------------------- TLS */

typedef struct qe_tls qe_tls;

#define QE_TICKET_KEY_LEN 64

enum qe_verify {
  QE_VERIFY_NONE = 0,     /* client: accept any certificate; server: do not ask for one */
  QE_VERIFY_OPTIONAL = 1, /* server: ask for one and verify it if the client sends it */
  QE_VERIFY_REQUIRED = 2  /* client: verify chain, dates and name; server: demand a certificate */
};

typedef struct qe_tls_options {
  int is_server;
  const char *const *alpn; /* array of alpn_count protocol names; never empty */
  size_t alpn_count;
  const char *cert_file; /* PEM chain; NULL = none (client) */
  const char *key_file;  /* PEM key */
  const char *ca_file;   /* PEM roots; NULL = GnuTLS's trust store (client, verifying) */
  const char *ca_data;   /* the roots themselves; ca_file then only names them in messages */
  size_t ca_data_len;
  enum qe_verify verify;
  /* serverCertificateHashes: SHA-256 of the DER of the leaf. With count > 0 the chain and the
   * name are not checked; instead one hash must match, and the certificate must follow the rules
   * of the protocol (X.509v3, no RSA, valid now, total validity <= 14 days). */
  const uint8_t (*cert_hashes)[32];
  size_t cert_hash_count;
  int keylog;  /* 1: keylog_line callback */
  int tickets; /* server: issue session tickets; client: report them */
  /* Server: key of session tickets, if servers share it; NULL = a random key for this object
   * only. */
  const uint8_t (*ticket_key)[QE_TICKET_KEY_LEN];
} qe_tls_options;

/* A TLS configuration. It is reference counted: connections keep the one that they started with,
 * so qe_engine_set_tls() can replace certificates without interrupting them. */
int qe_tls_new(qe_tls **out, const qe_tls_options *opt);
/* Server: an extra certificate for an SNI name ("example.org" or "*.example.org"). */
int qe_tls_add_sni(qe_tls *tls, const char *name, const char *cert_file, const char *key_file);
/* 0 if GnuTLS's trust store was asked for and holds nothing: no certificate can be accepted. */
int qe_tls_has_roots(const qe_tls *tls);
void qe_tls_ref(qe_tls *tls);
void qe_tls_unref(qe_tls *tls);

/* ----------------------------------------------------------- handles, close */

typedef struct qe_engine qe_engine;
typedef struct qe_sock qe_sock;     /* one UDP socket of the engine */
typedef struct qe_conn qe_conn;     /* valid until conn_closed returns */
typedef struct qe_stream qe_stream; /* valid until stream_closed returns */
typedef struct qe_group qe_group;   /* a set of streams and datagrams that share credit */

enum qe_close_kind {
  QE_CLOSE_APPLICATION = 0, /* CONNECTION_CLOSE with an application code (0x1d) */
  QE_CLOSE_TRANSPORT = 1,   /* CONNECTION_CLOSE with a QUIC code (0x1c), also 0x100+alert */
  QE_CLOSE_IDLE = 2,        /* idle timeout, no packet */
  QE_CLOSE_HANDSHAKE_TIMEOUT = 3,
  QE_CLOSE_STATELESS_RESET = 4,
  QE_CLOSE_VERSION = 5, /* no common version */
  QE_CLOSE_REFUSED = 6, /* ICMP: port or host unreachable during the handshake */
  QE_CLOSE_INTERNAL = 7 /* out of memory or a library error on our side */
};

typedef struct qe_close_info {
  enum qe_close_kind kind;
  int remote;    /* 1: the peer did it */
  uint64_t code; /* application or transport code; 0 for the other kinds */
  uint8_t reason[QE_REASON_MAX];
  size_t reason_len;
  int handshake_done;
  /* TLS failures on our side: a message such as "certificate expired on ...", else "". */
  char tls_error[512];
  int sys_errno; /* QE_CLOSE_REFUSED: the errno of the ICMP error */
} qe_close_info;

/* --------------------------------------------------------------- callbacks */

/*
 * eu: engine user; cu: connection user; su: stream user; gu: group user. The order for one
 * connection is: conn_handshake, any others, stream_closed for each remaining stream, and
 * conn_closed last. If the handshake fails, a client gets only conn_closed, and a server gets
 * handshake_failed, without a handle.
 */
typedef struct qe_callbacks {
  /* The handshake is complete. On a server this is the first callback of the connection: cu is
   * NULL, so call qe_conn_set_user(). */
  void (*conn_handshake)(void *eu, qe_conn *conn, void *cu);
  /* Last call for this connection; the handle is dead when it returns. */
  void (*conn_closed)(void *eu, qe_conn *conn, void *cu, const qe_close_info *info);
  /* Server: a handshake failed, or a client was refused or got Version Negotiation before there
   * was a connection. */
  void (*handshake_failed)(void *eu, const struct sockaddr *remote, socklen_t remote_len,
                           const qe_close_info *info);
  /* More streams of this kind can be opened (after QE_ERR_STREAM_LIMIT, or at the start). */
  void (*streams_available)(void *eu, qe_conn *conn, void *cu, int uni);
  /* The path in use changed (the peer's address changed, or our migration completed). validated
   * = 0: our migration failed and the old path stays in use. */
  void (*path_changed)(void *eu, qe_conn *conn, void *cu, int validated);
  /* A client got a session ticket (opaque bytes to pass to a later connect). */
  void (*session_ticket)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len);
  /* A client got an address-validation token for later connects. */
  void (*new_token)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len);

  /* The peer opened a stream; su is NULL, so call qe_stream_set_user(). */
  void (*stream_opened)(void *eu, qe_conn *conn, void *cu, qe_stream *stream);
  /* In-order bytes.  len may be 0 when fin is 1.  Return 0, or -1 to close the
   * connection with an internal error (out of memory). */
  int (*stream_data)(void *eu, qe_stream *stream, void *su, const uint8_t *data, size_t len,
                     int fin);
  /* RESET_STREAM from the peer: no more stream_data follows. */
  void (*stream_reset)(void *eu, qe_stream *stream, void *su, uint64_t code, uint64_t final_size);
  /* STOP_SENDING from the peer: the engine drops queued bytes and answers with RESET_STREAM.
   * has_code = 0: the code is unknown. */
  void (*stream_stopped)(void *eu, qe_stream *stream, void *su, uint64_t code, int has_code);
  /* The queued bytes of the stream (passed to qe_stream_write, not yet in a packet) fell to
   * settings.stream_write_low or below, after having been above it. */
  void (*stream_writable)(void *eu, qe_stream *stream, void *su);
  /* The peer acknowledged all bytes and the FIN. Called once, if FIN was sent. */
  void (*stream_acked)(void *eu, qe_stream *stream, void *su);
  /* Both directions are done, or the connection ended.  The handle is dead
   * when this returns. */
  void (*stream_closed)(void *eu, qe_stream *stream, void *su);
  /* A pinned buffer given to qe_stream_write is no longer needed. Called
   * exactly once per accepted pinned write. */
  void (*buffer_released)(void *eu, void *owner);

  void (*dgram_received)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len);
  /* The outgoing datagram queue fell to half after QE_ERR_BLOCKED. */
  void (*dgram_writable)(void *eu, qe_conn *conn, void *cu);

  /* Group credit (see qe_group). */
  void (*group_blocked)(void *eu, qe_group *group, void *gu, uint64_t limit); /* once per limit */
  void (*group_violated)(void *eu, qe_group *group, void *gu, uint64_t received, uint64_t limit);

  /* A packet of another worker (settings.worker_count) with an ID that this engine does not
   * know: pass it to qe_engine_packet_handed of that worker. One reason why it arrives here is
   * that the kernel delivers a train of one address as a whole, even if its packets belong to
   * several workers. If the callback is NULL, such packets are dropped. */
  void (*foreign_packet)(void *eu, unsigned worker, unsigned hops, qe_sock *sock,
                         const struct sockaddr *local, socklen_t local_len,
                         const struct sockaddr *remote, socklen_t remote_len, unsigned ecn,
                         const uint8_t *data, size_t len);

  /* How many bytes the process may hold besides those that it holds on behalf of peers now;
   * NULL: as many as it likes.  Called by any function that counts received bytes. */
  uint64_t (*memory_left)(void *eu);
  /* What the QUIC library holds for peers, mostly pieces out of order, changed by so much. */
  void (*library_memory)(void *eu, int64_t change);

  void (*keylog_line)(void *eu, const char *line);
  void (*qlog_data)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len, int fin);
  void (*log_line)(void *eu, const char *line);
} qe_callbacks;

/* A train: packets of equal size to one address; the last may be shorter. */
typedef struct qe_packets {
  qe_sock *sock;
  const struct sockaddr *local; /* source address to use; may be a wildcard */
  socklen_t local_len;
  const struct sockaddr *remote;
  socklen_t remote_len;
  const uint8_t *data;
  size_t len;
  size_t segment_size; /* == len for a single packet */
  unsigned ecn;        /* 0..3 */
} qe_packets;

/* Sends n trains in order and returns how many were taken (0..n). Fewer than n means "would
 * block": the engine keeps the rest and stops writing until qe_engine_unblock(). Trains that
 * fail with any other error count as taken, as if lost on the path. */
typedef size_t (*qe_packets_out)(void *out_ctx, const qe_packets *trains, size_t n);

/* ------------------------------------------------------------------ engine */

/* cb is copied. out == NULL: packets are sent through their sockets (qe_sock). The engine keeps
 * a reference to tls. It is required on a server; on a client it may be NULL if each connect
 * sets one. */
int qe_engine_new(qe_engine **out_engine, const qe_settings *settings, const qe_callbacks *cb,
                  void *engine_user, qe_tls *tls, qe_packets_out out, void *out_ctx);
/* Abandons every connection (conn_closed is called, no packet is sent) and frees the engine. */
void qe_engine_free(qe_engine *e);
/* New connections use this configuration from now on. */
void qe_engine_set_tls(qe_engine *e, qe_tls *tls);
/* Sets 1 to QE_MAX_SECRETS secrets. New tokens and reset tokens are made with the first; those
 * of clients may have been made with any of them. Returns 0, or a negative error without a
 * change. */
int qe_engine_set_secrets(qe_engine *e, const uint8_t (*secrets)[32], size_t n);
/* Server: bytes that begin the first unidirectional stream of each new connection. They are sent
 * before the client has finished the handshake, so they must not be secret. None if len is 0. */
int qe_engine_set_greeting(qe_engine *e, const uint8_t *data, size_t len);
/* Server: refuses new connections (CONNECTION_REFUSED) from now on. A worker does not refuse
 * while there are other workers, see qe_engine_set_steering: it passes first packets on, or
 * drops them if it knows no worker that takes them. */
void qe_engine_stop_accepting(qe_engine *e);

/* Processes one UDP payload. Returns 0 (even if it was dropped) or QE_ERR_NOMEM. */
int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                        socklen_t local_len, const struct sockaddr *remote, socklen_t remote_len,
                        unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now);
/* As qe_engine_packet_in, for a packet that the foreign_packet callback of another worker got. */
int qe_engine_packet_handed(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                            socklen_t local_len, const struct sockaddr *remote,
                            socklen_t remote_len, unsigned ecn, const uint8_t *data, size_t len,
                            unsigned hops, qe_tstamp now);
/* Tells a worker which workers there are. homes[i] is the worker that takes the new clients of
 * place i (-1: none, so all other workers share them). alive[n] says whether worker n has
 * connections. ends: all workers leave and none will replace them. Until the first call, each
 * worker below settings.worker_count takes new clients. Returns 0, or QE_ERR_INVALID without a
 * change. */
int qe_engine_set_steering(qe_engine *e, const int16_t *homes, size_t places, const uint8_t *alive,
                           size_t alive_len, int ends);
/* Sets the time (CLOCK_MONOTONIC) at which calls that read packets, and qe_engine_process,
 * should return; the rest of the work waits for a later call. Each call does at least a little
 * work. QE_NEVER, the default, sets no limit. */
void qe_engine_set_until(qe_engine *e, qe_tstamp until);
/* Handles expired timers, then writes packets for every connection that has something to send.
 * Returns 1 if work is left for a later call (budget, time), 0 if all is done, or a negative
 * error. */
int qe_engine_process(qe_engine *e, qe_tstamp now);
/* The latest time for the next call of qe_engine_process; QE_NEVER if idle. */
qe_tstamp qe_engine_next_tick(qe_engine *e);
/* 1 while packets wait for a socket to become writable. */
int qe_engine_is_blocked(const qe_engine *e);

/* Whether an upcall of this engine is on the stack; if so, the engine must not be freed. */
int qe_engine_in_upcall(const qe_engine *e);
/* Call it when the socket is writable again: the next qe_engine_process sends the kept trains. */
void qe_engine_unblock(qe_engine *e);

typedef struct qe_engine_stats {
  uint64_t connections; /* open now, handshake complete */
  uint64_t half_open;   /* open now, handshake not complete */
  uint64_t lingering;   /* closing or draining */
  uint64_t accepted, handshake_failed, refused, retries_sent, version_negotiations_sent;
  uint64_t refused_for_address; /* part of refused: because of max_connections_per_address */
  uint64_t stateless_resets_sent, dropped_packets, rate_limited;
  uint64_t foreign_packets; /* packets that belong to other workers */
  uint64_t packets_received, bytes_received, packets_sent, bytes_sent; /* UDP payloads */
  uint64_t send_calls, recv_calls;
  uint64_t backlog_packets; /* read, but waiting for the turn of their connection */
  uint64_t backlog_dropped; /* over the limit of packets that may wait */
} qe_engine_stats;
void qe_engine_get_stats(const qe_engine *e, qe_engine_stats *st);

/* ----------------------------------------------------------------- sockets */

enum { QE_SOCK_GSO = 1, QE_SOCK_GRO = 2, QE_SOCK_ECN = 4, QE_SOCK_PKTINFO = 8 };

/* Adds a bound, non-blocking UDP socket to this engine. Sets buffer sizes, packet info, ECN,
 * GRO, the error queue and don't-fragment, as far as the kernel supports them. The caller owns
 * the descriptor and closes it after qe_sock_free(). buffer_bytes: size of the receive and send
 * buffers (0 = 4 MiB). */
int qe_sock_new(qe_sock **out, qe_engine *e, int fd, uint32_t buffer_bytes, int want_features);
/* Connections whose path uses the socket then have none: their packets are dropped until they
 * migrate or time out. */
void qe_sock_free(qe_sock *s);
int qe_sock_features(const qe_sock *s); /* features in use now: QE_SOCK_* */
int qe_sock_fd(const qe_sock *s);
/* Reads from the kernel into internal buffers. It does not use the state of the engine and runs
 * no callback, so the caller may release its interpreter lock. Returns the number of UDP
 * datagrams read (with GRO: segments), 0 if there is nothing to read, or QE_ERR_SYSCALL. */
int qe_sock_recv(qe_sock *s);
/* Passes what qe_sock_recv has read to the engine, and handles the error queue. When the time is
 * over (qe_engine_set_until), the rest waits as after qe_sock_read_ahead. Returns 1 if the
 * kernel probably has more (the batch was full) or packets wait, else 0. */
int qe_sock_dispatch(qe_sock *s, qe_tstamp now);
/* Call it after a dispatch that returned 1. It empties the kernel's buffer, within limits, so
 * that a flood from one peer does not delay the packets of others. The first packets of each
 * connection go to the engine; the rest wait in a queue per connection, and are dropped if the
 * queue is full. Returns 1 if the kernel probably has more, 0, or QE_ERR_SYSCALL. */
int qe_sock_read_ahead(qe_sock *s, qe_tstamp now);
/* Whether the engine has a single connection. If so, read_ahead processes more of its packets at
 * once, up to half of what it does for all together: each that waits is copied. */
void qe_sock_set_alone(qe_sock *s, int alone);
/* Passes waiting packets to the engine, at least one and about `budget`, taking the connections
 * in turn. Returns 1 if more packets wait. */
int qe_sock_serve(qe_sock *s, unsigned budget, qe_tstamp now);

/* ------------------------------------------------------------- connections */

typedef struct qe_connect_options {
  qe_sock *sock; /* may be NULL with a custom packets_out */
  const struct sockaddr *local;
  socklen_t local_len;
  const struct sockaddr *remote;
  socklen_t remote_len;
  const char *server_name; /* SNI and name to verify; an IP literal is verified but not sent */
  qe_tls *tls;             /* NULL: that of the engine */
  const uint8_t *ticket;   /* from session_ticket; NULL = full handshake */
  size_t ticket_len;
  const uint8_t *token; /* from new_token; NULL = none */
  size_t token_len;
  void *conn_user;
} qe_connect_options;

int qe_engine_connect(qe_engine *e, qe_conn **out, const qe_connect_options *opt, qe_tstamp now);

void qe_conn_set_user(qe_conn *c, void *cu);
void *qe_conn_get_user(const qe_conn *c);
/* Queues CONNECTION_CLOSE; the next qe_engine_process sends it and calls conn_closed. app: 1 =
 * application code. reason is cut to fit. */
int qe_conn_close(qe_conn *c, int app, uint64_t code, const uint8_t *reason, size_t reason_len);
/* Drops the connection without sending a packet; callbacks run before it returns. */
void qe_conn_abandon(qe_conn *c);

/* The user has not handled the news of a new connection yet: its packets wait for the next but one
 * qe_engine_process, to carry what the user writes, too. Limited to some milliseconds in all. */
void qe_conn_postpone(qe_conn *c);

int qe_conn_open_stream(qe_conn *c, int uni, void *su, qe_stream **out);
/* Server, after the handshake: gives the user the stream of the greeting, once. NULL: there is
 * none, or the client has ended it. */
qe_stream *qe_conn_take_greeting(qe_conn *c, void *su);
/* How many more streams of this kind the peer allows at present. */
uint64_t qe_conn_streams_left(const qe_conn *c, int uni);
/* Gives the peer credit for n more streams; call it when streams are fully consumed. */
void qe_conn_extend_streams(qe_conn *c, int uni, uint64_t n);
/* Returns connection credit for bytes of a stream whose handle is already dead. */
void qe_conn_consume(qe_conn *c, uint64_t n);

/* Bytes that the connection holds on behalf of the peer: those that were handed up and not
 * consumed, and pieces out of order. */
uint64_t qe_conn_held(const qe_conn *c);

/* Usable payload of one DATAGRAM frame now; 0 when the peer has none. */
size_t qe_conn_max_datagram_size(const qe_conn *c);
/* Queues a copy of prefix and data. priority: 0..2, higher first. deadline: if still queued
 * then, the datagram is dropped and counted as expired. group may be NULL. Returns
 * QE_ERR_BLOCKED if the queue is full. */
int qe_conn_send_datagram(qe_conn *c, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                          const uint8_t *data, size_t len, int priority, qe_tstamp deadline);
size_t qe_conn_datagrams_queued(const qe_conn *c);

/* Client: starts to migrate to a local address (a new socket of the same engine). path_changed
 * reports the result. */
int qe_conn_migrate(qe_conn *c, qe_sock *sock, const struct sockaddr *local, socklen_t local_len,
                    qe_tstamp now);
int qe_conn_initiate_key_update(qe_conn *c, qe_tstamp now);
/* Gets the addresses of the current path. */
void qe_conn_get_path(const qe_conn *c, struct sockaddr_storage *local,
                      struct sockaddr_storage *remote);
/* The socket of the current path (NULL after qe_sock_free). */
qe_sock *qe_conn_get_sock(const qe_conn *c);

/* TLS exporter (RFC 8446 7.5). out_len <= 255*32. */
int qe_conn_export(qe_conn *c, const char *label, size_t label_len, const uint8_t *context,
                   size_t context_len, uint8_t *out, size_t out_len);
/* Gets the DER of the peer's leaf certificate. Returns its length or 0. *der points into the
 * connection and is valid until the next call. */
size_t qe_conn_peer_certificate(qe_conn *c, const uint8_t **der);
const char *qe_conn_alpn(const qe_conn *c);        /* "" before the handshake */
const char *qe_conn_server_name(const qe_conn *c); /* SNI received or sent, "" if none */
int qe_conn_resumed(const qe_conn *c);
/* From the peer's transport parameters; 0 until they are known. */
uint64_t qe_conn_peer_max_datagram_frame_size(const qe_conn *c);

typedef struct qe_conn_stats {
  uint64_t smoothed_rtt, latest_rtt, min_rtt, rttvar; /* ns; 0 = no sample yet */
  uint64_t cwnd, ssthresh, bytes_in_flight;           /* bytes; ssthresh UINT64_MAX = none */
  uint64_t bytes_sent, bytes_received, packets_sent, packets_received; /* UDP payloads */
  uint64_t packets_lost;                             /* UINT64_MAX: not available from this
                                                        library */
  uint64_t stream_bytes_sent, stream_bytes_received; /* payload bytes passed to or from the user */
  uint64_t dgrams_sent, dgrams_received, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
  uint64_t dgrams_queued;
  uint64_t streams_opened_local, streams_opened_remote, streams_alive;
  uint64_t resets_received, leftovers;
  uint32_t max_udp_payload; /* path MTU in use */
  uint32_t version;         /* QUIC version in use */
  uint64_t key_updates;
  uint64_t mtu_falls; /* how often the path MTU fell */
} qe_conn_stats;
void qe_conn_get_stats(qe_conn *c, qe_conn_stats *st);

/* ----------------------------------------------------------------- streams */

void qe_stream_set_user(qe_stream *s, void *su);
void *qe_stream_get_user(const qe_stream *s);
int64_t qe_stream_id(const qe_stream *s);
qe_conn *qe_stream_conn(const qe_stream *s);

/* Queues bytes. owner == NULL: copies them. Otherwise the engine keeps the pointer and calls
 * buffer_released(owner) once the bytes are acknowledged or no longer needed; if the call fails,
 * the caller keeps ownership. fin: no more bytes follow. There is no size limit here: callers
 * watch qe_stream_queued. */
int qe_stream_write(qe_stream *s, const uint8_t *data, size_t len, void *owner, int fin);
/* Bytes accepted but not yet in a packet. */
size_t qe_stream_queued(const qe_stream *s);
/* The streams of the connection have more than settings.max_queued_data queued, or those of all
 * connections more than memory_left: nobody should write to a stream with more than
 * settings.stream_write_low queued. */
int qe_stream_is_crowded(const qe_stream *s);
/* Bytes accepted but not yet acknowledged (they occupy memory). */
size_t qe_stream_unacked(const qe_stream *s);
/* Sends RESET_STREAM with code (<= QE_MAX_VARINT). Unsent bytes after the reliable prefix are
 * dropped. The frame is held until the first reliable_size bytes, or as many as were written,
 * are acknowledged. */
int qe_stream_reset(qe_stream *s, uint64_t code);
/* Sends STOP_SENDING with code; stream_data is not called any more. */
int qe_stream_stop_sending(qe_stream *s, uint64_t code);
/* Holds back a later reset or stop of s until the FIN of `until` is acknowledged or its reset
 * was sent; or until a probe timeout, if `until` waits for credit of the peer. */
int qe_stream_hold(qe_stream *s, qe_stream *until);
/* The first n bytes of the stream must reach the peer before a reset is sent. */
void qe_stream_set_reliable_size(qe_stream *s, uint64_t n);
/* Higher is sent first; equal orders share round-robin.  Default 0.
 * INT64_MAX is meant for control streams. */
void qe_stream_set_send_order(qe_stream *s, int64_t order);
/* The application consumed n received bytes: returns credit of the stream, the connection and
 * the group. */
void qe_stream_consume(qe_stream *s, uint64_t n);

/* ------------------------------------------------------------------ groups */

/* A group joins the streams and datagrams of one session. It limits the body bytes sent
 * (send_limit) and checks those received (recv_limit) over all member streams, not counting the
 * first header_size bytes of each stream. QE_NEVER means no limit. A group is freed by
 * qe_group_free, or with its connection after conn_closed. */
int qe_group_new(qe_conn *c, void *gu, qe_group **out);
void qe_group_free(qe_group *g);
/* Call it before body bytes are written. Bytes already received after the header are counted
 * now. The header sizes are per direction. */
int qe_stream_join_group(qe_stream *s, qe_group *g, uint64_t send_header_size,
                         uint64_t recv_header_size);
void qe_group_set_send_limit(qe_group *g, uint64_t limit);
void qe_group_set_recv_limit(qe_group *g, uint64_t limit);

typedef struct qe_group_stats {
  uint64_t bytes_sent, bytes_received, bytes_consumed; /* body bytes */
  uint64_t send_limit, recv_limit;
  uint64_t dgrams_queued, dgrams_queued_bytes;
  uint64_t dgrams_sent, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
} qe_group_stats;
void qe_group_get_stats(const qe_group *g, qe_group_stats *st);
/* Limits the datagrams of the group that wait in the queue of the connection. Above the limit
 * qe_conn_send_datagram returns QE_ERR_BLOCKED, and dgram_writable is called when at most half
 * as many wait. QE_NEVER, the default, means no limit of its own. */
void qe_group_set_datagram_limit(qe_group *g, uint64_t limit);
/* Drops the queued datagrams of this group, counts them as dropped, and returns how many there
 * were. */
size_t qe_group_clear_datagrams(qe_group *g);

#ifdef __cplusplus
}
#endif
#endif
