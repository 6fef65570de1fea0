/*
 * core.c - what the C engine does without Python, HTTP/3 and WebTransport.
 *
 *   core server CERT KEY MODE         prints its port, then serves until stdin ends
 *   core client PORT SCENARIO COUNT   prints one JSON object
 *
 * MODE is echo, sink or source; SCENARIO is upload, download, ping-pong,
 * streams-1, streams-100, datagram-echo, datagrams, connect-1 or connect-50.
 * COUNT is bytes for the bulk scenarios and operations for the others.  One
 * thread, one socket, one loop of ppoll(2) on each side: the floor
 * under the figures of the Python package, on the same engine and settings.
 */
#define _GNU_SOURCE /* ppoll */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "quicengine.h"

#define CHUNK 65536
#define QUEUE (1 << 20) /* bytes of a bulk sender kept in the engine */

enum mode { ECHO, SINK, SOURCE };
enum scenario { UPLOAD, DOWNLOAD, PING_PONG, STREAMS, DATAGRAM_ECHO, DATAGRAMS, CONNECT };

static struct {
  qe_engine *engine;
  qe_sock *sock;
  qe_tls *tls;
  int fd, is_server, done, failed;
  enum mode mode;
  /* client */
  enum scenario scenario;
  struct sockaddr_in remote, local;
  qe_conn *conn;
  uint64_t count, finished, started, in_flight, at_once;
  uint64_t dgrams_out;
  uint64_t op_start, *samples;
  int ready;
} app;

static uint8_t block[CHUNK];

/* What is known of a stream: bytes seen, and for a source the bytes to send. */
typedef struct work {
  uint64_t received, left, expected;
  struct work *next_free;
} work;

static work *spare;

static uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "core: %s (%s)\n", what, qe_last_error());
  exit(1);
}

static work *work_new(void) {
  work *w = spare;
  if (w)
    spare = w->next_free;
  else if (!(w = malloc(sizeof(*w))))
    die("out of memory");
  memset(w, 0, sizeof(*w));
  return w;
}

static void put(qe_stream *s, const void *data, size_t len, int fin) {
  int rv = qe_stream_write(s, data, len, NULL, fin);
  if (rv != 0 && rv != QE_ERR_STREAM_SHUT && rv != QE_ERR_CLOSED)
    app.failed = 1;
}

/* Keeps a bulk sender's queue full; the block is pinned, so nothing is copied. */
static void fill(qe_stream *s, work *w) {
  while (w->left && qe_stream_queued(s) < QUEUE) {
    size_t n = w->left < CHUNK ? (size_t)w->left : CHUNK;
    w->left -= n;
    if (qe_stream_write(s, block, n, block, w->left == 0) != 0) {
      app.failed = 1;
      return;
    }
  }
}

static void open_stream(void);
static void open_connection(void);

static void sample(void) {
  uint64_t t = now_ns();
  if (app.samples)
    app.samples[app.finished] = t - app.op_start;
  app.op_start = t;
  app.finished++;
}

static void finish(void) {
  app.done = 1;
}

static void send_ping_datagram(void) {
  if (qe_conn_send_datagram(app.conn, NULL, NULL, 0, block, 64, 0, QE_NEVER) != 0)
    app.failed = 1;
}

static void pump_datagrams(void) {
  while (app.dgrams_out < app.count &&
         qe_conn_send_datagram(app.conn, NULL, NULL, 0, block, 1000, 0, QE_NEVER) == 0)
    app.dgrams_out++;
}

/* --------------------------------------------------------------- callbacks */

static void on_handshake(void *eu, qe_conn *c, void *cu) {
  (void)eu;
  (void)cu;
  if (app.is_server)
    return;
  app.conn = c;
  app.ready = 1;
  if (app.scenario == CONNECT)
    qe_conn_close(c, 1, 0, NULL, 0);
}

static void on_closed(void *eu, qe_conn *c, void *cu, const qe_close_info *info) {
  (void)eu;
  (void)c;
  (void)cu;
  if (app.is_server)
    return;
  if (app.scenario != CONNECT) {
    if (!app.done)
      fprintf(stderr, "core: closed, kind %d code %llu\n", info->kind,
              (unsigned long long)info->code);
    app.failed = !app.done;
    app.done = 1;
    return;
  }
  if (!info->handshake_done)
    app.failed = 1;
  sample();
  if (app.finished == app.count)
    finish();
  else if (app.started < app.count)
    open_connection();
}

static void on_stream_opened(void *eu, qe_conn *c, void *cu, qe_stream *s) {
  (void)eu;
  (void)c;
  (void)cu;
  qe_stream_set_user(s, work_new());
}

static int server_data(qe_stream *s, work *w, const uint8_t *data, size_t len, int fin) {
  w->received += len;
  switch (app.mode) {
  case ECHO:
    put(s, data, len, fin);
    break;
  case SINK:
    if (fin)
      put(s, &w->received, sizeof(w->received), 1);
    break;
  case SOURCE:
    if (len == sizeof(w->left) && w->received == len) {
      memcpy(&w->left, data, len);
      fill(s, w);
    }
    break;
  }
  return 0;
}

static int on_data(void *eu, qe_stream *s, void *su, const uint8_t *data, size_t len, int fin) {
  work *w = su;
  (void)eu;
  if (len)
    qe_stream_consume(s, len);
  if (app.is_server)
    return server_data(s, w, data, len, fin);
  w->received += len;
  switch (app.scenario) {
  case UPLOAD:
    if (fin) {
      uint64_t got = 0;
      if (len == sizeof(got))
        memcpy(&got, data, len);
      if (got != app.count)
        app.failed = 1;
      finish();
    }
    break;
  case DOWNLOAD:
    if (fin) {
      if (w->received != app.count)
        app.failed = 1;
      finish();
    }
    break;
  case PING_PONG:
    if (w->received == 64) {
      w->received = 0;
      sample();
      if (app.finished == app.count)
        finish();
      else
        put(s, block, 64, 0);
    }
    break;
  case STREAMS:
    if (fin) {
      if (w->received != 1024)
        app.failed = 1;
      sample();
      app.in_flight--;
      if (app.finished == app.count)
        finish();
      else if (app.started < app.count)
        open_stream();
    }
    break;
  default:
    break;
  }
  return 0;
}

static void on_writable(void *eu, qe_stream *s, void *su) {
  (void)eu;
  fill(s, su);
}

static void on_stream_closed(void *eu, qe_stream *s, void *su) {
  work *w = su;
  (void)eu;
  if (app.is_server)
    qe_conn_extend_streams(qe_stream_conn(s), 0, 1);
  if (w) {
    w->next_free = spare;
    spare = w;
  }
}

static void on_available(void *eu, qe_conn *c, void *cu, int uni) {
  (void)eu;
  (void)c;
  (void)cu;
  if (!app.is_server && !uni && app.scenario == STREAMS && app.op_start)
    while (app.in_flight < app.at_once && app.started < app.count && qe_conn_streams_left(c, 0) > 0)
      open_stream();
}

static void on_released(void *eu, void *owner) {
  (void)eu;
  (void)owner;
}

static void on_dgram(void *eu, qe_conn *c, void *cu, const uint8_t *data, size_t len) {
  (void)eu;
  (void)cu;
  if (app.is_server) {
    if (app.mode == ECHO)
      qe_conn_send_datagram(c, NULL, NULL, 0, data, len, 0, QE_NEVER);
    return;
  }
  if (app.scenario == DATAGRAM_ECHO) {
    sample();
    if (app.finished == app.count)
      finish();
    else
      send_ping_datagram();
  }
}

static void on_dgram_writable(void *eu, qe_conn *c, void *cu) {
  (void)eu;
  (void)c;
  (void)cu;
  if (!app.is_server && app.scenario == DATAGRAMS)
    pump_datagrams();
}

/* ------------------------------------------------------------------- loop */

static void turn(int extra_fd, int *extra_ready) {
  struct pollfd fds[2] = {{app.fd, POLLIN, 0}, {extra_fd, POLLIN, 0}};
  uint64_t t = now_ns(), tick = qe_engine_next_tick(app.engine);
  struct timespec wait = {1, 0};
  if (tick <= t) {
    wait.tv_sec = 0;
  } else if (tick - t < QE_SECOND) {
    wait.tv_sec = 0;
    wait.tv_nsec = (long)(tick - t);
  }
  if (ppoll(fds, extra_fd >= 0 ? 2 : 1, &wait, NULL) < 0 && errno != EINTR)
    die("poll");
  if (fds[0].revents) {
    int more;
    do {
      if (qe_sock_recv(app.sock) < 0)
        break;
      more = qe_sock_dispatch(app.sock, now_ns());
      if (more)
        qe_engine_process(app.engine, now_ns());
    } while (more);
  }
  if (extra_ready)
    *extra_ready = extra_fd >= 0 && fds[1].revents;
  while (qe_engine_process(app.engine, now_ns()) > 0)
    continue;
}

static void set_up(void) {
  qe_callbacks cb = {.conn_handshake = on_handshake,
                     .conn_closed = on_closed,
                     .streams_available = on_available,
                     .stream_opened = on_stream_opened,
                     .stream_data = on_data,
                     .stream_writable = on_writable,
                     .stream_closed = on_stream_closed,
                     .buffer_released = on_released,
                     .dgram_received = on_dgram,
                     .dgram_writable = on_dgram_writable};
  qe_settings settings;
  socklen_t len = sizeof(app.local);
  app.local.sin_family = AF_INET;
  app.local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  app.local.sin_port = 0;
  app.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (app.fd < 0 || bind(app.fd, (struct sockaddr *)&app.local, len) != 0 ||
      getsockname(app.fd, (struct sockaddr *)&app.local, &len) != 0)
    die("socket");
  qe_settings_init(&settings, app.is_server);
  settings.max_unread_data = settings.initial_max_data; /* as the package sets them */
  settings.max_data_window = 4 * settings.initial_max_data;
  settings.initial_max_data = settings.initial_max_stream_data + (64 << 10);
  settings.max_stream_window = 8 * settings.initial_max_stream_data;
  if (qe_engine_new(&app.engine, &settings, &cb, NULL, app.tls, NULL, NULL) != 0)
    die("engine");
  if (qe_sock_new(&app.sock, app.engine, app.fd, 0,
                  QE_SOCK_GSO | QE_SOCK_GRO | QE_SOCK_ECN | QE_SOCK_PKTINFO) != 0)
    die("socket options");
}

static int run_server(const char *cert, const char *key, const char *mode) {
  static const char *const alpn[] = {"core"};
  qe_tls_options opt = {.is_server = 1,
                        .alpn = alpn,
                        .alpn_count = 1,
                        .cert_file = cert,
                        .key_file = key,
                        .verify = QE_VERIFY_NONE};
  int ended = 0;
  app.is_server = 1;
  app.mode = !strcmp(mode, "sink") ? SINK : !strcmp(mode, "source") ? SOURCE : ECHO;
  if (qe_tls_new(&app.tls, &opt) != 0)
    die("certificate");
  set_up();
  printf("%d\n", ntohs(app.local.sin_port));
  fflush(stdout);
  while (!ended)
    turn(STDIN_FILENO, &ended);
  qe_engine_free(app.engine);
  return 0;
}

/* ------------------------------------------------------------------ client */

static void open_connection(void) {
  qe_connect_options opt = {.sock = app.sock,
                            .local = (struct sockaddr *)&app.local,
                            .local_len = sizeof(app.local),
                            .remote = (struct sockaddr *)&app.remote,
                            .remote_len = sizeof(app.remote),
                            .server_name = "localhost"};
  qe_conn *conn;
  app.started++;
  if (qe_engine_connect(app.engine, &conn, &opt, now_ns()) != 0)
    die("connect");
}

static void open_stream(void) {
  work *w = work_new();
  qe_stream *s;
  if (qe_conn_open_stream(app.conn, 0, w, &s) != 0) {
    w->next_free = spare;
    spare = w;
    return;
  }
  app.started++;
  app.in_flight++;
  switch (app.scenario) {
  case UPLOAD:
    w->left = app.count;
    fill(s, w);
    break;
  case DOWNLOAD:
    put(s, &app.count, sizeof(app.count), 1);
    break;
  case STREAMS:
    put(s, block, 1024, 1);
    break;
  default:
    put(s, block, 64, 0);
  }
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int run_client(const char *port, const char *name, const char *count) {
  static const char *const alpn[] = {"core"};
  static const struct {
    const char *name;
    enum scenario scenario;
    unsigned at_once;
  } table[] = {{"upload", UPLOAD, 1},         {"download", DOWNLOAD, 1},
               {"ping-pong", PING_PONG, 1},   {"streams-1", STREAMS, 1},
               {"streams-100", STREAMS, 100}, {"datagram-echo", DATAGRAM_ECHO, 1},
               {"datagrams", DATAGRAMS, 1},   {"connect-1", CONNECT, 1},
               {"connect-50", CONNECT, 50}};
  qe_tls_options opt = {.alpn = alpn, .alpn_count = 1, .verify = QE_VERIFY_NONE};
  qe_conn_stats st = {0};
  unsigned i;
  uint64_t start, elapsed;
  double cpu;
  for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
    if (!strcmp(table[i].name, name)) {
      app.scenario = table[i].scenario;
      app.at_once = table[i].at_once;
    }
  app.count = strtoull(count, NULL, 10);
  if (!app.at_once || !app.count)
    die("unknown scenario or count");
  if (app.scenario != UPLOAD && app.scenario != DOWNLOAD &&
      !(app.samples = calloc(app.count + 1, sizeof(uint64_t))))
    die("out of memory");
  app.remote.sin_family = AF_INET;
  app.remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  app.remote.sin_port = htons((uint16_t)atoi(port));
  if (qe_tls_new(&app.tls, &opt) != 0)
    die("TLS");
  set_up();
  if (app.scenario != CONNECT) {
    open_connection();
    while (!app.ready && !app.failed)
      turn(-1, NULL);
    app.started = 0;
  }
  cpu = cpu_seconds();
  start = app.op_start = now_ns();
  for (i = 0; i < app.at_once && app.started < app.count; i++) {
    if (app.scenario == CONNECT)
      open_connection();
    else if (app.scenario == DATAGRAM_ECHO)
      send_ping_datagram();
    else if (app.scenario == DATAGRAMS)
      pump_datagrams();
    else
      open_stream();
  }
  while (!app.done && !app.failed) {
    turn(-1, NULL);
    if (app.scenario == DATAGRAMS && app.dgrams_out == app.count) {
      qe_conn_get_stats(app.conn, &st);
      if (st.dgrams_acked + st.dgrams_lost >= app.count)
        finish();
    }
  }
  elapsed = now_ns() - start;
  cpu = cpu_seconds() - cpu;
  printf("{\"scenario\": \"%s\", \"count\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f", name,
         (unsigned long long)app.count, (double)elapsed / 1e9, cpu);
  if (app.samples && app.at_once == 1 && app.finished) {
    qsort(app.samples, app.finished, sizeof(uint64_t), compare);
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", (double)app.samples[app.finished / 2] / 1e3,
           (double)app.samples[app.finished * 99 / 100] / 1e3);
  }
  if (app.scenario == DATAGRAMS)
    printf(", \"acknowledged\": %llu, \"lost\": %llu", (unsigned long long)st.dgrams_acked,
           (unsigned long long)st.dgrams_lost);
  printf("}\n");
  qe_engine_free(app.engine);
  return app.failed;
}

int main(int argc, char **argv) {
  memset(block, 'x', sizeof(block));
  if (argc == 5 && !strcmp(argv[1], "server"))
    return run_server(argv[2], argv[3], argv[4]);
  if (argc == 5 && !strcmp(argv[1], "client"))
    return run_client(argv[2], argv[3], argv[4]);
  fprintf(stderr, "usage: core server CERT KEY MODE | core client PORT SCENARIO COUNT\n");
  return 2;
}
