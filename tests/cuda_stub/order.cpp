// Events, what waits for them, and graphs.

#include "capture.h"

using namespace stub;
using Lock = std::lock_guard<std::recursive_mutex>;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new Event());
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete reinterpret_cast<Event*>(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
    Lock lock(everything());
    Event& recorded = *reinterpret_cast<Event*>(event);
    recorded.capture = stream_of(stream).capture;
    recorded.seen = stream_of(stream).seen;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, 0);
}

static cudaError_t refuse_of_event(cudaEvent_t event, const std::string& call) {
    Lock lock(everything());
    const auto& capture = reinterpret_cast<Event*>(event)->capture;
    if (capture) {
        capture->is_broken = true;
        return refuse(cudaErrorCapturedEvent, call + " of an event that was recorded in a capture");
    }
    return refuse_in_capture(call);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return refuse_of_event(event, "cudaEventQuery");
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return refuse_of_event(event, "cudaEventSynchronize");
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    Lock lock(everything());
    const Event& awaited = *reinterpret_cast<Event*>(event);
    const auto own = stream_of(stream).capture;
    if (!awaited.capture) {
        if (!own) {
            return cudaSuccess;
        }
        own->is_broken = true;
        return refuse(cudaErrorStreamCaptureIsolation, "a captured stream waits for work outside of the capture");
    }
    if (!awaited.capture->is_open) {
        return refuse(cudaErrorCapturedEvent, "a stream waits for an event of a capture that has ended");
    }
    if (own && own != awaited.capture) {
        own->is_broken = true;
        awaited.capture->is_broken = true;
        return refuse(cudaErrorStreamCaptureMerge, "a captured stream waits for work of another capture");
    }
    if (stream == nullptr || stream == cudaStreamLegacy) {
        awaited.capture->is_broken = true;
        return refuse(cudaErrorStreamCaptureImplicit, "the default stream waits for captured work");
    }
    if (!own) {
        enter(stream, awaited.capture);
    }
    join(stream_of(stream).seen, awaited.seen);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return refuse_in_capture_of(stream, "cudaStreamQuery");
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return refuse_in_capture_of(stream, "cudaStreamSynchronize");
}

cudaError_t cudaDeviceSynchronize() {
    return refuse_in_capture("cudaDeviceSynchronize");
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiateWithFlags(executable, graph, flags);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
    *count = static_cast<size_t>(reinterpret_cast<Graph*>(graph)->nodes);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<Graph*>(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete reinterpret_cast<Graph*>(executable);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) {
    return work(stream, "a graph");
}

}  // extern "C"
