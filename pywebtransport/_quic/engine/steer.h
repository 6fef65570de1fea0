/*
 * steer.h - decides by its connection ID which worker a packet belongs to.
 *
 * IDs that a worker issues begin with its number, or, behind a balancer, with what the balancer
 * reads and then its number. Both forms are understood, because connections outlive a change of the
 * configuration. In its first packets a client uses an ID of its
 * own choice. Bytes 2 to 5 of that ID select a place (one of `places`), and the worker at that
 * place takes the new client. If there is none, the bytes select one of all workers that take new
 * clients. So if the worker at a place changes, only the clients of that place are affected. The
 * filter on the sockets follows the same rule.
 */
#ifndef QE_STEER_H
#define QE_STEER_H

#include "internal.h"

#define QE_MAX_WORKERS 256

typedef struct qe_steer {
  int self;        /* -1: this engine is not a worker */
  int leaves;      /* this worker takes no new clients, whatever the tables say */
  int ends;        /* all workers leave and none will replace them */
  uint32_t places; /* 0: there are no other workers */
  uint32_t open_count;
  int16_t homes[QE_MAX_WORKERS]; /* for each place, the worker that takes new clients, or -1 */
  uint8_t open[QE_MAX_WORKERS];  /* all of these workers, in order of their places */
  uint8_t alive[QE_MAX_WORKERS]; /* the worker has connections, or may have some */
  uint8_t lb_first;              /* the upper three bits of the first byte of our IDs */
  uint8_t lb_id[QE_LB_MAX_ID];
  uint8_t lb_id_len; /* 0: no balancer */
} qe_steer;

/* Workers 0..count - 1 are alive and take new clients. */
void qe_steer_init(qe_steer *s, int self, uint32_t count);

/* IDs that this server issues have this form; see qe_settings. */
void qe_steer_set_lb(qe_steer *s, uint8_t config, const uint8_t *id, size_t id_len);

/* Writes what an ID of this worker begins with, if it is one, over random bytes. */
void qe_steer_stamp(const qe_steer *s, uint8_t *cid, size_t len);

/* Whether an ID has the form of a balancer's configuration, and is one of another server. */
int qe_steer_is_elsewhere(const qe_steer *s, const uint8_t *cid, size_t len);

/* Sets new tables. Returns 0, or QE_ERR_INVALID without a change if a size or number is out of
 * range. */
int qe_steer_set(qe_steer *s, const int16_t *homes, size_t places, const uint8_t *alive,
                 size_t alive_len, int ends);

/* This worker takes no new clients from now on, even if later tables still say that it does. */
void qe_steer_leave(qe_steer *s);

/* Whether another worker takes new clients, or will. If so, a worker that leaves must not refuse
 * clients. */
int qe_steer_has_others(const qe_steer *s);

/* The other worker that a packet with an unknown ID belongs to; -1: this worker must answer it.
 * `handed`: another worker has passed the packet on and has looked at the first byte already, so
 * only the bytes of a client's choice count. */
int qe_steer_owner(const qe_steer *s, const uint8_t *cid, size_t len, int long_header, int handed);

#endif
