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

// Of the devices that a meter reads.
enum { TERASTAL_NVML_METERED = 64 };

// terastal_nvml_meter has what is looked up once, so that reading is quick.
typedef struct {
  int (*shutdown)(void);
  int (*energy)(void *, unsigned long long *); // NULL: this library has no such function
  int (*power)(void *, unsigned int *);
  void *devices[TERASTAL_NVML_METERED];
  terastal_nvml_device about[TERASTAL_NVML_METERED]; // bus and name
  size_t count;
} terastal_nvml_meter;

// terastal_nvml_open starts NVML; after OK terastal_nvml_close ends it.
int terastal_nvml_open(const char *path, terastal_nvml_meter *m, int *code);
void terastal_nvml_close(terastal_nvml_meter *m);

// What terastal_nvml_energy could read, as bits.
enum { TERASTAL_NVML_ENERGY = 1, TERASTAL_NVML_POWER = 2 };

// terastal_nvml_energy reads how much a device has taken since its driver was loaded, in mJ; its power in mW only if it
// cannot tell that.
int terastal_nvml_energy(const terastal_nvml_meter *m, size_t i, unsigned long long *mj, unsigned int *mw);

#endif
