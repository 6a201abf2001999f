"""Private names of other packages: the installed versions have them, and no file uses one that is not listed."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

import tskd_tune
from tskd_tune.reports.forms.wandb_private import NAMES as OF_WANDB

PACKAGE = Path(tskd_tune.__file__).parent
# These files hold nothing but private names, with their purposes.
LISTS = {"sweeps/on_ray/ray_private.py", "reports/forms/wandb_private.py"}
# torch offers no public names for these.
OF_TORCH = {
    "torch._subclasses.fake_tensor:FakeTensorMode": "counts the bytes of a step without allocating them",
    "torch.utils._python_dispatch:TorchDispatchMode": "sees every operation of a step",
    "torch.utils._pytree:tree_leaves": "finds the tensors among the arguments of an operation",
    "torch:ops.aten._local_scalar_dense": "is the operation that reads a value off the device",
    "torch.optim:Optimizer._group_tensors_by_device_and_dtype": "sorts tensors by their device",
    "torch.nn.modules.batchnorm:_BatchNorm": "is the class of all batch norms",
    "torch.nn.modules.conv:_ConvNd": "is the class of all convolutions",
}
# Attributes of Adam, of modules, of storages (it tells them apart) and of NCCL's options, an operation and a function
# that only some builds of torch have, with its module, and a function of Python that is documented all the same.
OTHERS = {
    "_C",
    "_cuda_clearCublasWorkspaces",
    "_cdata",
    "_warned_capturable_if_run_uncaptured",
    "_forward_hooks",
    "_convolution_pointwise",
    "_exit",
    "_timeout",
}


@pytest.mark.parametrize(("name", "purpose"), [*OF_WANDB.items(), *OF_TORCH.items()])
def test_the_installed_version_has_what_is_used(name: str, purpose: str) -> None:
    module, attribute = name.split(":")
    try:
        reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        pytest.fail(f"{module} has no {attribute}, which {purpose}; find another way")


def own_names() -> set[str]:
    """Return every name that the package defines."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
                names |= {target.attr for target in targets if _is_of_self(target)}
    return names


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(path: Path, own: set[str]) -> Iterator[str]:
    """Yield the private names of other packages that a file imports or reads."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            inside = any(is_private(part) for part in (node.module or "").split("."))
            yield from (alias.name for alias in node.names if inside or is_private(alias.name))
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if any(is_private(part) for part in a.name.split(".")))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not _is_of_self(node):
            yield from [node.attr] if node.attr not in own else []


def test_every_private_name_of_another_package_is_listed() -> None:
    own, listed = own_names(), {re.split(r"[.:]", name)[-1] for name in OF_TORCH} | OTHERS
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() not in LISTS]
    found = {name: path.relative_to(PACKAGE).as_posix() for path in paths for name in private_names(path, own)}
    assert {name: path for name, path in found.items() if name not in listed} == {}, "list it, with its purpose"
    assert listed <= found.keys(), "no longer used"


def test_a_name_that_is_not_listed_is_found(tmp_path: Path) -> None:
    text = "import a._b\nfrom c import _d\nfrom e._f import g\nself._own.x = thing._h + thing._known + thing.__dict__"
    (tmp_path / "one.py").write_text(text)
    assert set(private_names(tmp_path / "one.py", {"_known"})) == {"a._b", "_d", "g", "_h"}
