/*
 * sim.h - two engines joined by a network in memory, under a virtual clock.
 *
 * Nothing sleeps, and nothing depends on the clock or speed of the machine: time jumps from event
 * to event, and all random numbers come from one seeded generator.
 */
#ifndef QE_SIM_H
#define QE_SIM_H

#include <netinet/in.h>

#include "quicengine.h"

#define SIM_MS QE_MILLISECOND

typedef struct sim sim;
typedef struct sim_end sim_end;
typedef struct sim_conn sim_conn;

/* What happened on one stream; outlives the handle. */
typedef struct sim_stream {
  struct sim_stream *next;
  sim_conn *conn;
  qe_stream *s; /* NULL once closed */
  int64_t id;
  int remote;
  uint64_t received; /* bytes, each compared with sim_byte() */
  uint64_t wrong;    /* bytes that differed */
  uint64_t written;  /* by sim_write */
  uint64_t data_calls;
  int fins, resets, stops, closes, acks, writables;
  uint64_t reset_code, final_size, stop_code;
  int stop_has_code;
  qe_tstamp done_at; /* FIN or reset */
} sim_stream;

struct sim_conn {
  struct sim_conn *next;
  sim_end *end;
  qe_conn *c; /* NULL once closed */
  int handshakes, closes;
  qe_close_info close;
  qe_conn_stats last_stats; /* at conn_closed */
  sim_stream *streams;      /* newest first */
  int streams_available[2]; /* bidi, uni */
  int path_changes, path_failures;
  uint64_t dgrams, dgram_bytes;
  uint8_t last_dgram[2048];
  size_t last_dgram_len;
  int dgram_writables;
  int group_blocked, group_violated;
  uint64_t group_limit, group_received;
  uint8_t ticket[8192], token[512];
  size_t ticket_len, token_len;
};

struct sim_end {
  sim *sim;
  int is_server;
  qe_settings set;
  qe_engine *engine;
  struct sockaddr_in addr;  /* the socket */
  struct sockaddr_in addr2; /* a second one, for migration */
  sim_conn *conns;          /* newest first */
  int hold_credit;          /* do not consume stream data in stream_data */
  int hold_streams;         /* do not return stream credit in stream_closed */
  int refuse_data;          /* stream_data fails */
  int owners_out;           /* pinned buffers not yet released */
  size_t out_limit;         /* trains taken per call; SIZE_MAX normally */
  uint64_t trains, packets, bytes;
  uint64_t max_segments;     /* longest train */
  uint64_t bad_trains;       /* trains that break the rules of qe_packets */
  uint64_t burst, max_burst; /* bytes at one instant */
  qe_tstamp burst_at;
  uint64_t ect_in; /* packets that arrived with an ECN mark */
  uint64_t keylog_lines, log_lines;
};

/* One direction of the network. */
typedef struct sim_link {
  qe_tstamp delay;
  double loss, duplicate, reorder; /* probabilities */
  size_t mtu;                      /* longest UDP payload that passes */
  uint64_t bytes_per_second;       /* 0 = unlimited */
  uint64_t queue;                  /* largest queue in bytes; 0 = 200 ms' worth */
  qe_tstamp busy_until;
  qe_tstamp jitter; /* largest additional delay, without reordering */
  qe_tstamp last_at;
  uint64_t police, police_burst; /* bytes per second above which packets are dropped; 0 = no
                                    limit */
  double tokens;
  qe_tstamp tokens_at;
  double ce; /* probability that an ECT packet is marked */
  uint64_t passed, dropped;
} sim_link;

typedef struct sim_packet sim_packet;

struct sim {
  qe_tstamp now;
  uint64_t random;
  sim_end client, server;
  sim_link up, down; /* client to server, server to client */
  int nat;           /* the server sees nat_addr instead of the client's */
  struct sockaddr_in nat_addr;
  sim_packet **heap;
  size_t heap_len, heap_cap;
  uint64_t order;
  qe_tls *server_tls, *client_tls;
  size_t greeting; /* bytes of the server's greeting, which has the pattern of stream 3 */
  /* Sees every packet before the network; returns 0 to drop it. */
  int (*filter)(sim *s, int to_server, const uint8_t *data, size_t len);
  uint64_t nowhere_bytes; /* sent to addresses without a receiver */
  int stuck;              /* the engines asked for work endlessly */
};

/* Certificates for all simulations of the program. */
int sim_global_init(void);
void sim_global_free(void);

/* Settings with the defaults; change s->client.set / s->server.set before
 * sim_start. */
void sim_init(sim *s, uint64_t seed);
int sim_start(sim *s);
void sim_free(sim *s);
/* Replaces the server engine by a new one with the same settings; the old one sends nothing. */
int sim_restart_server(sim *s);

sim_conn *sim_connect(sim *s);
sim_conn *sim_connect_with(sim *s, const uint8_t *ticket, size_t ticket_len, const uint8_t *token,
                           size_t token_len);
/* Runs until the handshake is complete on both sides; returns the server's side. */
sim_conn *sim_handshake(sim *s, sim_conn *client);

/* Runs for a time; returns early when nothing can happen any more. */
void sim_run(sim *s, qe_tstamp duration);
/* Runs until done(ctx) is true. Returns 1, or 0 after the time limit. */
int sim_until(sim *s, qe_tstamp limit, int (*done)(void *ctx), void *ctx);

uint64_t sim_random(sim *s);
double sim_chance(sim *s);

sim_stream *sim_open(sim_conn *c, int uni);
/* Server: takes the stream of the greeting; NULL if there is none. */
sim_stream *sim_take_greeting(sim_conn *c);
sim_stream *sim_find(sim_conn *c, int64_t id);
/* Writes n more bytes of the stream's pattern, copied in pieces of `piece`. */
int sim_write(sim_stream *st, uint64_t n, size_t piece, int fin);
/* The byte at an offset of a stream. */
uint8_t sim_byte(int64_t id, uint64_t offset);

/* Passes a packet to an engine as if it came from the other side. */
void sim_inject(sim *s, int to_server, const struct sockaddr_in *from, const uint8_t *data,
                size_t len);

#endif
