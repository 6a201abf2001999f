// Memory of the GPU and copies. The CPU can neither read nor write at its addresses. A copy to the CPU brings back what
// the last copy from the CPU has put there, if both have the same address and size, and are larger than one number. All
// else is zero.

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "capture.h"

using namespace stub;
using Lock = std::lock_guard<std::recursive_mutex>;

enum class Place { pageable, pinned, device };

static const size_t ALL = size_t(80) << 30;
static std::map<const char*, size_t> on_device;  // the size in bytes of each piece, by its address
static std::map<const char*, size_t> pinned;
static std::map<const char*, std::vector<char>> sent;  // what the CPU has put on the GPU, by its address
static const size_t NUMBER = 8;  // bytes

static size_t taken() {
    size_t sum = 0;
    for (const auto& [address, size] : on_device) {
        sum += size;
    }
    return sum;
}

static bool lies_in(const std::map<const char*, size_t>& pieces, const void* address) {
    const char* sought = static_cast<const char*>(address);
    auto piece = pieces.upper_bound(sought);
    if (piece == pieces.begin()) {
        return false;
    }
    --piece;
    return sought < piece->first + piece->second;
}

static Place place_of(const void* address) {
    Lock lock(everything());
    if (lies_in(on_device, address)) {
        return Place::device;
    }
    return lies_in(pinned, address) ? Place::pinned : Place::pageable;
}

static void send(void* target, const void* source, size_t size) {
    const char* bytes = static_cast<const char*>(source);
    sent[static_cast<char*>(target)] = std::vector<char>(bytes, bytes + size);
}

static void bring_back(void* target, const void* source, size_t size) {
    std::memset(target, 0, size);
    const auto found = sent.find(static_cast<const char*>(source));
    if (found != sent.end() && found->second.size() == size && size > NUMBER) {
        std::memcpy(target, found->second.data(), size);
    }
}

static void copy(void* target, const void* source, size_t size) {
    Lock lock(everything());
    const bool to_device = place_of(target) == Place::device;
    const bool from_device = place_of(source) == Place::device;
    if (to_device && !from_device) {
        send(target, source, size);
    } else if (from_device && !to_device) {
        bring_back(target, source, size);
    } else if (!to_device) {
        std::memmove(target, source, size);
    }
}

// Refuses a copy between the CPU and the GPU within a captured step. A GPU would allow it from pinned memory, but a
// replay would copy whatever lies there then.
static cudaError_t refuse_copy(void* target, const void* source, cudaStream_t stream) {
    Lock lock(everything());
    const auto& capture = stream_of(stream).capture;
    if (!capture || (place_of(target) == Place::device && place_of(source) == Place::device)) {
        return cudaSuccess;
    }
    capture->is_broken = true;
    return refuse(cudaErrorStreamCaptureUnsupported, "a copy between the CPU and the GPU within a captured step");
}

extern "C" {

cudaError_t cudaMalloc(void** address, size_t size) {
    const cudaError_t refused = refuse_in_capture("cudaMalloc");
    if (refused != cudaSuccess) {
        return refused;
    }
    Lock lock(everything());
    if (taken() + size > ALL) {
        return answer(cudaErrorMemoryAllocation);
    }
    void* found = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
        return answer(cudaErrorMemoryAllocation);
    }
    on_device[static_cast<char*>(found)] = size;
    *address = found;
    return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
    if (address == nullptr) {
        return cudaSuccess;
    }
    const cudaError_t refused = refuse_in_capture("cudaFree");
    if (refused != cudaSuccess) {
        return refused;
    }
    Lock lock(everything());
    const auto piece = on_device.find(static_cast<char*>(address));
    if (piece == on_device.end()) {
        return refuse(cudaErrorInvalidValue, "cudaFree of memory that was not given");
    }
    munmap(address, piece->second);
    sent.erase(sent.lower_bound(piece->first), sent.lower_bound(piece->first + piece->second));
    on_device.erase(piece);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* left, size_t* all) {
    Lock lock(everything());
    *all = ALL;
    *left = ALL - taken();
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** address, size_t size, unsigned) {
    const cudaError_t refused = refuse_in_capture("cudaHostAlloc");
    if (refused != cudaSuccess) {
        return refused;
    }
    Lock lock(everything());
    *address = std::calloc(1, size);
    pinned[static_cast<char*>(*address)] = size;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void* address) {
    const cudaError_t refused = refuse_in_capture("cudaFreeHost");
    if (refused != cudaSuccess) {
        return refused;
    }
    Lock lock(everything());
    pinned.erase(static_cast<char*>(address));
    std::free(address);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
    *attributes = cudaPointerAttributes();
    const Place place = place_of(address);
    if (place == Place::device) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->devicePointer = const_cast<void*>(address);
    } else if (place == Place::pinned) {
        attributes->type = cudaMemoryTypeHost;
        attributes->hostPointer = const_cast<void*>(address);
    } else {
        attributes->type = cudaMemoryTypeUnregistered;
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t size, cudaMemcpyKind, cudaStream_t stream) {
    const cudaError_t refused = refuse_copy(target, source, stream);
    if (refused != cudaSuccess) {
        return refused;
    }
    copy(target, source, size);
    return work(stream, "a copy");
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t size, cudaMemcpyKind) {
    const cudaError_t refused = refuse_in_capture("cudaMemcpy");
    if (refused == cudaSuccess) {
        copy(target, source, size);
    }
    return refused;
}

cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t stream) {
    return work(stream, "a fill");
}

}  // extern "C"
