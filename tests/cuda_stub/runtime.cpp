// The GPU, its streams and its kernels, which compute nothing.

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "capture.h"

using namespace stub;

static const int PROCESSORS = 132;
static const int THREADS_OF_A_BLOCK = 1024;
static const int SHARED_MEMORY = 232448;  // bytes
static const int LARGEST_GRID = 2147483647;

static thread_local cudaStream_t stream_of_launch;

// How many of the GPUs, of which CUDA_STUB_GPUS says the number, CUDA_VISIBLE_DEVICES lets a process see. As CUDA does,
// it takes the numbers up to the first that there is not; a UUID is one of ours.
static int gpus_shown() {
    const char* said = std::getenv("CUDA_STUB_GPUS");
    const int all = said == nullptr ? 1 : std::atoi(said);
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible == nullptr) {
        return all;
    }
    int shown = 0;
    std::stringstream words(visible);
    for (std::string word; shown < all && std::getline(words, word, ',');) {
        const bool is_number = !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
        if (!(is_number ? std::atoi(word.c_str()) < all : word.rfind("GPU-", 0) == 0)) {
            break;
        }
        ++shown;
    }
    return shown;
}

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    static const int shown = gpus_shown();
    *count = shown;
    return shown > 0 ? cudaSuccess : answer(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : refuse(cudaErrorInvalidDevice, "cudaSetDevice of a GPU that there is not");
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::memset(properties, 0, sizeof(*properties));
    std::strcpy(properties->name, "a stand-in for a GPU");
    properties->major = 9;
    properties->minor = 0;
    properties->totalGlobalMem = size_t(80) << 30;
    properties->multiProcessorCount = PROCESSORS;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = THREADS_OF_A_BLOCK;
    properties->maxThreadsPerMultiProcessor = 2 * THREADS_OF_A_BLOCK;
    properties->maxBlocksPerMultiProcessor = 32;
    properties->maxThreadsDim[0] = THREADS_OF_A_BLOCK;
    properties->maxThreadsDim[1] = THREADS_OF_A_BLOCK;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = LARGEST_GRID;
    properties->maxGridSize[1] = 65535;
    properties->maxGridSize[2] = 65535;
    properties->sharedMemPerBlock = 49152;
    properties->sharedMemPerBlockOptin = SHARED_MEMORY;
    properties->sharedMemPerMultiprocessor = SHARED_MEMORY;
    properties->regsPerBlock = 65536;
    properties->regsPerMultiprocessor = 65536;
    properties->textureAlignment = 512;
    properties->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor:
            *value = 9;
            break;
        case cudaDevAttrMultiProcessorCount:
            *value = PROCESSORS;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            *value = 49152;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = SHARED_MEMORY;
            break;
        case cudaDevAttrMaxThreadsPerBlock:
            *value = THREADS_OF_A_BLOCK;
            break;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            *value = 2 * THREADS_OF_A_BLOCK;
            break;
        case cudaDevAttrMaxGridDimX:
            *value = LARGEST_GRID;
            break;
        case cudaDevAttrWarpSize:
            *value = 32;
            break;
        default:
            *value = 0;
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    if (least != nullptr) {
        *least = 0;
    }
    if (greatest != nullptr) {
        *greatest = -5;
    }
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
    *stream = reinterpret_cast<cudaStream_t>(new char);  // an address that is no other stream's
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    *attributes = cudaFuncAttributes();
    attributes->ptxVersion = 90;
    attributes->binaryVersion = 90;
    attributes->maxThreadsPerBlock = THREADS_OF_A_BLOCK;
    attributes->numRegs = 32;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
    *blocks = 8;
    return cudaSuccess;
}

// A launch "<<<blocks, threads, shared, stream>>>" is compiled into these three and cudaLaunchKernel.
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t stream) {
    stream_of_launch = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* blocks, dim3* threads, size_t* shared, void* stream) {
    *blocks = dim3(1, 1, 1);
    *threads = dim3(1, 1, 1);
    *shared = 0;
    *static_cast<cudaStream_t*>(stream) = stream_of_launch;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t stream) {
    return work(stream, "a kernel");
}

cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t stream) {
    return work(stream, "a kernel");
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* how, const void*, void**) {
    return work(how->stream, "a kernel");
}

}  // extern "C"
