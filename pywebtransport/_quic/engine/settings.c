/* settings.c - defaults, ranges, versions and the descriptions of error codes. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "internal.h"

#define KIB ((uint64_t)1024)
#define MIB ((uint64_t)1024 * 1024)
#define MAX_STREAMS ((uint64_t)1 << 60) /* RFC 9000 section 4.6 */

const char *qe_strerror(int err) {
  switch (err) {
  case QE_OK:
    return "no error";
  case QE_ERR_NOMEM:
    return "out of memory";
  case QE_ERR_INVALID:
    return "an argument is out of its range";
  case QE_ERR_CLOSED:
    return "the connection or stream is closed";
  case QE_ERR_STREAM_LIMIT:
    return "the peer's stream limit is reached";
  case QE_ERR_STREAM_SHUT:
    return "this direction of the stream is finished or reset";
  case QE_ERR_BLOCKED:
    return "a queue is full";
  case QE_ERR_DGRAM_TOO_LARGE:
    return "the datagram is larger than the path or the peer allows";
  case QE_ERR_DGRAM_DISABLED:
    return "the peer does not accept DATAGRAM frames";
  case QE_ERR_TLS:
    return "TLS set-up failed";
  case QE_ERR_CERTIFICATE:
    return "a certificate or key could not be used";
  case QE_ERR_SYSCALL:
    return "a system call failed";
  case QE_ERR_LIMIT:
    return "a configured limit is reached";
  case QE_ERR_NOT_READY:
    return "the handshake is not complete";
  case QE_ERR_UNSUPPORTED:
    return "not supported by the library version or the kernel";
  case QE_ERR_MIGRATION:
    return "migration is refused";
  case QE_ERR_INTERNAL:
    return "internal error";
  default:
    return "unknown error";
  }
}

const char *qe_ngtcp2_version(void) {
  return ngtcp2_version(0)->version_str;
}

const char *qe_ngtcp2_build_version(void) {
  return NGTCP2_VERSION;
}

const char *qe_gnutls_version(void) {
  return gnutls_check_version(NULL);
}

int qe_qlog_supported(void) {
  return qe_qlog_is_safe();
}

int qe_random(uint8_t *out, size_t len) {
  return gnutls_rnd(GNUTLS_RND_RANDOM, out, len) == 0 ? 0 : QE_ERR_INTERNAL;
}

void qe_settings_init(qe_settings *s, int is_server) {
  memset(s, 0, sizeof(*s));
  s->is_server = is_server;
  s->idle_timeout = 30 * QE_SECOND;
  s->handshake_timeout = 10 * QE_SECOND;
  s->initial_max_data = 16 * MIB;
  s->initial_max_stream_data = MIB;
  s->max_data_window = 32 * MIB;
  s->max_stream_window = 8 * MIB;
  s->max_streams_bidi = 100;
  s->max_streams_uni = 100;
  s->max_datagram_frame_size = 65535;
  s->dgram_queue_count = 1024;
  s->dgram_queue_bytes = (uint32_t)MIB;
  s->stream_write_low = (uint32_t)(64 * KIB);
  s->max_queued_data = 16 * MIB;
  s->max_tx_udp_payload_size = 1452;
  s->pmtud = 1;
  s->ecn = 1;
  s->pacing = 1;
  s->cc = QE_CC_CUBIC;
  s->enable_migration = 1;
  s->retry = QE_RETRY_AUTO;
  s->retry_half_open = 128;
  s->max_half_open = 4096;
  s->max_connections = 10000;
  s->max_half_open_per_address = 1024;
  s->stateless_resets_per_second = 5000;
  s->max_leftovers = 1024;
  s->max_resets_per_second = 20000;
  s->excessive_load_code = 0x107; /* H3_EXCESSIVE_LOAD */
  s->cid_len = 8;
  s->worker_index = -1;
  s->recv_batch = 256;
  s->send_batch = (uint32_t)(256 * KIB);
}

int qe_settings_check(const qe_settings *s, const char **field) {
  const struct {
    const char *name;
    int ok;
  } rules[] = {
      {"idle_timeout", s->idle_timeout <= QE_MAX_VARINT},
      {"handshake_timeout", s->handshake_timeout > 0},
      {"initial_max_data", s->initial_max_data <= QE_MAX_VARINT},
      {"initial_max_stream_data", s->initial_max_stream_data <= QE_MAX_VARINT},
      {"max_unread_data", s->max_unread_data <= QE_MAX_VARINT},
      {"max_data_window",
       s->max_data_window >= s->initial_max_data && s->max_data_window <= QE_MAX_VARINT},
      {"max_stream_window",
       s->max_stream_window >= s->initial_max_stream_data && s->max_stream_window <= QE_MAX_VARINT},
      {"max_streams_bidi", s->max_streams_bidi <= MAX_STREAMS},
      {"max_streams_uni", s->max_streams_uni <= MAX_STREAMS},
      {"max_datagram_frame_size", s->max_datagram_frame_size <= 65535},
      {"dgram_queue_count", s->dgram_queue_count > 0},
      {"dgram_queue_bytes", s->dgram_queue_bytes > 0},
      {"max_tx_udp_payload_size",
       s->max_tx_udp_payload_size >= 1200 && s->max_tx_udp_payload_size <= 65527},
      {"cc", s->cc == QE_CC_CUBIC || s->cc == QE_CC_RENO || s->cc == QE_CC_BBR},
      {"retry",
       s->retry == QE_RETRY_OFF || s->retry == QE_RETRY_AUTO || s->retry == QE_RETRY_ALWAYS},
      {"secrets", s->secret_count <= QE_MAX_SECRETS},
      {"max_half_open", s->max_half_open > 0},
      {"max_connections", s->max_connections > 0},
      {"max_leftovers", s->max_leftovers > 0},
      {"max_resets_per_second", s->max_resets_per_second > 0},
      {"excessive_load_code", s->excessive_load_code <= QE_MAX_VARINT},
      {"cid_len", s->cid_len >= 8 && s->cid_len <= 18},
      {"lb_server_id", s->lb_server_id_len <= QE_LB_MAX_ID &&
                           (s->lb_server_id_len == 0 ||
                            s->cid_len >= 1 + s->lb_server_id_len + (s->worker_index >= 0) + 4)},
      {"lb_config", s->lb_config <= 6},
      {"worker_count", s->worker_count >= 0 && s->worker_count <= 256},
      {"worker_index", s->worker_index >= -1 && s->worker_index <= 255 &&
                           (s->worker_count == 0 || s->worker_index < s->worker_count)},
      {"recv_batch", s->recv_batch > 0},
      {"send_batch", s->send_batch > 0},
  };

  for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
    if (!rules[i].ok) {
      if (field != NULL) {
        *field = rules[i].name;
      }
      return QE_ERR_INVALID;
    }
  }
  return 0;
}
