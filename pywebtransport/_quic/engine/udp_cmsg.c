#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* struct in6_pktinfo */
#endif
#include "udp_cmsg.h"

#include <string.h>
#include <time.h>

#include <errno.h>
#include <linux/errqueue.h>

static bool holds(const struct cmsghdr *c, size_t size) {
  return c->cmsg_len >= CMSG_LEN(size);
}

static void read_pktinfo4(const struct cmsghdr *c, qe_cmsg_info *out) {
  struct in_pktinfo info;
  if (holds(c, sizeof(info))) {
    memcpy(&info, CMSG_DATA(c), sizeof(info));
    out->has_local = true;
    out->local4 = info.ipi_addr;
    out->ifindex = (unsigned)info.ipi_ifindex;
  }
}

static void read_pktinfo6(const struct cmsghdr *c, qe_cmsg_info *out) {
  struct in6_pktinfo info;
  if (holds(c, sizeof(info))) {
    memcpy(&info, CMSG_DATA(c), sizeof(info));
    out->has_local = true;
    out->local6 = info.ipi6_addr;
    out->ifindex = info.ipi6_ifindex;
  }
}

/* Linux delivers IP_TOS as one byte and IPV6_TCLASS as an int. */
static void read_ecn(const struct cmsghdr *c, qe_cmsg_info *out) {
  if (holds(c, sizeof(int))) {
    int value;
    memcpy(&value, CMSG_DATA(c), sizeof(value));
    out->ecn = (unsigned)value & QE_ECN_MASK;
  } else if (holds(c, 1)) {
    out->ecn = *CMSG_DATA(c) & QE_ECN_MASK;
  }
}

static size_t segment_size_of(const struct cmsghdr *c) {
  int value = 0;
  if (holds(c, sizeof(value))) {
    memcpy(&value, CMSG_DATA(c), sizeof(value));
  }
  return value > 0 ? (size_t)value : 0;
}

void qe_cmsg_read(struct msghdr *h, qe_cmsg_info *out) {
  memset(out, 0, sizeof(*out));
  for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      read_pktinfo4(c, out);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      read_pktinfo6(c, out);
    } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
               (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)) {
      read_ecn(c, out);
    } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      out->segment_size = segment_size_of(c);
    }
  }
}

size_t qe_cmsg_read_segment_size(struct msghdr *h) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
    if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      return segment_size_of(c);
    }
  }
  return 0;
}

int qe_cmsg_read_error(struct msghdr *h, uint32_t *mtu) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
    struct sock_extended_err err;
    bool is_error = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
    if (is_error && holds(c, sizeof(err))) {
      memcpy(&err, CMSG_DATA(c), sizeof(err));
      *mtu = err.ee_errno == EMSGSIZE ? err.ee_info : 0;
      return (int)err.ee_errno;
    }
  }
  return 0;
}

/* Appends one control message; buf has room for all kinds. */
static void append(struct msghdr *h, qe_cmsg_buf *buf, int level, int type, const void *data,
                   size_t size) {
  struct cmsghdr *c = (struct cmsghdr *)(void *)(buf->bytes + h->msg_controllen);
  memset(c, 0, CMSG_SPACE(size));
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(c), data, size);
  h->msg_control = buf->bytes;
  h->msg_controllen += CMSG_SPACE(size);
}

static void write_local(struct msghdr *h, qe_cmsg_buf *buf, const struct sockaddr *local) {
  if (local->sa_family == AF_INET) {
    struct sockaddr_in in;
    struct in_pktinfo info;
    memcpy(&in, local, sizeof(in));
    if (in.sin_addr.s_addr != htonl(INADDR_ANY)) {
      memset(&info, 0, sizeof(info));
      info.ipi_spec_dst = in.sin_addr;
      append(h, buf, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
  } else if (local->sa_family == AF_INET6) {
    struct sockaddr_in6 in6;
    struct in6_pktinfo info;
    memcpy(&in6, local, sizeof(in6));
    if (!IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr)) {
      memset(&info, 0, sizeof(info));
      info.ipi6_addr = in6.sin6_addr;
      info.ipi6_ifindex = IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr) ? in6.sin6_scope_id : 0;
      append(h, buf, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
  }
}

static bool is_ipv4(const struct sockaddr *a) {
  struct sockaddr_in6 in6;
  if (a->sa_family == AF_INET) {
    return true;
  }
  memcpy(&in6, a, sizeof(in6));
  return IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr);
}

void qe_cmsg_write(struct msghdr *h, qe_cmsg_buf *buf, const qe_cmsg_send *what) {
  h->msg_control = NULL;
  h->msg_controllen = 0;
  if (what->local != NULL) {
    write_local(h, buf, what->local);
  }
  if (what->ecn != 0) {
    int value = (int)(what->ecn & QE_ECN_MASK);
    /* Packets to a mapped address are sent as IPv4, which uses IP_TOS only. */
    if (is_ipv4(what->remote)) {
      append(h, buf, IPPROTO_IP, IP_TOS, &value, sizeof(value));
    } else {
      append(h, buf, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof(value));
    }
  }
  if (what->segment_size != 0) {
    append(h, buf, SOL_UDP, UDP_SEGMENT, &what->segment_size, sizeof(what->segment_size));
  }
}
