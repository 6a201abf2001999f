"""Where and how a training computes: device, precision, memory format and CPU threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Output
from tskd_tune.errors import InputError
from tskd_tune.tasks.base import Feed
from tskd_tune.tasks.shards import Shard, sharded
from tskd_tune.training.group import Group

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Kernels = Literal["deterministic", "fastest"]
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """Where and how tensors are computed.

    Attributes:
        device: a CPU or a GPU.
        precision: the number format of the networks' activations; bfloat16 changes results.
        channels_last: whether images have their channels last in memory, which changes how results are rounded.
        threads: the number of CPU threads; None: as torch has it.
        kernels: which algorithms cuDNN may use on a GPU; with ``fastest`` the bits of two runs differ.
        compiles: whether ``torch.compile`` fuses the operations of the student, which rounds differently.
        norm_groups: from how many equal parts of a batch the batch norms of networks take statistics, each alone.
        accumulate: in how many micro-batches the batch of a worker is computed, one after the other.
        group: the workers that share each batch; None: this process has all of it.
        stream: where a GPU queues the work of one training, so that trainings of one process do not wait for each
            other; None: in the stream that is current.
    """

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    threads: int | None = None
    kernels: Kernels = "deterministic"
    compiles: bool = False
    norm_groups: int = 1
    accumulate: int = 1
    group: Group | None = None
    stream: torch.cuda.Stream | None = None

    @classmethod
    def choose(
        cls,
        device: DeviceName,
        precision: Precision,
        channels_last: bool,
        threads: int | None,
        kernels: Kernels = "deterministic",
    ) -> Compute:
        """Resolve ``auto`` to the GPU where there is one; this changes no setting of the process.

        Raises:
            InputError: ``cuda`` was asked for and there is none.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "training.device: 'cuda' was asked for but this machine shows no GPU; set training.device: auto or cpu"
            )
        chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        return cls(torch.device(chosen), precision, channels_last, threads, kernels)

    @property
    def rank(self) -> int:
        """The number of this worker among those that share each batch, from 0."""
        return 0 if self.group is None else self.group.rank

    @property
    def world(self) -> int:
        """The number of workers that share each batch."""
        return 1 if self.group is None else self.group.world

    def shared_with(self, group: Group | None) -> Compute:
        """Return the same for one of several workers; a student is not compiled then.

        Raises:
            InputError: the workers cannot share the parts from which batch norms take statistics.
        """
        world = 1 if group is None else group.world
        self.refuse_shared_by(world)
        return replace(self, group=group, compiles=self.compiles and world == 1)

    def refuse_shared_by(self, world: int) -> None:
        """Refuse several workers that cannot share the parts from which batch norms take statistics.

        Raises:
            InputError: with both numbers.
        """
        pieces = world * self.accumulate
        if self.norm_groups > 1 and self.norm_groups % pieces and self.accumulate > 1:
            each = "" if world == 1 else f" of each of {world} workers"
            raise InputError(
                f"training.batch_norm_groups: {self.norm_groups} parts of a batch cannot be shared by {self.accumulate}"
                f" micro-batches{each} (training.accumulate); set training.batch_norm_groups to 1 or to a multiple of"
                f" {pieces}"
            )
        if self.norm_groups > 1 and self.norm_groups % world:
            raise InputError(
                f"training.batch_norm_groups: {self.norm_groups} parts of a batch cannot be shared by {world} workers;"
                f" set training.batch_norm_groups to 1 or to a multiple of {world}, or change the number of workers"
            )

    def share_of(self, feed: Feed) -> Feed:
        """Return what this worker has of a training feed; a batch that is too small for its workers stays whole."""
        if self.world == 1:
            return feed
        # A batch norm needs two samples, in each part of a worker's that has statistics of its own.
        parts = max(1, self.norm_groups // self.world)
        return sharded(feed, Shard(self.rank, self.world, 2 * parts))

    def align(self, modules: Iterable[nn.Module | None]) -> None:
        """Give each worker the parameters and buffers of worker 0, which differ only where an operation is inexact."""
        if self.group is not None:
            states = [module.state_dict() for module in modules if module is not None]
            self.group.take_over(one for state in states for one in state.values() if one.is_floating_point())

    def with_own_stream(self) -> Compute:
        """Return the same with a new stream, on a GPU; a training has one of its own."""
        if self.device.type != "cuda":
            return self
        return replace(self, stream=torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]

    @contextmanager
    def lane(self) -> Iterator[None]:
        """Queue the work of the block in the own stream, after what was queued in the stream that was current.

        The work is not waited for: call `synchronize` before its results are used in another stream. After an error the
        block waits, because memory that is let go could otherwise be used anew while the GPU still writes to it.
        """
        if self.stream is None or torch.cuda.current_stream(self.device) == self.stream:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            try:
                yield
            except BaseException:
                with suppress(RuntimeError):  # an error of the GPU itself is raised again by each call
                    self.stream.synchronize()
                raise

    def use_threads(self) -> None:
        """Set the number of CPU threads of this process, where one is given."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def place(self, module: Module) -> Module:
        """Move a module to the device and its memory format."""
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        return module

    def arrange(self, images: Tensor) -> Tensor:
        """Bring images ``[B, C, H, W]`` into the memory format of the networks."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def keep_arranged(self, output: Output) -> None:
        """Let the gradients of taps ``[B, C, H, W]`` have the memory format of the networks.

        Losses give gradients in formats of their own. Kernels are chosen by the format, and round differently, so a
        loss of weight zero would change bits.
        """
        if self.channels_last:
            for tap in (*output.features.values(), *output.preactivations.values()):
                if tap.requires_grad and tap.dim() == 4:
                    tap.register_hook(_with_channels_last)  # type: ignore[no-untyped-call]

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which networks compute in the chosen precision."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @contextmanager
    def choosing_kernels(self) -> Iterator[None]:
        """Use only algorithms that give the same bits each time, or the fastest; then restore the settings.

        The algorithms are those of cuDNN, and on a GPU those of attention, whose fused kernels add in any order. A few
        other operations have no deterministic algorithm on a GPU; see `tskd_tune.training.exactness`.
        """
        cudnn = torch.backends.cudnn
        before, fused = (cudnn.deterministic, cudnn.benchmark), _fused_attention()
        is_exact = self.kernels == "deterministic"
        cudnn.deterministic, cudnn.benchmark = is_exact, not is_exact
        if is_exact and self.device.type == "cuda":
            _use_fused_attention(False, False, False)
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before
            _use_fused_attention(*fused)

    def synchronize(self) -> None:
        """Wait until the device has finished the work of this training, so that the clock measures that work too."""
        if self.stream is not None:
            self.stream.synchronize()
        elif self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory(self) -> int | None:
        """Return the peak GPU memory of tensors, in bytes; None on a CPU, where the process may have trained before."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def name(self) -> str:
        """Return the name of the device, for the row of a run."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def _fused_attention() -> tuple[bool, bool, bool]:
    """Return which fused kernels of attention torch may use."""
    cuda = torch.backends.cuda
    fused = cuda.flash_sdp_enabled, cuda.mem_efficient_sdp_enabled, cuda.cudnn_sdp_enabled
    flash, efficient, cudnn = (bool(enabled()) for enabled in fused)  # type: ignore[no-untyped-call]
    return flash, efficient, cudnn


def _use_fused_attention(flash: bool, efficient: bool, cudnn: bool) -> None:
    cuda = torch.backends.cuda
    cuda.enable_flash_sdp(flash)
    cuda.enable_mem_efficient_sdp(efficient)
    cuda.enable_cudnn_sdp(cudnn)


def _with_channels_last(gradient: Tensor) -> Tensor:
    """Return a gradient ``[B, C, H, W]`` with its channels last, also in the strides of sides of one pixel.

    Such strides change no place in memory, but kernels are chosen by them.
    """
    _, channels, height, width = gradient.shape
    last = (height * width * channels, 1, width * channels, channels)
    return gradient if gradient.stride() == last else gradient.clone(memory_format=torch.channels_last)
