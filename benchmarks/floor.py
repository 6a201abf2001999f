"""The least time that a step could take on a device: its operations and its bytes, at the device's two ceilings.

Operations are counted by torch while the reference loop takes a step. Bytes follow a model in which each convolution is
fused with its neighbours. With A the values that all convolutions put out, a trained network moves 8.4 A values (it
writes A, reads A, reads 0.4 A for shortcuts; backwards it reads 2 A for the batch norms' sums and 3 A for the
gradients, and writes A), a frozen network with folded batch norms 2.4 A, and an extractor 6 times the values of its
gates. Caches can make fewer bytes necessary, so the floor is no strict bound.

The ceiling of operations is the faster one of a matrix product and a convolution, each large: their libraries differ.
On some processors of AMD torch's matrix products in float32 are less than half as fast as its convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference import Loop
from benchmarks.workload import CLASSES, SIZE, Variant, Workload

TRAINED, FROZEN, EXTRACTED = 8.4, 2.4, 6.0
FORECAST_STEPS, GATES = 1, 4
REPEATS = 5
MATRIX = {"cpu": 1024, "cuda": 8192}
CHANNELS, PIXELS, KERNEL = 256, 16, 3
IMAGES = {"cpu": 32, "cuda": 2048}
COPIED_BYTES = {"cpu": 2**27, "cuda": 2**31}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """What a step of one batch must do: operations, and values that move to or from memory."""

    operations: float
    values: float


@dataclass(frozen=True)
class Ceilings:
    """What a device can do.

    Attributes:
        operations: floating-point operations per second of a large matrix product, or of a large convolution if that
            is faster, by number format.
        bytes: bytes per second of a large copy, those read and those written.
    """

    operations: dict[str, float]
    bytes: float

    def seconds(self, work: Work, precision: str) -> float:
        """Return the floor of a step in a number format."""
        width = DTYPES[precision].itemsize
        return max(work.operations / self.operations[precision], work.values * width / self.bytes)

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.operations.items())
        return f"ceilings measured here: operations {rates}; copies {self.bytes / 1e9:.3g} GB/s"


def ceilings(device: torch.device) -> Ceilings:
    """Measure the device."""
    rates = {name: max(_products(dtype, device), _convolutions(dtype, device)) for name, dtype in DTYPES.items()}
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Ceilings(rates, 2 * source.numel() / _seconds(lambda: target.copy_(source), device))


def _products(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of a matrix product."""
    size = MATRIX[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: torch.mm(left, right), device)


def _convolutions(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of a convolution, with channels last."""
    images = IMAGES[device.type]
    maps = torch.randn(images, CHANNELS, PIXELS, PIXELS, device=device, dtype=dtype)
    maps = maps.contiguous(memory_format=torch.channels_last)
    layer = nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=1, bias=False, device=device, dtype=dtype)
    layer.to(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = _seconds(lambda: layer(maps), device)
    return 2 * images * (CHANNELS * KERNEL * PIXELS) ** 2 / seconds


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    def once() -> float:
        start = time.perf_counter() if device.type == "cuda" else time.process_time()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() if device.type == "cuda" else time.process_time()) - start

    once()
    return median(once() for _ in range(REPEATS))


def work(workload: Workload, *, review: bool) -> Work:
    """Count what a step of a batch must do; the teacher runs only where its output is used."""
    device = torch.device("cpu")
    counted = 2  # images; operations and values grow with their number
    trainer = workload.trainer(Variant(""), device)
    loop = workload.loop(trainer, device, teacher_always=False)
    images = torch.randn(counted, 3, SIZE, SIZE)
    targets = torch.randint(CLASSES, (counted,))
    with FlopCounterMode(display=False) as counter:
        loop.step(images, targets, review=review)
    scale = workload.batch_size / counted
    return Work(counter.get_total_flops() * scale, _values(workload, loop, review) * workload.batch_size)


def _values(workload: Workload, loop: Loop, review: bool) -> float:
    """Return the values that a step moves per image."""
    moved = TRAINED * outputs(loop.student)
    if review or workload.distils:
        moved += FROZEN * outputs(loop.teacher)
    if review:
        moved += FROZEN * sum(outputs(snapshot) for snapshot in loop.snapshots)
        pixels = sum((SIZE // 2**stage) ** 2 for stage in range(len(loop.extractors)))
        moved += EXTRACTED * GATES * workload.hidden * (workload.length + FORECAST_STEPS) * pixels
    return moved


def outputs(network: nn.Module) -> int:
    """Return A: the values that the convolutions of a network put out for an image."""
    found: list[int] = []

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        found.append(output[0].numel())

    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(2, 3, SIZE, SIZE))
    for hook in hooks:
        hook.remove()
    return sum(found)
