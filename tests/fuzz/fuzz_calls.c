/*
 * libFuzzer target: an application that calls the engine in any order, on a bad network.
 *
 * The input is a list of calls of the API at either end (streams, groups, datagrams, credit,
 * migration, key updates, closing), mixed with time and with what happens to packets. Whatever is
 * called when, nothing crashes, no stream delivers a wrong byte, and the engines come to rest.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { MAX_GROUPS = 4, MAX_CALLS = 400 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *left;
static size_t left_size;

/* Groups of each end by number; gone with their connection. */
static struct {
  qe_group *group;
  sim_conn *conn;
} groups[MAX_GROUPS];

static unsigned take(void) {
  if (left_size == 0) {
    return 0;
  }
  left_size--;
  return *left++;
}

/* A number of any size, small ones more often. */
static uint64_t number(void) {
  unsigned first = take();

  if (first < 0xf0) {
    return (uint64_t)1 << (first >> 4 & 15) | (first & 15);
  }
  return first & 1 ? QE_NEVER : QE_MAX_VARINT - (first & 14) / 2 + 3;
}

static int drop(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)to_server;
  (void)data;
  (void)len;
  return sim_chance(s) > 0.1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  if (sim_global_init() != 0) {
    abort();
  }
  return 0;
}

static sim_stream *pick_stream(sim_conn *c, unsigned which) {
  sim_stream *found = NULL;
  unsigned i = 0;

  for (sim_stream *st = c->streams; st != NULL; st = st->next) {
    if (st->s != NULL && i++ <= which % 8) {
      found = st;
    }
  }
  return found;
}

static void group_call(sim_conn *c, unsigned what, sim_stream *st) {
  unsigned i = take() % MAX_GROUPS;

  if (groups[i].conn != NULL && groups[i].conn->c == NULL) {
    groups[i].conn = NULL; /* the connection took it along */
  }
  if (groups[i].conn == NULL) {
    if (qe_group_new(c->c, c, &groups[i].group) == 0) {
      groups[i].conn = c;
      qe_group_set_datagram_limit(groups[i].group, number());
    }
    return;
  }
  qe_group *g = groups[i].group;
  qe_group_stats stats;
  switch (what % 6) {
  case 0:
    if (st != NULL && groups[i].conn == c) {
      qe_stream_join_group(st->s, g, take() & 15, take() & 15);
    }
    break;
  case 1:
    qe_group_set_send_limit(g, number());
    break;
  case 2:
    qe_group_set_recv_limit(g, number());
    break;
  case 3:
    qe_group_clear_datagrams(g);
    break;
  case 4:
    qe_group_get_stats(g, &stats);
    break;
  default:
    groups[i].conn = NULL;
    qe_group_free(g);
    break;
  }
}

static void stream_call(sim_conn *c, unsigned what, sim_stream *st) {
  if (st == NULL) {
    return;
  }
  switch (what % 8) {
  case 0:
    sim_write(st, number() & 0xffff, 1000, (int)take() & 1);
    break;
  case 1:
    qe_stream_reset(st->s, number());
    break;
  case 2:
    qe_stream_stop_sending(st->s, number());
    break;
  case 3:
    qe_stream_set_send_order(st->s, (int64_t)number());
    break;
  case 4:
    qe_stream_set_reliable_size(st->s, number());
    break;
  case 5: {
    sim_stream *until = pick_stream(c, take());
    if (until != NULL) {
      qe_stream_hold(st->s, until->s);
    }
    break;
  }
  case 6:
    qe_stream_write(st->s, NULL, 0, NULL, (int)take() & 1);
    break;
  default:
    (void)(qe_stream_queued(st->s) + qe_stream_unacked(st->s));
    break;
  }
}

static void conn_call(sim *s, sim_conn *c, unsigned what) {
  static uint8_t bytes[4096];

  switch (what % 8) {
  case 0:
    sim_open(c, (int)take() & 1);
    break;
  case 1: {
    size_t len = (size_t)(number() & 2047);
    int priority = (int)(take() % 3);
    qe_tstamp deadline = take() & 1 ? s->now + take() * SIM_MS : QE_NEVER;
    qe_conn_send_datagram(c->c, NULL, bytes, take() & 7, bytes, len, priority, deadline);
    break;
  }
  case 2:
    qe_conn_initiate_key_update(c->c, s->now);
    break;
  case 3:
    if (!c->end->is_server) {
      struct sockaddr_in *to = take() & 1 ? &c->end->addr : &c->end->addr2;
      qe_conn_migrate(c->c, NULL, (const struct sockaddr *)to, sizeof(*to), s->now);
    }
    break;
  case 4:
    qe_conn_extend_streams(c->c, (int)take() & 1, take() & 7);
    break;
  case 5: {
    qe_conn_stats stats;
    qe_conn_get_stats(c->c, &stats);
    qe_conn_export(c->c, "label", 5, bytes, take(), bytes, 32);
    break;
  }
  case 6:
    if ((take() & 7) == 0) {
      qe_conn_close(c->c, (int)take() & 1, number(), bytes, take());
    }
    break;
  default:
    if ((take() & 15) == 0) {
      qe_conn_abandon(c->c);
    }
    break;
  }
}

static void network(sim *s, unsigned what) {
  sim_link *link = what & 8 ? &s->up : &s->down;

  switch (what & 7) {
  case 0:
    link->loss = (take() & 15) / 32.0;
    break;
  case 1:
    link->duplicate = (take() & 15) / 32.0;
    break;
  case 2:
    link->reorder = (take() & 15) / 32.0;
    break;
  case 3:
    link->mtu = 1200 + (take() << 1);
    break;
  case 4:
    link->bytes_per_second = (uint64_t)1000 << (take() & 15);
    break;
  case 5:
    s->nat = !s->nat;
    break;
  case 6:
    s->filter = s->filter == NULL ? drop : NULL;
    break;
  default:
    s->client.hold_credit = s->server.hold_credit = (int)take() & 1;
    break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static sim s;
  unsigned calls = 0;

  left = data;
  left_size = size;
  memset(groups, 0, sizeof(groups));
  unsigned mode = take();
  sim_init(&s, 1);
  s.up.delay = s.down.delay = (1 + (mode >> 4)) * SIM_MS;
  if (mode & 1) {
    s.server.set.retry = QE_RETRY_ALWAYS;
  }
  if (sim_start(&s) != 0) {
    abort();
  }
  sim_connect(&s);
  if (mode & 2) {
    sim_connect(&s);
  }
  if ((mode & 4) == 0) {
    sim_run(&s, 300 * SIM_MS);
  }
  while (left_size > 0 && calls++ < MAX_CALLS) {
    unsigned what = take();
    sim_end *end = what & 0x80 ? &s.server : &s.client;
    sim_conn *c = end->conns;
    if (what & 0x40 && c != NULL && c->next != NULL) {
      c = c->next;
    }
    if ((what & 0x30) == 0x30) {
      unsigned argument = take();
      if (what & 8) {
        network(&s, argument);
      } else {
        sim_run(&s, (argument & 63) * SIM_MS);
      }
    } else if (c == NULL || c->c == NULL) {
      continue;
    } else if ((what & 0x30) == 0x20) {
      sim_stream *st = pick_stream(c, take());
      group_call(c, what & 15, st);
    } else if ((what & 0x30) == 0x10) {
      stream_call(c, what & 15, pick_stream(c, take()));
    } else {
      conn_call(&s, c, what & 15);
    }
  }
  sim_run(&s, 2 * QE_SECOND);
  for (sim_end *end = &s.client; end != NULL; end = end == &s.client ? &s.server : NULL) {
    for (sim_conn *c = end->conns; c != NULL; c = c->next) {
      for (sim_stream *st = c->streams; st != NULL; st = st->next) {
        if (st->wrong != 0 || st->fins > 1 || st->resets > 1 || st->closes > 1) {
          abort();
        }
      }
    }
  }
  if (s.stuck) {
    abort();
  }
  sim_free(&s);
  if (s.client.owners_out != 0 || s.server.owners_out != 0) {
    abort();
  }
  return 0;
}
