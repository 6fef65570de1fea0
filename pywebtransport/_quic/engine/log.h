/*
 * log.h - the text behind qe_last_error(): why the last call of this thread
 * failed, in one sentence.
 */
#ifndef QE_LOG_H
#define QE_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

/* Longest text that is kept, with its terminating zero. */
#define QE_ERROR_TEXT_MAX 512

/* Replaces the text; printf-style, cut to fit.  Keeps errno.  Returns code, so
 * that a failing function can end with `return qe_set_error(QE_ERR_X, ...)`. */
int qe_set_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Like qe_set_error for a failed system call: appends ": <text of errno>". */
int qe_set_syscall_error(const char *what);

/* Empties the text. */
void qe_clear_error(void);

#ifdef __cplusplus
}
#endif
#endif
