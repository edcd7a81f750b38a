// Stands in for NVML: two GPUs, of which the process may use the second only. Its counter grows by 1.5 J with each
// reading; compiled as OLD it has none.
#include <stdlib.h>
#include <string.h>

static int up;

int nvmlInit_v2(void) {
  if (getenv("FAKE_NVML_FAILS")) return 18; // NVML_ERROR_LIB_RM_VERSION_MISMATCH
  up++;
  return 0;
}
int nvmlShutdown(void) { return --up; }
int nvmlDeviceGetCount_v2(unsigned int *n) {
  *n = 2;
  return up != 1;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **device) {
  *device = (void *)(size_t)(100 + i);
  return i == 0 ? 4 : 0; // NVML_ERROR_NO_PERMISSION
}
int nvmlDeviceGetName(void *device, char *name, unsigned int size) {
  strncpy(name, device == (void *)101 ? "NVIDIA Fake" : "wrong", size);
  return 0;
}
typedef struct {
  char legacy[16];
  unsigned int domain, bus, device, id, subsystem;
  char address[32];
} pci_info;
int nvmlDeviceGetPciInfo_v3(void *device, pci_info *p) {
  (void)device;
  p->bus = 0x3b;
  strcpy(p->address, "00000000:3B:00.0");
  return 0;
}
int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *mhz) {
  (void)device;
  *mhz = type == 1 ? 1200 : 8000;
  return 0;
}
int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned int *mhz) {
  (void)device;
  *mhz = type == 1 ? 2000 : 9000;
  return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *mw) {
  (void)device;
  *mw = 71500;
  return 0;
}
#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
  (void)device;
  static unsigned long long taken = 4000000000000ull;
  *mj = taken += 1500;
  const char *not = getenv("FAKE_NVML_COUNTS_NOT");
  return not && *not ? 3 : 0; // NVML_ERROR_NOT_SUPPORTED
}
#endif
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *c) {
  (void)device, (void)sensor;
  *c = 83;
  return 0;
}
#ifdef OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *mask) {
#else
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *mask) {
#endif
  (void)device;
  *mask = 0x21; // idle, temperature (software)
  return 0;
}
typedef struct {
  unsigned long long reference, violation;
} violation_time;
int nvmlDeviceGetViolationStatus(void *device, int policy, violation_time *t) {
  (void)device;
  t->violation = policy == 0 ? 5000000000ull : policy == 1 ? 7000000000ull : 0;
  return 0;
}
