/* Reads the memory image that the bench wrote, and times run() over it after a warm-up.
 *   PROGRAM IMAGE OPERATIONS PARAMETER...   prints: nanoseconds checksum */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double run(uint8_t *memory, long operations, const long *parameters);

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv) {
  long parameters[8] = {0};
  if (argc < 3 || argc > 11) return 2;
  for (int i = 3; i < argc; i++) parameters[i - 3] = atol(argv[i]);

  FILE *file = fopen(argv[1], "rb");
  if (!file || fseek(file, 0, SEEK_END)) return 1;
  long size = ftell(file);
  uint8_t *memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  rewind(file);
  if (!memory || fread(memory, 1, size, file) != (size_t)size) return 1;

  long operations = atol(argv[2]);
  run(memory, operations / 4, parameters);
  double start = now();
  double checksum = run(memory, operations, parameters);
  printf("%.0f %.0f\n", now() - start, checksum);
  return 0;
}
