/* A stand-in for libedgetpu.so.1: the C interface of a TensorFlow Lite delegate, and the part of edgetpu_c.h that is
 * asked. It takes every operator edgetpu-custom-op and gives, for each output byte, an input byte with its bits turned.
 *
 * Steered by the environment: STAND_IN_DEVICES "1 PATH;0 PATH" (1 USB, 0 PCIe), STAND_IN_RUNTIME, STAND_IN_REFUSE (a
 * message, or "silently"), STAND_IN_PREPARE and STAND_IN_BREAK (what it says when it fails to prepare, to run),
 * STAND_IN_LOG (a file that gets every device it is asked for).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct {
  int type;
  void* data;
  IntArray* dims;
  float scale;
  int32_t zero;
  int allocation;
  size_t bytes;
  char rest[64];
} Tensor;
typedef struct { IntArray *inputs, *outputs; } Node;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  const char* (*profiling)(const Context*, const Node*);
  int32_t builtin;
  const char* name;
  int version;
  void* later[8]; /* newer versions have more members */
} Registration;
struct Context {
  size_t tensor_count;
  int (*plan)(Context*, IntArray**);
  Tensor* tensors;
  void* implementation;
  int (*resize)(Context*, Tensor*, IntArray*);
  void (*report)(Context*, const char*, ...);
  int (*add)(Context*, int, int*);
  int (*node)(Context*, int, Node**, Registration**);
  int (*replace)(Context*, Registration, const IntArray*, Delegate*);
};
struct Delegate {
  void* data;
  int (*prepare)(Context*, Delegate*);
  void* buffers[3];
  int64_t flags;
  void* builder;
  void* later[8];
};
typedef struct { int kind; const char* path; } Device;

static const char* asked(const char* name) {
  const char* said = getenv(name);
  return said ? said : "";
}

static int failed(Context* context, const char* name) {
  if (!*asked(name)) return 0;
  context->report(context, "%s", asked(name));
  return 1;
}

static int kernel_prepare(Context* context, Node* node) {
  (void)node;
  return failed(context, "STAND_IN_PREPARE");
}

static int kernel_run(Context* context, Node* node) {
  if (failed(context, "STAND_IN_BREAK")) return 1;
  Tensor* in = &context->tensors[node->inputs->data[0]];
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor* out = &context->tensors[node->outputs->data[i]];
    for (size_t k = 0; k < out->bytes; k++) ((uint8_t*)out->data)[k] = ((uint8_t*)in->data)[k % in->bytes] ^ 0xFF;
  }
  return 0;
}

static int prepare(Context* context, Delegate* delegate) {
  IntArray* plan;
  if (context->plan(context, &plan)) return 1;
  IntArray* mine = calloc(1, sizeof(int) * (size_t)(plan->size + 1));
  for (int i = 0; i < plan->size; i++) {
    Node* node;
    Registration* registration;
    if (context->node(context, plan->data[i], &node, &registration)) return 1;
    if (registration->name && !strcmp(registration->name, "edgetpu-custom-op")) mine->data[mine->size++] = plan->data[i];
  }
  Registration kernel = {0};
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_run;
  kernel.name = "EdgeTpuDelegateForCustomOp";
  kernel.version = 1;
  int status = context->replace(context, kernel, mine, delegate);
  free(mine);
  return status;
}

Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  const char* device = "";
  for (size_t i = 0; i < count; i++)
    if (!strcmp(keys[i], "device")) device = values[i];
  if (*asked("STAND_IN_LOG")) {
    FILE* log = fopen(asked("STAND_IN_LOG"), "a");
    fprintf(log, "[%s]\n", device);
    fclose(log);
  }
  if (!strcmp(asked("STAND_IN_REFUSE"), "silently")) return NULL;
  if (*asked("STAND_IN_REFUSE")) {
    report(asked("STAND_IN_REFUSE"));
    return NULL;
  }
  Delegate* made = calloc(1, sizeof *made);
  made->prepare = prepare;
  made->flags = 1; /* without "allow dynamic tensors" every operator must be known before the delegate is asked */
  return made;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) {
  if (*asked("STAND_IN_LOG")) {
    FILE* log = fopen(asked("STAND_IN_LOG"), "a");
    fprintf(log, "released\n");
    fclose(log);
  }
  free(delegate);
}

const char* edgetpu_version(void) {
  static char text[64];
  snprintf(text, sizeof text, "BuildLabel(N/A), RuntimeVersion(%s)", asked("STAND_IN_RUNTIME"));
  return text;
}

Device* edgetpu_list_devices(size_t* count) {
  Device* found = calloc(16, sizeof *found);
  char* text = strdup(asked("STAND_IN_DEVICES"));
  *count = 0;
  for (char* word = strtok(text, ";"); word && *count < 16; word = strtok(NULL, ";"))
    found[(*count)++] = (Device){word[0] - '0', word + 2};
  return found;
}

void edgetpu_free_devices(Device* devices) { free(devices); }
