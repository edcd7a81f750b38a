// The few functions of the ONNX Runtime C API that the Go wrapper does not
// reach: see api.c.
#ifndef TERASTAL_ORT_API_H
#define TERASTAL_ORT_API_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Every function that can fail returns NULL, or a message to free().

// ort_version loads the library, asks for its version and unloads it.
// *version is to be freed.
char *terastal_ort_version(const char *path, char **version);

// ort_attach finds the functions below in a library that is loaded already.
char *terastal_ort_attach(const char *path, uint32_t api_version);

char *terastal_ort_session_counts(void *session, size_t *inputs, size_t *outputs);

// What a value is: kind is an ONNXType (1 = tensor), type an
// ONNXTensorElementDataType. At most cap dimensions are written.
typedef struct {
  int32_t kind;
  int32_t type;
  size_t rank;
} terastal_ort_info;

// *name is to be freed.
char *terastal_ort_session_value(void *session, int output, size_t index,
  char **name, terastal_ort_info *info, int64_t *dims, size_t cap);

// With submit, a run returns once a provider that has a stream of the caller's has
// submitted it there.
char *terastal_ort_run(void *session, int submit,
  const char *const *input_names, void *const *inputs, size_t input_count,
  const char *const *output_names, void **outputs, size_t output_count);

char *terastal_ort_value(void *value, terastal_ort_info *info,
  int64_t *dims, size_t cap, void **data);

void terastal_ort_release(void *value);

// terastal_ort_memory finds the memory called name of device id that a session
// computes in. kind is an OrtMemType. *info and *allocator are to be given to
// terastal_ort_memory_close, before the session is closed.
char *terastal_ort_memory(void *session, const char *name, int id, int kind,
  void **info, void **allocator);
void terastal_ort_memory_close(void *info, void *allocator);

// terastal_ort_allocate makes a tensor of count int32 there. *data is its
// address or handle, which only the device may know how to use.
char *terastal_ort_allocate(void *allocator, int64_t count, void **value, void **data);

// terastal_ort_view makes a tensor over data in the memory info; NULL is the host's.
char *terastal_ort_view(void *info, void *data, size_t size, const int64_t *shape,
  size_t rank, int32_t type, void **value);

// terastal_ort_memory_info describes the memory called name of device id, as
// allocated by someone else. *info is to be given to terastal_ort_memory_close.
char *terastal_ort_memory_info(const char *name, int id, void **info);

// terastal_ort_set_stream has a provider submit to a stream of the caller's, a
// cudaStream_t. options are an OrtTensorRTProviderOptionsV2 or an
// OrtCUDAProviderOptionsV2.
char *terastal_ort_set_stream(void *options, int tensorrt, void *stream);

// terastal_ort_add_initializer has sessions take a value in place of the
// initializer of that name, if it is where they want it.
char *terastal_ort_add_initializer(void *options, const char *name, const void *value);

// Where the functions lie in OrtApi, which only ever grows at its end.
// TestFunctionTable holds them against the wrapper's onnxruntime_c_api.h.
enum {
  TERASTAL_GetErrorMessage = 2,
  TERASTAL_Run = 9,
  TERASTAL_SessionGetInputCount = 30,
  TERASTAL_SessionGetOutputCount = 31,
  TERASTAL_SessionGetInputTypeInfo = 33,
  TERASTAL_SessionGetOutputTypeInfo = 34,
  TERASTAL_SessionGetInputName = 36,
  TERASTAL_SessionGetOutputName = 37,
  TERASTAL_CreateRunOptions = 39,
  TERASTAL_CreateTensorAsOrtValue = 48,
  TERASTAL_CreateTensorWithDataAsOrtValue = 49,
  TERASTAL_GetTensorMutableData = 51,
  TERASTAL_CastTypeInfoToTensorInfo = 55,
  TERASTAL_GetOnnxTypeFromTypeInfo = 56,
  TERASTAL_GetTensorElementType = 60,
  TERASTAL_GetDimensionsCount = 61,
  TERASTAL_GetDimensions = 62,
  TERASTAL_GetTensorTypeAndShape = 65,
  TERASTAL_GetValueType = 67,
  TERASTAL_CreateMemoryInfo = 68,
  TERASTAL_CreateCpuMemoryInfo = 69,
  TERASTAL_AllocatorFree = 76,
  TERASTAL_GetAllocatorWithDefaultOptions = 78,
  TERASTAL_ReleaseStatus = 93,
  TERASTAL_ReleaseMemoryInfo = 94,
  TERASTAL_ReleaseValue = 96,
  TERASTAL_AddInitializer = 150,
  TERASTAL_AddRunConfigEntry = 165,
  TERASTAL_UpdateTensorRTProviderOptionsWithValue = 261,
  TERASTAL_UpdateCUDAProviderOptionsWithValue = 263,
  TERASTAL_ReleaseTypeInfo = 98,
  TERASTAL_ReleaseTensorTypeAndShapeInfo = 99,
  TERASTAL_SessionEndProfiling = 110,
  TERASTAL_SessionGetProfilingStartTimeNs = 146,
  TERASTAL_GetAvailableProviders = 125,
  TERASTAL_ReleaseAvailableProviders = 126,
  TERASTAL_GetKeyValuePairs = 298,
  TERASTAL_HardwareDevice_Type = 307,
  TERASTAL_HardwareDevice_Vendor = 309,
  TERASTAL_HardwareDevice_Metadata = 311,
  TERASTAL_EpDevice_EpName = 312,
  TERASTAL_EpDevice_EpVendor = 313,
  TERASTAL_EpDevice_EpMetadata = 314,
  TERASTAL_EpDevice_Device = 316,
  TERASTAL_CreateAllocator = 131,
  TERASTAL_ReleaseAllocator = 132,
  TERASTAL_Session_GetEpGraphAssignmentInfo = 407,
  TERASTAL_EpAssignedSubgraph_GetEpName = 408,
  TERASTAL_EpAssignedSubgraph_GetNodes = 409,
  TERASTAL_EpAssignedNode_GetName = 410,
  TERASTAL_EpAssignedNode_GetOperatorType = 412
};

// terastal_ort_placed lists the nodes of a session that a provider has, each as
// name, tab, operator type, newline. The session has to have been opened with
// session.record_ep_graph_assignment_info.
char *terastal_ort_placed(void *session, const char *provider, char **nodes);

// terastal_ort_end_profiling ends the profile of a session and says when it began,
// in nanoseconds of ONNX Runtime's clock, and in which file it lies. *file is to
// be freed.
char *terastal_ort_end_profiling(void *session, uint64_t *start, char **file);
// terastal_ort_available lists the providers that the library was built with,
// a name per line.
char *terastal_ort_available(char **list);

// terastal_ort_device describes a device of a provider in lines of key, tab,
// value: "ep", "vendor", "type" (an OrtHardwareDeviceType), the provider's own
// metadata with the prefix "ep.", and the hardware's with "hw.".
char *terastal_ort_device(const void *device, char **lines);

// Signal handlers of the process: terastal_signals_keep notes them, and
// terastal_signals_restore puts those back that have been replaced since by
// anything but Go. It returns how many it put back. Not for use by two threads
// at once.
void terastal_signals_keep(void);
int terastal_signals_restore(void);

// terastal_allocated is how many bytes the C library's allocator has handed out;
// 0 where it does not tell.
size_t terastal_allocated(void);

#endif
