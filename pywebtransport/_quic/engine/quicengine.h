/*
 * quicengine.h - the public face of the QUIC engine.
 *
 * This is the only engine header that the Python binding sees, and it names
 * no type of the QUIC or TLS library underneath.  The shape follows the usual
 * one for embeddable QUIC engines: one engine object per endpoint, packets in,
 * process, earliest next tick, packets out in batches, a struct of callbacks.
 *
 * Rules that hold everywhere:
 *   - One engine belongs to one thread.  Nothing here locks.
 *   - Time is an argument: nanoseconds of a monotonic clock (qe_tstamp).  It
 *     must never go backwards from one call to the next on the same engine.
 *   - Functions that can fail return a negative QE_ERR_* and change nothing
 *     unless stated otherwise.  No function aborts or prints.
 *   - Callbacks run only inside qe_engine_packet_in, qe_sock_dispatch,
 *     qe_engine_process, qe_engine_free and qe_conn_abandon.  A callback must
 *     not call a function that writes packets or frees a connection
 *     (qe_engine_process, qe_engine_packet_in, qe_engine_free); everything
 *     else only sets flags and queues work, and is safe.
 *   - Data pointers handed to a callback die when it returns.
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

/* Static English text for a QE_ERR_* value; never NULL. */
const char *qe_strerror(int err);

/* Details of the last QE_ERR_TLS / QE_ERR_CERTIFICATE / QE_ERR_SYSCALL of this
 * thread, for instance "file /x.crt: no PEM data found".  Never NULL. */
const char *qe_last_error(void);

/* ---------------------------------------------------------------- versions */

/* Version strings of the libraries found at run time. */
const char *qe_ngtcp2_version(void);
const char *qe_gnutls_version(void);
/* Version of ngtcp2 that this was compiled with. */
const char *qe_ngtcp2_build_version(void);
/* 1 when writing qlog is safe with the ngtcp2 found at run time (>= 1.23). */
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

  /* Concurrent streams that the peer may open. Credit goes back only through
   * qe_conn_extend_streams. */
  uint64_t max_streams_bidi; /* default 100 */
  uint64_t max_streams_uni;  /* default 100 */

  uint32_t max_datagram_frame_size; /* 0 = DATAGRAM off; default 65535 */
  uint32_t dgram_queue_count;       /* outgoing datagrams queued per connection; default 1024 */
  uint32_t dgram_queue_bytes;       /* and their bytes; default 1 MiB */

  uint32_t stream_write_low; /* see stream_writable; bytes, default 64 KiB */
  uint64_t max_queued_data;  /* see qe_stream_is_crowded; bytes, default 16 MiB */

  uint32_t max_tx_udp_payload_size; /* 1200..65527; default 1452 */
  int pmtud;                        /* 1 */
  int known_mtu; /* 1: the path is known to carry max_tx_udp_payload_size: packets have it from
                    the first on, and nothing is probed; default 0 */
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
  /* Of one client address (/64 for IPv6); 0 = no limit. */
  uint32_t max_half_open_per_address;   /* beyond: its new Initials are dropped; default 1024 */
  uint32_t max_connections_per_address; /* beyond: CONNECTION_REFUSED; default 0 */
  uint32_t handshakes_per_address;      /* new connections per second; default 0 */
  uint32_t stateless_resets_per_second; /* also the bound of all other answers without a connection,
                                           of which there are 100 at most; default 5000 */

  /* What a peer may do per connection before it is closed with
   * QE_CLOSE_EXCESSIVE_LOAD. */
  uint32_t max_leftovers;         /* streams at once that end and stay in the library, such as
                                     unidirectional ones that begin with RESET_STREAM; default 1024;
                                     4 more each second, and 1 for 8 streams that end properly */
  uint32_t max_resets_per_second; /* RESET_STREAM + STOP_SENDING received; default 20000 */
  uint64_t excessive_load_code;   /* application error code for it; default 0x107 */

  uint8_t cid_len;  /* our connection IDs; 8..18, default 8 */
  int worker_index; /* -1 = none; else 0..255 is put into the first byte of each of our CIDs */
  int worker_count; /* 0 = no others; else packets that belong to another of so many workers
                       go to the foreign_packet callback */
  /* What servers share that take each other's tokens and stateless resets for their own;
   * none = a random one.  See qe_engine_set_secrets. */
  uint8_t secrets[QE_MAX_SECRETS][32];
  size_t secret_count;

  /* Bounded work: qe_sock_recv reads at most this many UDP datagrams per call,
   * qe_engine_process writes at most this many bytes per connection per call. */
  uint32_t recv_batch; /* default 256 */
  uint32_t send_batch; /* default 256 KiB */

  int qlog;  /* 1: qlog_data callback; refused with QE_ERR_UNSUPPORTED where not safe */
  int debug; /* 1: the library's own log goes to the log_line callback */
} qe_settings;

/* Fill with the defaults above. */
void qe_settings_init(qe_settings *s, int is_server);
/* 0, or QE_ERR_INVALID with *field naming the first bad member. */
int qe_settings_check(const qe_settings *s, const char **field);

/* --------------------------------------------------------------------- TLS */

typedef struct qe_tls qe_tls;

#define QE_TICKET_KEY_LEN 64

enum qe_verify {
  QE_VERIFY_NONE = 0,     /* client: accept anything; server: do not ask */
  QE_VERIFY_OPTIONAL = 1, /* server: ask, accept absence, verify if present */
  QE_VERIFY_REQUIRED = 2  /* client: verify chain, dates and name; server: demand a certificate */
};

typedef struct qe_tls_options {
  int is_server;
  const char *const *alpn; /* array of alpn_count protocol names; never empty */
  size_t alpn_count;
  const char *cert_file; /* PEM chain; NULL = none (client) */
  const char *key_file;  /* PEM key */
  const char *ca_file;   /* PEM roots; NULL = system trust (client, verifying) */
  enum qe_verify verify;
  /* serverCertificateHashes: SHA-256 of the leaf DER.  With count > 0 the
   * chain and the name are not checked; instead one hash must match and the
   * certificate must obey protocol rules (X.509v3, no RSA, valid now, total
   * validity <= 14 days). */
  const uint8_t (*cert_hashes)[32];
  size_t cert_hash_count;
  int keylog;  /* 1: keylog_line callback */
  int tickets; /* server: issue session tickets; client: report them */
  /* Server: key of the tickets, to share it; NULL = random, for this object alone. */
  const uint8_t (*ticket_key)[QE_TICKET_KEY_LEN];
} qe_tls_options;

/* A TLS configuration.  Reference counted: connections keep the one they
 * started with, so qe_engine_set_tls() reloads certificates without a pause. */
int qe_tls_new(qe_tls **out, const qe_tls_options *opt);
/* Server: an extra certificate for an SNI name ("example.org" or "*.example.org"). */
int qe_tls_add_sni(qe_tls *tls, const char *name, const char *cert_file, const char *key_file);
void qe_tls_ref(qe_tls *tls);
void qe_tls_unref(qe_tls *tls);

/* ----------------------------------------------------------- handles, close */

typedef struct qe_engine qe_engine;
typedef struct qe_sock qe_sock;     /* one UDP socket of the engine */
typedef struct qe_conn qe_conn;     /* valid until conn_closed returned */
typedef struct qe_stream qe_stream; /* valid until stream_closed returned */
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
  /* TLS failures on our side: text such as "certificate is expired", else "". */
  char tls_error[512];
  int sys_errno; /* QE_CLOSE_REFUSED: the errno of the ICMP error */
} qe_close_info;

/* --------------------------------------------------------------- callbacks */

/*
 * eu: engine user; cu: connection user; su: stream user; gu: group user.
 * The order for one connection: conn_handshake,
 * anything, then stream_closed for each stream that is left, conn_closed last.
 * A connection that fails during the handshake gets conn_closed at once on a
 * client; on a server handshake_failed tells of it, without a handle.
 */
typedef struct qe_callbacks {
  /* The handshake is complete.  On a server this is the first that is heard
   * of the connection: cu is NULL, call qe_conn_set_user(). */
  void (*conn_handshake)(void *eu, qe_conn *conn, void *cu);
  /* Last call for this connection; the handle is dead when it returns. */
  void (*conn_closed)(void *eu, qe_conn *conn, void *cu, const qe_close_info *info);
  /* Server: a handshake failed, or a client was answered with a refusal or with
   * Version Negotiation before there was a connection. */
  void (*handshake_failed)(void *eu, const struct sockaddr *remote, socklen_t remote_len,
                           const qe_close_info *info);
  /* The peer may be sent more streams of this kind (after QE_ERR_STREAM_LIMIT
   * or at the start). */
  void (*streams_available)(void *eu, qe_conn *conn, void *cu, int uni);
  /* The path in use changed (peer rebinding or our migration completed).
   * validated = 0: a migration we asked for failed and the old path stays. */
  void (*path_changed)(void *eu, qe_conn *conn, void *cu, int validated);
  /* A client got a session ticket (opaque bytes to pass to a later connect). */
  void (*session_ticket)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len);
  /* A client got an address-validation token for later connects. */
  void (*new_token)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t len);

  /* The peer opened a stream; su is NULL, call qe_stream_set_user(). */
  void (*stream_opened)(void *eu, qe_conn *conn, void *cu, qe_stream *stream);
  /* In-order bytes.  len may be 0 when fin is 1.  Return 0, or -1 to close the
   * connection with an internal error (out of memory). */
  int (*stream_data)(void *eu, qe_stream *stream, void *su, const uint8_t *data, size_t len,
                     int fin);
  /* RESET_STREAM from the peer: no more stream_data. */
  void (*stream_reset)(void *eu, qe_stream *stream, void *su, uint64_t code, uint64_t final_size);
  /* STOP_SENDING from the peer: what was queued is dropped, RESET_STREAM is
   * answered by the engine.  has_code = 0: the code could not be learnt. */
  void (*stream_stopped)(void *eu, qe_stream *stream, void *su, uint64_t code, int has_code);
  /* The bytes queued on the stream (given to qe_stream_write, not yet put into
   * a packet) fell to or below settings.stream_write_low after having been
   * above it. */
  void (*stream_writable)(void *eu, qe_stream *stream, void *su);
  /* The peer acknowledged all bytes and the FIN (once, if FIN was sent). */
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

  /* A packet of another worker (settings.worker_count), unless this engine knows
   * its connection ID: pass it to qe_engine_packet_handed there.  The kernel may hand a train of
   * one address over as a whole, whatever is in it.  NULL drops them. */
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

/* One train of equal-sized packets to one address (the last may be shorter). */
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

/* Sends n trains; returns how many were taken (0..n), in order.  Fewer than n
 * means "would block": the engine keeps the rest and stops writing until
 * qe_engine_unblock().  Errors other than blocking count as taken (UDP). */
typedef size_t (*qe_packets_out)(void *out_ctx, const qe_packets *trains, size_t n);

/* ------------------------------------------------------------------ engine */

/* cb is copied.  out == NULL: packets go to their sockets (qe_sock).  tls is
 * referenced; required on a server, may be NULL on a client (per connect). */
int qe_engine_new(qe_engine **out_engine, const qe_settings *settings, const qe_callbacks *cb,
                  void *engine_user, qe_tls *tls, qe_packets_out out, void *out_ctx);
/* Abandons every connection (conn_closed runs, no packet is sent) and frees. */
void qe_engine_free(qe_engine *e);
/* New connections use this configuration from now on. */
void qe_engine_set_tls(qe_engine *e, qe_tls *tls);
/* What is given out from now on is made with the first of 1 to QE_MAX_SECRETS secrets; what
 * comes back may have been made with any of them.  0 or a negative error, which changes nothing. */
int qe_engine_set_secrets(qe_engine *e, const uint8_t (*secrets)[32], size_t n);
/* Server: refuse new connections (CONNECTION_REFUSED) from now on.  A worker refuses nobody while
 * there are others, see qe_engine_set_steering: it hands first packets on, or drops them if it
 * knows nobody who takes them. */
void qe_engine_stop_accepting(qe_engine *e);

/* One UDP payload.  Returns 0 (also when it was dropped) or QE_ERR_NOMEM. */
int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                        socklen_t local_len, const struct sockaddr *remote, socklen_t remote_len,
                        unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now);
/* As qe_engine_packet_in, for what foreign_packet of another worker was given. */
int qe_engine_packet_handed(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                            socklen_t local_len, const struct sockaddr *remote,
                            socklen_t remote_len, unsigned ecn, const uint8_t *data, size_t len,
                            unsigned hops, qe_tstamp now);
/* As a worker: which workers there are.  homes[i] takes the new clients of place i (-1: nobody, so
 * that all others share them), alive[n] says whether worker n has connections; ends: all workers
 * leave, and none follows.  Until it is called, all of settings.worker_count do.  0 or
 * QE_ERR_INVALID, which changes nothing. */
int qe_engine_set_steering(qe_engine *e, const int16_t *homes, size_t places, const uint8_t *alive,
                           size_t alive_len, int ends);
/* How long one of the calls that read packets or process may go on, by CLOCK_MONOTONIC; what is
 * left then waits for a later call.  A little is done in any case.  QE_NEVER, as at first: without
 * a limit. */
void qe_engine_set_until(qe_engine *e, qe_tstamp until);
/* Expired timers, then packets of every connection with something to send.
 * Returns 1 when work was left for a later call (budget, time), 0 when all is
 * done, or a negative error. */
int qe_engine_process(qe_engine *e, qe_tstamp now);
/* When qe_engine_process must be called next at the latest; QE_NEVER if idle. */
qe_tstamp qe_engine_next_tick(qe_engine *e);
/* 1 while packets wait for a socket to become writable. */
int qe_engine_is_blocked(const qe_engine *e);

/* An upcall of this engine is on the stack: it must not be freed now. */
int qe_engine_in_upcall(const qe_engine *e);
/* The socket became writable: kept trains go out with the next process call. */
void qe_engine_unblock(qe_engine *e);

typedef struct qe_engine_stats {
  uint64_t connections; /* alive now, handshake complete */
  uint64_t half_open;   /* alive now, in the handshake */
  uint64_t lingering;   /* closing or draining */
  uint64_t accepted, handshake_failed, refused, retries_sent, version_negotiations_sent;
  uint64_t refused_for_address; /* of refused: for max_connections_per_address */
  uint64_t stateless_resets_sent, dropped_packets, rate_limited;
  uint64_t foreign_packets;                                            /* of other workers */
  uint64_t packets_received, bytes_received, packets_sent, bytes_sent; /* UDP payloads */
  uint64_t send_calls, recv_calls;
  uint64_t backlog_packets; /* read, and waiting for their connection's turn */
  uint64_t backlog_dropped; /* above what one connection may have waiting */
} qe_engine_stats;
void qe_engine_get_stats(const qe_engine *e, qe_engine_stats *st);

/* ----------------------------------------------------------------- sockets */

enum { QE_SOCK_GSO = 1, QE_SOCK_GRO = 2, QE_SOCK_ECN = 4, QE_SOCK_PKTINFO = 8 };

/* Adopts a bound, non-blocking UDP socket for this engine: sets buffer sizes,
 * packet-info, ECN, GRO, error queue and don't-fragment, each with graceful
 * downgrade.  The caller keeps the descriptor and closes it after
 * qe_sock_free().  buffer_bytes: wanted receive and send buffer (0 = 4 MiB). */
int qe_sock_new(qe_sock **out, qe_engine *e, int fd, uint32_t buffer_bytes, int want_features);
/* Connections whose path uses the socket are moved to no socket (their packets
 * are dropped until they migrate or time out). */
void qe_sock_free(qe_sock *s);
int qe_sock_features(const qe_sock *s); /* what is in force now: QE_SOCK_* */
int qe_sock_fd(const qe_sock *s);
/* Fills the internal buffers from the kernel; touches no engine state and runs
 * no callback, so a caller may release its interpreter lock around it.
 * Returns UDP datagrams (GRO: segments) read, 0 when nothing waits, or
 * QE_ERR_SYSCALL. */
int qe_sock_recv(qe_sock *s);
/* Feeds what qe_sock_recv read to the engine; handles the error queue.  When its time is over
 * (qe_engine_set_until), the rest waits as after qe_sock_read_ahead.
 * Returns 1 when the kernel probably holds more (batch was full) or packets wait, else 0. */
int qe_sock_dispatch(qe_sock *s, qe_tstamp now);
/* After a dispatch that returned 1: empties the kernel's buffer, within bounds, so that nobody
 * stands behind a flood in it.  The first packets of each connection go to the engine, the others
 * wait in a queue of their connection, which is bounded: what is above that is dropped.  Returns 1
 * when the kernel probably holds more, 0, or QE_ERR_SYSCALL. */
int qe_sock_read_ahead(qe_sock *s, qe_tstamp now);
/* Feeds at least one packet that waits to the engine, up to `budget`, the connections in turn.
 * Returns 1 when more waits. */
int qe_sock_serve(qe_sock *s, unsigned budget, qe_tstamp now);

/* ------------------------------------------------------------- connections */

typedef struct qe_connect_options {
  qe_sock *sock; /* may be NULL with a custom packets_out */
  const struct sockaddr *local;
  socklen_t local_len;
  const struct sockaddr *remote;
  socklen_t remote_len;
  const char *server_name; /* SNI and name to verify; an IP literal is verified, not sent */
  qe_tls *tls;             /* NULL: the engine's */
  const uint8_t *ticket;   /* from session_ticket; NULL = full handshake */
  size_t ticket_len;
  const uint8_t *token; /* from new_token; NULL = none */
  size_t token_len;
  void *conn_user;
} qe_connect_options;

int qe_engine_connect(qe_engine *e, qe_conn **out, const qe_connect_options *opt, qe_tstamp now);

void qe_conn_set_user(qe_conn *c, void *cu);
void *qe_conn_get_user(const qe_conn *c);
/* Queues CONNECTION_CLOSE; it goes out with the next process call, which also
 * runs conn_closed.  app: 1 = application code.  reason is cut to fit. */
int qe_conn_close(qe_conn *c, int app, uint64_t code, const uint8_t *reason, size_t reason_len);
/* Drops the connection without a packet; callbacks run before it returns. */
void qe_conn_abandon(qe_conn *c);

int qe_conn_open_stream(qe_conn *c, int uni, void *su, qe_stream **out);
/* How many more streams of this kind the peer allows now. */
uint64_t qe_conn_streams_left(const qe_conn *c, int uni);
/* Give the peer credit for n more streams (call when one is fully consumed). */
void qe_conn_extend_streams(qe_conn *c, int uni, uint64_t n);
/* Connection-level credit for bytes of a stream whose handle is already dead. */
void qe_conn_consume(qe_conn *c, uint64_t n);

/* Bytes that the connection holds on behalf of the peer: those that were handed up and not
 * consumed, and pieces out of order. */
uint64_t qe_conn_held(const qe_conn *c);

/* Usable payload of one DATAGRAM frame now; 0 when the peer has none. */
size_t qe_conn_max_datagram_size(const qe_conn *c);
/* Queues prefix+data (copied).  priority 0..2, higher first.  deadline: dropped
 * and counted as expired if still queued then.  group may be NULL.
 * QE_ERR_BLOCKED when the queue is full. */
int qe_conn_send_datagram(qe_conn *c, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                          const uint8_t *data, size_t len, int priority, qe_tstamp deadline);
size_t qe_conn_datagrams_queued(const qe_conn *c);

/* Client: start moving to a local address (a new socket of the same engine).
 * path_changed tells the outcome. */
int qe_conn_migrate(qe_conn *c, qe_sock *sock, const struct sockaddr *local, socklen_t local_len,
                    qe_tstamp now);
int qe_conn_initiate_key_update(qe_conn *c, qe_tstamp now);
/* Current path; each buffer holds a sockaddr_storage. */
void qe_conn_get_path(const qe_conn *c, struct sockaddr_storage *local,
                      struct sockaddr_storage *remote);
/* The socket of the current path (NULL after qe_sock_free). */
qe_sock *qe_conn_get_sock(const qe_conn *c);

/* TLS exporter (RFC 8446 7.5). out_len <= 255*32. */
int qe_conn_export(qe_conn *c, const char *label, size_t label_len, const uint8_t *context,
                   size_t context_len, uint8_t *out, size_t out_len);
/* DER of the peer's leaf; returns its length or 0.  *der points into the
 * connection and lives until the next call. */
size_t qe_conn_peer_certificate(qe_conn *c, const uint8_t **der);
const char *qe_conn_alpn(const qe_conn *c);        /* "" before the handshake */
const char *qe_conn_server_name(const qe_conn *c); /* SNI received or sent, "" if none */
int qe_conn_resumed(const qe_conn *c);
/* What the peer's transport parameters said; 0 before they are known. */
uint64_t qe_conn_peer_max_datagram_frame_size(const qe_conn *c);

typedef struct qe_conn_stats {
  uint64_t smoothed_rtt, latest_rtt, min_rtt, rttvar; /* ns; 0 = no sample yet */
  uint64_t cwnd, ssthresh, bytes_in_flight;           /* bytes; ssthresh UINT64_MAX = none */
  uint64_t bytes_sent, bytes_received, packets_sent, packets_received; /* UDP payloads */
  uint64_t packets_lost;                             /* UINT64_MAX: the library does not tell */
  uint64_t stream_bytes_sent, stream_bytes_received; /* payload bytes handed over */
  uint64_t dgrams_sent, dgrams_received, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
  uint64_t dgrams_queued;
  uint64_t streams_opened_local, streams_opened_remote, streams_alive;
  uint64_t resets_received, leftovers;
  uint32_t max_udp_payload; /* path MTU in use */
  uint32_t version;         /* QUIC version in use */
  uint64_t key_updates;
  uint64_t mtu_falls; /* times that the path turned out to take smaller packets */
} qe_conn_stats;
void qe_conn_get_stats(qe_conn *c, qe_conn_stats *st);

/* ----------------------------------------------------------------- streams */

void qe_stream_set_user(qe_stream *s, void *su);
void *qe_stream_get_user(const qe_stream *s);
int64_t qe_stream_id(const qe_stream *s);
qe_conn *qe_stream_conn(const qe_stream *s);

/* Queues bytes.  owner == NULL: copied.  Otherwise the engine keeps the pointer
 * and calls buffer_released(owner) once they are acked or no longer needed;
 * on a negative return ownership stays with the caller.  fin: no more bytes
 * follow.  There is no size limit here: the caller watches qe_stream_queued. */
int qe_stream_write(qe_stream *s, const uint8_t *data, size_t len, void *owner, int fin);
/* Bytes accepted but not yet put into a packet. */
size_t qe_stream_queued(const qe_stream *s);
/* The streams of the connection have more than settings.max_queued_data queued, or those of all
 * connections more than memory_left: nobody should write to a stream with more than
 * settings.stream_write_low queued. */
int qe_stream_is_crowded(const qe_stream *s);
/* Bytes accepted but not yet acknowledged (they occupy memory). */
size_t qe_stream_unacked(const qe_stream *s);
/* RESET_STREAM with code (<= QE_MAX_VARINT).  Unsent bytes beyond the reliable
 * prefix are dropped; the frame is held until the first reliable_size bytes,
 * or as many as were written, are acknowledged. */
int qe_stream_reset(qe_stream *s, uint64_t code);
/* STOP_SENDING with code; stream_data stops at once. */
int qe_stream_stop_sending(qe_stream *s, uint64_t code);
/* A reset and a stop of s that are asked for from now on are sent only when the
 * end of `until`, FIN or reset, is in a packet that was sent before; or after a
 * probe timeout, if credit of the peer keeps it from that. */
int qe_stream_hold(qe_stream *s, qe_stream *until);
/* The first n bytes of the stream must reach the peer before a reset. */
void qe_stream_set_reliable_size(qe_stream *s, uint64_t n);
/* Higher is sent first; equal orders share round-robin.  Default 0.
 * INT64_MAX is meant for control streams. */
void qe_stream_set_send_order(qe_stream *s, int64_t order);
/* The application consumed n received bytes: stream, connection and group
 * credit go back. */
void qe_stream_consume(qe_stream *s, uint64_t n);

/* ------------------------------------------------------------------ groups */

/* A group ties streams and datagrams of one session together.  It limits the
 * body bytes sent (send_limit) and checks those received (recv_limit) over all
 * member streams, not counting each stream's first header_size bytes.  Limits
 * of QE_NEVER mean "no limit".  A group is freed by qe_group_free, or with its
 * connection after conn_closed. */
int qe_group_new(qe_conn *c, void *gu, qe_group **out);
void qe_group_free(qe_group *g);
/* Must be called before body bytes are written; bytes already received beyond
 * header_size are counted now. header sizes are per direction. */
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
/* At most this many datagrams of the group wait in the queue of the connection;
 * beyond, qe_conn_send_datagram gives QE_ERR_BLOCKED and dgram_writable follows
 * when half of them left.  QE_NEVER (the default): no limit of its own. */
void qe_group_set_datagram_limit(qe_group *g, uint64_t limit);
/* Drops this group's queued datagrams (counted as dropped); returns how many. */
size_t qe_group_clear_datagrams(qe_group *g);

#ifdef __cplusplus
}
#endif
#endif
