/*
 * log.h - the message that qe_last_error() returns: why the last call of this thread failed.
 */
#ifndef QE_LOG_H
#define QE_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

/* Size of the longest message, including the terminating zero. */
#define QE_ERROR_TEXT_MAX 512

/* Sets the message, printf-style and cut to fit. Preserves errno. Returns code, so that a
 * failing function can end with `return qe_set_error(QE_ERR_X, ...)`. */
int qe_set_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As qe_set_error, for a failed system call: appends ": <strerror of errno>". */
int qe_set_syscall_error(const char *what);

/* Clears the message. */
void qe_clear_error(void);

#ifdef __cplusplus
}
#endif
#endif
