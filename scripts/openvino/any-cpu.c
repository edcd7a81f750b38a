// OpenVINO computes on the processors of any maker, but its plugin for ONNX
// Runtime offers its CPU device on Intel's only. This library stands in front of
// the plugin, which lies beside it, and tells it that the processor is Intel's;
// everything else goes through. scripts/setup-onnxruntime.sh compiles it on other
// processors.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PLUGIN "libonnxruntime_providers_openvino_plugin.so"

// Of OrtApi in ONNX Runtime 1.29: its version, how many functions it has, and the
// numbers of those that are used here.
enum {
  API_VERSION = 29,
  TERASTAL_HardwareDevice_Type = 307,
  TERASTAL_HardwareDevice_VendorId = 308,
  FUNCTIONS = 425
};

enum { TYPE_CPU = 0, INTEL = 0x8086 };

typedef struct {
  const void *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} api_base;

typedef void *(*create_status)(int code, const char *message);
typedef void *(*create_fn)(const char *, const api_base *, const void *, void **, size_t, size_t *);
typedef void *(*release_fn)(void *);

static const api_base *real;
static void *api[FUNCTIONS];
static void *plugin;

static uint32_t vendor(const void *device) {
  int type = ((int (*)(const void *))((void *const *)real->GetApi(API_VERSION))[TERASTAL_HardwareDevice_Type])(device);
  if (type == TYPE_CPU) return INTEL;
  return ((uint32_t (*)(const void *))((void *const *)real->GetApi(API_VERSION))[TERASTAL_HardwareDevice_VendorId])(device);
}

static const void *get_api(uint32_t version) {
  if (version > API_VERSION || !real->GetApi(version)) return NULL;
  return api;
}

static const char *get_version(void) { return real->GetVersionString(); }

static const api_base base = {get_api, get_version};

static void *fail(const char *message) {
  return ((create_status)((void *const *)real->GetApi(API_VERSION))[0])(1, message); // CreateStatus, ORT_FAIL
}

__attribute__((visibility("default"))) void *CreateEpFactories(const char *name, const void *given, const void *logger,
  void **factories, size_t max, size_t *count) {
  real = given;
  const void *table = real->GetApi(API_VERSION);
  if (!table) {
    // Older than what this was written for: nothing here can make an error.
    *count = 0;
    return NULL;
  }
  memcpy(api, table, sizeof api);
  api[TERASTAL_HardwareDevice_VendorId] = (void *)vendor;
  char path[4096];
  Dl_info here;
  if (!dladdr((void *)CreateEpFactories, &here) || !here.dli_fname) return fail("cannot find its own folder");
  const char *slash = strrchr(here.dli_fname, '/');
  int n = slash ? (int)(slash - here.dli_fname) + 1 : 0;
  if (snprintf(path, sizeof path, "%.*s" PLUGIN, n, here.dli_fname) >= (int)sizeof path) return fail("the path of its folder is too long");
  if (!plugin && !(plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL))) return fail(dlerror());
  create_fn create = (create_fn)dlsym(plugin, "CreateEpFactories");
  if (!create) return fail("the plugin has no CreateEpFactories");
  return create(name, &base, logger, factories, max, count);
}

__attribute__((visibility("default"))) void *ReleaseEpFactory(void *factory) {
  release_fn release = plugin ? (release_fn)dlsym(plugin, "ReleaseEpFactory") : NULL;
  return release ? release(factory) : NULL;
}
