#include "capture.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

namespace stub {

static std::map<cudaStream_t, Stream> streams;
static std::vector<std::shared_ptr<Capture>> captures;  // those that are open
static thread_local cudaError_t last_error = cudaSuccess;
static thread_local std::string last_refused;
static thread_local cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;

std::recursive_mutex& everything() {
    static std::recursive_mutex mutex;
    return mutex;
}

using Lock = std::lock_guard<std::recursive_mutex>;

Stream& stream_of(cudaStream_t stream) {
    Lock lock(everything());
    return streams[stream];
}

void report(const std::string& line) {
    Lock lock(everything());
    const char* path = std::getenv("CUDA_STUB_REPORT");
    if (path != nullptr) {
        std::ofstream(path, std::ios::app) << line << std::endl;
    }
}

cudaError_t refuse(cudaError_t error, const std::string& what) {
    report("refused: " + what);
    last_error = error;
    last_refused = what;
    return error;
}

cudaError_t answer(cudaError_t error) {
    last_error = error;
    last_refused.clear();
    return error;
}

void join(Seen& seen, const Seen& other) {
    for (const auto& [stream, count] : other) {
        seen[stream] = std::max(seen[stream], count);
    }
}

// Whether a call of this thread, which is unsafe while work is captured, would disturb a capture.
static bool disturbs(const Capture& capture) {
    if (capture.beginner == std::this_thread::get_id()) {
        return capture.mode != cudaStreamCaptureModeRelaxed && mode_of_thread != cudaStreamCaptureModeRelaxed;
    }
    return capture.mode == cudaStreamCaptureModeGlobal && mode_of_thread == cudaStreamCaptureModeGlobal;
}

cudaError_t refuse_in_capture(const std::string& call) {
    Lock lock(everything());
    bool refused = false;
    for (const auto& capture : captures) {
        if (disturbs(*capture)) {
            capture->is_broken = true;
            refused = true;
        }
    }
    return refused ? refuse(cudaErrorStreamCaptureUnsupported, call + " while a step is captured") : cudaSuccess;
}

cudaError_t refuse_in_capture_of(cudaStream_t stream, const std::string& call) {
    Lock lock(everything());
    const auto& capture = stream_of(stream).capture;
    if (capture) {
        capture->is_broken = true;
        return refuse(cudaErrorStreamCaptureUnsupported, call + " of a stream that is captured");
    }
    return refuse_in_capture(call);
}

// Whether this thread has given work to a capture that is open.
static bool takes_part() {
    return std::any_of(captures.begin(), captures.end(), [](const auto& capture) {
        return capture->threads.count(std::this_thread::get_id()) > 0;
    });
}

cudaError_t work(cudaStream_t stream, const std::string& what) {
    Lock lock(everything());
    Stream& given = stream_of(stream);
    if (given.capture) {
        given.capture->threads.insert(std::this_thread::get_id());
        ++given.capture->nodes;
        ++given.seen[stream];
        return cudaSuccess;
    }
    if (takes_part()) {
        // A GPU does such work once, beside the capture, and no replay repeats it.
        const std::string where = " in a stream that is not captured, within a captured step";
        return refuse(cudaErrorStreamCaptureImplicit, what + where);
    }
    return cudaSuccess;
}

void enter(cudaStream_t stream, const std::shared_ptr<Capture>& capture) {
    Stream& entering = stream_of(stream);
    entering.capture = capture;
    entering.seen.clear();
    capture->streams.insert(stream);
}

// Whether the work of every stream of a capture comes before the end of the stream that it began in.
static bool is_joined(const Capture& capture) {
    Seen& seen = stream_of(capture.origin).seen;
    return std::all_of(capture.streams.begin(), capture.streams.end(), [&seen](cudaStream_t stream) {
        return stream_of(stream).seen[stream] <= seen[stream];
    });
}

// Lets go all streams of a capture.
static void close(const std::shared_ptr<Capture>& capture) {
    for (cudaStream_t stream : capture->streams) {
        stream_of(stream) = Stream();
    }
    capture->is_open = false;
    captures.erase(std::remove(captures.begin(), captures.end(), capture), captures.end());
}

static cudaStreamCaptureStatus status_of(cudaStream_t stream) {
    const auto& capture = stream_of(stream).capture;
    if (!capture) {
        return cudaStreamCaptureStatusNone;
    }
    return capture->is_broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

// The error, by the words of what was refused: torch shows them.
static const char* words_of(cudaError_t error) {
    static thread_local std::string words;
    words = "error " + std::to_string(static_cast<int>(error)) + " of the stand-in for CUDA";
    if (!last_refused.empty()) {
        words += ": " + last_refused;
    }
    return words.c_str();
}

}  // namespace stub

using namespace stub;

extern "C" {

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    return last_error;
}

const char* cudaGetErrorString(cudaError_t error) {
    return words_of(error);
}

const char* cudaGetErrorName(cudaError_t error) {
    return words_of(error);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    std::swap(*mode, mode_of_thread);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    Lock lock(everything());
    if (stream == nullptr || stream == cudaStreamLegacy) {
        return refuse(cudaErrorStreamCaptureUnsupported, "a capture of the default stream");
    }
    if (stream_of(stream).capture) {
        return refuse(cudaErrorIllegalState, "a capture of a stream that is captured already");
    }
    const auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->beginner = std::this_thread::get_id();
    capture->threads.insert(capture->beginner);
    captures.push_back(capture);
    enter(stream, capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    Lock lock(everything());
    const auto capture = stream_of(stream).capture;
    *graph = nullptr;
    if (!capture || capture->origin != stream) {
        return refuse(cudaErrorIllegalState, "the end of a capture that did not begin in this stream");
    }
    const bool joined = is_joined(*capture);
    close(capture);
    if (capture->is_broken) {
        return refuse(cudaErrorStreamCaptureInvalidated, "the end of a capture after what it forbids");
    }
    if (!joined) {
        return refuse(cudaErrorStreamCaptureUnjoined, "the end of a capture that another stream has not joined");
    }
    report("captured: " + std::to_string(capture->nodes) + " pieces of work in " +
           std::to_string(capture->streams.size()) + " streams");
    *graph = reinterpret_cast<cudaGraph_t>(new Graph{capture->nodes});
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    Lock lock(everything());
    *status = status_of(stream);
    return cudaSuccess;
}

// Torch reads the number of a capture, and nothing of what its work depends on.
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** nodes,
                                     const cudaGraphEdgeData** edges, size_t* count) {
    Lock lock(everything());
    *status = status_of(stream);
    if (id != nullptr) {
        *id = reinterpret_cast<unsigned long long>(stream_of(stream).capture.get());
    }
    if (graph != nullptr) {
        *graph = nullptr;
    }
    if (nodes != nullptr) {
        *nodes = nullptr;
    }
    if (edges != nullptr) {
        *edges = nullptr;
    }
    if (count != nullptr) {
        *count = 0;
    }
    return cudaSuccess;
}

}  // extern "C"
