// Runs a network on ONNX Runtime as a scheduler could at best, without a scheduler, and times it: what a GPU can do
// with the layers that Terastal cuts, to hold Terastal against.
//
//   chain LIBRARY PROVIDER FOLDER [runs=300] [ways=NAME,...] [streams=1,2,4,8] [seconds=0.5] [pauses=0.3,1,10]
//
// LIBRARY is ONNX Runtime's, PROVIDER is cuda or cpu. FOLDER/model holds the whole network and FOLDER/block its layers
// in order, as `terastal models split --out` writes them. Every line of the output is a JSON object:
//
//   way         one way to run the network: "p50_us", "p99_us" of its "runs", "submit_us" until the last layer was
//               submitted, how many of its "layers" were "captured", and the "difference" of its outputs from those of
//               the first way, relative to the largest. Ways take turns, so that all see the same clocks.
//   streams     with streams=: requests "per_s" of so many threads, each with a stream and sessions, for so long
//   pause_ms    with pauses=: "p50_us" of one run after the device rested for so long
//   error       why a way could not be run; the others are
//
// Build: cc -O2 -I FOLDER_OF_onnxruntime_c_api.h scripts/gpu/chain.c -o chain -ldl -lpthread -lm
#define _GNU_SOURCE
#include "onnxruntime_c_api.h"
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { max_layers = 256, max_tensors = 4096, max_streams = 16, max_runs = 20000, warm_ups = 12 };

// A way to run a network.
typedef struct {
  const char *name, *folder;
  bool one_stream;     // all layers on a stream of ours, and one wait at the end; else every session waits
  bool provider_graph; // the provider's enable_cuda_graph
  bool captured;       // each layer captured by us as a graph
  bool copies;         // inputs are copied to the device, and outputs back, in every run
} Way;

static const Way all_ways[] = {
    {"whole", "model", false, false, false, false},
    {"whole graph", "model", false, true, false, false},
    {"whole captured", "model", true, false, true, false},
    {"chain synchronised", "block", false, false, false, false},
    {"chain stream", "block", true, false, false, false},
    {"chain graphs synchronised", "block", false, true, false, false},
    {"chain graphs", "block", true, true, false, false},
    {"chain captured", "block", true, false, true, false},
    {"chain captured with copies", "block", true, false, true, true},
};
enum { n_ways = sizeof all_ways / sizeof *all_ways };

typedef struct {
  char name[256];
  OrtValue *value;
  size_t elements;
  ONNXTensorElementDataType type;
  bool input, output; // of the network
  void *device, *host; // with copies: where it is copied from and to
} Tensor;

typedef struct {
  const Way *way;
  int layers, tensors, captured;
  OrtSession *session[max_layers];
  OrtIoBinding *binding[max_layers];
  void *graph[max_layers]; // what was captured, or NULL
  Tensor tensor[max_tensors];
  OrtRunOptions *options;
  OrtAllocator *allocator;
  void *stream;
  double *us; // of the timed runs
  int runs;
  double submit_us;
} Network;

static const OrtApi *api;
static OrtEnv *environment;
static OrtMemoryInfo *memory;
static const char *root;
static bool cuda;

// What is used of CUDA's runtime, which is looked up when the program runs.
static struct {
  int (*StreamCreateWithFlags)(void **, unsigned);
  int (*StreamSynchronize)(void *);
  int (*Memcpy)(void *, const void *, size_t, int);
  int (*MemcpyAsync)(void *, const void *, size_t, int, void *);
  int (*MallocHost)(void **, size_t);
  int (*StreamBeginCapture)(void *, int);
  int (*StreamEndCapture)(void *, void **);
  int (*GraphGetNodes)(void *, void **, size_t *);
  int (*GraphNodeGetType)(void *, int *);
  int (*GraphInstantiate)(void **, void *, unsigned long long);
  int (*GraphUpload)(void *, void *);
  int (*GraphLaunch)(void *, void *);
  int (*GraphDestroy)(void *);
  int (*GetLastError)(void);
  const char *(*GetErrorString)(int);
} rt;
enum { non_blocking = 1, capture_thread_local = 1, to_device = 1, to_host = 2, node_host = 3 };

// A failure ends what is being tried on this thread, not the program. What it had open stays open.
static _Thread_local jmp_buf attempt;
static _Thread_local char failure[512];

static void fail(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(failure, sizeof failure, format, list);
  va_end(list);
  for (char *c = failure; *c; c++)
    if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = ' ';
  longjmp(attempt, 1);
}

static void check(OrtStatus *status, const char *what) {
  if (!status) return;
  char text[400];
  snprintf(text, sizeof text, "%s", api->GetErrorMessage(status));
  api->ReleaseStatus(status);
  fail("%s: %s", what, text);
}
#define ORT(call) check(api->call, #call)

static void check_cuda(int code, const char *what) {
  if (code) fail("%s: %s", what, rt.GetErrorString(code));
}
#define CUDA(call) check_cuda(rt.call, #call)

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void load_runtime(void) {
  void *library = dlopen("libcudart.so.13", RTLD_NOW | RTLD_GLOBAL);
  if (!library) library = dlopen("libcudart.so.12", RTLD_NOW | RTLD_GLOBAL);
  if (!library) fail("CUDA's runtime is missing: neither libcudart.so.13 nor libcudart.so.12 is in LD_LIBRARY_PATH");
#define FIND(name)                                             \
  *(void **)&rt.name = dlsym(library, "cuda" #name);           \
  if (!rt.name) fail("CUDA's runtime has no cuda" #name)
  FIND(StreamCreateWithFlags);
  FIND(StreamSynchronize);
  FIND(Memcpy);
  FIND(MemcpyAsync);
  FIND(MallocHost);
  FIND(StreamBeginCapture);
  FIND(StreamEndCapture);
  FIND(GraphGetNodes);
  FIND(GraphNodeGetType);
  FIND(GraphInstantiate);
  FIND(GraphUpload);
  FIND(GraphLaunch);
  FIND(GraphDestroy);
  FIND(GetLastError);
  FIND(GetErrorString);
#undef FIND
}

static OrtSession *open_session(const char *file, const Way *way, void *stream) {
  OrtSessionOptions *options;
  ORT(CreateSessionOptions(&options));
  ORT(SetIntraOpNumThreads(options, 1));
  ORT(SetSessionLogSeverityLevel(options, 3));
  if (cuda) {
    OrtCUDAProviderOptionsV2 *provider;
    ORT(CreateCUDAProviderOptions(&provider));
    const char *keys[] = {"device_id", "use_tf32", "enable_cuda_graph"};
    const char *values[] = {"0", "0", way->provider_graph ? "1" : "0"};
    ORT(UpdateCUDAProviderOptions(provider, keys, values, 3));
    if (way->one_stream) ORT(UpdateCUDAProviderOptionsWithValue(provider, "user_compute_stream", stream));
    ORT(SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider));
    ORT(AddSessionConfigEntry(options, "session.disable_cpu_ep_fallback", "1"));
    api->ReleaseCUDAProviderOptions(provider);
  }
  OrtSession *session;
  ORT(CreateSession(environment, file, options, &session));
  api->ReleaseSessionOptions(options);
  return session;
}

static Tensor *find(Network *n, const char *name) {
  for (int i = 0; i < n->tensors; i++)
    if (!strcmp(n->tensor[i].name, name)) return &n->tensor[i];
  return NULL;
}

static size_t width(ONNXTensorElementDataType type) {
  switch (type) {
  case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return 4;
  case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return 4;
  case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return 8;
  case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE: return 8;
  case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return 2;
  default: return 1;
  }
}

static void copy(void *to, const void *from, size_t bytes, int direction) {
  if (cuda)
    CUDA(Memcpy(to, from, bytes, direction));
  else
    memcpy(to, from, bytes);
}

// The tensor of a name, made on the device when it is first asked for. One that nothing wrote before is an input of the
// network and gets values that follow from its name, the same in every way.
static Tensor *tensor(Network *n, const char *name, OrtTypeInfo *of, bool read) {
  Tensor *t = find(n, name);
  if (t) return t;
  if (n->tensors == max_tensors) fail("more than %d tensors", max_tensors);
  const OrtTensorTypeAndShapeInfo *info;
  ORT(CastTypeInfoToTensorInfo(of, &info));
  if (!info) fail("%s is no tensor", name);
  size_t rank;
  int64_t shape[16];
  ORT(GetDimensionsCount(info, &rank));
  if (rank > 16) fail("%s has %zu dimensions", name, rank);
  ORT(GetDimensions(info, shape, rank));
  t = &n->tensor[n->tensors++];
  snprintf(t->name, sizeof t->name, "%s", name);
  ORT(GetTensorElementType(info, &t->type));
  t->elements = 1;
  for (size_t i = 0; i < rank; i++) {
    if (shape[i] < 1) shape[i] = 1;
    t->elements *= shape[i];
  }
  ORT(CreateTensorAsOrtValue(n->allocator, shape, rank, t->type, &t->value));
  if (!read) return t;
  t->input = true;
  size_t bytes = t->elements * width(t->type);
  void *data, *host = calloc(1, bytes);
  ORT(GetTensorMutableData(t->value, &data));
  if (t->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    unsigned seed = 2166136261u;
    for (const char *c = name; *c; c++) seed = (seed ^ (unsigned char)*c) * 16777619u;
    for (size_t i = 0; i < t->elements; i++) {
      seed = seed * 1664525u + 1013904223u;
      ((float *)host)[i] = (seed >> 8) / 8388608.0f - 1.0f;
    }
  }
  copy(data, host, bytes, to_device);
  free(host);
  return t;
}

static void submit_copies(Network *n, int direction) {
  for (int i = 0; i < n->tensors; i++) {
    Tensor *t = &n->tensor[i];
    size_t bytes = t->elements * width(t->type);
    if (t->input && direction == to_device) CUDA(MemcpyAsync(t->device, t->host, bytes, direction, n->stream));
    if (t->output && direction == to_host) CUDA(MemcpyAsync(t->host, t->device, bytes, direction, n->stream));
  }
}

static void submit(Network *n) {
  if (n->way->copies) submit_copies(n, to_device);
  for (int i = 0; i < n->layers; i++)
    if (n->graph[i])
      CUDA(GraphLaunch(n->graph[i], n->stream));
    else
      ORT(RunWithBinding(n->session[i], n->options, n->binding[i]));
  if (n->way->copies) submit_copies(n, to_host);
}

static void finish(Network *n) {
  if (n->way->one_stream && cuda) CUDA(StreamSynchronize(n->stream));
}

// Captures a layer on the stream that it runs on. A graph with a host function is not used: the provider frees buffers
// in such a function, and a replay would free them again.
static void capture(Network *n, int layer) {
  void *graph = NULL, *nodes[512];
  size_t count = 512;
  CUDA(StreamBeginCapture(n->stream, capture_thread_local));
  OrtStatus *status = api->RunWithBinding(n->session[layer], n->options, n->binding[layer]);
  int code = rt.StreamEndCapture(n->stream, &graph);
  if (status) api->ReleaseStatus(status);
  if (status || code || !graph) {
    rt.GetLastError();
    return;
  }
  bool usable = !rt.GraphGetNodes(graph, NULL, &count) && count > 0 && count <= 512 &&
                !rt.GraphGetNodes(graph, nodes, &count);
  for (size_t i = 0; usable && i < count; i++) {
    int type = node_host;
    rt.GraphNodeGetType(nodes[i], &type);
    if (type == node_host) usable = false;
  }
  if (usable && !rt.GraphInstantiate(&n->graph[layer], graph, 0)) {
    CUDA(GraphUpload(n->graph[layer], n->stream));
    n->captured++;
  }
  rt.GetLastError(); // else the provider takes what failed here for its own
  CUDA(GraphDestroy(graph));
}

static void bind(Network *n, int layer) {
  OrtAllocator *host;
  ORT(GetAllocatorWithDefaultOptions(&host));
  OrtSession *session = n->session[layer];
  ORT(CreateIoBinding(session, &n->binding[layer]));
  size_t inputs, outputs;
  ORT(SessionGetInputCount(session, &inputs));
  ORT(SessionGetOutputCount(session, &outputs));
  for (size_t i = 0; i < inputs + outputs; i++) {
    char *name;
    OrtTypeInfo *type;
    bool read = i < inputs;
    if (read) {
      ORT(SessionGetInputName(session, i, host, &name));
      ORT(SessionGetInputTypeInfo(session, i, &type));
      ORT(BindInput(n->binding[layer], name, tensor(n, name, type, true)->value));
    } else {
      ORT(SessionGetOutputName(session, i - inputs, host, &name));
      ORT(SessionGetOutputTypeInfo(session, i - inputs, &type));
      ORT(BindOutput(n->binding[layer], name, tensor(n, name, type, false)->value));
    }
    api->ReleaseTypeInfo(type);
    host->Free(host, name);
  }
}

// Sets memory of the host aside for the inputs, with their values, and for the outputs of the last layer.
static void prepare_copies(Network *n) {
  OrtAllocator *host;
  ORT(GetAllocatorWithDefaultOptions(&host));
  size_t outputs;
  ORT(SessionGetOutputCount(n->session[n->layers - 1], &outputs));
  for (size_t i = 0; i < outputs; i++) {
    char *name;
    ORT(SessionGetOutputName(n->session[n->layers - 1], i, host, &name));
    find(n, name)->output = true;
    host->Free(host, name);
  }
  for (int i = 0; i < n->tensors; i++) {
    Tensor *t = &n->tensor[i];
    if (!t->input && !t->output) continue;
    size_t bytes = t->elements * width(t->type);
    ORT(GetTensorMutableData(t->value, &t->device));
    CUDA(MallocHost(&t->host, bytes));
    copy(t->host, t->device, bytes, to_host);
  }
}

// Opens the network on this thread, which has to be the one that runs it: the provider keeps handles by thread.
static Network *load(const Way *way, int runs) {
  Network *n = calloc(1, sizeof *n);
  n->way = way;
  n->us = calloc(runs + 1, sizeof *n->us);
  if (way->one_stream && cuda) CUDA(StreamCreateWithFlags(&n->stream, non_blocking));
  char pattern[600];
  glob_t files;
  snprintf(pattern, sizeof pattern, "%s/%s/*.onnx", root, way->folder);
  if (glob(pattern, 0, NULL, &files)) fail("no file is named %s", pattern);
  if (files.gl_pathc > max_layers) fail("more than %d layers", max_layers);
  ORT(CreateRunOptions(&n->options));
  if (way->one_stream && cuda) ORT(AddRunConfigEntry(n->options, "disable_synchronize_execution_providers", "1"));
  for (size_t i = 0; i < files.gl_pathc; i++) {
    n->session[i] = open_session(files.gl_pathv[i], way, n->stream);
    if (i == 0) ORT(CreateAllocator(n->session[0], memory, &n->allocator));
    bind(n, i);
    n->layers++;
  }
  globfree(&files);
  if (way->copies) prepare_copies(n);
  for (int i = 0; i < warm_ups; i++) {
    submit(n);
    finish(n);
  }
  if (way->captured && cuda) {
    for (int i = 0; i < n->layers; i++) capture(n, i);
    for (int i = 0; i < warm_ups; i++) {
      submit(n);
      finish(n);
    }
  }
  return n;
}

static void timed(Network *n, int runs) {
  for (int i = 0; i < runs; i++) {
    double start = now_us();
    submit(n);
    n->submit_us += now_us() - start;
    finish(n);
    n->us[n->runs++] = now_us() - start;
  }
}

// How far the outputs of the last layer are from those of another network, over the largest magnitude.
static double difference(Network *n, Network *from) {
  OrtAllocator *host;
  ORT(GetAllocatorWithDefaultOptions(&host));
  OrtSession *last = from->session[from->layers - 1];
  size_t outputs;
  double most = 0;
  ORT(SessionGetOutputCount(last, &outputs));
  for (size_t i = 0; i < outputs; i++) {
    char *name;
    ORT(SessionGetOutputName(last, i, host, &name));
    Tensor *a = find(n, name), *b = find(from, name);
    if (!a || !b || a->elements != b->elements) fail("output %s is missing", name);
    host->Free(host, name);
    if (a->type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) continue;
    size_t bytes = a->elements * 4;
    float *x = malloc(bytes), *y = malloc(bytes);
    void *data;
    ORT(GetTensorMutableData(a->value, &data));
    copy(x, data, bytes, to_host);
    ORT(GetTensorMutableData(b->value, &data));
    copy(y, data, bytes, to_host);
    double largest = 0, apart = 0;
    for (size_t k = 0; k < a->elements; k++) {
      largest = fmax(largest, fabs(y[k]));
      double d = fabs((double)x[k] - y[k]);
      apart = isnan(d) ? INFINITY : fmax(apart, d);
    }
    most = fmax(most, largest > 0 ? apart / largest : apart);
    free(x);
    free(y);
  }
  return most;
}

static bool named(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; at && *at;) {
    size_t item = strcspn(at, ",");
    if (item == length && !strncmp(at, name, length)) return true;
    at += item + (at[item] == ',');
  }
  return false;
}

static void report_way(Network *n, Network *first) {
  volatile double apart = 0;
  if (first && !setjmp(attempt)) apart = difference(n, first);
  qsort(n->us, n->runs, sizeof *n->us, ascending);
  printf("{\"way\":\"%s\",\"layers\":%d,\"captured\":%d,\"runs\":%d,\"p50_us\":%.1f,\"p99_us\":%.1f,\"submit_us\":%.1f,"
         "\"difference\":%.2e}\n",
         n->way->name, n->layers, n->captured, n->runs, n->us[n->runs / 2], n->us[(int)(n->runs * .99)],
         n->submit_us / n->runs, apart == INFINITY ? 1e9 : apart);
}

static void report_error(const char *way) {
  printf("{\"way\":\"%s\",\"error\":\"%s\"}\n", way, failure);
  fflush(stdout);
}

// Times so many runs of a network, or reports why it cannot and returns false.
static bool attempt_timed(Network *n, int runs) {
  if (setjmp(attempt)) {
    report_error(n->way->name);
    return false;
  }
  for (int i = 0; i < 3; i++) {
    submit(n);
    finish(n);
  }
  timed(n, runs);
  return true;
}

static void run_ways(Network **network, int runs) {
  enum { rounds = 10 };
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < n_ways; i++)
      if (network[i] && !attempt_timed(network[i], runs / rounds)) network[i] = NULL;
  Network *first = NULL;
  for (int i = 0; i < n_ways; i++) {
    if (!network[i]) continue;
    report_way(network[i], first);
    if (!first) first = network[i];
  }
  fflush(stdout);
}

// One run after each pause: what a device that rested costs.
static void run_pauses(Network *n, const char *list) {
  for (const char *at = list; *at;) {
    double pause = strtod(at, NULL);
    int runs = pause >= 50 ? 10 : 30;
    struct timespec t = {(time_t)(pause / 1e3), (long)(fmod(pause, 1e3) * 1e6)};
    n->runs = 0;
    n->submit_us = 0;
    for (int i = 0; i < runs; i++) {
      submit(n);
      finish(n);
      nanosleep(&t, NULL);
      timed(n, 1);
    }
    qsort(n->us, n->runs, sizeof *n->us, ascending);
    printf("{\"pause_ms\":%g,\"way\":\"%s\",\"runs\":%d,\"p50_us\":%.1f}\n", pause, n->way->name, runs,
           n->us[n->runs / 2]);
    fflush(stdout);
    at += strcspn(at, ",");
    at += *at == ',';
  }
}

// Threads that each have a network on a stream.
typedef struct {
  pthread_t thread;
  int number;
  long requests;
  bool ready;
} Stream;

static const Way *stream_way;
static pthread_barrier_t barrier;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int busy_streams; // 0: end
static double busy_until;

static void *run_stream(void *argument) {
  Stream *s = argument;
  Network *volatile n = NULL;
  // Opening and capturing one at a time: opening allocates, which a capture elsewhere must not see.
  pthread_mutex_lock(&one_at_a_time);
  if (!setjmp(attempt)) {
    n = load(stream_way, 1);
    s->ready = true;
  } else {
    report_error(stream_way->name);
  }
  pthread_mutex_unlock(&one_at_a_time);
  pthread_barrier_wait(&barrier); // loaded
  for (;;) {
    pthread_barrier_wait(&barrier); // started
    if (!busy_streams) return NULL;
    s->requests = 0;
    if (s->ready && s->number < busy_streams && !setjmp(attempt))
      while (now_us() < busy_until) {
        submit(n);
        finish(n);
        s->requests++;
      }
    pthread_barrier_wait(&barrier); // ended
  }
}

static void run_streams(const char *list, double seconds) {
  static Stream stream[max_streams];
  int most = 0, ready = 0;
  for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
    int count = atoi(at);
    if (count > most && count <= max_streams) most = count;
  }
  pthread_barrier_init(&barrier, NULL, most + 1);
  for (int i = 0; i < most; i++) {
    stream[i] = (Stream){.number = i};
    pthread_create(&stream[i].thread, NULL, run_stream, &stream[i]);
  }
  pthread_barrier_wait(&barrier); // all have loaded
  for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
    int count = atoi(at);
    if (count < 1 || count > most) continue;
    busy_streams = count;
    for (int part = 0; part < 2; part++) { // the first part is short and not counted
      busy_until = now_us() + (part ? seconds : 0.05) * 1e6;
      pthread_barrier_wait(&barrier);
      pthread_barrier_wait(&barrier);
    }
    long requests = 0;
    ready = 0;
    for (int i = 0; i < count; i++) {
      requests += stream[i].requests;
      ready += stream[i].ready;
    }
    if (ready == count && requests)
      printf("{\"streams\":%d,\"way\":\"%s\",\"per_s\":%.0f,\"us\":%.1f}\n", count, stream_way->name,
             requests / seconds, 1e6 * seconds * count / requests);
    fflush(stdout);
  }
  busy_streams = 0;
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < most; i++) pthread_join(stream[i].thread, NULL);
  pthread_barrier_destroy(&barrier);
}

static const char *argument(int count, char **list, const char *key, const char *otherwise) {
  size_t length = strlen(key);
  for (int i = 4; i < count; i++)
    if (!strncmp(list[i], key, length) && list[i][length] == '=') return list[i] + length + 1;
  return otherwise;
}

static void start(const char *library) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  if (!handle) fail("%s", dlerror());
  const OrtApiBase *(*base)(void);
  *(void **)&base = dlsym(handle, "OrtGetApiBase");
  if (!base || !(api = base()->GetApi(ORT_API_VERSION))) fail("%s has no API of version %d", library, ORT_API_VERSION);
  ORT(CreateEnv(ORT_LOGGING_LEVEL_ERROR, "chain", &environment));
  if (cuda) {
    load_runtime();
    ORT(CreateMemoryInfo("Cuda", OrtDeviceAllocator, 0, OrtMemTypeDefault, &memory));
  } else {
    ORT(CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  }
}

int main(int count, char **list) {
  if (count < 4 || (strcmp(list[2], "cuda") && strcmp(list[2], "cpu"))) {
    fprintf(stderr, "usage: chain LIBRARY cuda|cpu FOLDER [runs=300] [ways=NAME,...] [streams=1,2,4,8] [seconds=0.5] "
                    "[pauses=0.3,1,10]\n");
    return 2;
  }
  cuda = !strcmp(list[2], "cuda");
  root = list[3];
  int runs = atoi(argument(count, list, "runs", "300"));
  if (runs < 10) runs = 10;
  if (runs > max_runs) runs = max_runs;
  const char *ways = argument(count, list, "ways", NULL), *streams = argument(count, list, "streams", NULL);
  const char *pauses = argument(count, list, "pauses", NULL);
  if (setjmp(attempt)) {
    fprintf(stderr, "chain: %s\n", failure);
    return 1;
  }
  // Every session has a handle of cuBLAS, which by default takes 64 MB of the device.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2:16:8", 0);
  start(list[1]);

  static Network *network[n_ways];
  for (volatile int i = 0; i < n_ways; i++) {
    const Way *way = &all_ways[i];
    if (ways ? !named(ways, way->name) : streams != NULL) continue;
    if (!cuda && (way->one_stream || way->provider_graph)) continue;
    if (setjmp(attempt))
      report_error(way->name);
    else
      network[i] = load(way, runs);
  }
  run_ways(network, runs);
  if (pauses)
    for (volatile int i = 0; i < n_ways; i++) {
      if (!network[i]) continue;
      if (setjmp(attempt))
        report_error(all_ways[i].name);
      else
        run_pauses(network[i], pauses);
    }
  if (streams)
    for (int i = 0; i < n_ways; i++) {
      // The provider's own graphs are captured so that nothing else may run meanwhile: not with several threads.
      if (strcmp(all_ways[i].folder, "block") || all_ways[i].provider_graph || all_ways[i].copies) continue;
      if (cuda ? !all_ways[i].one_stream : all_ways[i].one_stream) continue;
      stream_way = &all_ways[i];
      run_streams(streams, strtod(argument(count, list, "seconds", "0.5"), NULL));
    }
  fflush(stdout);
  _exit(0); // without the destructors of libraries that were never told to end
}
