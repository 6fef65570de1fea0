#include "greeting.h"

#include <stdlib.h>

#include "conn.h"
#include "engine.h"

int qe_engine_set_greeting(qe_engine *e, const uint8_t *data, size_t len) {
  uint8_t *copy = NULL;

  if (e == NULL || !e->set.is_server || (data == NULL && len > 0)) {
    return QE_ERR_INVALID;
  }
  if (len > 0) {
    copy = malloc(len);
    if (copy == NULL) {
      return QE_ERR_NOMEM;
    }
    memcpy(copy, data, len);
  }
  free(e->greeting);
  e->greeting = copy;
  e->greeting_len = len;
  return 0;
}

int qe_greeting_open(qe_conn *c) {
  qe_engine *e = c->engine;
  int64_t id;

  if (e->greeting_len == 0 || c->greeting != NULL || c->end_mode != QE_END_NONE ||
      ngtcp2_conn_get_streams_uni_left(c->ng) == 0) {
    return 0;
  }
  int rv = qe_stream_prepare(c);
  qe_stream *s = rv == 0 ? qe_stream_new(c) : NULL;
  if (s == NULL) {
    return QE_ERR_NOMEM;
  }
  if (ngtcp2_conn_open_uni_stream(c->ng, &id, s) != 0) {
    free(s);
    return QE_ERR_NOMEM; /* a stream is left, so this is what failed */
  }
  qe_stream_enter(s, id, NULL);
  s->known = 0; /* until it is taken */
  c->greeting = s;
  return qe_stream_write(s, e->greeting, e->greeting_len, NULL, 0);
}

qe_stream *qe_conn_take_greeting(qe_conn *c, void *su) {
  qe_stream *s = c->greeting;

  if (s == NULL || s->lib_gone || c->end_mode != QE_END_NONE) {
    return NULL;
  }
  c->greeting = NULL;
  s->known = 1;
  s->user = su;
  if (s->ev_stopped || s->ev_writable) {
    qe_stream_add_work(s);
  }
  return s;
}
