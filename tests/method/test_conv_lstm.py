from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tskd_tune.errors import InputError
from tskd_tune.method.extractors import ExtractorSite, build_extractors
from tskd_tune.method.extractors.conv_lstm import ConvLSTM

torch.set_num_threads(1)
T, B, H, W = 3, 2, 4, 6


def made(seed=0, site=None, **options):
    """A ConvLSTM in float64 whose weights, peepholes included, are drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lstm = ConvLSTM(site or ExtractorSite(T, H, W, 0, 1), **{"hidden": 3, **options}).double()
        for parameter in lstm.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return lstm


def sequence(steps=T, height=H, width=W):
    return torch.randn(steps, B, 1, height, width, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def convolved(x, weight, bias=None):
    """A 2-D convolution of ``[C, H, W]`` with zero borders, in plain loops."""
    outputs, side = weight.shape[0], weight.shape[2]
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    result = np.zeros((outputs, height, width))
    for y in range(height):
        for z in range(width):
            patch = padded[:, y : y + side, z : z + side]
            result[:, y, z] = (weight * patch).sum((1, 2, 3))
    return result if bias is None else result + bias[:, None, None]


def cell_step(weights, name, projected, hidden, cell):
    """Equation 11, term by term."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    h = hidden.shape[0]
    recurrent = convolved(hidden, weights[f"{name}.recurrent.weight"])
    w_ci, w_cf, w_co = (
        weights.get(f"{name}.peep_{gate}", np.zeros((1, h, 1, 1)))[0] for gate in ("input", "forget", "output")
    )
    x_i, x_f, x_c, x_o = (projected[n * h : (n + 1) * h] + recurrent[n * h : (n + 1) * h] for n in range(4))
    i, f = sigmoid(x_i + w_ci * cell), sigmoid(x_f + w_cf * cell)
    cell = f * cell + i * np.tanh(x_c)
    o = sigmoid(x_o + w_co * cell)
    return o * np.tanh(cell), cell


def by_hand(lstm, x, forecast_steps=1, forecaster_input="zeros", readout="h", layers=1):
    """The encoder-forecaster of one sample ``[T, 1, H, W]``, unrolled in NumPy, without stem and activation."""
    weights = {name: value.detach().numpy() for name, value in lstm.named_parameters()}
    h = weights["encoder.recurrent.weight"].shape[1]
    hidden = [np.zeros((h, *x.shape[2:])) for _ in range(layers)]
    cell = [np.zeros((h, *x.shape[2:])) for _ in range(layers)]

    def step_on(half, projected):
        """Move all layers of a half; each layer but the first takes the hidden state of the one before."""
        for layer in range(layers):
            name = half
            if layer:
                name = f"deeper_{half}.{layer - 1}.cell"
                projection = f"deeper_{half}.{layer - 1}.projection"
                projected = convolved(hidden[layer - 1], weights[f"{projection}.weight"], weights[f"{projection}.bias"])
            hidden[layer], cell[layer] = cell_step(weights, name, projected, hidden[layer], cell[layer])

    for step in x:
        step_on("encoder", convolved(step, weights["encoder_input.weight"], weights["encoder_input.bias"]))
    if forecaster_input == "zeros":
        projected = np.broadcast_to(weights["forecaster_input.bias"][:, None, None], (4 * h, *x.shape[2:]))
    else:
        projected = convolved(x[-1], weights["forecaster_input.weight"], weights["forecaster_input.bias"])
    shown = []
    for _ in range(forecast_steps):
        step_on("forecaster", projected)
        shown += hidden
    both = [map_ for layer in zip(hidden, cell, strict=True) for map_ in layer]
    states = np.concatenate({"h": hidden, "h_c": both, "all_steps": shown}[readout])
    return convolved(states, weights["head.weight"], weights["head.bias"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"peephole": "full"},
        {"peephole": "none"},
        {"kernel": 5},
        {"kernel": 1, "hidden": 2},
        {"forecaster_input": "last"},
        {"readout": "h_c"},
        {"forecast_steps": 2},
        {"forecast_steps": 2, "forecaster_input": "last", "readout": "h_c", "peephole": "full"},
        {"forecast_steps": 3, "readout": "all_steps"},
        {"layers": 2},
        {"layers": 3, "hidden": 2, "forecast_steps": 2, "readout": "all_steps", "forecaster_input": "last"},
        {"layers": 2, "readout": "h_c", "peephole": "full"},
    ],
)
def test_values_against_numpy(options):
    lstm, x = made(**options), sequence()
    named = {key: options[key] for key in ("forecast_steps", "forecaster_input", "readout", "layers") if key in options}
    expected = np.stack([by_hand(lstm, x[:, b].numpy(), **named) for b in range(B)])
    np.testing.assert_allclose(lstm(x).detach().numpy(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_against_differences_of_numpy(layers):
    lstm, x = made(peephole="full", layers=layers), sequence()[:, :1].clone().requires_grad_()
    lstm(x).square().sum().backward()
    generator, checked = np.random.default_rng(3), 0

    def loss():
        return (by_hand(lstm, x.detach()[:, 0].numpy(), layers=layers) ** 2).sum()

    for tensor in [x, *lstm.parameters()]:
        flat, gradient = tensor.data.view(-1), tensor.grad.reshape(-1)
        for index in generator.integers(0, flat.numel(), 2):
            kept, losses = flat[index].item(), []
            for change in (1e-5, -1e-5):
                flat[index] = kept + change
                losses.append(loss())
            flat[index] = kept
            slope = (losses[0] - losses[1]) / 2e-5
            assert gradient[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)
            checked += 1
    assert checked == 2 * (1 + len(list(lstm.parameters())))


@pytest.mark.parametrize("peephole", ["channel", "full", "none"])
@pytest.mark.parametrize("forecaster_input", ["zeros", "last"])
def test_every_parameter_is_trained(peephole, forecaster_input):
    lstm = ConvLSTM(ExtractorSite(T, H, W, 0, 1), hidden=3, peephole=peephole, forecaster_input=forecaster_input)
    lstm(sequence().float()).sum().backward()
    for name, parameter in lstm.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("peephole", "shape"), [("channel", (1, 3, 1, 1)), ("full", (1, 3, H, W))])
def test_peepholes_are_parameters_that_begin_at_zero_and_move(peephole, shape):
    lstm = ConvLSTM(ExtractorSite(T, H, W, 0, 1), hidden=3, peephole=peephole)
    peepholes = {name: value for name, value in lstm.named_parameters() if "peep" in name}
    assert len(peepholes) == 6
    assert all(value.shape == shape and not value.any() for value in peepholes.values())
    assert all(lstm.to("meta").get_parameter(name).is_meta for name in peepholes)
    assert not [name for name, _ in made(peephole="none").named_parameters() if "peep" in name]


def test_a_sequence_of_one():
    lstm, x = made(site=ExtractorSite(1, H, W, 0, 1)), sequence(1)
    expected = np.stack([by_hand(lstm, x[:, b].numpy()) for b in range(B)])
    np.testing.assert_allclose(lstm(x).detach().numpy(), expected, rtol=1e-11)


def test_samples_do_not_mix_and_order_matters():
    lstm, x = made(), sequence()
    torch.testing.assert_close(lstm(x)[1:], lstm(x[:, 1:]))
    assert (lstm(x) - lstm(x.flip(0))).abs().max() > 1e-3


def test_a_strided_stem_and_its_head():
    lstm, x = made(stem="strided8", head="deconv", peephole="full"), sequence()
    assert lstm.state_size == (2, 3)
    assert lstm.encoder.peep_input.shape == (1, 3, 2, 3)
    weights = dict(lstm.named_parameters())
    first = F.conv2d(x[0], weights["stem.0.weight"], weights["stem.0.bias"], stride=2, padding=1)
    assert first.shape == (B, 8, 2, 3)
    torch.testing.assert_close(lstm.stem(x[0]), torch.where(first > 0, first, 0.2 * first))
    found = lstm(x)
    assert found.shape == (B, 1, H, W)
    found.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lstm.parameters())


@pytest.mark.parametrize(
    ("activation", "function"), [("relu", lambda z: z.clamp(min=0)), ("softplus", lambda z: z.exp().log1p())]
)
def test_output_activations(activation, function):
    plain, x = made()(sequence()), sequence()
    assert plain.min() < 0 < plain.max()
    torch.testing.assert_close(made(out_activation=activation)(x), function(plain))


def test_hidden_by_tap():
    site = ExtractorSite(T, H, W, tap=1, taps=3)
    assert ConvLSTM(site, hidden=[4, 5, 6]).encoder.recurrent.in_channels == 5
    with pytest.raises(InputError, match=r"one number for each of the 3 extractors, got \[4, 5\]"):
        ConvLSTM(site, hidden=[4, 5])


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((4, 4), {"stem": "strided8"}, "stem: strided8 with head: conv1x1 does not give"),
        ((4, 4), {"head": "deconv"}, "stem: none with head: deconv does not give"),
        ((7, 4), {"stem": "strided8", "head": "deconv"}, "even height and width, got 7x4 at tap 0"),
        ((4, 4), {"readout": "all_steps"}, "all_steps of forecast_steps: 1 is the same as h"),
    ],
)
def test_refusals(size, options, message):
    with pytest.raises(InputError, match=message):
        ConvLSTM(ExtractorSite(T, *size, 0, 1), **options)


def test_sharing_over_sizes():
    sizes = [(8, 8), (4, 4)]
    (shared,) = build_extractors(lambda site: ConvLSTM(site, hidden=2), T, sizes, share=True)
    assert shared(sequence(T, 4, 4).float()).shape == (B, 1, 4, 4)
    with pytest.raises(InputError, match="made for states of 8x8 pixels but these are 4x4; use peephole: channel"):
        build_extractors(lambda site: ConvLSTM(site, hidden=2, peephole="full"), T, sizes, share=True)
    each = build_extractors(lambda site: ConvLSTM(site, hidden=[2, 3], peephole="full"), T, sizes)
    assert [lstm.state_size for lstm in each] == sizes
    assert [lstm.head.in_channels for lstm in each] == [2, 3]


def test_zeros_give_one_constant_away_from_the_borders():
    lstm = made(site=ExtractorSite(2, 16, 16, 0, 1))
    found = lstm(torch.zeros(2, 1, 1, 16, 16, dtype=torch.float64))[0, 0]
    inner = found[4:-4, 4:-4]
    torch.testing.assert_close(inner, inner[0, 0].expand_as(inner))
    assert (found[0, 0] - inner[0, 0]).abs() > 1e-6


def begun(seed=0, site=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConvLSTM(site or ExtractorSite(T, 8, 8, 0, 1), **options).double()


def test_without_options_each_convolution_begins_as_torchs_own_drawn_in_this_order():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [
            torch.nn.Conv2d(1, 64, 3),
            torch.nn.Conv2d(16, 64, 3, bias=False),
            torch.nn.Conv2d(16, 64, 3, bias=False),
            torch.nn.Conv2d(16, 1, 1),
        ]
    lstm = begun()
    names = ("encoder_input", "encoder.recurrent", "forecaster.recurrent", "head")
    for name, convolution in zip(names, drawn, strict=True):
        assert torch.equal(lstm.get_submodule(name).weight, convolution.weight.double())
    assert not lstm.forecaster_input.bias.any()


OFFICIAL = {"stem": "strided8", "head": "deconv", "peephole": "none"}


@pytest.mark.parametrize("hidden", [64, 32])
def test_under_a_joint_start_a_cell_is_one_convolution_over_input_and_hidden_state(hidden):
    """Every bound against torch's own convolution over the concatenation, and against 1 / sqrt(fan in) by hand."""
    lstm = begun(hidden=hidden, initialization="joint", **OFFICIAL)
    for inputs, weights in (
        (8, [lstm.encoder_input.weight, lstm.encoder.recurrent.weight, lstm.encoder_input.bias]),
        (hidden, [lstm.forecaster.recurrent.weight, lstm.forecaster_input.bias]),
    ):
        bound = (9 * (inputs + hidden)) ** -0.5
        theirs = torch.nn.Conv2d(inputs + hidden, 4 * hidden, 3)
        assert theirs.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        for weight in weights:
            assert bound * (1 - 12 / weight.numel()) < weight.abs().max() <= bound
            # A uniform draw: its mean is 0, its standard deviation bound / sqrt(3).
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=4 / weight.numel() ** 0.5)
            assert abs(weight.mean().item()) < 4 * bound / (3 * weight.numel()) ** 0.5
    assert lstm.encoder_input.weight.dtype == torch.float64


def test_a_joint_start_has_the_bits_of_the_joint_convolution():
    class Drawn(torch.nn.Module):
        pass

    lstm, drawn = begun(hidden=4, initialization="joint", forecaster_input="last"), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # What is drawn before: the two halves of both cells and the head.
        for inputs, outputs, side, bias in ((1, 16, 3, True), (4, 16, 3, False), (1, 16, 3, True), (4, 16, 3, False)):
            torch.nn.Conv2d(inputs, outputs, side, bias=bias)
        torch.nn.Conv2d(4, 1, 1)
        drawn = [torch.nn.Conv2d(1 + 4, 16, 3).double() for _ in range(2)]
    x, hidden = torch.randn(2, 1, 8, 8).double(), torch.randn(2, 4, 8, 8).double()
    for half, cell, both in zip(
        (lstm.encoder_input, lstm.forecaster_input), (lstm.encoder, lstm.forecaster), drawn, strict=True
    ):
        expected = F.conv2d(torch.cat([x, hidden], 1), both.weight, both.bias, padding=1)
        torch.testing.assert_close(half(x) + cell.recurrent(hidden), expected, rtol=1e-12, atol=1e-12)


def through_the_sequence(seed, initialization):
    """The length of the prediction's gradient by the sequence, in float64."""
    lstm = begun(seed, hidden=64, initialization=initialization, **OFFICIAL)
    x = (
        0.02 * torch.rand(T, B, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).requires_grad_()
    lstm(x).square().sum().backward()
    lstm.zero_grad()
    (gradient,) = torch.autograd.grad(lstm(x).sum(), x)
    return gradient.norm().item()


def test_a_joint_start_lets_a_third_of_the_gradient_through_the_sequence():
    ratios = [through_the_sequence(seed, "separate") / through_the_sequence(seed, "joint") for seed in range(8)]
    assert 2 < np.median(ratios) < 5


def test_a_joint_start_is_another_start_of_the_same_network():
    apart, joint = begun(hidden=4), begun(hidden=4, initialization="joint")
    assert {k: v.shape for k, v in apart.state_dict().items()} == {k: v.shape for k, v in joint.state_dict().items()}
    joint.load_state_dict(apart.state_dict())
    x = torch.rand(T, B, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(apart(x), joint(x))
