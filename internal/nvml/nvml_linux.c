#include "api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef void *device_t;

// nvmlPciInfo_t, whose layout is part of the library's binary interface.
typedef struct {
  char legacy[16];
  unsigned int domain, bus, device, id, subsystem;
  char address[32];
} pci_info;

// nvmlViolationTime_t.
typedef struct {
  unsigned long long reference, violation;
} violation_time;

// Of nvmlClockType_t and nvmlPerfPolicyType_t.
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2, POLICY_POWER = 0, POLICY_THERMAL = 1 };

// call looks a function up and calls it; one that the library does not have
// leaves what it was to fill in as it is.
#define CALL(handle, name, type, ...) \
  do { \
    int(*f) type = (int(*) type)dlsym(handle, name); \
    if (f) (void)f(__VA_ARGS__); \
  } while (0)

// identify fills in which device it is.
static void identify(void *library, device_t device, terastal_nvml_device *d) {
  pci_info pci;
  memset(&pci, 0, sizeof pci);
  CALL(library, "nvmlDeviceGetPciInfo_v3", (device_t, pci_info *), device, &pci);
  if (pci.address[0]) snprintf(d->bus, sizeof d->bus, "%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
  CALL(library, "nvmlDeviceGetName", (device_t, char *, unsigned int), device, d->name, sizeof d->name);
  d->name[sizeof d->name - 1] = 0;
}

static void describe(void *library, device_t device, terastal_nvml_device *d) {
  identify(library, device, d);
  CALL(library, "nvmlDeviceGetClockInfo", (device_t, int, unsigned int *), device, CLOCK_SM, &d->clock);
  CALL(library, "nvmlDeviceGetMaxClockInfo", (device_t, int, unsigned int *), device, CLOCK_SM, &d->max_clock);
  CALL(library, "nvmlDeviceGetClockInfo", (device_t, int, unsigned int *), device, CLOCK_MEMORY, &d->memory_clock);
  CALL(library, "nvmlDeviceGetMaxClockInfo", (device_t, int, unsigned int *), device, CLOCK_MEMORY, &d->max_memory_clock);
  CALL(library, "nvmlDeviceGetPowerUsage", (device_t, unsigned int *), device, &d->power);
  CALL(library, "nvmlDeviceGetEnforcedPowerLimit", (device_t, unsigned int *), device, &d->power_limit);
  CALL(library, "nvmlDeviceGetTemperature", (device_t, int, unsigned int *), device, 0, &d->temperature);
  // The name since version 12 of the driver's interface, then the one before.
  if (dlsym(library, "nvmlDeviceGetCurrentClocksEventReasons")) {
    CALL(library, "nvmlDeviceGetCurrentClocksEventReasons", (device_t, unsigned long long *), device, &d->limits);
  } else {
    CALL(library, "nvmlDeviceGetCurrentClocksThrottleReasons", (device_t, unsigned long long *), device, &d->limits);
  }
  violation_time t = {0, 0};
  CALL(library, "nvmlDeviceGetViolationStatus", (device_t, int, violation_time *), device, POLICY_POWER, &t);
  d->power_limited = t.violation;
  t.violation = 0;
  CALL(library, "nvmlDeviceGetViolationStatus", (device_t, int, violation_time *), device, POLICY_THERMAL, &t);
  d->thermal_limited = t.violation;
}

// start loads and starts the library, and finds the devices that this process may use, at most cap.
static int start(const char *path, void **library, int (**shutdown)(void), device_t *devices, size_t cap, size_t *count,
                 int *code) {
  // Never closed: the driver's library keeps state of the process.
  *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (!*library) return TERASTAL_NVML_NONE;
  int (*init)(void) = (int (*)(void))dlsym(*library, "nvmlInit_v2");
  *shutdown = (int (*)(void))dlsym(*library, "nvmlShutdown");
  int (*devices_of)(unsigned int *) = (int (*)(unsigned int *))dlsym(*library, "nvmlDeviceGetCount_v2");
  int (*by_index)(unsigned int, device_t *) = (int (*)(unsigned int, device_t *))dlsym(*library, "nvmlDeviceGetHandleByIndex_v2");
  if (!init || !*shutdown || !devices_of || !by_index) return TERASTAL_NVML_NONE;
  if ((*code = init())) return TERASTAL_NVML_FAILED;
  unsigned int n = 0;
  *count = 0;
  if ((*code = devices_of(&n))) {
    (void)(*shutdown)();
    return TERASTAL_NVML_FAILED;
  }
  for (unsigned int i = 0; i < n && *count < cap; i++) {
    device_t device = NULL;
    if (by_index(i, &device)) continue; // one that this process may not use
    devices[(*count)++] = device;
  }
  return TERASTAL_NVML_OK;
}

int terastal_nvml_read(const char *path, terastal_nvml_device *devices, size_t cap, size_t *count, int *code) {
  void *library;
  int (*shutdown)(void);
  device_t found[TERASTAL_NVML_METERED];
  if (cap > TERASTAL_NVML_METERED) cap = TERASTAL_NVML_METERED;
  int failed = start(path, &library, &shutdown, found, cap, count, code);
  if (failed) return failed;
  for (size_t i = 0; i < *count; i++) {
    memset(&devices[i], 0, sizeof devices[i]);
    describe(library, found[i], &devices[i]);
  }
  (void)shutdown();
  return TERASTAL_NVML_OK;
}

int terastal_nvml_open(const char *path, terastal_nvml_meter *m, int *code) {
  void *library;
  memset(m, 0, sizeof *m);
  int failed = start(path, &library, &m->shutdown, m->devices, TERASTAL_NVML_METERED, &m->count, code);
  if (failed) return failed;
  m->energy = (int (*)(void *, unsigned long long *))dlsym(library, "nvmlDeviceGetTotalEnergyConsumption");
  m->power = (int (*)(void *, unsigned int *))dlsym(library, "nvmlDeviceGetPowerUsage");
  for (size_t i = 0; i < m->count; i++) identify(library, m->devices[i], &m->about[i]);
  return TERASTAL_NVML_OK;
}

void terastal_nvml_close(terastal_nvml_meter *m) { (void)m->shutdown(); }

int terastal_nvml_energy(const terastal_nvml_meter *m, size_t i, unsigned long long *mj, unsigned int *mw) {
  if (m->energy && !m->energy(m->devices[i], mj)) return TERASTAL_NVML_ENERGY;
  if (m->power && !m->power(m->devices[i], mw)) return TERASTAL_NVML_POWER;
  return 0;
}
