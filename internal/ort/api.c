#ifndef _GNU_SOURCE
#define _GNU_SOURCE // RTLD_DEFAULT
#endif
#include "api.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef void *status_t;

// OrtApiBase, whose layout is part of the library's binary interface.
typedef struct {
  const void *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} api_base;

typedef const api_base *(*get_api_base)(void);

// OrtApi, as what it is to a caller: a table of function pointers. Written
// once, by terastal_ort_attach, before anything else here is called.
static void *const *api;
static void *cpu_memory;
static void *allocator;
static void *submit_options; // of runs that only submit

#define CALL(name, type) ((type)api[TERASTAL_##name])

static char *text(const char *prefix, const char *message) {
  const char *m = message ? message : "unknown reason";
  size_t n = strlen(prefix) + strlen(m) + 1;
  char *s = malloc(n);
  if (s) snprintf(s, n, "%s%s", prefix, m);
  return s;
}

// failure turns a status into a message, and releases it.
static char *failure(status_t status) {
  if (!status) return NULL;
  char *m = text("", CALL(GetErrorMessage, const char *(*)(status_t))(status));
  CALL(ReleaseStatus, void (*)(status_t))(status);
  return m;
}

static const api_base *base_of(void *handle) {
  get_api_base f = (get_api_base)dlsym(handle, "OrtGetApiBase");
  return f ? f() : NULL;
}

char *terastal_ort_version(const char *path, char **version) {
  void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (!handle) return text("", dlerror());
  const api_base *base = base_of(handle);
  char *error = NULL;
  if (!base) {
    error = text("", "it has no function OrtGetApiBase");
  } else {
    *version = text("", base->GetVersionString());
  }
  dlclose(handle);
  return error;
}

char *terastal_ort_attach(const char *path, uint32_t api_version) {
  void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (!handle) return text("", dlerror());
  const api_base *base = base_of(handle);
  api = base ? base->GetApi(api_version) : NULL;
  if (!api) return text("", "it does not offer the C API that is needed");
  // 1 is OrtArenaAllocator, 0 OrtMemTypeDefault.
  char *error = failure(CALL(CreateCpuMemoryInfo, status_t (*)(int, int, void **))(1, 0, &cpu_memory));
  if (!error) error = failure(CALL(GetAllocatorWithDefaultOptions, status_t (*)(void **))(&allocator));
  if (!error) error = failure(CALL(CreateRunOptions, status_t (*)(void **))(&submit_options));
  if (error) return error;
  return failure(CALL(AddRunConfigEntry, status_t (*)(void *, const char *, const char *))
    (submit_options, "disable_synchronize_execution_providers", "1"));
}

char *terastal_ort_session_counts(void *session, size_t *inputs, size_t *outputs) {
  char *error = failure(CALL(SessionGetInputCount, status_t (*)(void *, size_t *))(session, inputs));
  if (error) return error;
  return failure(CALL(SessionGetOutputCount, status_t (*)(void *, size_t *))(session, outputs));
}

static char *shape_of(const void *tensor, terastal_ort_info *info, int64_t *dims, size_t cap) {
  int type = 0;
  char *error = failure(CALL(GetTensorElementType, status_t (*)(const void *, int *))(tensor, &type));
  if (error) return error;
  info->type = type;
  error = failure(CALL(GetDimensionsCount, status_t (*)(const void *, size_t *))(tensor, &info->rank));
  if (error) return error;
  if (info->rank > cap) return text("", "it has too many dimensions");
  return failure(CALL(GetDimensions, status_t (*)(const void *, int64_t *, size_t))(tensor, dims, info->rank));
}

char *terastal_ort_session_value(void *session, int output, size_t index,
  char **name, terastal_ort_info *info, int64_t *dims, size_t cap) {
  typedef status_t (*name_fn)(void *, size_t, void *, char **);
  typedef status_t (*type_fn)(void *, size_t, void **);
  char *owned = NULL;
  char *error = failure((output ? CALL(SessionGetOutputName, name_fn) : CALL(SessionGetInputName, name_fn))
    (session, index, allocator, &owned));
  if (error) return error;
  *name = text("", owned);
  error = failure(CALL(AllocatorFree, status_t (*)(void *, void *))(allocator, owned));
  if (error) return error;

  void *type = NULL;
  error = failure((output ? CALL(SessionGetOutputTypeInfo, type_fn) : CALL(SessionGetInputTypeInfo, type_fn))
    (session, index, &type));
  if (error) return error;
  int kind = 0;
  const void *tensor = NULL;
  error = failure(CALL(GetOnnxTypeFromTypeInfo, status_t (*)(const void *, int *))(type, &kind));
  info->kind = kind;
  if (!error && kind == 1) {
    error = failure(CALL(CastTypeInfoToTensorInfo, status_t (*)(const void *, const void **))(type, &tensor));
    if (!error && tensor) error = shape_of(tensor, info, dims, cap);
  }
  CALL(ReleaseTypeInfo, void (*)(void *))(type);
  return error;
}

char *terastal_ort_run(void *session, int submit,
  const char *const *input_names, void *const *inputs, size_t input_count,
  const char *const *output_names, void **outputs, size_t output_count) {
  return failure(CALL(Run, status_t (*)(void *, const void *, const char *const *, void *const *, size_t,
    const char *const *, size_t, void **))
    (session, submit ? submit_options : NULL, input_names, inputs, input_count, output_names, output_count, outputs));
}

char *terastal_ort_value(void *value, terastal_ort_info *info,
  int64_t *dims, size_t cap, void **data) {
  int kind = 0;
  char *error = failure(CALL(GetValueType, status_t (*)(const void *, int *))(value, &kind));
  if (error) return error;
  info->kind = kind;
  if (kind != 1) return NULL;
  void *tensor = NULL;
  error = failure(CALL(GetTensorTypeAndShape, status_t (*)(const void *, void **))(value, &tensor));
  if (error) return error;
  error = shape_of(tensor, info, dims, cap);
  CALL(ReleaseTensorTypeAndShapeInfo, void (*)(void *))(tensor);
  // 8 is a tensor of strings, which has no bytes to look at.
  if (error || info->type == 8) return error;
  return failure(CALL(GetTensorMutableData, status_t (*)(void *, void **))(value, data));
}

void terastal_ort_release(void *value) {
  if (value) CALL(ReleaseValue, void (*)(void *))(value);
}

char *terastal_ort_memory(void *session, const char *name, int id, int kind,
  void **info, void **memory) {
  // 0 is OrtDeviceAllocator.
  char *error = failure(CALL(CreateMemoryInfo, status_t (*)(const char *, int, int, int, void **))
    (name, 0, id, kind, info));
  if (error) return error;
  error = failure(CALL(CreateAllocator, status_t (*)(const void *, const void *, void **))(session, *info, memory));
  if (error) CALL(ReleaseMemoryInfo, void (*)(void *))(*info);
  return error;
}

char *terastal_ort_memory_info(const char *name, int id, void **info) {
  // 0 is OrtDeviceAllocator, and OrtMemTypeDefault.
  return failure(CALL(CreateMemoryInfo, status_t (*)(const char *, int, int, int, void **))(name, 0, id, 0, info));
}

char *terastal_ort_set_stream(void *options, int tensorrt, void *stream) {
  typedef status_t (*update_fn)(void *, const char *, void *);
  return failure((tensorrt ? CALL(UpdateTensorRTProviderOptionsWithValue, update_fn)
    : CALL(UpdateCUDAProviderOptionsWithValue, update_fn))(options, "user_compute_stream", stream));
}

char *terastal_ort_add_initializer(void *options, const char *name, const void *value) {
  return failure(CALL(AddInitializer, status_t (*)(void *, const char *, const void *))(options, name, value));
}

void terastal_ort_memory_close(void *info, void *memory) {
  if (memory) CALL(ReleaseAllocator, void (*)(void *))(memory);
  CALL(ReleaseMemoryInfo, void (*)(void *))(info);
}

char *terastal_ort_allocate(void *memory, int64_t count, void **value, void **data) {
  // 6 is ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32.
  char *error = failure(CALL(CreateTensorAsOrtValue, status_t (*)(void *, const int64_t *, size_t, int, void **))
    (memory, &count, 1, 6, value));
  if (error) return error;
  error = failure(CALL(GetTensorMutableData, status_t (*)(void *, void **))(*value, data));
  if (error) terastal_ort_release(*value);
  return error;
}

char *terastal_ort_view(void *info, void *data, size_t size, const int64_t *shape,
  size_t rank, int32_t type, void **value) {
  // Tensors without elements and without dimensions have nothing to point at.
  static int64_t nothing;
  return failure(CALL(CreateTensorWithDataAsOrtValue,
    status_t (*)(const void *, void *, size_t, const int64_t *, size_t, int, void **))
    (info ? info : cpu_memory, size ? data : &nothing, size, rank ? shape : &nothing, rank, type, value));
}

// append grows a text by another; NULL when there is no memory.
static char *append(char *to, const char *more) {
  size_t n = to ? strlen(to) : 0;
  char *grown = realloc(to, n + strlen(more) + 1);
  if (!grown) {
    free(to);
    return NULL;
  }
  strcpy(grown + n, more);
  return grown;
}

char *terastal_ort_placed(void *session, const char *provider, char **nodes) {
  typedef status_t (*list_fn)(const void *, const void *const **, size_t *);
  typedef status_t (*text_fn)(const void *, const char **);
  const void *const *graphs = NULL;
  size_t graph_count = 0;
  char *error = failure(CALL(Session_GetEpGraphAssignmentInfo, list_fn)(session, &graphs, &graph_count));
  char *list = append(NULL, "");
  for (size_t i = 0; !error && list && i < graph_count; i++) {
    const char *name = NULL;
    error = failure(CALL(EpAssignedSubgraph_GetEpName, text_fn)(graphs[i], &name));
    if (error || strcmp(name, provider) != 0) continue;
    const void *const *members = NULL;
    size_t count = 0;
    error = failure(CALL(EpAssignedSubgraph_GetNodes, list_fn)(graphs[i], &members, &count));
    for (size_t j = 0; !error && list && j < count; j++) {
      const char *type = NULL;
      error = failure(CALL(EpAssignedNode_GetName, text_fn)(members[j], &name));
      if (!error) error = failure(CALL(EpAssignedNode_GetOperatorType, text_fn)(members[j], &type));
      if (!error) list = append(append(append(append(list, name), "\t"), type), "\n");
    }
  }
  if (!error && !list) error = text("", "out of memory");
  if (error) {
    free(list);
    return error;
  }
  *nodes = list;
  return NULL;
}

char *terastal_ort_end_profiling(void *session, uint64_t *start, char **file) {
  char *error = failure(CALL(SessionGetProfilingStartTimeNs, status_t (*)(const void *, uint64_t *))(session, start));
  if (error) return error;
  char *owned = NULL;
  error = failure(CALL(SessionEndProfiling, status_t (*)(void *, void *, char **))(session, allocator, &owned));
  if (error) return error;
  *file = text("", owned);
  return failure(CALL(AllocatorFree, status_t (*)(void *, void *))(allocator, owned));
}

char *terastal_ort_available(char **list) {
  char **names = NULL;
  int count = 0;
  char *error = failure(CALL(GetAvailableProviders, status_t (*)(char ***, int *))(&names, &count));
  if (error) return error;
  char *lines = append(NULL, "");
  for (int i = 0; lines && i < count; i++) lines = append(append(lines, names[i]), "\n");
  error = failure(CALL(ReleaseAvailableProviders, status_t (*)(char **, int))(names, count));
  if (!error && !lines) error = text("", "out of memory");
  if (error) {
    free(lines);
    return error;
  }
  *list = lines;
  return NULL;
}

// line appends prefix, key, tab, value, newline.
static char *line(char *to, const char *prefix, const char *key, const char *value) {
  const char *parts[] = {prefix, key, "\t", value ? value : "", "\n"};
  for (size_t i = 0; to && i < sizeof parts / sizeof *parts; i++) to = append(to, parts[i]);
  return to;
}

static char *pairs(char *to, const char *prefix, const void *of) {
  const char *const *keys = NULL;
  const char *const *values = NULL;
  size_t count = 0;
  if (of) {
    CALL(GetKeyValuePairs, void (*)(const void *, const char *const **, const char *const **, size_t *))
      (of, &keys, &values, &count);
  }
  for (size_t i = 0; to && i < count; i++) to = line(to, prefix, keys[i], values[i]);
  return to;
}

char *terastal_ort_device(const void *device, char **lines) {
  typedef const char *(*text_fn)(const void *);
  typedef const void *(*part_fn)(const void *);
  const void *hardware = CALL(EpDevice_Device, part_fn)(device);
  char *s = line(append(NULL, ""), "", "ep", CALL(EpDevice_EpName, text_fn)(device));
  s = s ? line(s, "", "vendor", CALL(EpDevice_EpVendor, text_fn)(device)) : NULL;
  s = pairs(s, "ep.", CALL(EpDevice_EpMetadata, part_fn)(device));
  if (hardware) {
    char type[16];
    snprintf(type, sizeof type, "%d", CALL(HardwareDevice_Type, int (*)(const void *))(hardware));
    s = s ? line(s, "", "type", type) : NULL;
    s = s ? line(s, "hw.", "vendor", CALL(HardwareDevice_Vendor, text_fn)(hardware)) : NULL;
    s = pairs(s, "hw.", CALL(HardwareDevice_Metadata, part_fn)(hardware));
  }
  if (!s) return text("", "out of memory");
  *lines = s;
  return NULL;
}

// Signals of POSIX, the ones that Go handles; real-time ones are left alone.
#define SIGNALS 32
static struct sigaction kept[SIGNALS];

void terastal_signals_keep(void) {
  for (int n = 1; n < SIGNALS; n++) {
    if (sigaction(n, NULL, &kept[n])) kept[n].sa_handler = SIG_ERR;
  }
}

// same tells whether two actions call the same function. sa_handler and
// sa_sigaction share their memory on Linux and macOS.
static int same(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_handler == b->sa_handler && (a->sa_flags & SA_SIGINFO) == (b->sa_flags & SA_SIGINFO);
}

int terastal_signals_restore(void) {
  int restored = 0;
  // Go always handles SIGURG, with the one function that it has for all signals:
  // what Go itself has changed meanwhile stays.
  const struct sigaction *go = &kept[SIGURG];
  for (int n = 1; n < SIGNALS; n++) {
    struct sigaction now;
    if (kept[n].sa_handler == SIG_ERR || sigaction(n, NULL, &now)) continue;
    if (same(&now, &kept[n]) && now.sa_flags == kept[n].sa_flags) continue;
    if (n != SIGURG && same(&now, go)) continue;
    if (!sigaction(n, &kept[n], NULL)) restored++;
  }
  return restored;
}

// What mallinfo2 of glibc 2.33 and later returns. It is looked up, since other C
// libraries have none.
typedef struct {
  size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
} heap_info;

size_t terastal_allocated(void) {
  heap_info (*info)(void) = (heap_info (*)(void))dlsym(RTLD_DEFAULT, "mallinfo2");
  if (info == NULL) {
    return 0;
  }
  heap_info h = info();
  return h.uordblks + h.hblkhd;
}
