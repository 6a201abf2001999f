// What a capture of a CUDA graph forbids, and how much work has been captured.
//
// Nothing is computed: a stream only knows which capture it belongs to, and which work of that capture comes before
// what it is given next. Every call that is forbidden is written to the report, and returns an error.

#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace stub {

// For each stream of a capture, how many pieces of its work have been seen.
using Seen = std::map<cudaStream_t, long>;

struct Capture {
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    std::thread::id beginner;
    std::set<std::thread::id> threads;  // those that gave it work: autograd has threads of its own
    std::set<cudaStream_t> streams;
    long nodes = 0;
    bool is_open = true;
    bool is_broken = false;
};

struct Stream {
    std::shared_ptr<Capture> capture;  // none: its work is not captured
    Seen seen;
};

struct Event {
    std::shared_ptr<Capture> capture;  // of the stream that it was recorded in
    Seen seen;
};

// A captured graph; launching it is one piece of work.
struct Graph {
    long nodes;
};

// One lock for all that is kept; functions that lock call each other.
std::recursive_mutex& everything();

Stream& stream_of(cudaStream_t stream);

// Writes a line to the file that the variable CUDA_STUB_REPORT names.
void report(const std::string& line);

// Reports a call that a GPU forbids, and returns the error, which cudaGetLastError also returns then.
cudaError_t refuse(cudaError_t error, const std::string& what);

// Returns an error that is an answer, not a fault: no memory is left.
cudaError_t answer(cudaError_t error);

// Refuses a call that may not be made while a capture is open; see cudaThreadExchangeStreamCaptureMode. A call that is
// made for one stream may also not be made while that stream is captured, whatever the mode.
cudaError_t refuse_in_capture(const std::string& call);
cudaError_t refuse_in_capture_of(cudaStream_t stream, const std::string& call);

// Adds what comes before other work to what comes before this work.
void join(Seen& seen, const Seen& other);

// Lets a stream belong to a capture.
void enter(cudaStream_t stream, const std::shared_ptr<Capture>& capture);

// Gives a stream a piece of work.
cudaError_t work(cudaStream_t stream, const std::string& what);

}  // namespace stub
