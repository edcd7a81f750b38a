// A few functions of the CUDA runtime: see cuda_linux.c.
#ifndef TERASTAL_CUDA_API_H
#define TERASTAL_CUDA_API_H

#include <stddef.h>
#include <stdlib.h>

// terastal_cuda is the functions of one library.
typedef struct terastal_cuda terastal_cuda;

// terastal_cuda_open finds the functions of a library: with loaded, only if the process has it already. NULL if it is
// not there; *missing is then the function that it lacks, or NULL. It is never closed: CUDA keeps state of the process.
terastal_cuda *terastal_cuda_open(const char *path, int loaded, const char **missing);

// The text of an error; it belongs to the library.
const char *terastal_cuda_text(const terastal_cuda *c, int code);

// All others return an error of CUDA, 0 for none, and forget it on the calling thread.
int terastal_cuda_versions(const terastal_cuda *c, int *runtime, int *driver, int *devices);
int terastal_cuda_room(const terastal_cuda *c, int device, size_t *free, size_t *total);
int terastal_cuda_allocate(const terastal_cuda *c, int device, size_t size, void **data);
int terastal_cuda_free(const terastal_cuda *c, void *data);
int terastal_cuda_allocate_pinned(const terastal_cuda *c, int device, size_t size, void **data);
int terastal_cuda_free_pinned(const terastal_cuda *c, void *data);

int terastal_cuda_stream(const terastal_cuda *c, int device, void **stream);
int terastal_cuda_stream_destroy(const terastal_cuda *c, void *stream);
int terastal_cuda_stream_wait(const terastal_cuda *c, void *stream);
int terastal_cuda_stream_after(const terastal_cuda *c, int device, void *stream, void *event);

// kind is a cudaMemcpyKind.
int terastal_cuda_copy(const terastal_cuda *c, int device, void *to, const void *from, size_t size, int kind,
  void *stream);
int terastal_cuda_fill(const terastal_cuda *c, int device, void *data, int value, size_t size, void *stream);

// An event that is not timed costs the device less.
int terastal_cuda_event(const terastal_cuda *c, int device, int timed, void **event);
int terastal_cuda_event_destroy(const terastal_cuda *c, void *event);
int terastal_cuda_event_record(const terastal_cuda *c, int device, void *event, void *stream);
// *done is whether all before the event is complete.
int terastal_cuda_event_done(const terastal_cuda *c, void *event, int *done);
int terastal_cuda_event_wait(const terastal_cuda *c, void *event);
int terastal_cuda_event_since(const terastal_cuda *c, void *before, void *event, float *ms);

int terastal_cuda_capture(const terastal_cuda *c, int device, void *stream);
// *graph is NULL where the capture has failed.
int terastal_cuda_capture_end(const terastal_cuda *c, void *stream, void **graph);

// What the nodes of a graph are: of kernels and what moves data within the device only. What else there is, at a node
// of type odd (a cudaGraphNodeType), must not be replayed.
typedef struct {
  size_t kernels, copies, fills, allocations, frees;
  int odd;       // the type of the first node of another kind; -1 if there is none
  int host;      // a copy has host memory as source (1) or target (2); 0 if none has
} terastal_cuda_nodes;

int terastal_cuda_inspect(const terastal_cuda *c, void *graph, terastal_cuda_nodes *nodes);
int terastal_cuda_instantiate(const terastal_cuda *c, int device, void *graph, void *stream, void **executable);
int terastal_cuda_graph_destroy(const terastal_cuda *c, void *graph);
int terastal_cuda_launch(const terastal_cuda *c, int device, void *executable, void *stream);
int terastal_cuda_executable_destroy(const terastal_cuda *c, void *executable);

#endif
