# Declarations of engine/quicengine.h; the comments are there.

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family

cdef extern from "engine/quicengine.h" nogil:
    ctypedef uint64_t qe_tstamp

    uint64_t QE_NEVER
    uint64_t QE_MAX_VARINT
    enum: QE_MAX_SECRETS

    cdef enum:
        QE_OK
        QE_ERR_NOMEM
        QE_ERR_INVALID
        QE_ERR_CLOSED
        QE_ERR_STREAM_LIMIT
        QE_ERR_STREAM_SHUT
        QE_ERR_BLOCKED
        QE_ERR_DGRAM_TOO_LARGE
        QE_ERR_DGRAM_DISABLED
        QE_ERR_TLS
        QE_ERR_CERTIFICATE
        QE_ERR_SYSCALL
        QE_ERR_LIMIT
        QE_ERR_NOT_READY
        QE_ERR_UNSUPPORTED
        QE_ERR_MIGRATION
        QE_ERR_INTERNAL

    const char *qe_strerror(int err)
    const char *qe_last_error()
    const char *qe_ngtcp2_version()
    const char *qe_ngtcp2_build_version()
    const char *qe_gnutls_version()
    int qe_qlog_supported()

    ctypedef enum qe_cc "enum qe_cc":
        QE_CC_CUBIC
        QE_CC_RENO
        QE_CC_BBR

    ctypedef enum qe_retry "enum qe_retry":
        QE_RETRY_OFF
        QE_RETRY_AUTO
        QE_RETRY_ALWAYS

    ctypedef struct qe_settings:
        int is_server
        uint64_t idle_timeout
        uint64_t handshake_timeout
        uint64_t keep_alive
        uint64_t initial_max_data
        uint64_t initial_max_stream_data
        uint64_t max_unread_data
        uint64_t max_data_window
        uint64_t max_stream_window
        uint64_t max_streams_bidi
        uint64_t max_streams_uni
        uint32_t max_datagram_frame_size
        uint32_t dgram_queue_count
        uint32_t dgram_queue_bytes
        uint32_t stream_write_low
        uint64_t max_queued_data
        uint32_t max_tx_udp_payload_size
        int pmtud
        int known_mtu
        int ecn
        int pacing
        qe_cc cc
        int prefer_v2
        int enable_migration
        qe_retry retry
        uint32_t retry_half_open
        uint32_t max_half_open
        uint32_t max_half_open_per_address
        uint32_t max_connections_per_address
        uint32_t max_connections
        uint32_t handshakes_per_address
        uint32_t stateless_resets_per_second
        uint32_t max_leftovers
        uint32_t max_resets_per_second
        uint64_t excessive_load_code
        uint8_t cid_len
        int worker_index
        int worker_count
        uint8_t lb_server_id[13]
        uint8_t lb_server_id_len
        uint8_t lb_config
        uint8_t secrets[QE_MAX_SECRETS][32]
        size_t secret_count
        uint32_t recv_batch
        uint32_t send_batch
        int qlog
        int debug

    void qe_settings_init(qe_settings *s, int is_server)
    int qe_settings_check(const qe_settings *s, const char **field)

    ctypedef struct qe_tls:
        pass

    ctypedef enum qe_verify "enum qe_verify":
        QE_VERIFY_NONE
        QE_VERIFY_OPTIONAL
        QE_VERIFY_REQUIRED

    ctypedef struct qe_tls_options:
        int is_server
        const char **alpn
        size_t alpn_count
        const char *cert_file
        const char *key_file
        const char *ca_file
        const char *ca_data
        size_t ca_data_len
        qe_verify verify
        const uint8_t (*cert_hashes)[32]
        size_t cert_hash_count
        int keylog
        int tickets
        const uint8_t (*ticket_key)[64]

    int qe_tls_new(qe_tls **out, const qe_tls_options *opt)
    int qe_tls_add_sni(qe_tls *tls, const char *name, const char *cert_file, const char *key_file)
    int qe_tls_has_roots(const qe_tls *tls)
    void qe_tls_unref(qe_tls *tls)

    ctypedef struct qe_engine:
        pass
    ctypedef struct qe_sock:
        pass
    ctypedef struct qe_conn:
        pass
    ctypedef struct qe_stream:
        pass
    ctypedef struct qe_group:
        pass

    ctypedef struct qe_close_info:
        int kind
        int remote
        uint64_t code
        uint8_t reason[256]
        size_t reason_len
        int handshake_done
        char tls_error[512]
        int sys_errno

    ctypedef struct qe_callbacks:
        void (*conn_handshake)(void *eu, qe_conn *conn, void *cu) noexcept
        void (*conn_closed)(void *eu, qe_conn *conn, void *cu, const qe_close_info *info) noexcept
        void (*handshake_failed)(void *eu, const sockaddr *remote, socklen_t remote_len,
                                 const qe_close_info *info) noexcept
        void (*streams_available)(void *eu, qe_conn *conn, void *cu, int uni) noexcept
        void (*path_changed)(void *eu, qe_conn *conn, void *cu, int validated) noexcept
        void (*session_ticket)(void *eu, qe_conn *conn, void *cu, const uint8_t *data,
                               size_t n) noexcept
        void (*new_token)(void *eu, qe_conn *conn, void *cu, const uint8_t *data,
                          size_t n) noexcept
        void (*stream_opened)(void *eu, qe_conn *conn, void *cu, qe_stream *stream) noexcept
        int (*stream_data)(void *eu, qe_stream *stream, void *su, const uint8_t *data, size_t n,
                           int fin) noexcept
        void (*stream_reset)(void *eu, qe_stream *stream, void *su, uint64_t code,
                             uint64_t final_size) noexcept
        void (*stream_stopped)(void *eu, qe_stream *stream, void *su, uint64_t code,
                               int has_code) noexcept
        void (*stream_writable)(void *eu, qe_stream *stream, void *su) noexcept
        void (*stream_acked)(void *eu, qe_stream *stream, void *su) noexcept
        void (*stream_closed)(void *eu, qe_stream *stream, void *su) noexcept
        void (*buffer_released)(void *eu, void *owner) noexcept
        void (*dgram_received)(void *eu, qe_conn *conn, void *cu, const uint8_t *data,
                               size_t n) noexcept
        void (*dgram_writable)(void *eu, qe_conn *conn, void *cu) noexcept
        void (*group_blocked)(void *eu, qe_group *group, void *gu, uint64_t limit) noexcept
        void (*group_violated)(void *eu, qe_group *group, void *gu, uint64_t received,
                               uint64_t limit) noexcept
        void (*foreign_packet)(void *eu, unsigned worker, unsigned hops, qe_sock *sock,
                               const sockaddr *local, socklen_t local_len,
                               const sockaddr *remote, socklen_t remote_len, unsigned ecn,
                               const uint8_t *data, size_t n) noexcept
        uint64_t (*memory_left)(void *eu) noexcept
        void (*library_memory)(void *eu, int64_t change) noexcept
        void (*keylog_line)(void *eu, const char *line) noexcept
        void (*qlog_data)(void *eu, qe_conn *conn, void *cu, const uint8_t *data, size_t n,
                          int fin) noexcept
        void (*log_line)(void *eu, const char *line) noexcept

    ctypedef struct qe_engine_stats:
        uint64_t connections
        uint64_t half_open
        uint64_t lingering
        uint64_t accepted
        uint64_t handshake_failed
        uint64_t refused
        uint64_t refused_for_address
        uint64_t retries_sent
        uint64_t version_negotiations_sent
        uint64_t stateless_resets_sent
        uint64_t dropped_packets
        uint64_t rate_limited
        uint64_t foreign_packets
        uint64_t packets_received
        uint64_t bytes_received
        uint64_t packets_sent
        uint64_t bytes_sent
        uint64_t send_calls
        uint64_t recv_calls
        uint64_t backlog_packets
        uint64_t backlog_dropped

    int QE_SOCK_GSO
    int QE_SOCK_GRO
    int QE_SOCK_ECN
    int QE_SOCK_PKTINFO

    int qe_sock_new(qe_sock **out, qe_engine *e, int fd, uint32_t buffer_bytes, int want_features)
    void qe_sock_free(qe_sock *s)
    int qe_sock_features(const qe_sock *s)
    int qe_sock_fd(const qe_sock *s)
    int qe_sock_recv(qe_sock *s)

    ctypedef struct qe_connect_options:
        qe_sock *sock
        const sockaddr *local
        socklen_t local_len
        const sockaddr *remote
        socklen_t remote_len
        const char *server_name
        qe_tls *tls
        const uint8_t *ticket
        size_t ticket_len
        const uint8_t *token
        size_t token_len
        void *conn_user

    ctypedef struct qe_conn_stats:
        uint64_t smoothed_rtt
        uint64_t latest_rtt
        uint64_t min_rtt
        uint64_t rttvar
        uint64_t cwnd
        uint64_t ssthresh
        uint64_t bytes_in_flight
        uint64_t bytes_sent
        uint64_t bytes_received
        uint64_t packets_sent
        uint64_t packets_received
        uint64_t packets_lost
        uint64_t stream_bytes_sent
        uint64_t stream_bytes_received
        uint64_t dgrams_sent
        uint64_t dgrams_received
        uint64_t dgrams_acked
        uint64_t dgrams_lost
        uint64_t dgrams_dropped
        uint64_t dgrams_expired
        uint64_t dgrams_queued
        uint64_t streams_opened_local
        uint64_t streams_opened_remote
        uint64_t streams_alive
        uint64_t resets_received
        uint64_t leftovers
        uint64_t mtu_falls
        uint32_t max_udp_payload
        uint32_t version
        uint64_t key_updates

    ctypedef struct qe_group_stats:
        uint64_t bytes_sent
        uint64_t bytes_received
        uint64_t bytes_consumed
        uint64_t send_limit
        uint64_t recv_limit
        uint64_t dgrams_queued
        uint64_t dgrams_queued_bytes
        uint64_t dgrams_sent
        uint64_t dgrams_acked
        uint64_t dgrams_lost
        uint64_t dgrams_dropped
        uint64_t dgrams_expired

# These may run callbacks, which need the interpreter lock.
cdef extern from "engine/quicengine.h":
    ctypedef struct qe_packets:
        const sockaddr *local
        const sockaddr *remote
        const uint8_t *data
        size_t len
        size_t segment_size

    ctypedef size_t (*qe_packets_out)(void *out_ctx, const qe_packets *trains, size_t n) noexcept

    int qe_engine_new(qe_engine **out_engine, const qe_settings *settings, const qe_callbacks *cb,
                      void *engine_user, qe_tls *tls, qe_packets_out out, void *out_ctx)
    int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const sockaddr *local,
                            socklen_t local_len, const sockaddr *remote, socklen_t remote_len,
                            unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now)
    void qe_engine_free(qe_engine *e)
    void qe_engine_set_tls(qe_engine *e, qe_tls *tls)
    int qe_engine_set_greeting(qe_engine *e, const uint8_t *data, size_t len)
    int qe_engine_set_secrets(qe_engine *e, const uint8_t (*secrets)[32], size_t n)
    void qe_engine_stop_accepting(qe_engine *e)
    int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const sockaddr *local,
                            socklen_t local_len, const sockaddr *remote, socklen_t remote_len,
                            unsigned ecn, const uint8_t *data, size_t n, qe_tstamp now)
    int qe_engine_packet_handed(qe_engine *e, qe_sock *sock, const sockaddr *local,
                                socklen_t local_len, const sockaddr *remote,
                                socklen_t remote_len, unsigned ecn, const uint8_t *data, size_t n,
                                unsigned hops, qe_tstamp now)
    int qe_engine_set_steering(qe_engine *e, const int16_t *homes, size_t places,
                               const uint8_t *alive, size_t alive_len, int ends)
    void qe_engine_set_until(qe_engine *e, qe_tstamp until)
    int qe_engine_process(qe_engine *e, qe_tstamp now)
    qe_tstamp qe_engine_next_tick(qe_engine *e)
    int qe_engine_is_blocked(const qe_engine *e)
    int qe_engine_in_upcall(const qe_engine *e)
    void qe_engine_unblock(qe_engine *e)
    void qe_engine_get_stats(const qe_engine *e, qe_engine_stats *st)
    int qe_sock_dispatch(qe_sock *s, qe_tstamp now)
    int qe_sock_read_ahead(qe_sock *s, qe_tstamp now)
    void qe_sock_set_alone(qe_sock *s, int alone)
    int qe_sock_serve(qe_sock *s, unsigned budget, qe_tstamp now)

    int qe_engine_connect(qe_engine *e, qe_conn **out, const qe_connect_options *opt,
                          qe_tstamp now)
    void qe_conn_set_user(qe_conn *c, void *cu)
    int qe_conn_close(qe_conn *c, int app, uint64_t code, const uint8_t *reason, size_t reason_len)
    void qe_conn_abandon(qe_conn *c)
    int qe_conn_open_stream(qe_conn *c, int uni, void *su, qe_stream **out)
    void qe_conn_postpone(qe_conn *c)
    qe_stream *qe_conn_take_greeting(qe_conn *c, void *su)
    uint64_t qe_conn_streams_left(const qe_conn *c, int uni)
    void qe_conn_extend_streams(qe_conn *c, int uni, uint64_t n)
    void qe_conn_consume(qe_conn *c, uint64_t n)
    uint64_t qe_conn_held(const qe_conn *c)
    size_t qe_conn_max_datagram_size(const qe_conn *c)
    int qe_conn_send_datagram(qe_conn *c, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                              const uint8_t *data, size_t n, int priority, qe_tstamp deadline)
    size_t qe_conn_datagrams_queued(const qe_conn *c)
    int qe_conn_migrate(qe_conn *c, qe_sock *sock, const sockaddr *local, socklen_t local_len,
                        qe_tstamp now)
    int qe_conn_initiate_key_update(qe_conn *c, qe_tstamp now)
    void qe_conn_get_path(const qe_conn *c, sockaddr_storage *local, sockaddr_storage *remote)
    int qe_conn_export(qe_conn *c, const char *label, size_t label_len, const uint8_t *context,
                       size_t context_len, uint8_t *out, size_t out_len)
    size_t qe_conn_peer_certificate(qe_conn *c, const uint8_t **der)
    const char *qe_conn_alpn(const qe_conn *c)
    const char *qe_conn_server_name(const qe_conn *c)
    int qe_conn_resumed(const qe_conn *c)
    uint64_t qe_conn_peer_max_datagram_frame_size(const qe_conn *c)
    void qe_conn_get_stats(qe_conn *c, qe_conn_stats *st)

    void qe_stream_set_user(qe_stream *s, void *su)
    int64_t qe_stream_id(const qe_stream *s)
    int qe_stream_write(qe_stream *s, const uint8_t *data, size_t n, void *owner, int fin)
    size_t qe_stream_queued(const qe_stream *s)
    int qe_stream_is_crowded(const qe_stream *s)
    size_t qe_stream_unacked(const qe_stream *s)
    int qe_stream_reset(qe_stream *s, uint64_t code)
    int qe_stream_stop_sending(qe_stream *s, uint64_t code)
    int qe_stream_hold(qe_stream *s, qe_stream *until)
    void qe_stream_set_reliable_size(qe_stream *s, uint64_t n)
    void qe_stream_set_send_order(qe_stream *s, int64_t order)
    void qe_stream_consume(qe_stream *s, uint64_t n)

    int qe_group_new(qe_conn *c, void *gu, qe_group **out)
    void qe_group_free(qe_group *g)
    int qe_stream_join_group(qe_stream *s, qe_group *g, uint64_t send_header_size,
                             uint64_t recv_header_size)
    void qe_group_set_send_limit(qe_group *g, uint64_t limit)
    void qe_group_set_datagram_limit(qe_group *g, uint64_t limit)
    void qe_group_set_recv_limit(qe_group *g, uint64_t limit)
    void qe_group_get_stats(const qe_group *g, qe_group_stats *st)
    size_t qe_group_clear_datagrams(qe_group *g)
