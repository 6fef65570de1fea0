/*
 * Runs a libFuzzer target once for each input of its corpus, without libFuzzer: the gate needs
 * no clang. The corpus has one input a line, in base64.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE = 8192 };

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes of a line; SIZE_MAX if it is no base64. */
static size_t decode(const char *line, uint8_t *out) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint32_t bits = 0;
  unsigned held = 0;
  size_t n = 0;

  for (; *line != '\0' && *line != '\n' && *line != '='; line++) {
    const char *at = strchr(letters, *line);
    if (at == NULL) {
      return SIZE_MAX;
    }
    bits = bits << 6 | (uint32_t)(at - letters);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out[n++] = (uint8_t)(bits >> held);
    }
  }
  return n;
}

int main(int argc, char **argv) {
  static char line[MAX_LINE];
  unsigned inputs = 0;

  if (argc != 2) {
    fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
    return 2;
  }
  FILE *corpus = fopen(argv[1], "r");
  if (corpus == NULL) {
    perror(argv[1]);
    return 1;
  }
  if (LLVMFuzzerInitialize != NULL) {
    LLVMFuzzerInitialize(&argc, &argv);
  }
  while (fgets(line, sizeof(line), corpus) != NULL) {
    /* Exactly as large as the input, so that tools see what is read behind it. */
    uint8_t *data = malloc(strlen(line) + 1);
    size_t size = data == NULL ? SIZE_MAX : decode(line, data);
    if (size == SIZE_MAX) {
      fprintf(stderr, "%s: input %u is no base64\n", argv[1], inputs + 1);
      return 1;
    }
    uint8_t *exact = realloc(data, size + (size == 0));
    LLVMFuzzerTestOneInput(exact != NULL ? exact : data, size);
    free(exact != NULL ? exact : data);
    inputs++;
  }
  fclose(corpus);
  printf("%u inputs\n", inputs);
  return inputs == 0;
}
