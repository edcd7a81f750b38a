#include "api.h"

#include <dlfcn.h>
#include <string.h>

// Every function here has the same binary interface in versions 12 and 13. Those whose interface changed, such as
// cudaGraphAddDependencies and cudaStreamGetCaptureInfo, are not used.
#define FUNCTIONS(F) \
  F(GetErrorString, const char *, (int)) \
  F(GetLastError, int, (void)) \
  F(RuntimeGetVersion, int, (int *)) \
  F(DriverGetVersion, int, (int *)) \
  F(GetDeviceCount, int, (int *)) \
  F(GetDevice, int, (int *)) \
  F(SetDevice, int, (int)) \
  F(MemGetInfo, int, (size_t *, size_t *)) \
  F(Malloc, int, (void **, size_t)) \
  F(Free, int, (void *)) \
  F(HostAlloc, int, (void **, size_t, unsigned int)) \
  F(FreeHost, int, (void *)) \
  F(StreamCreateWithFlags, int, (void **, unsigned int)) \
  F(StreamDestroy, int, (void *)) \
  F(StreamSynchronize, int, (void *)) \
  F(StreamWaitEvent, int, (void *, void *, unsigned int)) \
  F(LaunchHostFunc, int, (void *, void (*)(void *), void *)) \
  F(MemcpyAsync, int, (void *, const void *, size_t, int, void *)) \
  F(MemsetAsync, int, (void *, int, size_t, void *)) \
  F(EventCreateWithFlags, int, (void **, unsigned int)) \
  F(EventDestroy, int, (void *)) \
  F(EventRecord, int, (void *, void *)) \
  F(EventQuery, int, (void *)) \
  F(EventSynchronize, int, (void *)) \
  F(EventElapsedTime, int, (float *, void *, void *)) \
  F(PointerGetAttributes, int, (void *, const void *)) \
  F(StreamBeginCapture, int, (void *, int)) \
  F(StreamEndCapture, int, (void *, void **)) \
  F(GraphGetNodes, int, (void *, void **, size_t *)) \
  F(GraphNodeGetType, int, (void *, int *)) \
  F(GraphMemcpyNodeGetParams, int, (void *, void *)) \
  F(GraphChildGraphNodeGetGraph, int, (void *, void **)) \
  F(GraphInstantiateWithFlags, int, (void **, void *, unsigned long long)) \
  F(GraphUpload, int, (void *, void *)) \
  F(GraphLaunch, int, (void *, void *)) \
  F(GraphExecDestroy, int, (void *)) \
  F(GraphDestroy, int, (void *))

struct terastal_cuda {
#define MEMBER(name, result, parameters) result(*name) parameters;
  FUNCTIONS(MEMBER)
};

terastal_cuda *terastal_cuda_open(const char *path, int loaded, const char **missing) {
  *missing = NULL;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | (loaded ? RTLD_NOLOAD : 0));
  if (!library) return NULL;
  terastal_cuda *c = calloc(1, sizeof *c);
  if (!c) return NULL;
#define FIND(name, result, parameters) \
  if (!*missing && !(c->name = (result(*) parameters)dlsym(library, "cuda" #name))) *missing = "cuda" #name;
  FUNCTIONS(FIND)
  if (*missing) {
    free(c);
    return NULL;
  }
  return c;
}

const char *terastal_cuda_text(const terastal_cuda *c, int code) { return c->GetErrorString(code); }

// Of the library's enumerations.
enum {
  NOT_READY = 600, // cudaErrorNotReady
  INVALID = 1,     // cudaErrorInvalidValue
  NON_BLOCKING = 1,
  THREAD_LOCAL = 1,
  MEMORY_DEVICE = 2,
  MEMORY_MANAGED = 3,
  NODE_KERNEL = 0,
  NODE_COPY = 1,
  NODE_FILL = 2,
  NODE_GRAPH = 4,
  NODE_EMPTY = 5,
  NODE_ALLOCATE = 10,
  NODE_FREE = 11,
};

// ended is the code of a call. The runtime also keeps it for whoever asks next on the thread, which would blame another
// call for it: a provider asks after each launch of a kernel.
static int ended(const terastal_cuda *c, int code) {
  if (code) (void)c->GetLastError();
  return code;
}

// on makes a device the thread's. Setting it takes a microsecond, also where it is set already.
static int on(const terastal_cuda *c, int device) {
  int now = -1;
  return !c->GetDevice(&now) && now == device ? 0 : c->SetDevice(device);
}

// ON makes a device the thread's, then calls.
#define ON(c, device, call) \
  int code = on(c, device); \
  if (!code) code = (call); \
  return ended(c, code)

int terastal_cuda_versions(const terastal_cuda *c, int *runtime, int *driver, int *devices) {
  int code = c->RuntimeGetVersion(runtime);
  if (!code) code = c->DriverGetVersion(driver);
  if (!code) code = c->GetDeviceCount(devices);
  return ended(c, code);
}

int terastal_cuda_room(const terastal_cuda *c, int device, size_t *free, size_t *total) {
  ON(c, device, c->MemGetInfo(free, total));
}

int terastal_cuda_allocate(const terastal_cuda *c, int device, size_t size, void **data) {
  ON(c, device, c->Malloc(data, size));
}

int terastal_cuda_free(const terastal_cuda *c, void *data) { return ended(c, c->Free(data)); }

int terastal_cuda_allocate_pinned(const terastal_cuda *c, int device, size_t size, void **data) {
  // 1 is cudaHostAllocPortable: pinned for all devices.
  ON(c, device, c->HostAlloc(data, size, 1));
}

int terastal_cuda_free_pinned(const terastal_cuda *c, void *data) { return ended(c, c->FreeHost(data)); }

static void nothing(void *data) { (void)data; }

int terastal_cuda_stream(const terastal_cuda *c, int device, void **stream) {
  int code = on(c, device);
  if (!code) code = c->StreamCreateWithFlags(stream, NON_BLOCKING);
  if (code) return ended(c, code);
  // CUDA starts a thread for functions of the host when it needs it, on the cores of the thread that does. A provider
  // submits such functions from a thread that is pinned, and then spins there until they have been called.
  code = c->LaunchHostFunc(*stream, nothing, NULL);
  if (!code) code = c->StreamSynchronize(*stream);
  if (code) {
    (void)c->StreamDestroy(*stream);
    *stream = NULL;
  }
  return ended(c, code);
}

int terastal_cuda_stream_destroy(const terastal_cuda *c, void *stream) { return ended(c, c->StreamDestroy(stream)); }

int terastal_cuda_stream_wait(const terastal_cuda *c, void *stream) { return ended(c, c->StreamSynchronize(stream)); }

int terastal_cuda_stream_after(const terastal_cuda *c, int device, void *stream, void *event) {
  ON(c, device, c->StreamWaitEvent(stream, event, 0));
}

int terastal_cuda_copy(const terastal_cuda *c, int device, void *to, const void *from, size_t size, int kind,
  void *stream) {
  ON(c, device, c->MemcpyAsync(to, from, size, kind, stream));
}

int terastal_cuda_fill(const terastal_cuda *c, int device, void *data, int value, size_t size, void *stream) {
  ON(c, device, c->MemsetAsync(data, value, size, stream));
}

int terastal_cuda_event(const terastal_cuda *c, int device, int timed, void **event) {
  // cudaEventDefault and cudaEventDisableTiming: waiting for them spins.
  ON(c, device, c->EventCreateWithFlags(event, timed ? 0 : 2));
}

int terastal_cuda_event_destroy(const terastal_cuda *c, void *event) { return ended(c, c->EventDestroy(event)); }

int terastal_cuda_event_record(const terastal_cuda *c, int device, void *event, void *stream) {
  ON(c, device, c->EventRecord(event, stream));
}

int terastal_cuda_event_done(const terastal_cuda *c, void *event, int *done) {
  int code = NOT_READY;
  // A few looks, since coming here from Go takes nearly as long as one.
  for (int i = 0; i < 4 && code == NOT_READY; i++) code = c->EventQuery(event);
  *done = !code;
  code = ended(c, code);
  return code == NOT_READY ? 0 : code;
}

int terastal_cuda_event_wait(const terastal_cuda *c, void *event) { return ended(c, c->EventSynchronize(event)); }

int terastal_cuda_event_since(const terastal_cuda *c, void *before, void *event, float *ms) {
  return ended(c, c->EventElapsedTime(ms, before, event));
}

int terastal_cuda_capture(const terastal_cuda *c, int device, void *stream) {
  ON(c, device, c->StreamBeginCapture(stream, THREAD_LOCAL));
}

int terastal_cuda_capture_end(const terastal_cuda *c, void *stream, void **graph) {
  *graph = NULL;
  return ended(c, c->StreamEndCapture(stream, graph));
}

// cudaMemcpy3DParms, whose layout is the same in versions 12 and 13.
typedef struct {
  void *source_array;
  size_t source_position[3];
  struct {
    void *data;
    size_t pitch, width, height;
  } source;
  void *target_array;
  size_t target_position[3];
  struct {
    void *data;
    size_t pitch, width, height;
  } target;
  size_t extent[3];
  int kind;
} copy_parameters;

_Static_assert(sizeof(copy_parameters) == 160, "cudaMemcpy3DParms has 160 bytes");

// on_device tells whether a pointer leads to a device's memory. cudaPointerAttributes starts with its type; it has 24
// bytes in version 12, 88 in version 13.
static int on_device(const terastal_cuda *c, const void *data) {
  int attributes[256];
  memset(attributes, 0, sizeof attributes);
  if (ended(c, c->PointerGetAttributes(attributes, data))) return 0;
  return attributes[0] == MEMORY_DEVICE || attributes[0] == MEMORY_MANAGED;
}

static int inspect(const terastal_cuda *c, void *graph, int depth, terastal_cuda_nodes *nodes) {
  size_t count = 0;
  int code = c->GraphGetNodes(graph, NULL, &count);
  if (code || count == 0) return code;
  if (depth > 4) return INVALID;
  void **list = calloc(count, sizeof *list);
  if (!list) return INVALID;
  code = c->GraphGetNodes(graph, list, &count);
  for (size_t i = 0; !code && i < count; i++) {
    int type = 0;
    if ((code = c->GraphNodeGetType(list[i], &type))) break;
    switch (type) {
    case NODE_KERNEL: nodes->kernels++; break;
    case NODE_FILL: nodes->fills++; break;
    case NODE_ALLOCATE: nodes->allocations++; break;
    case NODE_FREE: nodes->frees++; break;
    case NODE_EMPTY: break;
    case NODE_GRAPH: {
      void *child = NULL;
      code = c->GraphChildGraphNodeGetGraph(list[i], &child);
      if (!code) code = inspect(c, child, depth + 1, nodes);
      break;
    }
    case NODE_COPY: {
      copy_parameters p[2]; // one more, in case that a later version has a larger one
      memset(p, 0, sizeof p);
      nodes->copies++;
      code = c->GraphMemcpyNodeGetParams(list[i], p);
      if (code || nodes->host) break;
      if (!p->source_array && !on_device(c, p->source.data)) nodes->host = 1;
      else if (!p->target_array && !on_device(c, p->target.data)) nodes->host = 2;
      break;
    }
    default:
      if (nodes->odd < 0) nodes->odd = type;
    }
  }
  free(list);
  return code;
}

int terastal_cuda_inspect(const terastal_cuda *c, void *graph, terastal_cuda_nodes *nodes) {
  memset(nodes, 0, sizeof *nodes);
  nodes->odd = -1;
  return ended(c, inspect(c, graph, 0, nodes));
}

int terastal_cuda_instantiate(const terastal_cuda *c, int device, void *graph, void *stream, void **executable) {
  *executable = NULL;
  int code = on(c, device);
  if (!code) code = c->GraphInstantiateWithFlags(executable, graph, 0);
  if (!code && (code = c->GraphUpload(*executable, stream))) {
    (void)c->GraphExecDestroy(*executable);
    *executable = NULL;
  }
  return ended(c, code);
}

int terastal_cuda_graph_destroy(const terastal_cuda *c, void *graph) { return ended(c, c->GraphDestroy(graph)); }

int terastal_cuda_launch(const terastal_cuda *c, int device, void *executable, void *stream) {
  ON(c, device, c->GraphLaunch(executable, stream));
}

int terastal_cuda_executable_destroy(const terastal_cuda *c, void *executable) {
  return ended(c, c->GraphExecDestroy(executable));
}
