"""The paper's extractor: a convolutional LSTM encodes the sequence, and a second one forecasts from the states.

TSKD, Eq. 6 and 11; Shi et al. 2015, arXiv 1506.04214, Eq. 3 and Section 3.2. With X the input, H the hidden and C the
cell state, ``*`` a convolution and ``o`` a product of elements::

    i_t = sigmoid(W_xi * X_t + W_hi * H_{t-1} + W_ci o C_{t-1} + b_i)
    f_t = sigmoid(W_xf * X_t + W_hf * H_{t-1} + W_cf o C_{t-1} + b_f)
    C_t = f_t o C_{t-1} + i_t o tanh(W_xc * X_t + W_hc * H_{t-1} + b_c)
    o_t = sigmoid(W_xo * X_t + W_ho * H_{t-1} + W_co o C_t + b_o)
    H_t = o_t o tanh(C_t)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite, OddInt
from tskd_tune.method.extractors.lstm_cell import Peepholes, State, gated
from tskd_tune.method.padding import masked

STRIDED_CHANNELS = 8
SLOPE = 0.2


class _Cell(nn.Module):
    """The recurrent half of Eq. 11, which goes one step on.

    The order of the gates is i, f, c, o. Peephole weights begin at zero, as in the original.
    """

    peep_input: nn.Parameter | None
    peep_forget: nn.Parameter | None
    peep_output: nn.Parameter | None

    def __init__(self, hidden: int, kernel: int, peephole: tuple[int, ...] | None) -> None:
        super().__init__()
        self.recurrent = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        for name in ("peep_input", "peep_forget", "peep_output"):
            weight = None if peephole is None else nn.Parameter(torch.zeros(peephole))
            self.register_parameter(name, weight)

    def forward(self, inputs: Tensor, projection: nn.Module, state: State | None) -> State:
        """Go one step on from inputs ``[B, C, H, W]`` and the states; None before the first step, where they are zero.

        Before the first step the recurrent terms, the forget gate and the peepholes into it have no effect.
        """
        if state is None:
            return gated(projection(inputs), None, self._peepholes())
        return gated(self._gates(inputs, projection, state[0]), state[1], self._peepholes())

    def _gates(self, inputs: Tensor, projection: nn.Module, hidden: Tensor) -> Tensor:
        """Return what the four gates take: one convolution over ``[input, hidden]``, which adds both shares."""
        weight, padding = self.recurrent.weight, self.recurrent.padding
        if isinstance(projection, nn.Conv2d):
            weight = torch.cat((projection.weight, weight), 1)
            hidden = torch.cat((inputs.to(hidden.dtype), hidden), 1)
        return F.conv2d(hidden, weight, projection.get_parameter("bias"), padding=padding)

    def _peepholes(self) -> Peepholes:
        if self.peep_input is None or self.peep_forget is None or self.peep_output is None:
            return None
        return self.peep_input, self.peep_forget, self.peep_output


class _NoInput(nn.Module):
    """The projection of an input of zeros: the biases of the four gates, without weights."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4 * hidden))


class _Layer(nn.Module):
    """A layer behind the first one: its cell, and the convolution of the hidden state of the layer before it."""

    def __init__(self, hidden: int, kernel: int, peephole: tuple[int, ...] | None) -> None:
        super().__init__()
        self.projection = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2)
        self.cell = _Cell(hidden, kernel, peephole)


def _parts(layer: nn.Module) -> tuple[_Cell, nn.Module]:
    """Return the cell of a layer, and what projects the input of the cell."""
    assert isinstance(layer, _Layer)  # nn.ModuleList is not generic
    return layer.cell, layer.projection


def _start_jointly(projection: nn.Module, cell: _Cell, inputs: int) -> None:
    """Initialize both halves of a cell and its bias as one convolution over ``[input, hidden]``."""
    recurrent = cell.recurrent
    both = nn.Conv2d(inputs + recurrent.in_channels, recurrent.out_channels, recurrent.kernel_size)  # type: ignore[arg-type]
    weight = both.weight.detach()
    if isinstance(projection, nn.Conv2d):
        projection.weight.data.copy_(weight[:, :inputs])
    recurrent.weight.data.copy_(weight[:, inputs:])
    assert both.bias is not None
    projection.get_parameter("bias").data.copy_(both.bias.detach())


@EXTRACTORS.register("conv_lstm", source="TSKD, Eq. 6 and 11; Shi et al. 2015, arXiv 1506.04214")
class ConvLSTM(Extractor):
    """An encoder and a forecaster; each layer of the forecaster starts from the last states of the encoder's layer.

    >>> extractor = ConvLSTM(ExtractorSite(steps=3, height=8, width=8, tap=0, taps=1), hidden=4)
    >>> extractor(torch.zeros(3, 2, 1, 8, 8)).shape  # three increments of two images -> the predicted increment
    torch.Size([2, 1, 8, 8])

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels of the states, or a list with one number per tap.
        layers: number of layers of the encoder, and of the forecaster. A deeper layer takes the hidden state of the
            layer before it, and the head takes the states of all layers of the forecaster.
        kernel: height and width of the convolutions, in pixels, odd.
        peephole: weights from the cell state to the gates: ``channel``: one per channel, whatever the size of the maps;
            ``full``: one per channel and pixel; ``none``.
        stem: the layers before the encoder: ``strided8``: a 3x3 convolution of stride 2 to 8 channels and a leaky ReLU
            (0.2); ``none``.
        forecaster_input: the input of the forecaster at each of its steps: ``zeros``, or the ``last`` element of the
            sequence.
        readout: the input of the head: the last hidden state (``h``), the last hidden state and the cell state
            (``h_c``), or the hidden states of all forecast steps (``all_steps``).
        head: the layers that make the prediction: ``conv1x1``: a 1x1 convolution; ``deconv``: a transposed 4x4
            convolution of stride 2 and a 3x3 convolution, 8 channels each with a leaky ReLU (0.2), then a 1x1
            convolution; ``deconv`` and ``stem: strided8`` require each other.
        forecast_steps: number of steps that the forecaster takes.
        out_activation: activation of the prediction; the target of Eq. 7 is never negative.
        initialization: how the gates' weights begin. ``separate``: the convolution of the input and that of the hidden
            state each as PyTorch's own; ``joint``: both and their biases as one convolution over input and hidden
            state, as in the authors' public code, where zeros as input have as many channels as the hidden state.

    Raises:
        InputError: a list ``hidden`` of another length than the taps, a stem and a head that do not give the size
            of the input, odd sizes under a strided stem, or ``all_steps`` of a single step.
    """

    masks = True

    def __init__(
        self,
        site: ExtractorSite,
        *,
        hidden: PositiveInt | list[PositiveInt] = 16,
        layers: PositiveInt = 1,
        kernel: OddInt = 3,
        peephole: Literal["channel", "full", "none"] = "channel",
        stem: Literal["none", "strided8"] = "none",
        forecaster_input: Literal["zeros", "last"] = "zeros",
        readout: Literal["h", "h_c", "all_steps"] = "h",
        head: Literal["conv1x1", "deconv"] = "conv1x1",
        forecast_steps: PositiveInt = 1,
        out_activation: Literal["none", "relu", "softplus"] = "none",
        initialization: Literal["separate", "joint"] = "separate",
    ) -> None:
        super().__init__()
        _check_sizes(site, stem, head)
        _check_readout(readout, forecast_steps)
        width = _hidden(site, hidden)
        inputs, stride = (STRIDED_CHANNELS, 2) if stem == "strided8" else (1, 1)
        self.state_size = (site.height // stride, site.width // stride)
        self.forecast_steps = forecast_steps
        self._stride = stride
        self._is_sized = peephole == "full"
        self._readout = readout
        weights = {"channel": (1, width, 1, 1), "full": (1, width, *self.state_size), "none": None}[peephole]
        self.stem = _stem(stem)
        self.encoder_input: nn.Module = nn.Conv2d(inputs, 4 * width, kernel, padding=kernel // 2)
        self.encoder = _Cell(width, kernel, weights)
        self.forecaster_input: nn.Module = (
            _NoInput(width)
            if forecaster_input == "zeros"
            else nn.Conv2d(inputs, 4 * width, kernel, padding=kernel // 2)
        )
        self.forecaster = _Cell(width, kernel, weights)
        deeper = range(layers - 1)
        self.deeper_encoder = nn.ModuleList(_Layer(width, kernel, weights) for _ in deeper)
        self.deeper_forecaster = nn.ModuleList(_Layer(width, kernel, weights) for _ in deeper)
        states = {"h": 1, "h_c": 2, "all_steps": forecast_steps}[readout]
        self.head = _head(head, layers * states * width)
        if initialization == "joint":
            _start_jointly(self.encoder_input, self.encoder, inputs)
            _start_jointly(self.forecaster_input, self.forecaster, width if forecaster_input == "zeros" else inputs)
            for cell, projection in map(_parts, (*self.deeper_encoder, *self.deeper_forecaster)):
                _start_jointly(projection, cell, width)
        self.activation = {"none": nn.Identity, "relu": nn.ReLU, "softplus": nn.Softplus}[out_activation]()

    def forward(self, sequence: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``; what a convolution takes is zero where not ``inside``.

        Raises:
            InputError: maps of another size than the site's under ``peephole: full``.
        """
        steps, batch = sequence.shape[:2]
        inputs = self.stem(sequence.flatten(0, 1))
        self._check_state_size(inputs)
        within = None if inside is None else inside[..., :: self._stride, :: self._stride]
        encoder = [(self.encoder, self.encoder_input), *map(_parts, self.deeper_encoder)]
        states: Sequence[State | None] = [None] * len(encoder)
        for step in inputs.unflatten(0, (steps, batch)):
            states = _step(encoder, masked(step, within), states, within)
        forecasts = self._forecast(masked(inputs[-batch:], within), states, within)
        prediction: Tensor = self.activation(self._headed(self._read(forecasts), inside))
        return prediction

    def _forecast(self, last: Tensor, states: Sequence[State | None], within: Tensor | None) -> list[list[State]]:
        """Return the states of each forecast step, one per layer."""
        forecaster = [(self.forecaster, self.forecaster_input), *map(_parts, self.deeper_forecaster)]
        forecasts = []
        for _ in range(self.forecast_steps):
            states = found = _step(forecaster, last, states, within)
            forecasts.append(found)
        return forecasts

    def _read(self, forecasts: list[list[State]]) -> Tensor:
        read = forecasts if self._readout == "all_steps" else forecasts[-1:]
        kinds = 2 if self._readout == "h_c" else 1
        maps = [one for states in read for state in states for one in state[:kinds]]
        return maps[0] if len(maps) == 1 else torch.cat(maps, 1)

    def _headed(self, states: Tensor, inside: Tensor | None) -> Tensor:
        """Return what the head makes of the states, before the activation of the prediction."""
        found: Tensor = states
        for place, layer in enumerate(self.head if isinstance(self.head, nn.Sequential) else [self.head]):
            found = layer(found)
            if place == 1:  # behind the transposed convolution and its activation, before a 3x3 convolution
                found = masked(found, inside)
        return found

    def _check_state_size(self, inputs: Tensor) -> None:
        size = tuple(inputs.shape[-2:])
        if self._is_sized and size != self.state_size:
            raise InputError(
                f"review.extractor.peephole: 'full' weights were made for states of {_by(self.state_size)} pixels "
                f"but these are {_by(size)}; use peephole: channel, or one extractor per tap"
            )


def _step(
    layers: Sequence[tuple[_Cell, nn.Module]], inputs: Tensor, states: Sequence[State | None], within: Tensor | None
) -> list[State]:
    """Go one step on with each layer, whose input is the hidden state of the layer before it."""
    found: list[State] = []
    for (cell, projection), state in zip(layers, states, strict=True):
        found.append(_within(cell(inputs, projection, state), within))
        inputs = found[-1][0]
    return found


def _within(state: State, within: Tensor | None) -> State:
    """Return the states, zero in the padding; without padding as they are."""
    return state if within is None else (state[0] * within, state[1] * within)


def _stem(stem: str) -> nn.Module:
    if stem == "none":
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(1, STRIDED_CHANNELS, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE))


def _head(head: str, channels: int) -> nn.Module:
    if head == "conv1x1":
        return nn.Conv2d(channels, 1, 1)
    return nn.Sequential(
        nn.ConvTranspose2d(channels, STRIDED_CHANNELS, 4, stride=2, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(STRIDED_CHANNELS, STRIDED_CHANNELS, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(STRIDED_CHANNELS, 1, 1),
    )


def _hidden(site: ExtractorSite, hidden: int | list[int]) -> int:
    if isinstance(hidden, int):
        return hidden
    if len(hidden) != site.taps:
        raise InputError(
            f"review.extractor.hidden: a list needs one number for each of the {site.taps} extractors, got {hidden}; "
            "give as many, or a single number"
        )
    return hidden[site.tap]


def _check_sizes(site: ExtractorSite, stem: str, head: str) -> None:
    if (stem == "strided8") != (head == "deconv"):
        raise InputError(
            f"review.extractor: stem: {stem} with head: {head} does not give a prediction of the size of the maps; "
            "use strided8 with deconv, or none with conv1x1"
        )
    if stem == "strided8" and (site.height % 2 or site.width % 2):
        raise InputError(
            f"review.extractor.stem: strided8 needs maps of even height and width, got {site.height}x{site.width} "
            f"at tap {site.tap}; use stem: none with head: conv1x1"
        )


def _check_readout(readout: str, forecast_steps: int) -> None:
    if readout == "all_steps" and forecast_steps == 1:
        raise InputError(
            "review.extractor.readout: all_steps of forecast_steps: 1 is the same as h; use h, or more steps"
        )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in size)
