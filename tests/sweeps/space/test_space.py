"""Holes, the points that fill them, and the schema of both."""

import json
import pickle
import random
from typing import Any, Literal

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from tskd_tune.documents import DOMAINS
from tskd_tune.errors import InputError
from tskd_tune.sweeps.space.domains import Hole
from tskd_tune.sweeps.space.points import FIXED
from tskd_tune.sweeps.space.search_space import MOST_CORNERS, SearchSpace
from tskd_tune.sweeps.space.space_schema import space_schema

DESIGN = """
task: {name: digits}
review: {choice: {none: null, tskd: {k: {choice: [3, 6, 9]}, delta: {int: [1, 15]}, lambda: {loguniform: [0.1, 3000]}}}}
"""
ARMS = """
task: {name: digits}
distiller: {name: at, power: 2}
review: {k: 3, delta: 5}
choice:
  baseline: {review: null}
  kd: {distiller: {name: kd, temperature: {choice: [2, 4]}}, review: null}
  tskd: {review: {k: {choice: [6, 9]}}}
"""


def space(text: str) -> SearchSpace:
    return SearchSpace(yaml.safe_load(text))


def first(hole: Hole) -> Any:
    return hole.extremes()[0]


def picking(**drawn: Any):
    return lambda hole: drawn.get(hole.name.rpartition(".")[2], first(hole))


def test_holes_of_the_design():
    inside = (("review", "tskd"),)
    assert space(DESIGN).holes() == [
        Hole("review", "choice", labels=("none", "tskd"), labelled=True),
        Hole("review.tskd.k", "choice", inside, labels=("3", "6", "9")),
        Hole("review.tskd.delta", "int", inside, low=1, high=15),
        Hole("review.tskd.lambda", "loguniform", inside, low=0.1, high=3000.0),
    ]


def test_arms_within_arms_are_labelled_by_both_and_refused_without_keys():
    nested = """
task: {name: digits}
choice:
  small: {student: {name: resnet8}, choice: &arms {ce: {}, kd: {distiller: {name: kd}}}}
  large: {student: {name: resnet20}, choice: *arms}
"""
    points = space(nested).grid()
    assert [point.label for point in points] == ["small, ce", "small, kd", "large, ce", "large, kd"]
    assert points[3].experiment["student"] == {"name": "resnet20"} and points[3].values == {
        "arm": "large",
        "arm.large": "kd",
    }
    with pytest.raises(InputError, match="arm: the branch 'ce' of the experiment must be a mapping"):
        space(nested.replace("ce: {}", "ce: null"))


def test_a_sample_holds_only_what_its_branch_has():
    none = space(DESIGN).sample(picking(review="none"))
    assert none.values == {"review": "none"}
    assert none.experiment == {"task": {"name": "digits"}, "review": None}
    assert none.label == "review=none"
    point = space(DESIGN).sample(picking(review="tskd", k="9", delta=7, **{"lambda": 0.123456}))
    assert point.values == {
        "review": "tskd",
        "review.tskd.k": 9,
        "review.tskd.delta": 7,
        "review.tskd.lambda": 0.123456,
    }
    assert point.experiment["review"] == {"k": 9, "delta": 7, "lambda": 0.123456}
    assert point.label == "review=tskd, k=9, delta=7, lambda=0.1235"


def test_arms_merge_into_what_stands_beside_them():
    points = space(ARMS).grid()
    assert [point.label for point in points] == [
        "baseline",
        "kd, temperature=2",
        "kd, temperature=4",
        "tskd, k=6",
        "tskd, k=9",
    ]
    assert [point.values["arm"] for point in points] == ["baseline", "kd", "kd", "tskd", "tskd"]
    assert points[2].values == {"arm": "kd", "kd.distiller.temperature": 4}
    at, kd = {"name": "at", "power": 2}, {"name": "kd", "temperature": 2}
    assert points[0].experiment == {"task": {"name": "digits"}, "distiller": at, "review": None}
    assert points[1].experiment == {"task": {"name": "digits"}, "distiller": kd, "review": None}
    assert points[4].experiment == {"task": {"name": "digits"}, "distiller": at, "review": {"k": 9, "delta": 5}}


def test_a_branch_hides_the_hole_that_it_overrides():
    both = space("{k: {choice: [1, 2]}, choice: {free: {}, fixed: {k: 9}}}")
    assert [point.values for point in both.grid()] == [
        {"arm": "free", "k": 1},
        {"arm": "free", "k": 2},
        {"arm": "fixed"},
    ]
    assert both.size() == 3


def test_a_choice_beside_keys_below_the_root():
    points = space("{review: {k: 3, choice: {none: null, ours: {delta: 5}}}}").grid()
    assert [point.experiment for point in points] == [{"review": None}, {"review": {"k": 3, "delta": 5}}]


def test_choices_nest_and_lists_hold_holes():
    nested = space("{x: {choice: {a: {choice: [1, 2]}, b: 7}}, milestones: [{int: [1, 2]}, 9]}")
    assert [hole.name for hole in nested.holes()] == ["x", "x.a", "milestones.0"]
    point = nested.sample(lambda hole: hole.extremes()[-1] if hole.name != "x" else "a")
    assert point.values == {"x": "a", "x.a": 2, "milestones.0": 2}
    assert point.experiment == {"x": 2, "milestones": [2, 9]}


def test_labels_tell_namesakes_apart():
    point = space("{a: {b: {w: {choice: [1]}}}, c: {b: {w: {choice: [2]}}}, w: {choice: [3]}}").grid()[0]
    assert point.label == "a.b.w=1, c.b.w=2, w=3"
    short = space("{student: {depth: {choice: [1]}}, teacher: {depth: {choice: [2]}, lr: {choice: [null]}}}").grid()[0]
    assert short.label == "student.depth=1, teacher.depth=2, lr=null"


def test_values_keep_their_types_and_read_as_yaml():
    points = space("{x: {choice: [1, 1.5, a, true, null]}}").grid()
    assert [point.values["x"] for point in points] == [1, 1.5, "a", True, None]
    assert [point.label for point in points] == ["x=1", "x=1.5", "x=a", "x=true", "x=null"]


def test_a_space_without_holes_has_one_point():
    fixed = space("{task: {name: digits}, seed: 3}")
    (point,) = fixed.grid()
    assert (point.values, point.label, fixed.size()) == ({}, FIXED, 1)
    assert point.experiment == {"task": {"name": "digits"}, "seed": 3}
    assert list(fixed.corners()) == [point]


def test_points_share_nothing_with_the_space():
    one = space("{milestones: [1, 2], a: {b: 1}}")
    one.grid()[0].experiment["milestones"].append(3)
    one.grid()[0].experiment["a"]["b"] = 2
    assert one.grid()[0].experiment == {"milestones": [1, 2], "a": {"b": 1}}


def test_a_grid_is_the_exact_product_in_order():
    points = space("{a: {grid: [1, 2]}, b: {grid: {x: null, y: {c: {grid: [7, 8]}}}}}").grid()
    assert [tuple(point.values.values()) for point in points] == [
        (1, "x"),
        (1, "y", 7),
        (1, "y", 8),
        (2, "x"),
        (2, "y", 7),
        (2, "y", 8),
    ]


def test_size():
    assert space("{a: {grid: [1, 2]}, b: {grid: {x: null, y: {c: {grid: [7, 8]}}}}}").size() == 6
    assert space("{a: {int: [1, 10, 4]}, b: {choice: [1, 2]}}").size() == 6
    assert space("{a: {choice: {x: null, y: {uniform: [0, 1]}}}}").size() is None


def test_refuse():
    with pytest.raises(InputError, match=r"a: the range 'int' cannot be used in a grid"):
        space("{a: {int: [1, 2]}}").grid()
    with pytest.raises(InputError, match=r"a.x.b: 'grid' needs 'search: \{name: grid\}'"):
        space("{a: {choice: {x: {b: {grid: [1]}}}}}").refuse("search")
    space("{a: {grid: [1]}}").refuse("grid")
    space("{a: {int: [1, 2]}}").refuse("search")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{a: {choice: []}}", "a: 'choice' needs a list of values or a mapping of labelled branches, got []"),
        ("{a: {choice: {}}}", "a: 'choice' needs a list"),
        ("{a: {grid: 3}}", "a: 'grid' needs a list of values or a mapping of labelled branches, got 3"),
        ("{a: {choice: [{b: 1}]}}", "a: 'choice' lists {'b': 1}, which needs a label"),
        ("{a: {choice: [[1]]}}", "a: 'choice' lists [1], which needs a label"),
        ("{a: {choice: [1, '1']}}", "a: 'choice' lists 1 twice"),
        ("{a: {int: [1, 2], b: 3}}", "a: the range 'int' has a key beside it, 'b'"),
        ("{a: {int: [1, 2], uniform: [1, 2]}}", "a: has both 'int' and 'uniform'"),
        ("{choice: {a: {}}, grid: {b: {}}}", "the experiment: has both 'choice' and 'grid'"),
        ("{a: {int: [2, 2]}}", "a: 'int' needs low < high, got [2, 2]"),
        ("{a: {int: [1.5, 2]}}", "a: 'int' needs integers, got [1.5, 2]"),
        ("{a: {int: [1, 9, 0]}}", "a: 'int' needs a step from 1 up"),
        ("{a: {int: [1]}}", "a: 'int' needs [low, high] or [low, high, step] as numbers, got [1]"),
        ("{a: {uniform: [1, 2, 3]}}", "a: 'uniform' needs [low, high] as numbers"),
        ("{a: {uniform: [true, 2]}}", "a: 'uniform' needs [low, high] as numbers"),
        ("{a: {uniform: [0, .inf]}}", "a: 'uniform' needs [low, high] as numbers"),
        ("{a: {uniform: {low: 1}}}", "a: 'uniform' needs [low, high] as numbers, got {'low': 1}"),
        ("{a: {uniform: [3, 1]}}", "a: 'uniform' needs low < high"),
        ("{a: {loguniform: [0, 1]}}", "a: 'loguniform' needs low > 0"),
        ("{a: {logunifrom: [1, 2]}}", "a: 'logunifrom' is no kind of search parameter; did you mean 'loguniform'?"),
        ("{a: {itn: [1, 2]}}", "a: 'itn' is no kind of search parameter; did you mean 'int'?"),
        ("{a: {choices: {x: 1}}}", "a: 'choices' is no kind of search parameter; did you mean 'choice'?"),
        ("{b: {choice: {x: {a: {unifrom: [1, 2]}}}}}", "b.x.a: 'unifrom' is no kind of search parameter"),
        ("{choice: {a: null}}", "arm: the branch 'a' of the experiment must be a mapping of its keys, got null"),
        ("{choice: [1, 2]}", "arm: the branch '1' of the experiment must be a mapping"),
        ("{arm: {choice: [1]}, choice: {a: {}}}", "arm: two search parameters have this name"),
        ("{a: {x: {choice: [1]}, choice: {x: {choice: [1]}}}}", "a.x: two search parameters have this name"),
        ("{seed: {choice: [1, 2]}}", "seed: cannot be searched"),
        ("{a: {int: [1, 3, 9]}}", "a: the step 9 is wider than the range from 1 to 3, which leaves one value"),
        ("{a: {uniform: [-1.0e+308, 1.0e+308]}}", "is wider than a float"),
        ("{int: [1, 3]}", "arm: the range 'int' cannot replace a whole experiment"),
        ("{choice: {a: {uniform: [1, 3]}}}", "arm.a: the range 'uniform' cannot replace a whole experiment"),
        ('{a: {choice: {"": 1}}}', "a: the label '' is empty"),
        ('{a: {choice: {" x": 1}}}', "a: the label ' x' is empty, or begins or ends with a space"),
        ('{a: {choice: ["two\\nlines"]}}', "a: the label 'two\\nlines' contains a line break"),
        (f"{{a: {{choice: {{{'x' * 101}: 1}}}}}}", "has 101 characters of at most 100"),
        (f"{{a: {{choice: {list(range(10_001))}}}}}", "a: 'choice' has 10001 values, but 10000 are the most"),
    ],
)
def test_malformed(text: str, sentence: str):
    with pytest.raises(InputError) as error:
        space(text)
    assert sentence in str(error.value)


def test_what_only_looks_like_a_domain_is_left_alone():
    document = {"lambda": {"auto": 0.1}, "init": {"init": 3}, "plan": {"spacing": "int"}}
    assert SearchSpace(document).grid()[0].experiment == document


def test_corners_are_all_branches_and_ends():
    corners = list(space(DESIGN).corners())
    ends = {tuple(point.values.values())[1:] for point in corners if point.values["review"] == "tskd"}
    assert ends == {(k, delta, lambda_) for k in (3, 6, 9) for delta in (1, 15) for lambda_ in (0.1, 3000.0)}
    assert len(corners) == len(ends) + 1
    stepped = [point.values["a"] for point in space("{a: {int: [1, 10, 4]}}").corners()]
    assert stepped == [1, 9]


def test_corners_of_a_large_space_stay_few_and_visit_every_end():
    wide = {f"a{place}": {"choice": [1, 2, 3, 4]} for place in range(6)}
    leaf = {"choice": {"y": None, "z": {"uniform": [0, 1]}}}
    inner = {"choice": {"none": None, "middle": {"k": {"int": [1, 5]}, "j": leaf}, "last": {"k": {"int": [2, 7]}}}}
    large = SearchSpace({**wide, "b": inner})
    corners = list(large.corners())
    assert len(corners) <= 2 * sum(len(hole.extremes()) for hole in large.holes()) < MOST_CORNERS
    for hole in large.holes():
        seen = {point.values[hole.name] for point in corners if hole.name in point.values}
        assert {str(value) for value in seen} == {str(end) for end in hole.extremes()}
    everything_last = {"b": "last", "b.last.k": 7} | dict.fromkeys(wide, 4)
    assert everything_last in [point.values for point in corners]


def test_check_tells_each_mistake_once():
    def validate(experiment: dict[str, Any]) -> None:
        review = experiment["review"]
        if review and review["k"] * review["delta"] > 100:
            raise InputError("review: too late\nreview: far too late")
        Strict.model_validate({"k": 1.5 if review and review["k"] == 3 else 1})

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        k: int

    found = space(DESIGN).check(validate)
    assert len(found) == 3
    assert found[1:] == [
        "point 'review=tskd, k=9, delta=15, lambda=0.1' (and 1 more): review: too late",
        "point 'review=tskd, k=9, delta=15, lambda=0.1' (and 1 more): review: far too late",
    ]
    assert found[0].startswith("point 'review=tskd, k=3, delta=1, lambda=0.1' (and 3 more): k: must be an integer")
    assert space(DESIGN).check(lambda experiment: None) == []
    one = space("{x: {choice: {a: null, b: 1}}}")
    assert one.check(lambda experiment: refuse(experiment, 1)) == ["point 'x=b': x: is 1"]
    assert space("{x: 1}").check(lambda experiment: refuse(experiment, 1)) == ["x: is 1"]


def refuse(experiment: dict[str, Any], value: int) -> None:
    if experiment["x"] == value:
        raise InputError(f"x: is {value}")


SCALARS = st.integers(0, 9) | st.sampled_from(["a", "b", None])
LISTED = st.lists(st.integers(0, 20), min_size=1, max_size=3, unique=True)
WORDS = st.sampled_from(["k", "delta", "w", "x"])
TREES = st.recursive(
    SCALARS
    | st.builds(lambda values: {"choice": values}, LISTED)
    | st.builds(lambda low, width: {"int": [low, low + width]}, st.integers(0, 5), st.integers(1, 3)),
    lambda inner: (
        st.dictionaries(WORDS, inner, max_size=3)
        | st.builds(lambda branches: {"choice": branches}, st.dictionaries(st.sampled_from("pqr"), inner, min_size=1))
        | st.builds(
            lambda beside, branches: {**beside, "choice": branches},
            st.dictionaries(WORDS, inner, max_size=2),
            st.dictionaries(st.sampled_from("pqr"), st.dictionaries(WORDS, inner, max_size=2), min_size=1),
        )
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(document=st.dictionaries(WORDS, TREES, max_size=3), seed=st.integers(0, 99))
def test_any_space(document: dict[str, Any], seed: int):
    one = SearchSpace(document)
    assert json.loads(json.dumps(document)) == document
    static = {hole.name: hole for hole in one.holes()}
    source = random.Random(seed)

    def pick(hole: Hole) -> Any:
        assert static[hole.name] == hole
        return source.choice(hole.extremes())

    point = one.sample(pick)
    assert not _domains_in(point.experiment)
    assert json.loads(json.dumps(point.experiment)) == point.experiment
    for name in point.values:
        assert all(str(point.values[outer]) == label for outer, label in static[name].condition)
    assert pickle.loads(pickle.dumps(one)).holes() == one.holes()
    if not any(hole.is_range for hole in one.holes()) and (one.size() or 0) <= 200:
        points = one.grid()
        assert len(points) == one.size() == len({repr(point.values) for point in points})
        assert point.values in [other.values for other in points]


def _domains_in(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key in DOMAINS or _domains_in(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_domains_in, value))


class Kd(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["kd"]
    temperature: float = 4.0


class At(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["at"]
    power: int = 2


class Review(BaseModel):
    model_config = ConfigDict(extra="forbid")
    k: int = 3
    delta: int = 5


class Experiment(BaseModel):
    model_config = ConfigDict(extra="forbid")
    task: str
    distiller: Kd | At
    review: Review | None = None


SCHEMA = space_schema(Experiment.model_json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{extends: paper/one.yaml}",
        "{task: digits, distiller: {name: kd, temperature: {loguniform: [1, 9]}}}",
        "{task: {choice: [digits, cifar]}}",
        "{distiller: {temperature: 3.0}}",
        "{distiller: {choice: {kd: {name: kd}, at: {name: at}}}}",
        "{review: {choice: {none: null, tskd: {k: {choice: [3, 6]}, delta: {int: [1, 15]}}}}}",
        "{review: {k: 3, choice: {short: {delta: 1}, long: {delta: 9}}}}",
        "{task: digits, choice: {baseline: {review: null}, tskd: {review: {k: 3}}}}",
        "{review: {k: {grid: [1, 2]}, delta: {int: [1, 9, 2]}}}",
    ],
)
def test_schema_accepts(text: str):
    document = yaml.safe_load(text)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    SearchSpace({key: value for key, value in document.items() if key != "extends"})


@pytest.mark.parametrize(
    "text",
    [
        "{tusk: digits}",
        "{review: {k: {choise: [1]}}}",
        "{review: {k: {choice: []}}}",
        "{review: {k: {int: [1]}}}",
        "{review: {k: {uniform: [1, 2], int: [1, 2]}}}",
        "{review: {k: three}}",
        "{review: {extends: paper/one.yaml}}",
        "{distiller: {name: kt}}",
        "{choice: 3}",
    ],
)
def test_schema_refuses(text: str):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), SCHEMA, cls=jsonschema.Draft202012Validator)


def test_schema_leaves_the_experiments_own_alone():
    given = Experiment.model_json_schema()
    before = json.dumps(given)
    assert space_schema(given)["title"] == "SearchSpace"
    assert json.dumps(given) == before


def test_a_grid_without_end_is_refused_before_it_is_made():
    holes = {f"k{number}": {"choice": list(range(10))} for number in range(30)}
    with pytest.raises(InputError, match=f"the grid has {10**30} points, but 10000 are the most"):
        SearchSpace(holes).grid()


def test_a_corner_is_walked_once():
    points = list(SearchSpace({"k": {"choice": list(range(3000))}}).corners())
    assert [point.experiment["k"] for point in points] == list(range(3000))


def test_labels_that_look_the_same_are_refused():
    with pytest.raises(InputError, match=r"a: the labels 'caf\\xe9' and 'cafe\\u0301' look the same"):
        space("{a: {choice: {caf\u00e9: 1, cafe\u0301: 2}}}")
