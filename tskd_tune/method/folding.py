"""Folds a frozen network: its batch norms into its convolutions, and activations and sums into the same kernels.

Only what is tapped is computed. A folded network computes the same function as the original; it rounds differently.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tskd_tune.contracts import Features
from tskd_tune.method import fused_kernels

Points = Mapping[str, str]
"""Where a network is tapped: the name of a stage -> ``post`` or ``pre``, after or before its activation."""

Target = Callable[..., Any] | str
_RELUS: set[Target] = {F.relu, torch.relu, "relu", "relu_"}
_ADDS: set[Target] = {operator.add, operator.iadd, torch.add, "add", "add_"}
# These hold no parameters, or compute in the type of their input whatever the type of their parameters is.
_TYPE_FREE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.Identity, nn.Dropout, nn.Flatten)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class FoldedConv(nn.Module):
    """A convolution with the batch norm behind it folded in, and maybe a sum and a ReLU behind that.

    Attributes:
        activates: whether a ReLU follows.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, dtype: torch.dtype) -> None:
        super().__init__()
        # In lists, so that the tensors are neither copied nor registered: they are the network's own.
        self._source = [(conv, norm)]
        weight, bias = self._folded()
        self.register_buffer("weight", weight.detach().to(dtype, copy=True))
        self.register_buffer("bias", bias.detach().to(dtype, copy=True))
        self.geometry = fused_kernels.Geometry.of(conv)
        self.activates = False

    @torch.no_grad()
    def refold(self) -> None:
        """Take the values that the network has now, in place."""
        weight, bias = self._folded()
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """Map ``[B, C, H, W]`` to the convolution's output, with ``other`` added to it."""
        return fused_kernels.convolution(images, (self.weight, self.bias), self.geometry, other, self.activates)

    @torch.no_grad()
    def _folded(self) -> tuple[Tensor, Tensor]:
        ((conv, norm),) = self._source
        if norm is None:
            bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
            return conv.weight, bias
        assert norm.running_mean is not None and norm.running_var is not None
        return fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )


class FoldedNetwork:
    """A network in evaluation mode with folded batch norms, which computes what is tapped and nothing else.

    It follows the network only when `refold` is called, in place: a captured graph reads the same tensors again.

    >>> from tskd_tune.networks import NETWORKS
    >>> network, images = NETWORKS.build("resnet8", 10).eval(), torch.randn(2, 3, 8, 8)
    >>> folded = FoldedNetwork.of(network, {"stage3": "post"}, images)
    >>> found, wanted = folded(images).features, network(images).features
    >>> list(found), torch.allclose(found["stage3"], wanted["stage3"], atol=1e-5)
    (['stage3'], True)
    """

    def __init__(self, graph: fx.GraphModule, points: Points, dtype: torch.dtype) -> None:
        """Wrap a folded graph; use `of`."""
        self._graph = graph
        self._points = points
        self._dtype = dtype

    @classmethod
    def of(cls, network: nn.Module, points: Points, images: Tensor) -> FoldedNetwork | None:
        """Fold a network; None where torch cannot trace it, or where it has layers that this module does not know.

        Args:
            network: in evaluation mode.
            points: where the network is tapped.
            images: ``[B, C, H, W]`` on the network's device, of the type in which the folded network computes; it
                takes only images of the same ``(C, H, W)``.
        """
        traced = _traced(network, points, images.shape)
        if traced is None or not _is_known(traced):
            return None
        _fold_norms(traced, images.dtype)
        traced.recompile()
        with torch.no_grad(), _without_autocast(images):
            ShapeProp(traced).propagate(images[:1])
        _fuse(traced)
        return cls(traced, points, images.dtype)

    def __call__(self, images: Tensor) -> Features:
        """Map images ``[B, C, H, W]`` to the tapped features, without gradient."""
        with torch.no_grad(), _without_autocast(images):
            maps = dict(zip(self._points, self._graph(images.to(self._dtype)), strict=True))
        sides = {side: {stage: maps[stage] for stage, point in self._points.items() if point == side} for side in SIDES}
        return Features(sides["post"], sides["pre"])

    def refold(self) -> None:
        """Take the values that the network has now, in place."""
        for module in self._graph.modules():
            if isinstance(module, FoldedConv):
                module.refold()


SIDES = ("post", "pre")


class _Tapped(nn.Module):
    """A network whose output is the list of what is tapped."""

    def __init__(self, network: nn.Module, points: Points) -> None:
        super().__init__()
        self.network = network
        self.points = points

    def forward(self, images: Tensor) -> list[Tensor]:
        output = self.network(images)  # what makes its heads is not tapped, and leaves the graph
        sides = {"post": output.features, "pre": output.preactivations}
        return [sides[point][stage] for stage, point in self.points.items()]


class _Images(fx.Proxy):
    """Stands for images of a known shape, which a network may read to decide what to compute."""

    shape: torch.Size


class _Tracer(fx.Tracer):
    """Traces a network for images of one shape.

    It also calls the hooks of the layers that it does not enter, because networks of other packages are tapped so.
    """

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self._shape = shape

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if node.op != "placeholder":
            return super().proxy(node)
        images = _Images(node, self)
        images.shape = self._shape
        return images

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if self.is_leaf_module(m, self.path_of_module(m)):
            for hook in m._forward_hooks.values():
                hook(m, args, output)
        return output


def _traced(network: nn.Module, points: Points, shape: torch.Size) -> fx.GraphModule | None:
    """Return the graph of what is tapped, with the network's own modules; None where torch cannot trace it."""
    root = _Tapped(network, points)
    try:
        graph = _Tracer(shape).trace(root)
    except Exception:  # tracing runs any code of a network, which may fail in any way
        return None
    traced = fx.GraphModule(root, graph)
    graph.eliminate_dead_code()
    return traced


def _is_known(traced: fx.GraphModule) -> bool:
    """Tell whether every layer computes in the type of its input, so that none needs autocast."""
    return all(
        node.op != "get_attr"
        and (node.op != "call_module" or isinstance(_module(traced, node), (nn.Conv2d, *_TYPE_FREE, *_POOLS)))
        for node in traced.graph.nodes
    )


def _fold_norms(traced: fx.GraphModule, dtype: torch.dtype) -> None:
    """Replace every convolution by a folded one, with the batch norm that alone takes its output."""
    for number, node in enumerate(list(traced.graph.nodes)):
        conv = _module(traced, node)
        if not isinstance(conv, nn.Conv2d):
            continue
        after = _only_user(node)
        norm = None if after is None else _module(traced, after)
        is_foldable = isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and not norm.training
        name = f"folded{number}"
        traced.add_submodule(name, FoldedConv(conv, norm if is_foldable else None, dtype))  # type: ignore[arg-type]
        node.target = name
        if is_foldable and after is not None:
            after.replace_all_uses_with(node)
            traced.graph.erase_node(after)


def _fuse(traced: fx.GraphModule) -> None:
    """Let folded convolutions also add the other branch of their block, and activate."""
    for node in list(traced.graph.nodes):
        conv = _module(traced, node)
        if not isinstance(conv, FoldedConv):
            continue
        summed = _with_sum(traced, node)
        relu = _only_user(summed)
        if relu is not None and _is_relu(traced, relu):
            conv.activates = True
            relu.replace_all_uses_with(summed)
            traced.graph.erase_node(relu)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()


def _with_sum(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the node with the sum behind it fused in, where there is one of two maps of the same shape."""
    total = _only_user(node)
    if total is None or not _is_a(total, _ADDS) or total.kwargs or len(total.args) != 2:
        return node
    others = [argument for argument in total.args if argument is not node]
    source = node.args[0]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or not isinstance(source, fx.Node):
        return node
    # The convolution moves behind whatever stands before the sum, so nothing may change its input there.
    if _shape(others[0]) != _shape(node) or any(_writes(traced, user) for user in source.users):
        return node
    with traced.graph.inserting_before(total):
        fused = traced.graph.call_module(str(node.target), (source, others[0]))
    fused.meta = dict(total.meta)
    total.replace_all_uses_with(fused)
    traced.graph.erase_node(total)
    traced.graph.erase_node(node)
    return fused


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_a(node: fx.Node, targets: set[Target]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    return _is_a(node, _RELUS) or type(_module(traced, node)) is nn.ReLU


def _writes(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node changes its input in place."""
    by_name = isinstance(node.target, str) and node.op == "call_method" and node.target.endswith("_")
    by_option = bool(node.kwargs.get("inplace")) or bool(getattr(_module(traced, node), "inplace", False))
    return by_name or by_option or node.target is operator.iadd


def _shape(node: fx.Node) -> object:
    return getattr(node.meta.get("tensor_meta"), "shape", None)


def _without_autocast(images: Tensor) -> torch.autocast:
    return torch.autocast(images.device.type, enabled=False)
