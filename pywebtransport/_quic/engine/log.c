#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "quicengine.h"

static _Thread_local char last_error[QE_ERROR_TEXT_MAX];

const char *qe_last_error(void) {
  return last_error;
}

int qe_set_error(int code, const char *format, ...) {
  int saved = errno;
  /* An argument may be the current message, so format into a separate buffer first. */
  char text[QE_ERROR_TEXT_MAX];
  va_list args;

  va_start(args, format);
  if (vsnprintf(text, sizeof(text), format, args) < 0) {
    text[0] = '\0';
  }
  va_end(args);
  memcpy(last_error, text, strlen(text) + 1);
  errno = saved;
  return code;
}

int qe_set_syscall_error(const char *what) {
  int saved = errno;
  char text[128];

  /* The GNU variant returns the message; the POSIX variant (musl) fills the buffer. */
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
  const char *reason = strerror_r(saved, text, sizeof(text));
#else
  const char *reason = strerror_r(saved, text, sizeof(text)) == 0 ? text : "unknown error";
#endif
  qe_set_error(QE_ERR_SYSCALL, "%s: %s", what, reason);
  errno = saved;
  return QE_ERR_SYSCALL;
}

void qe_clear_error(void) {
  last_error[0] = '\0';
}
