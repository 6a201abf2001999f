// The driver itself, as far as torch asks it beside the runtime.

#include <cuda.h>

#include "capture.h"

using namespace stub;

extern "C" {

CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
    if (flags != nullptr) {
        *flags = 0;
    }
    *active = 1;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
    static char only;
    *context = reinterpret_cast<CUcontext>(&only);
    return CUDA_SUCCESS;
}

// What torch is told of errors that the driver writes down: nothing.
static CUresult keep_no_log() {
    return CUDA_SUCCESS;
}

static CUresult unknown_call() {
    refuse(cudaErrorNotSupported, "a call of the driver that the stand-in does not know");
    return CUDA_ERROR_NOT_SUPPORTED;
}

// Of the functions that torch looks up at its start, those that our trainings call. Torch calls the others only for
// what we do not use: memory that grows, memory that GPUs share, parts of a GPU.
static void* function_of(const std::string& name) {
    if (name == "cuCtxGetCurrent") {
        return reinterpret_cast<void*>(cuCtxGetCurrent);
    }
    if (name == "cuLogsRegisterCallback" || name == "cuLogsUnregisterCallback") {
        return reinterpret_cast<void*>(keep_no_log);
    }
    return reinterpret_cast<void*>(unknown_call);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
    if (found != nullptr) {
        *found = cudaDriverEntryPointSuccess;
    }
    *function = function_of(name);
    return cudaSuccess;
}

}  // extern "C"
