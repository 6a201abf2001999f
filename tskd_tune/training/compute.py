"""Where and how a training computes: device, precision, memory format and CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """Where and how tensors are computed.

    Attributes:
        device: a CPU or a GPU.
        precision: the number format of the networks' activations; bfloat16 changes results.
        channels_last: whether images have their channels last in memory, which changes how results are rounded.
        threads: the number of CPU threads; None: as torch has it.
    """

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    threads: int | None = None

    @classmethod
    def choose(cls, device: DeviceName, precision: Precision, channels_last: bool, threads: int | None) -> Compute:
        """Resolve ``auto`` to the GPU where there is one; this changes no setting of the process.

        Raises:
            InputError: ``cuda`` was asked for and there is none.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError(
                "training.device: 'cuda' was asked for but this machine shows no GPU; set training.device: auto or cpu"
            )
        chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        return cls(torch.device(chosen), precision, channels_last, threads)

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

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which networks compute in the chosen precision."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Let cuDNN use only algorithms that give the same bits each time; afterwards restore its settings.

        On a GPU two operations outside of cuDNN have no deterministic backward pass in torch: bilinear resizing of
        features (``size_match: interp_student``), and pooling to a size that does not divide the size of the map.
        """
        cudnn = torch.backends.cudnn
        before = cudnn.deterministic, cudnn.benchmark
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before

    def synchronize(self) -> None:
        """Wait until the device has finished, so that the clock measures its work too."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory(self) -> int | None:
        """Return the peak GPU memory of tensors, in bytes; None on a CPU, where the process may have trained before."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def name(self) -> str:
        """Return the name of the device, for the row of a run."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
