/* A stand-in for NVIDIA's libcuda.so.1 and libnvrtc.so in one library: device memory is host memory, the calls that
   edge.engines uses, as the documentation of the driver API describes them.

   Asynchronous work happens when its stream is synchronized, in order, so that what is read too early or overwritten
   too soon shows; host memory that is not page-locked is read at once, as the driver does. A call without a current
   context fails. NVRTC's "program" is the path of a library that g++ made of the source with cuda_shim.hpp.

   FAKE_GPUS: how many (default 1). FAKE_FOLDER: where kernels are compiled. FAKE_SHIM: cuda_shim.hpp.
   -DOLD: a driver and an NVRTC as before CUDA 11 (cuGraphInstantiate with five parameters, no cubin). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Block {
    char *start;
    size_t size;
    int kind; /* what the counters below count */
    struct Block *next;
} Block;

typedef struct {
    void (*run)(const unsigned *, void **);
    const size_t *sizes;
} Function;

typedef struct Work {
    void *to;
    const void *from;
    void *staged;
    size_t size;
    Function *function;
    unsigned shape[6];
    uint64_t values[16];
    struct Work *next;
} Work;

typedef struct {
    Work *first;
} Graph;

typedef struct {
    Work *first;
    Graph *captured;
    int spoiled;
} Stream;

enum { MEMORY, PAGES, REGISTERED, STREAMS, MODULES, GRAPHS, LAUNCHABLE, CONTEXTS, KINDS };
int live[KINDS];
int fake_launches;
static Block *blocks;
static const char *failing;
static int failure;
static int context_of[8];
static __thread void *stack[32];
static __thread int depth;

/* Let every later call of this function fail with this code. */
void fake_fail(const char *function, int code)
{
    failing = strdup(function);
    failure = code;
}

int fake_depth(void) { return depth; }

static const struct {
    int code;
    const char *name, *words;
} ERRORS[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

int cuGetErrorName(int code, const char **name)
{
    *name = NULL;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code)
            *name = ERRORS[i].name;
    return *name ? 0 : 1;
}

int cuGetErrorString(int code, const char **words)
{
    *words = NULL;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code)
            *words = ERRORS[i].words;
    return *words ? 0 : 1;
}

#define FAIL_IF_TOLD(name)                      \
    if (failing && !strcmp(failing, name))      \
        return failure;
#define ENTER(name)                             \
    FAIL_IF_TOLD(name)                          \
    if (!depth)                                 \
        return 201;

static void *keep(void *start, size_t size, int kind)
{
    Block *block = malloc(sizeof *block);
    *block = (Block){start, size, kind, blocks};
    blocks = block;
    live[kind]++;
    return start;
}

static int drop(const void *start, int kind)
{
    for (Block **at = &blocks; *at; at = &(*at)->next)
        if ((*at)->start == start && (*at)->kind == kind) {
            *at = (*at)->next;
            live[kind]--;
            return 0;
        }
    return 1;
}

static int within(const void *start, size_t size, int kind)
{
    const char *from = start;
    for (Block *block = blocks; block; block = block->next)
        if (block->kind == kind && from >= block->start && from + size <= block->start + block->size)
            return 1;
    return 0;
}

/* devices and contexts */

int cuInit(unsigned flags)
{
    FAIL_IF_TOLD("cuInit")
    const char *count = getenv("FAKE_GPUS");
    return flags || (count && !atoi(count)) ? 100 : 0;
}

int cuDriverGetVersion(int *version) { return *version = 12090, 0; }

int cuDeviceGetCount(int *count)
{
    const char *told = getenv("FAKE_GPUS");
    return *count = told ? atoi(told) : 1, 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    int count;
    cuDeviceGetCount(&count);
    *device = ordinal;
    return ordinal < 0 || ordinal >= count ? 101 : 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0;
    return *value ? 0 : 1;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    live[CONTEXTS]++;
    return *context = &context_of[device], 0;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    return live[CONTEXTS] ? (live[CONTEXTS]--, 0) : 201;
}

int cuCtxSetCurrent(void *context)
{
    FAIL_IF_TOLD("cuCtxSetCurrent")
    if (!depth)
        depth = 1;
    stack[depth - 1] = context;
    return 0;
}

int cuCtxPushCurrent_v2(void *context) { return stack[depth++] = context, 0; }

int cuCtxPopCurrent_v2(void **context)
{
    ENTER("cuCtxPopCurrent")
    *context = stack[--depth];
    return 0;
}

/* memory */

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    ENTER("cuMemGetInfo")
    *free_bytes = 3000;
    *total = 4000;
    return 0;
}

int cuMemAlloc_v2(uintptr_t *pointer, size_t size)
{
    ENTER("cuMemAlloc")
    void *memory = malloc(size);
    memset(memory, 0xA5, size);
    *pointer = (uintptr_t)keep(memory, size, MEMORY);
    return size ? 0 : 1;
}

int cuMemFree_v2(uintptr_t pointer)
{
    ENTER("cuMemFree")
    if (drop((void *)pointer, MEMORY))
        return 1;
    free((void *)pointer);
    return 0;
}

int cuMemHostAlloc(void **pages, size_t size, unsigned flags)
{
    ENTER("cuMemHostAlloc")
    (void)flags;
    *pages = keep(aligned_alloc(4096, (size + 4095) / 4096 * 4096), size, PAGES);
    return 0;
}

int cuMemFreeHost(void *pages)
{
    ENTER("cuMemFreeHost")
    if (drop(pages, PAGES))
        return 1;
    free(pages);
    return 0;
}

int cuMemHostRegister_v2(void *start, size_t size, unsigned flags)
{
    ENTER("cuMemHostRegister")
    (void)flags;
    if (within(start, 1, REGISTERED))
        return 712;
    keep(start, size, REGISTERED);
    return 0;
}

int cuMemHostUnregister(void *start)
{
    ENTER("cuMemHostUnregister")
    return drop(start, REGISTERED);
}

/* streams and graphs */

static void put(Stream *stream, Work work)
{
    Work **end = stream->captured ? &stream->captured->first : &stream->first;
    while (*end)
        end = &(*end)->next;
    *end = malloc(sizeof work);
    **end = work;
    (*end)->next = NULL;
}

static void perform(Work *work)
{
    if (work->function) {
        void *addresses[16];
        for (int i = 0; i < 16; i++)
            addresses[i] = &work->values[i];
        work->function->run(work->shape, addresses);
        fake_launches++;
    } else
        memcpy(work->to, work->staged ? work->staged : work->from, work->size);
}

int cuStreamCreate(Stream **stream, unsigned flags)
{
    ENTER("cuStreamCreate")
    *stream = keep(calloc(1, sizeof **stream), 0, STREAMS);
    return flags == 1 ? 0 : 1;
}

int cuStreamDestroy_v2(Stream *stream) { return drop(stream, STREAMS); }

int cuStreamSynchronize(Stream *stream)
{
    ENTER("cuStreamSynchronize")
    if (stream->captured)
        return stream->spoiled = 1, 900;
    for (; stream->first; stream->first = stream->first->next)
        perform(stream->first);
    return 0;
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t size, Stream *stream)
{
    ENTER("cuMemcpyHtoDAsync")
    if (!within((void *)to, size, MEMORY))
        return 1;
    Work work = {.to = (void *)to, .from = from, .size = size};
    if (!stream->captured && !within(from, size, PAGES) && !within(from, size, REGISTERED))
        work.staged = memcpy(malloc(size), from, size);
    put(stream, work);
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t size, Stream *stream)
{
    ENTER("cuMemcpyDtoHAsync")
    if (!within((void *)from, size, MEMORY))
        return 1;
    put(stream, (Work){.to = to, .from = (void *)from, .size = size});
    return 0;
}

int cuStreamBeginCapture_v2(Stream *stream, int mode)
{
    ENTER("cuStreamBeginCapture")
    if (mode != 1 || stream->captured)
        return 1;
    stream->captured = keep(calloc(1, sizeof(Graph)), 0, GRAPHS);
    stream->spoiled = 0;
    return 0;
}

int cuStreamEndCapture(Stream *stream, Graph **graph)
{
    ENTER("cuStreamEndCapture")
    *graph = stream->captured;
    stream->captured = NULL;
    if (!stream->spoiled)
        return 0;
    drop(*graph, GRAPHS);
    *graph = NULL;
    return 901;
}

#ifdef OLD
int cuGraphInstantiate(Graph **launchable, Graph *graph, void **node, char *log, size_t size)
{
    ENTER("cuGraphInstantiate")
    if (node || log || size)
        return 1;
#else
int cuGraphInstantiateWithFlags(Graph **launchable, Graph *graph, unsigned long long flags)
{
    ENTER("cuGraphInstantiate")
    if (flags)
        return 1;
#endif
    *launchable = malloc(sizeof **launchable);
    **launchable = *graph;
    keep(*launchable, 0, LAUNCHABLE);
    return 0;
}

int cuGraphDestroy(Graph *graph) { return drop(graph, GRAPHS); }

int cuGraphExecDestroy(Graph *graph) { return drop(graph, LAUNCHABLE); }

int cuGraphLaunch(Graph *graph, Stream *stream)
{
    ENTER("cuGraphLaunch")
    if (!within(graph, 0, LAUNCHABLE))
        return 1;
    for (Work *work = graph->first; work; work = work->next)
        put(stream, *work);
    return 0;
}

/* kernels */

int cuModuleLoadData(void **module, const void *image)
{
    ENTER("cuModuleLoadData")
    void *library = dlopen(image, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return 1;
    *module = keep(library, 0, MODULES);
    return 0;
}

int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values)
{
    (void)count, (void)options, (void)values;
    return cuModuleLoadData(module, image);
}

int cuModuleUnload(void *module) { return drop(module, MODULES); }

int cuModuleGetFunction(Function **function, void *module, const char *name)
{
    ENTER("cuModuleGetFunction")
    char symbol[200];
    snprintf(symbol, sizeof symbol, "%s_run", name);
    void *run = dlsym(module, symbol);
    snprintf(symbol, sizeof symbol, "%s_sizes", name);
    const size_t *(*sizes)(void) = (const size_t *(*)(void))dlsym(module, symbol);
    if (!run || !sizes)
        return 500;
    *function = malloc(sizeof **function);
    (*function)->run = (void (*)(const unsigned *, void **))run;
    (*function)->sizes = sizes();
    return 0;
}

int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, Stream *stream, void **parameters, void **extra)
{
    ENTER("cuLaunchKernel")
    if (shared || bx * by * bz > 1024 || !gx || !gy || !gz)
        return 1;
    Work work = {.function = function, .shape = {gx, gy, gz, bx, by, bz}};
    /* pycuda gives one buffer (extra: 1, its address, 2, the address of its size, 0), cuda-python addresses */
    const char *buffer = extra ? extra[1] : NULL;
    size_t offset = 0;
    for (int i = 0; function->sizes[i]; i++) {
        size_t size = function->sizes[i];
        offset = (offset + size - 1) / size * size;
        memcpy(&work.values[i], buffer ? buffer + offset : parameters[i], size);
        offset += size;
    }
    put(stream, work);
    return 0;
}

#ifndef OLD
int cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags, int *status)
{
    (void)version, (void)flags;
    char newer[200];
    snprintf(newer, sizeof newer, "%s_v2", symbol);
    *address = strcmp(symbol, "cuGetProcAddress") ? dlsym(RTLD_DEFAULT, newer) : (void *)cuGetProcAddress_v2;
    if (!*address)
        *address = dlsym(RTLD_DEFAULT, symbol);
    if (status)
        *status = !*address;
    return *address ? 0 : 500;
}
#endif

/* NVRTC */

typedef struct {
    char *source, path[1000], log[4000];
} Program;

int nvrtcCreateProgram(Program **program, const char *source, const char *name, int n, char **headers, char **names)
{
    (void)name, (void)n, (void)headers, (void)names;
    *program = calloc(1, sizeof **program);
    (*program)->source = strdup(source);
    return 0;
}

int nvrtcCompileProgram(Program *program, int count, char **options)
{
    static int number;
#ifdef OLD
    const char *wanted = "--gpu-architecture=compute_87";
#else
    const char *wanted = "--gpu-architecture=sm_87";
#endif
    if (count && (count > 1 || strcmp(options[0], wanted)))
        return 5;
    char file[900], command[4000];
    snprintf(file, sizeof file, "%s/program%d", getenv("FAKE_FOLDER"), number++);
    snprintf(program->path, sizeof program->path, "%s.so", file);
    snprintf(command, sizeof command, "%s.cpp", file);
    FILE *text = fopen(command, "w");
    fputs(program->source, text);
    for (const char *at = program->source; (at = strstr(at, "__global__ void ")); at++)
        fprintf(text, "\nKERNEL_ENTRY(%.*s)\n", (int)strcspn(at + 16, "("), at + 16);
    fclose(text);
    snprintf(command, sizeof command, "g++ -std=c++14 -shared -fPIC -include %s -o %s %s.cpp 2>%s.log",
             getenv("FAKE_SHIM"), program->path, file, file);
    if (!system(command))
        return 0;
    snprintf(command, sizeof command, "%s.log", file);
    text = fopen(command, "r");
    program->log[fread(program->log, 1, sizeof program->log - 1, text)] = 0;
    fclose(text);
    return 6;
}

int nvrtcGetProgramLogSize(Program *program, size_t *size) { return *size = strlen(program->log) + 1, 0; }

int nvrtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log), 0; }

int nvrtcGetPTXSize(Program *program, size_t *size) { return *size = strlen(program->path) + 1, 0; }

int nvrtcGetPTX(Program *program, char *text) { return strcpy(text, program->path), 0; }

#ifndef OLD
int nvrtcGetCUBINSize(Program *program, size_t *size) { return nvrtcGetPTXSize(program, size); }

int nvrtcGetCUBIN(Program *program, char *text) { return nvrtcGetPTX(program, text); }
#endif

int nvrtcDestroyProgram(Program **program) { return *program = NULL, 0; }

const char *nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
