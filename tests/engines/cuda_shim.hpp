// CUDA C as C++ for a CPU: what a simple kernel (no shared memory, no __syncthreads) uses of the language.
#include <cstddef>
#include <utility>

#define __global__

struct Dim3 {
    unsigned x, y, z;
};
static thread_local Dim3 gridDim, blockDim, blockIdx, threadIdx;

// Calls a kernel for every thread of a grid, with its parameters as cuLaunchKernel takes them: an address each.
template <class... A> struct Kernel {
    static constexpr std::size_t sizes[] = {sizeof(A)..., 0};

    template <std::size_t... I>
    static void run(void (*kernel)(A...), const unsigned *shape, void **args, std::index_sequence<I...>)
    {
        gridDim = {shape[0], shape[1], shape[2]};
        blockDim = {shape[3], shape[4], shape[5]};
        for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
            for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
                for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
                    for (threadIdx.z = 0; threadIdx.z < blockDim.z; threadIdx.z++)
                        for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++)
                            for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++)
                                kernel(*static_cast<A *>(args[I])...);
    }
};
template <class... A> constexpr std::size_t Kernel<A...>::sizes[];

template <class... A> const std::size_t *sizes_of(void (*)(A...)) { return Kernel<A...>::sizes; }

template <class... A> void run_kernel(void (*kernel)(A...), const unsigned *shape, void **args)
{
    Kernel<A...>::run(kernel, shape, args, std::index_sequence_for<A...>{});
}

// After the source, once per kernel: the sizes of its parameters (ended by 0), and how to run it.
#define KERNEL_ENTRY(name)                                                            \
    extern "C" const std::size_t *name##_sizes() { return sizes_of(&name); }          \
    extern "C" void name##_run(const unsigned *shape, void **args) { run_kernel(&name, shape, args); }
