// Products of matrices. A function reads of its arguments only what it names here: C leaves the others to the caller,
// so they need not be declared, and neither NVIDIA's headers of cuBLAS nor its types are needed.

#include "capture.h"

using namespace stub;

struct Handle {
    cudaStream_t stream;
};

static const int SUCCESS = 0;
static const int EXECUTION_FAILED = 13;

static int product(const Handle* handle) {
    return work(handle->stream, "a product") == cudaSuccess ? SUCCESS : EXECUTION_FAILED;
}

extern "C" {

int cublasCreate_v2(Handle** handle) {
    *handle = new Handle{nullptr};
    return SUCCESS;
}

int cublasSetStream_v2(Handle* handle, cudaStream_t stream) {
    handle->stream = stream;
    return SUCCESS;
}

int cublasSetWorkspace_v2(Handle*) {
    return SUCCESS;
}

int cublasSetMathMode(Handle*) {
    return SUCCESS;
}

int cublasGetMathMode(Handle*, int* mode) {
    *mode = 0;
    return SUCCESS;
}

// Which of the following is called depends on the format of the numbers, and on the version of torch.
int cublasSgemm_v2(Handle* handle) {
    return product(handle);
}

int cublasSgemmEx(Handle* handle) {
    return product(handle);
}

int cublasGemmEx(Handle* handle) {
    return product(handle);
}

int cublasSgemmStridedBatched(Handle* handle) {
    return product(handle);
}

int cublasGemmStridedBatchedEx(Handle* handle) {
    return product(handle);
}

int cublasSgemv_v2(Handle* handle) {
    return product(handle);
}

}  // extern "C"
