#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "log.h"
#include "quicengine.h"

static void test_text_is_formatted_and_code_returned(void) {
  CHECK_EQ(qe_set_error(QE_ERR_TLS, "file %s: %d bytes", "/x", 7), QE_ERR_TLS);
  CHECK_STR(qe_last_error(), "file /x: 7 bytes");
  qe_clear_error();
  CHECK_STR(qe_last_error(), "");
}

static void test_old_text_may_be_part_of_the_new(void) {
  qe_set_error(QE_ERR_TLS, "inner");
  qe_set_error(QE_ERR_TLS, "outer: %s", qe_last_error());
  CHECK_STR(qe_last_error(), "outer: inner");
}

static void test_long_text_is_cut(void) {
  char text[2 * QE_ERROR_TEXT_MAX];
  memset(text, 'x', sizeof(text) - 1);
  text[sizeof(text) - 1] = '\0';
  qe_set_error(QE_ERR_TLS, "%s", text);
  CHECK_EQ(strlen(qe_last_error()), QE_ERROR_TEXT_MAX - 1);
}

static void test_system_call_text_keeps_errno(void) {
  errno = ENOENT;
  CHECK_EQ(qe_set_syscall_error("open"), QE_ERR_SYSCALL);
  CHECK_EQ(errno, ENOENT);
  CHECK_STR(qe_last_error(), "open: No such file or directory");
}

static void *other_thread(void *seen) {
  *(size_t *)seen = strlen(qe_last_error());
  qe_set_error(QE_ERR_TLS, "of the other thread");
  return NULL;
}

static void test_text_belongs_to_one_thread(void) {
  pthread_t thread;
  size_t seen = 99;
  qe_set_error(QE_ERR_TLS, "mine");
  REQUIRE(pthread_create(&thread, NULL, other_thread, &seen) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  CHECK_EQ(seen, 0);
  CHECK_STR(qe_last_error(), "mine");
}

int main(void) {
  RUN(test_text_is_formatted_and_code_returned);
  RUN(test_old_text_may_be_part_of_the_new);
  RUN(test_long_text_is_cut);
  RUN(test_system_call_text_keeps_errno);
  RUN(test_text_belongs_to_one_thread);
  return check_report();
}
