"""The sources of distillers, read off their files, as importing them would load torch."""

from __future__ import annotations

import factories
from tskd_tune.distillers import DISTILLERS
from tskd_tune.reports.findings.methods import methods
from tskd_tune.reports.findings.records import Method


def trained(distiller):
    return methods([factories.a_row(experiment={"distiller": distiller})])


def test_every_distiller_of_the_package_has_the_source_of_its_registration():
    for entry in DISTILLERS:
        assert trained({"name": entry.name}) == (Method(entry.name, entry.source),)


def test_the_parts_of_a_combination_are_named_once():
    parts = {"a": {"name": "kd"}, "b": {"name": "at"}, "c": {"name": "kd"}}
    assert [one.name for one in trained({"name": "combined", "parts": parts})] == ["combined", "kd", "at"]


def test_an_outsiders_method_that_is_not_installed_here_is_left_out():
    assert trained({"name": "nowhere.module:Class"}) == () == trained(None)
