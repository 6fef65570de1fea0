#include "sim.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "tlscert.h"

#define MAX_IDLE_STEPS 100000

struct sim_packet {
  qe_tstamp at;
  uint64_t order;
  struct sockaddr_in src, dst;
  unsigned ecn;
  size_t len;
  uint8_t data[];
};

/* ---------------------------------------------------------------- chance */

uint64_t sim_random(sim *s) {
  uint64_t z = (s->random += UINT64_C(0x9E3779B97F4A7C15)); /* splitmix64 */
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

double sim_chance(sim *s) {
  return (double)(sim_random(s) >> 11) / 9007199254740992.0;
}

uint8_t sim_byte(int64_t id, uint64_t offset) {
  uint64_t z = (offset + 1) * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)id * 0x10001;
  return (uint8_t)(z >> 56);
}

/* ----------------------------------------------------------- certificates */

static int global_ready;

int sim_global_init(void) {
  static const char *const dns[] = {"sim.example", NULL};
  tlscert_spec spec = {.cn = "sim.example",
                       .dns = dns,
                       .key = TLSCERT_EC,
                       .from = -3600,
                       .until = 5 * 86400,
                       .ca = 1};
  tlscert cert;
  int rv = tlscert_dir_open();
  if (rv != 0 || (rv = tlscert_make(&cert, &spec, NULL)) != 0) {
    return rv;
  }
  rv = tlscert_write(&cert, NULL, tlscert_path("sim.crt"), tlscert_path("sim.key"));
  tlscert_free(&cert);
  global_ready = rv == 0;
  return rv;
}

void sim_global_free(void) {
  if (global_ready) {
    tlscert_dir_close();
    global_ready = 0;
  }
}

static int make_tls(sim *s) {
  static const char *const alpn[] = {"h3", "sim"};
  qe_tls_options o = {.is_server = 1,
                      .alpn = alpn,
                      .alpn_count = 2,
                      .cert_file = tlscert_path("sim.crt"),
                      .key_file = tlscert_path("sim.key"),
                      .tickets = 1};
  int rv = qe_tls_new(&s->server_tls, &o);
  if (rv != 0) {
    return rv;
  }
  qe_tls_options co = {.is_server = 0,
                       .alpn = alpn,
                       .alpn_count = 1,
                       .ca_file = tlscert_path("sim.crt"),
                       .verify = QE_VERIFY_REQUIRED,
                       .keylog = 1,
                       .tickets = 1};
  return qe_tls_new(&s->client_tls, &co);
}

/* --------------------------------------------------------------- network */

static int before(const sim_packet *a, const sim_packet *b) {
  return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(sim *s, sim_packet *p) {
  if (s->heap_len == s->heap_cap) {
    s->heap_cap = s->heap_cap == 0 ? 256 : s->heap_cap * 2;
    s->heap = realloc(s->heap, s->heap_cap * sizeof(*s->heap));
    if (s->heap == NULL) {
      abort();
    }
  }
  size_t pos = s->heap_len++;
  while (pos > 0 && before(p, s->heap[(pos - 1) / 2])) {
    s->heap[pos] = s->heap[(pos - 1) / 2];
    pos = (pos - 1) / 2;
  }
  s->heap[pos] = p;
}

static sim_packet *heap_pop(sim *s) {
  sim_packet *top = s->heap[0];
  sim_packet *last = s->heap[--s->heap_len];
  size_t pos = 0;
  for (;;) {
    size_t child = pos * 2 + 1;
    if (child >= s->heap_len) {
      break;
    }
    if (child + 1 < s->heap_len && before(s->heap[child + 1], s->heap[child])) {
      child++;
    }
    if (!before(s->heap[child], last)) {
      break;
    }
    s->heap[pos] = s->heap[child];
    pos = child;
  }
  s->heap[pos] = last;
  return top;
}

static void enqueue(sim *s, qe_tstamp at, const struct sockaddr_in *src,
                    const struct sockaddr_in *dst, unsigned ecn, const uint8_t *data, size_t len) {
  sim_packet *p = malloc(sizeof(*p) + len);
  if (p == NULL) {
    abort();
  }
  p->at = at;
  p->order = s->order++;
  p->src = *src;
  p->dst = *dst;
  p->ecn = ecn;
  p->len = len;
  memcpy(p->data, data, len);
  heap_push(s, p);
}

static int same_addr(const struct sockaddr_in *a, const struct sockaddr_in *b) {
  return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

static int queue_is_full(const sim_link *l, qe_tstamp wait, size_t len) {
  if (l->bytes_per_second == 0) {
    return 0;
  }
  if (l->queue == 0) {
    return wait > 200 * SIM_MS;
  }
  return (double)wait * (double)l->bytes_per_second / (double)QE_SECOND + (double)len >
         (double)l->queue;
}

/* A token bucket: returns 1 if the packet exceeds it. */
static int exceeds(sim_link *l, qe_tstamp now, size_t len) {
  if (l->police == 0) {
    return 0;
  }
  double gained = (double)(now - l->tokens_at) * (double)l->police / (double)QE_SECOND;
  double full = (double)l->police_burst;
  l->tokens = l->tokens_at == 0 || l->tokens + gained > full ? full : l->tokens + gained;
  l->tokens_at = now;
  if (l->tokens < (double)len) {
    return 1;
  }
  l->tokens -= (double)len;
  return 0;
}

static void transmit(sim *s, int to_server, const struct sockaddr_in *src,
                     const struct sockaddr_in *dst, unsigned ecn, const uint8_t *data, size_t len) {
  sim_link *l = to_server ? &s->up : &s->down;
  struct sockaddr_in from = *src;
  qe_tstamp start = s->now > l->busy_until ? s->now : l->busy_until;

  if (s->filter != NULL && !s->filter(s, to_server, data, len)) {
    return;
  }
  if (to_server && s->nat && same_addr(src, &s->client.addr)) {
    from = s->nat_addr;
  }
  if (len > l->mtu || sim_chance(s) < l->loss || exceeds(l, s->now, len) ||
      queue_is_full(l, start - s->now, len)) {
    l->dropped++;
    return;
  }
  if (l->bytes_per_second > 0) {
    start += (qe_tstamp)len * QE_SECOND / l->bytes_per_second;
    l->busy_until = start;
  }
  if ((ecn == 1 || ecn == 2) && sim_chance(s) < l->ce) {
    ecn = 3;
  }
  qe_tstamp at = start + l->delay;
  if (l->jitter > 0) {
    at += sim_random(s) % l->jitter;
    at = at > l->last_at ? at : l->last_at;
    l->last_at = at;
  }
  if (sim_chance(s) < l->reorder) {
    at += sim_random(s) % (l->delay / 2 + SIM_MS);
  }
  l->passed++;
  enqueue(s, at, &from, dst, ecn, data, len);
  if (sim_chance(s) < l->duplicate) {
    enqueue(s, at + SIM_MS, &from, dst, ecn, data, len);
  }
}

/* Checks the rules for trains in quicengine.h. */
static int train_ok(const qe_packets *t) {
  size_t n = (t->len + t->segment_size - 1) / t->segment_size;
  return t->len > 0 && t->segment_size > 0 && t->segment_size <= t->len && t->len <= 65507 &&
         n <= 64 && t->ecn <= 3 && t->remote->sa_family == AF_INET &&
         t->remote_len == sizeof(struct sockaddr_in);
}

static size_t packets_out(void *ctx, const qe_packets *trains, size_t n) {
  sim_end *end = ctx;
  sim *s = end->sim;
  size_t taken = n < end->out_limit ? n : end->out_limit;

  for (size_t i = 0; i < taken; i++) {
    const qe_packets *t = &trains[i];
    struct sockaddr_in src, dst;
    uint64_t segments = 0;

    if (!train_ok(t)) {
      end->bad_trains++;
      continue;
    }
    memcpy(&src, t->local, sizeof(src));
    memcpy(&dst, t->remote, sizeof(dst));
    if (end->burst_at != s->now) {
      end->burst_at = s->now;
      end->burst = 0;
    }
    end->burst += t->len;
    end->max_burst = end->burst > end->max_burst ? end->burst : end->max_burst;
    end->trains++;
    end->bytes += t->len;
    for (size_t off = 0; off < t->len; off += t->segment_size) {
      size_t len = t->len - off < t->segment_size ? t->len - off : t->segment_size;
      transmit(s, !end->is_server, &src, &dst, t->ecn, t->data + off, len);
      end->packets++;
      segments++;
    }
    end->max_segments = segments > end->max_segments ? segments : end->max_segments;
  }
  return taken;
}

static void deliver(sim *s, sim_packet *p) {
  sim_end *end;
  struct sockaddr_in local = p->dst;

  if (same_addr(&p->dst, &s->server.addr)) {
    end = &s->server;
  } else if (s->nat && same_addr(&p->dst, &s->nat_addr)) {
    end = &s->client;
    local = s->client.addr;
  } else if (same_addr(&p->dst, &s->client.addr2) ||
             (!s->nat && same_addr(&p->dst, &s->client.addr))) {
    end = &s->client;
  } else {
    s->nowhere_bytes += p->len;
    return;
  }
  if (p->ecn != 0) {
    end->ect_in++;
  }
  if (end->engine != NULL) {
    qe_engine_packet_in(end->engine, NULL, (struct sockaddr *)&local, sizeof(local),
                        (struct sockaddr *)&p->src, sizeof(p->src), p->ecn, p->data, p->len,
                        s->now);
  }
}

void sim_inject(sim *s, int to_server, const struct sockaddr_in *from, const uint8_t *data,
                size_t len) {
  sim_end *to = to_server ? &s->server : &s->client;
  enqueue(s, s->now, from, &to->addr, 0, data, len);
}

/* ----------------------------------------------------------------- clock */

static void visit(sim *s, sim_end *end) {
  if (end->engine == NULL || qe_engine_next_tick(end->engine) > s->now) {
    return;
  }
  for (int i = 0; qe_engine_process(end->engine, s->now) == 1; i++) {
    if (i > MAX_IDLE_STEPS) {
      s->stuck = 1;
      return;
    }
  }
}

static qe_tstamp next_event(const sim *s) {
  qe_tstamp at = s->heap_len > 0 ? s->heap[0]->at : QE_NEVER;
  const sim_end *ends[] = {&s->client, &s->server};
  for (int i = 0; i < 2; i++) {
    if (ends[i]->engine != NULL) {
      qe_tstamp t = qe_engine_next_tick(ends[i]->engine);
      at = t < at ? t : at;
    }
  }
  return at;
}

/* Does everything that is due now. */
static void settle(sim *s) {
  while (s->heap_len > 0 && s->heap[0]->at <= s->now) {
    sim_packet *p = heap_pop(s);
    deliver(s, p);
    free(p);
  }
  visit(s, &s->client);
  visit(s, &s->server);
}

static int never(void *ctx) {
  (void)ctx;
  return 0;
}

int sim_until(sim *s, qe_tstamp limit, int (*done)(void *ctx), void *ctx) {
  qe_tstamp end = s->now + limit;
  int idle = 0;

  for (;;) {
    settle(s);
    if (done(ctx)) {
      return 1;
    }
    qe_tstamp at = next_event(s);
    if (s->stuck || at > end) {
      s->now = s->stuck ? s->now : end;
      return 0;
    }
    idle = at <= s->now ? idle + 1 : 0;
    if (idle > MAX_IDLE_STEPS) {
      s->stuck = 1;
    }
    s->now = at > s->now ? at : s->now;
  }
}

void sim_run(sim *s, qe_tstamp duration) {
  sim_until(s, duration, never, NULL);
}

/* ------------------------------------------------------------- callbacks */

static sim_conn *add_conn(sim_end *end, qe_conn *c) {
  sim_conn *sc = calloc(1, sizeof(*sc));
  if (sc == NULL) {
    abort();
  }
  sc->end = end;
  sc->c = c;
  sc->next = end->conns;
  end->conns = sc;
  return sc;
}

static sim_stream *add_stream(sim_conn *sc, qe_stream *s, int remote) {
  sim_stream *st = calloc(1, sizeof(*st));
  if (st == NULL) {
    abort();
  }
  st->conn = sc;
  st->s = s;
  st->id = qe_stream_id(s);
  st->remote = remote;
  st->next = sc->streams;
  sc->streams = st;
  return st;
}

static void on_handshake(void *eu, qe_conn *c, void *cu) {
  sim_end *end = eu;
  sim_conn *sc = cu;
  if (sc == NULL) {
    sc = add_conn(end, c);
    qe_conn_set_user(c, sc);
  }
  sc->handshakes++;
}

static void on_closed(void *eu, qe_conn *c, void *cu, const qe_close_info *info) {
  sim_conn *sc = cu;
  (void)eu;
  qe_conn_get_stats(c, &sc->last_stats);
  sc->closes++;
  sc->close = *info;
  sc->c = NULL;
}

static void on_streams_available(void *eu, qe_conn *c, void *cu, int uni) {
  (void)eu;
  (void)c;
  ((sim_conn *)cu)->streams_available[uni]++;
}

static void on_path(void *eu, qe_conn *c, void *cu, int validated) {
  sim_conn *sc = cu;
  (void)eu;
  (void)c;
  if (validated) {
    sc->path_changes++;
  } else {
    sc->path_failures++;
  }
}

static void on_ticket(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t len) {
  sim_conn *sc = cu;
  (void)eu;
  (void)c;
  if (len <= sizeof(sc->ticket)) {
    memcpy(sc->ticket, data, len);
    sc->ticket_len = len;
  }
}

static void on_token(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t len) {
  sim_conn *sc = cu;
  (void)eu;
  (void)c;
  if (len <= sizeof(sc->token)) {
    memcpy(sc->token, data, len);
    sc->token_len = len;
  }
}

static void on_stream_opened(void *eu, qe_conn *c, void *cu, qe_stream *s) {
  (void)eu;
  (void)c;
  qe_stream_set_user(s, add_stream(cu, s, 1));
}

static int on_data(void *eu, qe_stream *s, void *su, const uint8_t *data, size_t len, int fin) {
  sim_end *end = eu;
  sim_stream *st = su;

  if (end->refuse_data) {
    return -1;
  }
  for (size_t i = 0; i < len; i++) {
    st->wrong += data[i] != sim_byte(st->id, st->received + i);
  }
  st->received += len;
  st->data_calls++;
  if (fin) {
    st->fins++;
    st->done_at = end->sim->now;
  }
  if (!end->hold_credit) {
    qe_stream_consume(s, len);
  }
  return 0;
}

static void on_reset(void *eu, qe_stream *s, void *su, uint64_t code, uint64_t final_size) {
  sim_stream *st = su;
  (void)s;
  st->resets++;
  st->reset_code = code;
  st->final_size = final_size;
  st->done_at = ((sim_end *)eu)->sim->now;
}

static void on_stopped(void *eu, qe_stream *s, void *su, uint64_t code, int has_code) {
  sim_stream *st = su;
  (void)eu;
  (void)s;
  st->stops++;
  st->stop_code = code;
  st->stop_has_code = has_code;
}

static void on_writable(void *eu, qe_stream *s, void *su) {
  (void)eu;
  (void)s;
  ((sim_stream *)su)->writables++;
}

static void on_acked(void *eu, qe_stream *s, void *su) {
  (void)eu;
  (void)s;
  ((sim_stream *)su)->acks++;
}

static void on_stream_closed(void *eu, qe_stream *s, void *su) {
  sim_end *end = eu;
  sim_stream *st = su;
  st->closes++;
  st->s = NULL;
  if (st->remote && !end->hold_streams) {
    qe_conn_extend_streams(qe_stream_conn(s), (st->id & 2) != 0, 1);
  }
}

static void on_released(void *eu, void *owner) {
  ((sim_end *)eu)->owners_out--;
  free(owner);
}

static void on_dgram(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t len) {
  sim_conn *sc = cu;
  (void)eu;
  (void)c;
  sc->dgrams++;
  sc->dgram_bytes += len;
  sc->last_dgram_len = len < sizeof(sc->last_dgram) ? len : sizeof(sc->last_dgram);
  if (sc->last_dgram_len > 0) {
    memcpy(sc->last_dgram, data, sc->last_dgram_len);
  }
}

static void on_dgram_writable(void *eu, qe_conn *c, void *cu) {
  (void)eu;
  (void)c;
  ((sim_conn *)cu)->dgram_writables++;
}

static void on_group_blocked(void *eu, qe_group *g, void *gu, uint64_t limit) {
  sim_conn *sc = gu;
  (void)eu;
  (void)g;
  sc->group_blocked++;
  sc->group_limit = limit;
}

static void on_group_violated(void *eu, qe_group *g, void *gu, uint64_t received, uint64_t limit) {
  sim_conn *sc = gu;
  (void)eu;
  (void)g;
  sc->group_violated++;
  sc->group_received = received;
  sc->group_limit = limit;
}

static void on_keylog(void *eu, const char *line) {
  (void)line;
  ((sim_end *)eu)->keylog_lines++;
}

static void on_log(void *eu, const char *line) {
  (void)line;
  ((sim_end *)eu)->log_lines++;
}

static const qe_callbacks CALLBACKS = {
    .conn_handshake = on_handshake,
    .conn_closed = on_closed,
    .streams_available = on_streams_available,
    .path_changed = on_path,
    .session_ticket = on_ticket,
    .new_token = on_token,
    .stream_opened = on_stream_opened,
    .stream_data = on_data,
    .stream_reset = on_reset,
    .stream_stopped = on_stopped,
    .stream_writable = on_writable,
    .stream_acked = on_acked,
    .stream_closed = on_stream_closed,
    .buffer_released = on_released,
    .dgram_received = on_dgram,
    .dgram_writable = on_dgram_writable,
    .group_blocked = on_group_blocked,
    .group_violated = on_group_violated,
    .keylog_line = on_keylog,
    .log_line = on_log,
};

/* ------------------------------------------------------------------ life */

static struct sockaddr_in addr_of(const char *ip, uint16_t port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, ip, &a.sin_addr);
  return a;
}

void sim_init(sim *s, uint64_t seed) {
  memset(s, 0, sizeof(*s));
  s->now = 1000 * QE_SECOND;
  s->random = seed;
  s->client.sim = s->server.sim = s;
  s->server.is_server = 1;
  s->client.addr = addr_of("10.0.0.1", 5001);
  s->client.addr2 = addr_of("10.0.1.1", 5002);
  s->server.addr = addr_of("10.0.0.2", 443);
  s->nat_addr = addr_of("192.0.2.7", 40001);
  s->client.out_limit = s->server.out_limit = SIZE_MAX;
  s->up.delay = s->down.delay = 10 * SIM_MS;
  s->up.mtu = s->down.mtu = 1500;
  qe_settings_init(&s->client.set, 0);
  qe_settings_init(&s->server.set, 1);
  memset(s->server.set.secrets[0], 7, sizeof(s->server.set.secrets[0]));
  s->server.set.secret_count = 1;
}

static int greet(sim *s) {
  uint8_t *bytes = malloc(s->greeting);

  if (bytes == NULL) {
    abort();
  }
  for (size_t i = 0; i < s->greeting; i++) {
    bytes[i] = sim_byte(3, i);
  }
  int rv = qe_engine_set_greeting(s->server.engine, bytes, s->greeting);
  free(bytes); /* the engine has a copy */
  return rv;
}

int sim_start(sim *s) {
  int rv = make_tls(s);
  if (rv == 0) {
    rv = qe_engine_new(&s->client.engine, &s->client.set, &CALLBACKS, &s->client, s->client_tls,
                       packets_out, &s->client);
  }
  if (rv == 0) {
    rv = qe_engine_new(&s->server.engine, &s->server.set, &CALLBACKS, &s->server, s->server_tls,
                       packets_out, &s->server);
  }
  if (rv == 0 && s->greeting > 0) {
    rv = greet(s);
  }
  return rv;
}

/* Sends no packet: the state of the old process is lost. */
int sim_restart_server(sim *s) {
  qe_engine_free(s->server.engine);
  s->server.engine = NULL;
  return qe_engine_new(&s->server.engine, &s->server.set, &CALLBACKS, &s->server, s->server_tls,
                       packets_out, &s->server);
}

static void free_end(sim_end *end) {
  qe_engine_free(end->engine);
  while (end->conns != NULL) {
    sim_conn *sc = end->conns;
    end->conns = sc->next;
    while (sc->streams != NULL) {
      sim_stream *st = sc->streams;
      sc->streams = st->next;
      free(st);
    }
    free(sc);
  }
}

void sim_free(sim *s) {
  free_end(&s->client);
  free_end(&s->server);
  while (s->heap_len > 0) {
    free(heap_pop(s));
  }
  free(s->heap);
  if (s->server_tls != NULL) {
    qe_tls_unref(s->server_tls);
  }
  if (s->client_tls != NULL) {
    qe_tls_unref(s->client_tls);
  }
}

sim_conn *sim_connect_with(sim *s, const uint8_t *ticket, size_t ticket_len, const uint8_t *token,
                           size_t token_len) {
  sim_conn *sc = add_conn(&s->client, NULL);
  qe_connect_options o = {.local = (struct sockaddr *)&s->client.addr,
                          .local_len = sizeof(s->client.addr),
                          .remote = (struct sockaddr *)&s->server.addr,
                          .remote_len = sizeof(s->server.addr),
                          .server_name = "sim.example",
                          .ticket = ticket,
                          .ticket_len = ticket_len,
                          .token = token,
                          .token_len = token_len,
                          .conn_user = sc};
  return qe_engine_connect(s->client.engine, &sc->c, &o, s->now) == 0 ? sc : NULL;
}

sim_conn *sim_connect(sim *s) {
  return sim_connect_with(s, NULL, 0, NULL, 0);
}

struct pair {
  sim_conn *client;
  sim_end *server;
  sim_conn *before;
};

static int both_done(void *ctx) {
  struct pair *p = ctx;
  return p->client->closes > 0 || (p->client->handshakes > 0 && p->server->conns != p->before);
}

sim_conn *sim_handshake(sim *s, sim_conn *client) {
  struct pair p = {client, &s->server, s->server.conns};
  if (client == NULL || !sim_until(s, 15 * QE_SECOND, both_done, &p) || client->closes > 0) {
    return NULL;
  }
  return s->server.conns;
}

/* --------------------------------------------------------------- streams */

sim_stream *sim_open(sim_conn *c, int uni) {
  qe_stream *s;
  if (c->c == NULL || qe_conn_open_stream(c->c, uni, NULL, &s) != 0) {
    return NULL;
  }
  sim_stream *st = add_stream(c, s, 0);
  qe_stream_set_user(s, st);
  return st;
}

sim_stream *sim_take_greeting(sim_conn *c) {
  qe_stream *s = c->c == NULL ? NULL : qe_conn_take_greeting(c->c, NULL);
  if (s == NULL) {
    return NULL;
  }
  sim_stream *st = add_stream(c, s, 0);
  st->written = c->end->sim->greeting;
  qe_stream_set_user(s, st);
  return st;
}

sim_stream *sim_find(sim_conn *c, int64_t id) {
  for (sim_stream *st = c->streams; st != NULL; st = st->next) {
    if (st->id == id) {
      return st;
    }
  }
  return NULL;
}

int sim_write(sim_stream *st, uint64_t n, size_t piece, int fin) {
  uint64_t offset = 0;
  uint8_t *buf = malloc(piece > 0 ? piece : 1);
  int rv = 0;

  if (buf == NULL) {
    abort();
  }
  /* The pattern continues after the bytes written so far. */
  offset = st->written;
  do {
    size_t len = n < piece ? (size_t)n : piece;
    for (size_t i = 0; i < len; i++) {
      buf[i] = sim_byte(st->id, offset + i);
    }
    n -= len;
    rv = qe_stream_write(st->s, buf, len, NULL, fin && n == 0);
    if (rv != 0) {
      break;
    }
    offset += len;
  } while (n > 0);
  st->written = offset;
  free(buf);
  return rv;
}
