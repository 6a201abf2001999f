"""Sentences name the file and the line of what they are about, or the setting that gave it."""

from pathlib import Path

import pytest

from tskd_tune.documents import load
from tskd_tune.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("task:\n  name: digits\nreview:\n  k: 3\n  delta: 5\n")
    (tmp_path / "own.yaml").write_text("extends: base.yaml\n\nreview:\n  k: 6\narms:\n  k=3.5: {lr: 1}\n")
    (tmp_path / "sweep.yaml").write_text("seeds: [1]\nexperiment:\n  extends: base.yaml\n  review:\n    k: 9\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "sentence", "place"),
    [
        ("own.yaml", "review.k: is wrong", "own.yaml:4: "),
        ("own.yaml", "review.delta: is wrong", "base.yaml:5: "),
        ("own.yaml", "review.delta.low: is wrong", "base.yaml:5: "),
        ("own.yaml", "review.lambda: is missing", "own.yaml:3: "),
        ("own.yaml", "arms.k=3.5.lr: is wrong", "own.yaml:6: "),
        ("own.yaml", "student: is missing", "own.yaml: "),
        ("own.yaml", "something is wrong", "own.yaml: "),
        ("sweep.yaml", "experiment.review.k: is wrong", "sweep.yaml:5: "),
        ("sweep.yaml", "experiment.task.name: is wrong", "base.yaml:2: "),
        ("sweep.yaml", "seeds.0: is wrong", "sweep.yaml:1: "),
    ],
)
def test_names_file_and_line(folder: Path, file: str, sentence: str, place: str):
    assert load(folder / file).places.name(sentence) == f"{folder}/{place}{sentence}"


def test_names_the_setting(folder: Path):
    places = load(folder / "own.yaml", ["review.k=7", "review.extractor={hidden: 0}"]).places
    assert places.name("review.k: is wrong") == "--set review.k=7: review.k: is wrong"
    sentence = "review.extractor.hidden: is wrong"
    assert places.name(sentence) == f"--set review.extractor={{hidden: 0}}: {sentence}"
    assert places.name("review.delta: is wrong").startswith(f"{folder}/base.yaml:5: ")


def test_a_component_and_an_unknown_key_are_named_by_the_setting_that_gave_them(folder: Path):
    settings = ["experiment.review.extractor.name=lstm", "experiment.review.extractor.hidden=2", "experiment.trainig=1"]
    places = load(folder / "sweep.yaml", settings).places
    for sentence, setting in (
        ("review.extractor: 'lstm' is not among the extractors; known: conv_lstm", settings[0]),
        ("experiment.review.extractor: 'lstm' cannot be imported: no file", settings[0]),
        ("unknown key 'trainig'; did you mean 'training'?", settings[2]),
    ):
        assert places.name(sentence) == f"--set {setting}: {sentence}"
    other = "review.extractor: 'other' is not what was given"
    assert places.find(other) == places.find("review.extractor: is wrong")


@pytest.mark.parametrize("drawn", [None, {"a"}])
def test_an_unknown_key_of_a_branch_has_its_line(tmp_path: Path, drawn: set[str] | None):
    text = "experiment:\n  lrs: 1\n  choice:\n    a:\n      lrate: 2\n    b: {}\n"
    (tmp_path / "s.yaml").write_text(text)
    places = load(tmp_path / "s.yaml").places
    assert places.name("unknown key 'lrs'; known: lr", drawn).startswith(f"{tmp_path}/s.yaml:2: ")
    line = "" if drawn is None else ":5"
    assert places.name("unknown key 'lrate'; known: lr", drawn).startswith(f"{tmp_path}/s.yaml{line}: ")


def test_a_named_sentence_stays(folder: Path):
    places = load(folder / "own.yaml").places
    named = places.name("review.k: is wrong")
    assert places.name(named) == named


def test_extends_names_its_line(folder: Path):
    (folder / "slip.yaml").write_text("task: digits\nextends: bas.yaml\n")
    with pytest.raises(InputError, match=r"slip.yaml:2: extends: 'bas.yaml' is neither"):
        load(folder / "slip.yaml")


@pytest.mark.parametrize("name", ['"a\\tb"', "n" * 300, "."])
def test_extends_what_no_file_can_be(folder: Path, name: str):
    (folder / "slip.yaml").write_text(f"extends: {name}\n")
    with pytest.raises(InputError, match="is neither"):
        load(folder / "slip.yaml")


@pytest.mark.parametrize(
    ("sentence", "drawn", "line"),
    [
        ("review.tskd.k: a hole", None, 6),
        ("review.k: a point", {"tskd"}, 6),
        ("review.k: a point", {"none", "a"}, 12),
        ("arm.b: a branch", None, None),
        ("b.training.lr: a hole", None, 14),
        ("training.lr: a point", {"b"}, 14),
        ("training.lr: a point", {"further"}, 18),
        ("training: unknown key 'lrs'; known: lr", {"a"}, 13),
        ("unknown key 'seed'; known: seeds", None, 19),
    ],
)
def test_branches(tmp_path: Path, sentence: str, drawn: set[str] | None, line: int | None):
    lines = [
        "experiment:",
        " review:",
        "  choice:",
        "   none: null",
        "   tskd:",
        "    k: 1",
        "    delta: 2",
        " choice:",
    ]
    lines += ["  a:", "   task: digits", "   review:", "    k: 4", "   training: {lrs: 3}", "  b: {training: {lr: 1}}"]
    lines += ["search: grid", "arms:", " further:", "  training: {lr: 2}", "seed: 1"]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    place = load(tmp_path / "s.yaml").places.find(sentence, drawn)
    assert place is not None
    assert place.line == line
