/*
 * paths.c - bulk streams over one path, under a virtual clock.
 *
 *   paths NAME=VALUE...   prints one JSON object
 *
 * The engine as it is, at both ends, over the simulated network of the engine's
 * tests: what comes out depends on the congestion control and on the seed, and
 * not on the machine.  Names: flows (such as bbr,cubic: one connection each, with
 * one stream to the server that never lacks data), late (seconds after the first
 * at which the others begin), seconds, rtt (ms), mbit (0: unlimited), queue
 * (bytes of the drop-tail buffer), loss (each way), jitter (ms), reorder, police
 * (Mbit/s), burst (bytes), outage (ms without a packet, in the middle), small
 * (1: the first flow sends a datagram every 20 ms beside its stream), seed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "sim.h"

#define MAX_FLOWS 8
#define MAX_SAMPLES 100000
#define READY (4 << 20) /* bytes that wait in a stream at least */
#define PIECE 65536
#define BIT_PER_BYTE 8.0
#define SMALL_EVERY (20 * SIM_MS)

static struct {
  char flows[256];
  double late, seconds, rtt, mbit, queue, loss, jitter, reorder, police, burst, outage, small, seed;
} options = {.flows = "cubic", .seconds = 30, .rtt = 100, .mbit = 50, .queue = 625000, .seed = 1};

static const struct {
  const char *name;
  double *value;
} NAMES[] = {
    {"late", &options.late},     {"seconds", &options.seconds}, {"rtt", &options.rtt},
    {"mbit", &options.mbit},     {"queue", &options.queue},     {"loss", &options.loss},
    {"jitter", &options.jitter}, {"reorder", &options.reorder}, {"police", &options.police},
    {"burst", &options.burst},   {"outage", &options.outage},   {"small", &options.small},
    {"seed", &options.seed},
};

typedef struct flow {
  const char *name;
  enum qe_cc cc;
  sim_conn *client, *server;
  sim_stream *out, *in;
  uint64_t at_second[4096]; /* received by then */
  size_t seconds;
  uint64_t lost;
} flow;

static struct {
  sim s;
  flow flows[MAX_FLOWS];
  size_t n;
  qe_tstamp start, next_second, next_small;
  uint64_t seen;
  double delays[MAX_SAMPLES];
  size_t ndelays;
} run;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void parse(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    char *value = strchr(argv[i], '=');
    int found = 0;
    if (value == NULL) {
      fail("arguments are NAME=VALUE");
    }
    *value++ = '\0';
    if (strcmp(argv[i], "flows") == 0) {
      snprintf(options.flows, sizeof(options.flows), "%s", value);
      continue;
    }
    for (size_t k = 0; k < sizeof(NAMES) / sizeof(NAMES[0]); k++) {
      if (strcmp(argv[i], NAMES[k].name) == 0) {
        *NAMES[k].value = strtod(value, NULL);
        found = 1;
      }
    }
    if (!found) {
      fail("no such name; paths.c lists them");
    }
  }
  for (char *p = strtok(options.flows, ","); p != NULL; p = strtok(NULL, ",")) {
    if (run.n == MAX_FLOWS) {
      fail("too many flows");
    }
    flow *f = &run.flows[run.n++];
    f->name = p;
    f->cc = strcmp(p, "bbr") == 0 ? QE_CC_BBR : strcmp(p, "reno") == 0 ? QE_CC_RENO : QE_CC_CUBIC;
  }
}

static void set_link(sim_link *l, int up) {
  l->delay = (qe_tstamp)(options.rtt / 2 * SIM_MS);
  l->loss = options.loss;
  l->reorder = options.reorder;
  l->jitter = (qe_tstamp)(options.jitter * SIM_MS);
  if (up) {
    l->bytes_per_second = (uint64_t)(options.mbit * 1e6 / BIT_PER_BYTE);
    l->queue = (uint64_t)options.queue;
    l->police = (uint64_t)(options.police * 1e6 / BIT_PER_BYTE);
    l->police_burst = (uint64_t)options.burst;
  }
}

static void begin(flow *f) {
  sim *s = &run.s;
  /* What a connection has, it keeps: the engine's setting is for the next one. */
  s->client.engine->set.cc = f->cc;
  f->client = sim_connect(s);
  f->server = sim_handshake(s, f->client);
  if (f->server == NULL) {
    fail("no handshake");
  }
  f->out = sim_open(f->client, 1);
  if (f->out == NULL) {
    fail("no stream");
  }
}

static uint64_t received(flow *f) {
  if (f->in == NULL && f->server != NULL && f->out != NULL) {
    f->in = sim_find(f->server, f->out->id);
  }
  return f->in == NULL ? 0 : f->in->received;
}

static void send_small(qe_tstamp now) {
  uint8_t stamp[100] = {0};
  memcpy(stamp, &now, sizeof(now));
  qe_conn_send_datagram(run.flows[0].client->c, NULL, NULL, 0, stamp, sizeof(stamp), 0, QE_NEVER);
}

static void note_small(qe_tstamp now) {
  sim_conn *to = run.flows[0].server;
  qe_tstamp sent;
  if (to == NULL || to->dgrams == run.seen) {
    return;
  }
  run.seen = to->dgrams;
  memcpy(&sent, to->last_dgram, sizeof(sent));
  if (run.ndelays < MAX_SAMPLES) {
    run.delays[run.ndelays++] = (double)(now - sent) / SIM_MS;
  }
}

/* After every event: streams have data, seconds are counted. */
static int turn(void *ctx) {
  qe_tstamp now = run.s.now;
  (void)ctx;
  for (size_t i = 0; i < run.n; i++) {
    flow *f = &run.flows[i];
    if (f->client != NULL && f->client->closes > 0) {
      fail("a connection was closed");
    }
    if (f->out != NULL) {
      while (qe_stream_queued(f->out->s) < READY) {
        if (sim_write(f->out, PIECE, PIECE, 0) != 0) {
          fail("no write");
        }
      }
    }
  }
  if (options.small != 0) {
    note_small(now);
    if (now >= run.next_small) {
      send_small(now);
      run.next_small = now + SMALL_EVERY;
    }
  }
  return 0;
}

static void second_passes(void) {
  qe_tstamp until = run.s.now + QE_SECOND;
  while (run.s.now < until) {
    qe_tstamp step = until - run.s.now;
    if (options.small != 0 && step > SMALL_EVERY) {
      step = SMALL_EVERY;
    }
    sim_until(&run.s, step, turn, NULL);
  }
  for (size_t i = 0; i < run.n; i++) {
    flow *f = &run.flows[i];
    f->at_second[f->seconds++] = received(f);
  }
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile(double p) {
  return run.ndelays == 0 ? -1 : run.delays[(size_t)(p * (double)(run.ndelays - 1))];
}

static void report(void) {
  qsort(run.delays, run.ndelays, sizeof(run.delays[0]), by_value);
  printf("{\"version\": \"%s\", \"delay_p50\": %.2f, \"delay_p99\": %.2f, \"delays\": %zu, "
         "\"dropped\": %llu, \"flows\": [",
         qe_ngtcp2_version(), percentile(0.5), percentile(0.99), run.ndelays,
         (unsigned long long)run.s.up.dropped);
  for (size_t i = 0; i < run.n; i++) {
    flow *f = &run.flows[i];
    qe_conn_stats st;
    qe_conn_get_stats(f->client->c, &st);
    printf("%s{\"name\": \"%s\", \"packets\": %llu, \"wrong\": %llu, \"mbit\": [",
           i > 0 ? ", " : "", f->name, (unsigned long long)st.packets_sent,
           (unsigned long long)(f->in == NULL ? 0 : f->in->wrong));
    for (size_t k = 0; k < f->seconds; k++) {
      uint64_t before = k == 0 ? 0 : f->at_second[k - 1];
      printf("%s%.3f", k > 0 ? ", " : "", (double)(f->at_second[k] - before) * BIT_PER_BYTE / 1e6);
    }
    printf("]}");
  }
  printf("]}\n");
}

int main(int argc, char **argv) {
  parse(argc, argv);
  if (sim_global_init() != 0) {
    return 1;
  }
  sim *s = &run.s;
  sim_init(s, (uint64_t)options.seed);
  s->client.set.idle_timeout = s->server.set.idle_timeout = 120 * QE_SECOND;
  if (sim_start(s) != 0) {
    return 1;
  }
  /* Handshakes without loss: what is measured comes after. */
  set_link(&s->up, 1);
  set_link(&s->down, 0);
  double loss = options.loss;
  s->up.loss = s->down.loss = 0;
  begin(&run.flows[0]);
  for (int k = 0; k < (int)options.seconds; k++) {
    if (k == (int)options.late) {
      s->up.loss = s->down.loss = 0;
      for (size_t i = 1; i < run.n; i++) {
        begin(&run.flows[i]);
      }
    }
    s->up.loss = s->down.loss = loss;
    if (options.outage > 0 && k == (int)options.seconds / 2) {
      s->up.loss = s->down.loss = 1;
      sim_until(s, (qe_tstamp)(options.outage * SIM_MS), turn, NULL);
      s->up.loss = s->down.loss = loss;
    }
    second_passes();
  }
  report();
  sim_free(s);
  sim_global_free();
  return 0;
}
