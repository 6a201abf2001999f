"""What W&B would refuse is found before training, by W&B's own rules."""

from __future__ import annotations

import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.wandb.rules import problems, refuse
from tskd_tune.records.wandb.server import Place


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (Place(project="cifar/100: try #2"), "wandb.project: W&B refuses it (Invalid project name"),
        (Place(project="x" * 129), "wandb.project: W&B refuses it (Invalid project name"),
        (Place(entity="my team"), "wandb.entity: W&B's users and teams"),
        (Place(entity="lab/other"), "wandb.entity: W&B's users and teams"),
        (Place(project="温度 1", entity="lab-1"), None),
    ],
)
def test_the_file(place: Place, sentence: str | None):
    found = problems(place, {})
    assert [line[: len(sentence or "")] for line in found] == ([] if sentence is None else [sentence])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_PROJECT", "a/b", "cannot contain characters"),
        ("WANDB_ENTITY", "a b", "users and teams"),
        ("WANDB_ENTITY", "x" * 200, "users and teams"),
        ("WANDB_TAGS", "x" * 65, "between 1 and 64 characters"),
        ("WANDB_TAGS", "a,,b", "between 1 and 64 characters"),
        ("WANDB_MODE", "onlin", "'offline'"),
        ("WANDB_RUN_ID", "a/b", "Run ID cannot contain"),
        ("WANDB_RUN_GROUP", "x" * 129, "has 129 characters"),
        ("WANDB_NAME", "x" * 129, "has 129 characters"),
        ("WANDB_RESUME", "perhaps", "'allow'"),
        ("WANDB_BASE_URL", "api.wandb.ai", "URL"),
        ("WANDB_API_KEY", "short", "40"),
        ("WANDB_API_KEY", " " + "a" * 40, "whitespace"),
    ],
)
def test_the_environment(name: str, value: str, said: str):
    (found,) = problems(Place(), {name: value})
    assert found.startswith(f"{name}: ")
    assert said in found
    assert "\n" not in found
    if name == "WANDB_API_KEY":
        assert value not in found, "a key is shown to nobody"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WANDB_MODE": "offline"},
        {"WANDB_MODE": "online", "WANDB_API_KEY": "0123456789" * 4, "WANDB_TAGS": "a,b", "WANDB_PROJECT": "mine"},
        {"WANDB_RUN_ID": "mine", "WANDB_NAME": "mine"},
        {"WANDB_MODE": "disabled", "WANDB_PROJECT": "a/b"},
    ],
)
def test_what_is_in_order(environment: dict[str, str]):
    assert problems(Place(), environment) == []


def test_all_mistakes_are_told_at_once_and_none_where_nothing_is_tracked():
    place, environment = Place(project="a/b"), {"WANDB_TAGS": "x" * 65}
    with pytest.raises(InputError, match=r"(?s)wandb.project.*\nWANDB_TAGS"):
        refuse(place, environment=environment)
    refuse(place, track=False, environment=environment)
