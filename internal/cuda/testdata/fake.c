// Stands in for the CUDA runtime: two devices whose memory is the host's, and streams that do nothing until somebody
// waits for them or asks. It is for one thread, but with FAKE_CUDA_EAGER, when all is done at once: then for any number.
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, INVALIDATED = 901 };

typedef struct work {
  int type; // 1 copy, 2 fill, 3 record, 4 wait, 5 launch, 6 a function of the host; as a node also cudaGraphNodeTypes
  void *to;
  const void *from;
  size_t size;
  int value, kind;
  void *object;
  long version;
  struct work *next;
} work;

typedef struct {
  work *first, **last;
} list;

typedef struct stream {
  list todo;
  int capturing, broken;
  list captured;
} stream;

typedef struct {
  stream *of;
  long recorded, done; // how often
  double at;
  int timed;
} event;

static __thread int device, last_error;
static double now; // ms: every work takes one
static size_t used;
static int looks; // at events that are not done: every fourth makes a stream go on

static int fail(int code) {
  if (code) last_error = code;
  return code;
}
static long limit(void) { return getenv("FAKE_CUDA_MEMORY") ? atol(getenv("FAKE_CUDA_MEMORY")) : 1 << 30; }

const char *cudaGetErrorString(int code) {
  switch (code) {
  case OUT_OF_MEMORY: return "out of memory";
  case CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
  case INVALIDATED: return "operation failed due to a previous error during capture";
  case 100: return "no CUDA-capable device is detected";
  }
  return "unspecified failure";
}
int cudaGetLastError(void) {
  int code = last_error;
  last_error = OK;
  return code;
}
int cudaRuntimeGetVersion(int *v) { return *v = 13000, OK; }
int cudaDriverGetVersion(int *v) { return *v = 13010, OK; }
int cudaGetDeviceCount(int *n) {
  *n = 2;
  return getenv("FAKE_CUDA_NONE") ? fail(100) : OK;
}
int cudaGetDevice(int *d) { return *d = device, OK; }
int cudaSetDevice(int d) { return d < 2 ? (device = d, OK) : fail(101); }
int cudaMemGetInfo(size_t *free, size_t *total) { return *total = limit(), *free = *total - used, OK; }

// The memory of devices.
#define PIECES 4096
static struct {
  char *data;
  size_t size;
} pieces[PIECES];

static pthread_mutex_t pieces_lock = PTHREAD_MUTEX_INITIALIZER;

static int find(const void *p) {
  int found = -1;
  pthread_mutex_lock(&pieces_lock);
  for (int i = 0; i < PIECES && found < 0; i++)
    if (pieces[i].data && (char *)p >= pieces[i].data && (char *)p < pieces[i].data + pieces[i].size) found = i;
  pthread_mutex_unlock(&pieces_lock);
  return found;
}
static int take(void **data, size_t size) {
  if (used + size > (size_t)limit()) return OUT_OF_MEMORY;
  for (int i = 0; i < PIECES; i++)
    if (!pieces[i].data) {
      if (!(*data = aligned_alloc(256, (size + 255) / 256 * 256))) return OUT_OF_MEMORY;
      memset(*data, 0xab, size);
      pieces[i].data = *data, pieces[i].size = size, used += size;
      return OK;
    }
  return OUT_OF_MEMORY;
}
int cudaMalloc(void **data, size_t size) {
  pthread_mutex_lock(&pieces_lock);
  int code = take(data, size);
  pthread_mutex_unlock(&pieces_lock);
  return fail(code);
}
int cudaFree(void *data) {
  int i = find(data);
  if (i < 0 || pieces[i].data != data) return fail(INVALID);
  pthread_mutex_lock(&pieces_lock);
  used -= pieces[i].size, pieces[i].data = NULL;
  pthread_mutex_unlock(&pieces_lock);
  free(data);
  return OK;
}
int cudaHostAlloc(void **data, size_t size, unsigned flags) {
  return flags == 1 && (*data = aligned_alloc(4096, (size + 4095) / 4096 * 4096)) ? OK : fail(INVALID);
}
int cudaFreeHost(void *data) { return free(data), OK; }
int cudaPointerGetAttributes(void *attributes, const void *p) {
  memset(attributes, 0, 88);
  *(int *)attributes = find(p) >= 0 ? 2 : 0;
  return OK;
}

static void append(list *l, work w) {
  work *n = malloc(sizeof w);
  *n = w, n->next = NULL;
  if (!l->first) l->last = &l->first;
  *l->last = n, l->last = &n->next;
}
static void clear(list *l) {
  for (work *w = l->first, *n; w; w = n) n = w->next, free(w);
  l->first = NULL;
}

int cudaStreamCreateWithFlags(void **s, unsigned flags) { return *s = calloc(1, sizeof(stream)), flags == 1 ? OK : fail(INVALID); }

static void advance(stream *s);
static void apply(stream *s, work *w) {
  event *e = w->object;
  now++;
  switch (w->type) {
  case 1: memmove(w->to, w->from, w->size); break;
  case 2: memset(w->to, w->value, w->size); break;
  case 3: e->done = w->version, e->at = now; break;
  case 4:
    while (e->done < w->version) advance(e->of);
    break;
  case 5:
    for (work *n = ((list *)w->object)->first; n; n = n->next) apply(s, n);
    break;
  case 6: ((void (*)(void *))w->object)((void *)w->from); break;
  }
}
// advance does the first thing that a stream has to do.
static void advance(stream *s) {
  work *w = s->todo.first;
  if (!w) return;
  if (!(s->todo.first = w->next)) s->todo.last = &s->todo.first;
  apply(s, w);
  free(w);
}
static int submit(stream *s, work w) {
  if (!s) return fail(INVALID);
  append(s->capturing ? &s->captured : &s->todo, w);
  // For tests in which the host computes what the device would.
  while (getenv("FAKE_CUDA_EAGER") && s->todo.first) advance(s);
  return OK;
}
// waits refuses what a stream that is captured must not do.
static int waits(stream *s) {
  if (!s || !s->capturing) return OK;
  s->broken = 1;
  return fail(CAPTURE_UNSUPPORTED);
}

int cudaStreamSynchronize(void *p) {
  stream *s = p;
  int code = waits(s);
  if (getenv("FAKE_CUDA_LOST")) return fail(719);
  while (!code && s->todo.first) advance(s);
  return code;
}
int cudaStreamDestroy(void *p) {
  int code = cudaStreamSynchronize(p);
  return free(p), code;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *s) {
  int expected = (find(from) >= 0 ? 2 : 0) + (find(to) >= 0 ? 1 : 0);
  if (kind != expected) return fail(21); // cudaErrorInvalidMemcpyDirection
  return submit(s, (work){.type = 1, .to = to, .from = from, .size = size, .kind = kind});
}
int cudaLaunchHostFunc(void *s, void (*f)(void *), void *data) {
  if (getenv("FAKE_CUDA_NO_HOST")) return fail(801);
  return submit(s, (work){.type = 6, .object = f, .from = data});
}
int cudaMemsetAsync(void *to, int value, size_t size, void *s) {
  return find(to) < 0 ? fail(INVALID) : submit(s, (work){.type = 2, .to = to, .value = value, .size = size});
}

int cudaEventCreateWithFlags(void **e, unsigned flags) {
  event *made = *e = calloc(1, sizeof(event));
  made->timed = flags == 0;
  return flags == 0 || flags == 2 ? OK : fail(INVALID);
}
int cudaEventDestroy(void *e) { return (void)e, OK; } // a stream may wait for it
int cudaEventRecord(void *p, void *s) {
  event *e = p;
  e->of = s;
  return submit(s, (work){.type = 3, .object = e, .version = ++e->recorded});
}
int cudaStreamWaitEvent(void *s, void *p, unsigned flags) {
  event *e = p;
  if (flags) return fail(INVALID);
  return e->recorded ? submit(s, (work){.type = 4, .object = e, .version = e->recorded}) : OK;
}
int cudaEventQuery(void *p) {
  event *e = p;
  if (getenv("FAKE_CUDA_LOST")) return fail(719);
  if (e->done == e->recorded) return OK;
  if (++looks % 4 == 0) advance(e->of);
  return fail(NOT_READY);
}
int cudaEventSynchronize(void *p) {
  event *e = p;
  if (getenv("FAKE_CUDA_LOST")) return fail(719);
  while (e->done < e->recorded) advance(e->of);
  return OK;
}
int cudaEventElapsedTime(float *ms, void *a, void *b) {
  event *start = a, *end = b;
  if (!start->done || !end->done || !start->timed || !end->timed) return fail(400);
  if (start->done < start->recorded || end->done < end->recorded) return fail(NOT_READY);
  return *ms = end->at - start->at, OK;
}

int cudaStreamBeginCapture(void *p, int mode) {
  stream *s = p;
  if (mode != 1 || s->capturing) return fail(INVALID);
  s->capturing = 1, s->broken = 0;
  return OK;
}
int cudaStreamEndCapture(void *p, void **graph) {
  stream *s = p;
  if (!s->capturing) return fail(INVALID);
  s->capturing = 0;
  if (s->broken) {
    clear(&s->captured), *graph = NULL;
    return fail(INVALIDATED);
  }
  const char *odd = getenv("FAKE_CUDA_NODE");
  if (odd) append(&s->captured, (work){.type = 100 + atoi(odd)});
  list *g = malloc(sizeof *g);
  *g = s->captured, s->captured.first = NULL;
  return *graph = g, OK;
}
int cudaGraphGetNodes(void *graph, void **nodes, size_t *count) {
  size_t n = 0;
  for (work *w = ((list *)graph)->first; w; w = w->next, n++)
    if (nodes && n < *count) nodes[n] = w;
  return *count = n, OK;
}
int cudaGraphNodeGetType(void *node, int *type) {
  int t = ((work *)node)->type;
  return *type = t >= 100 ? t - 100 : t, OK;
}
typedef struct {
  void *source_array;
  size_t source_position[3];
  struct {
    const void *data;
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
} parameters;
int cudaGraphMemcpyNodeGetParams(void *node, void *p) {
  work *w = node;
  parameters *to = p;
  to->source.data = w->from, to->target.data = w->to, to->kind = w->kind;
  return OK;
}
int cudaGraphChildGraphNodeGetGraph(void *node, void **graph) {
  static list child;
  (void)node;
  if (!child.first) append(&child, (work){.type = 100 + 3});
  return *graph = &child, OK;
}
int cudaGraphInstantiateWithFlags(void **x, void *graph, unsigned long long flags) {
  if (flags) return fail(INVALID);
  if (getenv("FAKE_CUDA_FULL")) return fail(OUT_OF_MEMORY);
  list *copy = calloc(1, sizeof *copy);
  for (work *w = ((list *)graph)->first; w; w = w->next) append(copy, *w);
  return *x = copy, OK;
}
int cudaGraphUpload(void *x, void *s) { return (void)x, (void)s, OK; }
int cudaGraphLaunch(void *x, void *s) { return submit(s, (work){.type = 5, .object = x}); }
int cudaGraphExecDestroy(void *x) { return (void)x, OK; }
int cudaGraphDestroy(void *graph) { return clear(graph), free(graph), OK; }
