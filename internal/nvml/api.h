// A few functions of NVML: see nvml_linux.c.
#ifndef TERASTAL_NVML_API_H
#define TERASTAL_NVML_API_H

#include <stddef.h>
#include <stdlib.h>

// What is not known is 0.
typedef struct {
  char bus[32];
  char name[96];
  unsigned int clock, max_clock, memory_clock, max_memory_clock; // MHz
  unsigned int power, power_limit;                               // mW
  unsigned int temperature;                                      // degrees Celsius
  unsigned long long limits;                                     // mask of reasons
  unsigned long long power_limited, thermal_limited;             // ns
} terastal_nvml_device;

enum { TERASTAL_NVML_OK = 0, TERASTAL_NVML_NONE = 1, TERASTAL_NVML_FAILED = 2 };

// terastal_nvml_read describes at most cap devices. It returns one of the numbers
// above; after FAILED *code is NVML's own.
int terastal_nvml_read(const char *path, terastal_nvml_device *devices, size_t cap, size_t *count, int *code);

#endif
