#include "steer.h"

/* Bytes of an ID that choose() needs: the first and the next four. */
#define CHOICE_LEN 5

void qe_steer_init(qe_steer *s, int self, uint32_t count) {
  memset(s, 0, sizeof(*s));
  s->self = self;
  s->places = count;
  s->open_count = count;
  for (uint32_t i = 0; i < count; i++) {
    s->homes[i] = (int16_t)i;
    s->open[i] = (uint8_t)i;
    s->alive[i] = 1;
  }
}

void qe_steer_set_lb(qe_steer *s, uint8_t config, const uint8_t *id, size_t id_len) {
  s->lb_first = (uint8_t)(config << 5);
  s->lb_id_len = (uint8_t)id_len;
  memcpy(s->lb_id, id, id_len);
}

void qe_steer_stamp(const qe_steer *s, uint8_t *cid, size_t len) {
  if (len == 0) {
    return;
  }
  size_t n = s->lb_id_len;
  if (n > 0 && len > n + 1) {
    /* The low bits tell the length, for balancers that do not know it (section 3.3). */
    cid[0] = (uint8_t)(s->lb_first | (len - 1));
    memcpy(cid + 1, s->lb_id, n);
    cid++;
  } else {
    n = 0;
  }
  if (s->self >= 0) {
    cid[n] = (uint8_t)s->self;
  }
}

/* Whether an ID was issued under the balancer's configuration, by whichever server. */
static int has_lb_form(const qe_steer *s, const uint8_t *cid, size_t len) {
  return s->lb_id_len > 0 && len > (size_t)s->lb_id_len + 1 && (cid[0] & 0xe0) == s->lb_first &&
         (cid[0] & 0x1f) == len - 1;
}

int qe_steer_is_elsewhere(const qe_steer *s, const uint8_t *cid, size_t len) {
  return has_lb_form(s, cid, len) && memcmp(cid + 1, s->lb_id, s->lb_id_len) != 0;
}

/* The other worker that issued an ID; -1: none, or this one. */
static int issuer(const qe_steer *s, const uint8_t *cid, size_t len) {
  if (has_lb_form(s, cid, len) && memcmp(cid + 1, s->lb_id, s->lb_id_len) == 0) {
    int worker = cid[1 + s->lb_id_len];
    if (worker != s->self && s->alive[worker]) {
      return worker;
    }
    /* This worker does not know it: an older ID may happen to look like that. */
  }
  return cid[0] != s->self && s->alive[cid[0]] ? cid[0] : -1;
}

/* Lists the workers that take new clients. A worker that leaves knows that before the tables say
 * so. */
static void list_open(qe_steer *s) {
  s->open_count = 0;
  for (uint32_t i = 0; i < s->places; i++) {
    if (s->leaves && s->homes[i] == s->self) {
      s->homes[i] = -1;
    }
    if (s->homes[i] >= 0) {
      s->open[s->open_count++] = (uint8_t)s->homes[i];
    }
  }
}

int qe_steer_set(qe_steer *s, const int16_t *homes, size_t places, const uint8_t *alive,
                 size_t alive_len, int ends) {
  if (places == 0 || places > QE_MAX_WORKERS || alive_len > QE_MAX_WORKERS) {
    return QE_ERR_INVALID;
  }
  for (size_t i = 0; i < places; i++) {
    if (homes[i] < -1 || homes[i] >= QE_MAX_WORKERS) {
      return QE_ERR_INVALID;
    }
  }
  memset(s->alive, 0, sizeof(s->alive));
  memcpy(s->alive, alive, alive_len);
  s->places = (uint32_t)places;
  s->ends = ends;
  memcpy(s->homes, homes, places * sizeof(*homes));
  list_open(s);
  return 0;
}

void qe_steer_leave(qe_steer *s) {
  s->leaves = 1;
  list_open(s);
}

int qe_steer_has_others(const qe_steer *s) {
  return s->self >= 0 && s->places > 0 && !s->ends;
}

/* The worker that an ID chosen by a client leads to; -1: no worker takes new clients. */
static int choose(const qe_steer *s, const uint8_t *cid) {
  uint32_t word =
      (uint32_t)cid[1] << 24 | (uint32_t)cid[2] << 16 | (uint32_t)cid[3] << 8 | (uint32_t)cid[4];

  if (s->open_count == 0) {
    return -1;
  }
  int home = s->homes[word % s->places];
  return home >= 0 ? home : s->open[word / s->places % s->open_count];
}

static int is_open(const qe_steer *s, int worker) {
  return memchr(s->open, worker, s->open_count) != NULL;
}

int qe_steer_owner(const qe_steer *s, const uint8_t *cid, size_t len, int long_header, int handed) {
  if (s->self < 0 || s->places == 0 || len == 0) {
    return -1;
  }
  if (!handed) {
    int worker = issuer(s, cid, len);
    if (worker >= 0) {
      return worker;
    }
  }
  if (!long_header || len < CHOICE_LEN) {
    return -1;
  }
  /* A client's choice whose first byte happens to be the number of this worker: accept it here. */
  if ((handed || cid[0] == s->self) && is_open(s, s->self)) {
    return -1;
  }
  int owner = choose(s, cid);
  return owner == s->self ? -1 : owner;
}
