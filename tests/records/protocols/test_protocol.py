"""The file with the frozen protocol of a run: when a line is added, and what is said of a file that is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factories import a_row
from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.plain import Document
from tskd_tune.records.protocols.changes import changes, differences, late
from tskd_tune.records.protocols.protocol import FILE, Kept, Searched, Terms, digest, keep, kept
from tskd_tune.records.runs.run_folder import RunFolder

TERMS = Terms(family=[["kd", "ce"]], margin=0.3, sequential="split", seeds=[1, 2, 3, 4, 5], metric="test_top1")


def edited(**over: object) -> Terms:
    return TERMS.model_copy(update=over)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path, "run", "sweep", {})
    keep(folder, "start", TERMS)
    return folder


def of(folder: RunFolder) -> Kept:
    found = kept(RunFolder.open(folder.path))
    assert found is not None
    return found


def test_a_line_is_added_where_the_protocol_differs(run: RunFolder) -> None:
    keep(run, "resume", TERMS)
    run.add_row(a_row(arm="ce"))
    keep(run, "resume", edited(margin=0.5))
    keep(run, "extension", edited(margin=0.5))
    found = of(run)
    assert [(line.on, line.results, line.terms.margin) for line in found.lines] == [
        ("start", 0, 0.3),
        ("resume", 1, 0.5),
    ]
    assert found.first is not None and found.first.terms == TERMS and (found.damage, found.torn) == ("", "")
    raw = (run.path / FILE).read_bytes().splitlines(keepends=True)
    assert RunFolder.open(run.path).state.protocol == digest(raw)


def test_what_was_changed_before_the_first_result_is_what_is_frozen(run: RunFolder) -> None:
    run.add_row(a_row(arm="ce", status="failed", broke=True, reason="a worker was lost"))
    keep(run, "resume", edited(margin=0.5))
    assert of(run).first == of(run).lines[1], "a training that broke is no result"


def test_rows_that_were_removed_do_not_thaw_what_is_frozen(run: RunFolder) -> None:
    run.add_row(a_row(arm="ce"))
    keep(run, "resume", edited(margin=0.5))
    run.store.delete("rows.jsonl")
    keep(RunFolder.open(run.path), "resume", edited(margin=0.7))
    assert of(run).first == of(run).lines[0] and of(run).later == of(run).lines[1:]


def test_a_run_of_an_earlier_version_keeps_none(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "old", "sweep", {})
    folder.add_row(a_row())
    keep(folder, "resume", TERMS)
    assert kept(folder) is None and not (folder.path / FILE).exists()


def test_a_confirmation_keeps_its_search_in_each_line(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "confirmed", "sweep", {}, confirms="search")
    searched = Searched(name="search", place="/runs/search", id="search-1", seeds=[1, 2])
    keep(folder, "start", TERMS, searched)
    keep(folder, "extension", edited(added=[[6]]))
    assert [line.confirms for line in of(folder).lines] == [searched, searched]


def test_a_crash_between_a_line_and_its_digest_harms_nothing(run: RunFolder) -> None:
    before = RunFolder.open(run.path)
    keep(run, "resume", edited(margin=0.5))
    run.store.write("state.json", json.dumps(before.state.plain()).encode())
    assert of(run).damage == ""
    again = RunFolder.open(run.path)
    keep(again, "resume", edited(margin=0.5))
    assert of(run).damage == "" and len(of(run).lines) == 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "protocol.jsonl is missing, which the run wrote at its start"),
        (lambda path: path.write_bytes(b""), "protocol.jsonl is missing, which the run wrote at its start"),
        (lambda path: path.write_bytes(b"\xff\xfe nothing\n"), "protocol.jsonl:1 is not a JSON object"),
        (lambda path: path.write_text("[1]\n"), "protocol.jsonl:1 is not a JSON object"),
        (lambda path: path.write_text('{"time": 3}\n'), "protocol.jsonl:1 is not a protocol (time: must be text"),
        (
            lambda path: path.write_text(path.read_text().replace("0.3", "0.5")),
            "protocol.jsonl was changed after the run had written it",
        ),
        (
            lambda path: path.write_text(path.read_text() * 3),
            "protocol.jsonl was changed after the run had written it",
        ),
    ],
)
def test_a_damaged_file_is_a_sentence_and_stays_one(damage: object, said: str, run: RunFolder) -> None:
    assert callable(damage)
    damage(run.path / FILE)
    assert said in of(run).damage
    again = RunFolder.open(run.path)
    keep(again, "resume", edited(margin=0.7))
    assert of(run).damage, "a resume does not make the file whole"


def a_run_of_three_lines(run: RunFolder) -> tuple[RunFolder, list[str]]:
    """Return a run whose rows came after its first, its second and its third line, and the lines."""
    for number, margin in enumerate((0.3, 0.5, 0.7)):
        keep(run, "resume", edited(margin=margin))
        run.add_row(a_row(f"t{number}", arm="ce", protocol=run.state.protocol or ""))
    return run, (run.path / FILE).read_text().splitlines(keepends=True)


def write(run: RunFolder, lines: list[str], *, noted: bool = False) -> None:
    """Write the file by hand, and its digest into the state too."""
    (run.path / FILE).write_text("".join(lines))
    if noted:
        state = json.loads((run.path / "state.json").read_text())
        (run.path / "state.json").write_text(json.dumps({**state, "protocol": digest([x.encode() for x in lines])}))


@pytest.mark.parametrize("noted", [False, True])
def test_the_line_that_was_edited_is_named(run: RunFolder, noted: bool) -> None:
    run, lines = a_run_of_three_lines(run)
    assert of(run).damage == "" and [line.results for line in of(run).lines] == [0, 1, 2]
    write(run, [lines[0], lines[1].replace('"margin": 0.5', '"margin": 0.9'), lines[2]], noted=noted)
    place = f"{run.path / FILE} was changed after the run had written it"
    assert of(run).damage == f"{place}: line 2, or a line after it is missing"
    write(run, [lines[0], lines[2]], noted=noted)
    assert of(run).damage == f"{place}: line 1, or a line after it is missing"
    write(run, lines[1:], noted=noted)
    assert of(run).damage == f"{place}: a line before the first is missing"


def test_the_last_line_that_was_edited_or_removed_is_named(run: RunFolder) -> None:
    run, lines = a_run_of_three_lines(run)
    for changed in (lines[:2], [*lines[:2], lines[2].replace("0.7", "0.9")]):
        write(run, changed)
        assert of(run).damage.endswith(": the last line, or lines after it")


def test_rows_contradict_a_file_that_was_written_again_with_its_digest(run: RunFolder) -> None:
    """Whoever wrote both files froze the protocol anew, with the results in sight."""
    run, lines = a_run_of_three_lines(run)
    place = f"{run.path / FILE} was changed after the run had written it"
    write(run, [lines[0].replace("0.3", "0.9")], noted=True)
    assert of(run).damage == f"{place}: 3 trainings ended under lines that are not there any more"
    write(run, lines[:2], noted=True)
    assert of(run).damage == f"{place}: 1 training ended under lines that are not there any more"
    (run.path / FILE).unlink()
    state = json.loads((run.path / "state.json").read_text())
    (run.path / "state.json").write_text(json.dumps({**state, "protocol": None}))
    assert of(run).damage.endswith("is missing, which the run wrote at its start")


def test_a_line_that_claims_to_be_older_than_the_results_is_noticed(run: RunFolder) -> None:
    """A second line with `results: 0` was taken for what had been declared; its digest may be missing after a crash."""
    head = run.state.protocol or ""
    run.add_row(a_row(arm="ce", protocol=head))
    again = {**json.loads((run.path / FILE).read_text()), "before": head}
    again["terms"]["margin"] = 5.0
    with (run.path / FILE).open("a") as file:
        file.write(json.dumps(again) + "\n")
    said = "line 2 says that 0 trainings had ended when it was written, but 1 had"
    assert of(run).damage.endswith(said)


def test_a_file_of_an_earlier_version_is_not_chained(run: RunFolder) -> None:
    line = {key: value for key, value in json.loads((run.path / FILE).read_text()).items() if key != "before"}
    whole = json.dumps(line) + "\n"
    write(run, [whole], noted=True)
    assert of(run).damage == "" and of(run).lines[0].before is None
    write(run, [whole.replace("0.3", "0.5")])
    assert "its lines are not chained, as those of an earlier version" in of(run).damage
    write(run, [whole], noted=True)
    keep(RunFolder.open(run.path), "resume", edited(margin=0.5))
    assert of(run).damage == "" and of(run).lines[1].before == digest([whole.encode()])


def test_the_status_says_that_the_protocol_was_changed(run: RunFolder) -> None:
    run, lines = a_run_of_three_lines(run)
    write(run, [lines[0].replace("0.3", "0.9"), *lines[1:]])
    said = [line for line in run_status(run).damage if line.startswith(str(run.path / FILE))]
    assert said == [f"{of(run).damage}; what was declared at the start is not known for certain"]


def test_an_incomplete_last_line_is_a_sentence(run: RunFolder) -> None:
    path = run.path / FILE
    path.write_bytes(path.read_bytes() + b'{"time": "2026')
    found = of(run)
    assert found.torn.endswith("the last line is incomplete, so what was changed then is not known")
    assert found.damage == "" and found.first is not None
    keep(RunFolder.open(run.path), "resume", edited(margin=0.5))
    assert (of(run).torn, of(run).damage, len(of(run).lines)) == ("", "", 2)


def test_a_first_line_that_was_cut_off_leaves_nothing_to_compare_with(run: RunFolder) -> None:
    path = run.path / FILE
    path.write_bytes(path.read_bytes()[:40])
    assert of(run).first is None and of(run).damage


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"margin": None}, "compare.margin from 0.3 to null"),
        ({"rule": "margin"}, "compare.rule from 'difference' to 'margin'"),
        ({"sequential": "fixed"}, "compare.sequential from 'split' to 'fixed'"),
        ({"looks": [5, 6]}, "compare.interim from null to [5, 6]"),
        ({"baseline": "kd"}, "compare.baseline from null to 'kd'"),
        ({"pairs": [["kd", "ce"]]}, "compare.pairs from null to [['kd', 'ce']]"),
        ({"allow": ["training"]}, "compare.allow from [] to ['training']"),
        ({"seeds": [1, 2, 3, 4, 6]}, "seeds from [1, 2, 3, 4, 5] to [1, 2, 3, 4, 6]"),
        ({"metric": "test_top5"}, "the metric from 'test_top1' to 'test_top5'"),
        ({"alpha": 0.1}, "the error rate from 0.05 to 0.1"),
        ({"mode": "min"}, "search.mode from null to 'min'"),
        ({"objectives": {"val_loss": "min"}}, "search.objectives from null to {'val_loss': 'min'}"),
        ({"family": []}, "the comparisons no longer have 'kd' against 'ce'"),
        ({"controls": {"kd": "tskd"}}, "compare.controls from {} to {'kd': 'tskd'}"),
    ],
)
def test_every_part_that_can_be_changed_is_named(over: dict[str, object], said: str) -> None:
    after = edited(**over)
    assert [change.sentence for change in changes(TERMS, after)] == [said]
    assert changes(after, after) == []


def test_an_arm_with_another_experiment_under_its_label_is_a_change() -> None:
    before, after = (edited(experiments=of) for of in ({"kd": "1f", "ce": "2e"}, {"kd": "3d", "ce": "2e", "at": "4c"}))
    assert [change.sentence for change in changes(before, after)] == ["the experiment of 'kd'"]
    assert changes(TERMS, after) == changes(after, TERMS) == []  # a line of an earlier version names no experiments
    both = edited(experiments={"kd": "5b", "ce": "6a"})
    assert [change.sentence for change in changes(before, both)] == ["the experiments of 'kd', 'ce'"]
    spaces = (edited(experiments={"": of}) for of in ("1f", "2e"))
    assert [change.sentence for change in changes(*spaces)] == ["the space of the search"]


def test_what_is_added_is_no_change_and_what_is_taken_away_is_one() -> None:
    seeds = edited(added=[[6, 7]])
    control = edited(controls={"zeros": "kd"}, family=[["kd", "ce"], ["kd", "zeros"]])
    assert changes(TERMS, seeds) == changes(TERMS, control) == []
    assert late(TERMS, control) == [("kd", "zeros")] and late(control, TERMS) == []
    assert [change.what for change in changes(seeds, TERMS)] == ["compare.added"]
    assert [change.what for change in changes(control, TERMS)] == ["compare.controls", "the comparisons"]


# Every part of a protocol that is a list or a mapping, and whether its order says something.
WITH_ORDER: dict[str, tuple[object, bool]] = {
    "family": ([["kd", "ce"], ["at", "ce"]], False),
    "pairs": ([["kd", "ce"], ["at", "ce"]], False),
    "looks": ([5, 10], True),
    "allow": (["training.epochs", "data"], False),
    "controls": ({"zeros": "kd", "ce": "at"}, False),
    "seeds": ([1, 2, 3], False),
    "added": ([[6], [7]], True),  # the first to be added was tested first
    "teachers": ([0, 1, 2], False),
    "experiments": ({"kd": "1f", "ce": "2e"}, False),
    "objectives": ({"val_top1": "max", "seconds": "min"}, False),  # the first one is the metric
}


def turned(given: object) -> object:
    if isinstance(given, dict):
        return dict(reversed(given.items()))
    assert isinstance(given, list)
    return given[::-1]


def test_every_part_with_an_order_is_known() -> None:
    def holds_several(schema: Document) -> bool:
        return schema.get("type") in ("array", "object") or any(map(holds_several, schema.get("anyOf", [])))

    parts = Terms.model_json_schema()["properties"]
    assert {name for name, schema in parts.items() if holds_several(schema)} == set(WITH_ORDER)


@pytest.mark.parametrize("part", WITH_ORDER)
def test_another_order_is_an_edit_only_where_it_says_something(part: str, run: RunFolder) -> None:
    given, counts = WITH_ORDER[part]
    before, after = edited(**{part: given}), edited(**{part: turned(given)})
    assert bool(changes(before, after)) == bool(differences(before, after)) == counts
    run.add_row(a_row(arm="ce"))
    keep(run, "resume", before)
    keep(run, "resume", after)
    assert len(of(run).lines) == 2 + counts


def test_the_order_of_seeds_counts_where_analyses_use_the_first_of_them() -> None:
    before, after = (edited(looks=[5, 10], seeds=seeds) for seeds in ([1, 2, 3], [3, 2, 1]))
    assert [change.sentence for change in changes(before, after)] == ["seeds from [1, 2, 3] to [3, 2, 1]"]


def test_an_arm_and_its_baseline_keep_their_places_and_an_edit_is_shown_as_it_was_written() -> None:
    (change,) = changes(edited(pairs=[["kd", "ce"]]), edited(pairs=[["ce", "kd"]]))
    assert change.what == "compare.pairs"
    (teachers,) = changes(edited(teachers=[2, 1]), edited(teachers=[3, 0, 2, 1]))
    assert teachers.sentence == "teacher.seeds from [2, 1] to [3, 0, 2, 1]"
