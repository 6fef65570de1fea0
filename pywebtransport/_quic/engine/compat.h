/*
 * compat.h - the only file that knows which version of ngtcp2 has what.
 *
 * What is in a structure depends on the headers of the build: the library at run time is at least
 * as new (the package checks this when it is imported). What is a mistake of the library depends on
 * the library at run time, which may be newer than the build.
 */
#ifndef QE_COMPAT_H
#define QE_COMPAT_H

#include <ngtcp2/ngtcp2.h>
#include <stdbool.h>
#include <stdint.h>

#define QE_NGTCP2(major, minor) ((major) << 16 | (minor) << 8)

static inline bool qe_library_is(int version) {
  return ngtcp2_version(0)->version_num >= version;
}

/* 1.12: before, a client with no_pmtud fails an assert if it migrates and comes back before its new
 * path is validated. */
static inline bool qe_no_pmtud_is_safe(void) {
  return qe_library_is(QE_NGTCP2(1, 12));
}

/* 1.15: the library itself closes connections whose peer floods it with certain frames. */
static inline bool qe_limits_glitches(void) {
  return qe_library_is(QE_NGTCP2(1, 15));
}

/* 1.16: connections count the packets that they declare lost. Before: UINT64_MAX. */
static inline uint64_t qe_packets_lost(const ngtcp2_conn_info *info) {
#if NGTCP2_VERSION_NUM >= 0x011000
  return info->pkt_lost;
#else
  (void)info;
  return UINT64_MAX;
#endif
}

/* 1.22: a server takes only so many changes of address in a row. */
static inline bool qe_limits_migrations(void) {
  return qe_library_is(QE_NGTCP2(1, 22));
}

/* 1.23: before, a unidirectional stream of the peer stays if its first frame is RESET_STREAM. */
static inline bool qe_leaks_reset_streams(void) {
  return !qe_library_is(QE_NGTCP2(1, 23));
}

/* 1.23: before, the qlog writer can write beyond its buffer. */
static inline bool qe_qlog_is_safe(void) {
  return qe_library_is(QE_NGTCP2(1, 23));
}

/* Up to 1.25, the latest version that was checked, the library calls realloc() only for arrays that
 * start small and for its two decryption buffers, see libmem.h. */
static inline bool qe_can_share_scratch(void) {
  return !qe_library_is(QE_NGTCP2(1, 26));
}

#endif
