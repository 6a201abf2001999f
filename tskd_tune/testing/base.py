"""The common base of all contracts: the component under test, its options, and options that have a visible effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import pytest
import torch

from tskd_tune.registry import Registry

Options: TypeAlias = Mapping[str, Any]


class Contract:
    """The base of all contracts. One subclass per kind of component has the registry and the tests.

    Attributes:
        component: the name of the component under test, such as ``my_parts:Hint``.
        options: the component's options in all tests; every option without a default is required.
        flips: option -> options with another value of this option, with which a test can detect the change.
    """

    component: ClassVar[str] = ""
    options: ClassVar[Options] = {}
    flips: ClassVar[Mapping[str, Options]] = {}

    @pytest.fixture
    def name(self) -> str:
        """Return the name of the component. A subclass that tests several components overrides this fixture."""
        return self.component

    def options_of(self, name: str) -> Options:
        """Return the options of a component for all tests."""
        return self.options

    def flips_of(self, name: str) -> Mapping[str, Options]:
        """Return ``flips`` for a component."""
        return self.flips

    @pytest.fixture(autouse=True)
    def _in_order(self) -> Iterator[None]:
        """Start every test with the same random numbers on one thread, and restore both after the test."""
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.set_num_threads(1)
            yield
        torch.set_num_threads(threads)


def own_options(registry: Registry[Any], name: str) -> set[str]:
    """Return the Python names of a component's options."""
    return {option for option in registry.options(name).model_fields if option != "name"}


def check_description(registry: Registry[Any], name: str) -> None:
    """Fail if a component has no summary, or if an option's meaning has fewer than three words."""
    entry = registry.entry(name)
    assert entry.summary, f"'{name}' has no docstring; write one line that says what it is"
    for option, field in registry.options(name).model_fields.items():
        if option != "name":
            meaning = field.description or ""
            assert len(meaning.split()) > 2, f"'{name}' does not explain the option '{option}' under 'Args:'"


def tensors(state: Any) -> list[torch.Tensor]:
    """Return copies of all tensors of a nested state, in the order of the state."""
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in inner for tensor in tensors(value)]
