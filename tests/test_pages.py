"""What the pages name is there: commands with their options, YAML keys, files, links, variables and suites.

A page that names an option which no command has, or a key which no file takes, misleads its reader without a failure.
So every page for readers is read here, with the comments of the YAML files and the examples of ``--help``.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import typer
import yaml

from benchmarks.__main__ import app as benchmarks
from tskd_tune.callbacks.command import PREFIX, SHOWN
from tskd_tune.cli import app
from tskd_tune.cli.preparing.schemas import json_schema
from tskd_tune.cli.training.submitting import COMMANDS as SUBMITTED
from tskd_tune.errors import InputError
from tskd_tune.parsing import parse
from tskd_tune.shipped import spaces
from tskd_tune.sweeps.declared.schema import Sweep

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
COMMENTED = [*sorted((ROOT / "search_spaces").glob("*.yaml")), *sorted(ROOT.glob("cluster*"))]
ROOT_COMMAND: Any = typer.main.get_command(app)
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?<![\w/.-])tskd-tune +([a-z-][^\n]*)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def whole_commands() -> Iterator[tuple[str, str]]:
    """Yield where and what: the commands that a reader copies, from blocks, comments and the examples of the help."""
    for page in PAGES:
        for _, language, block in FENCE.findall(page.read_text()):
            if language == "sh":
                yield from ((name_of(page), found) for found in COMMAND.findall(block.replace("\\\n", " ")))
    for file in COMMENTED:
        lines = [line.removeprefix("#") for line in file.read_text().splitlines() if line.startswith("#   ")]
        yield from ((name_of(file), re.split(" {3,}", found)[0]) for found in COMMAND.findall("\n".join(lines)))
    for words, command in commands():
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", command.epilog or "")
        yield from ((f"{' '.join(words)} --help", found) for found in COMMAND.findall(text))


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    yield (), ROOT_COMMAND
    for name, command in ROOT_COMMAND.commands.items():
        yield (name,), command
        yield from (((name, inner), one) for inner, one in getattr(command, "commands", {}).items())


def mentioned_commands() -> Iterator[tuple[str, str]]:
    """Yield where and what: the commands in running text, which may leave words out."""
    for page in PAGES:
        text = FENCE.sub("", page.read_text())
        yield from ((name_of(page), " ".join(found.split())) for found in re.findall(r"`tskd-tune ([^`]+)`", text))


def words_of(line: str) -> list[str]:
    """Return the words of a command, without a comment behind it, or the quote of a command around it."""
    line = re.split(r" +#| &&| \|| > | &$|; ", line.rstrip("'"))[0]
    return shlex.split(line + ("'" if line.count("'") % 2 else ""))


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words begin with, and the words after it."""
    command, rest = ROOT_COMMAND, words
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    assert not hasattr(command, "commands"), f"there is no command {' '.join(words)!r}"
    return command, rest


def check_whole(words: list[str]) -> None:
    if words[0].startswith("-"):
        ROOT_COMMAND.make_context("tskd-tune", words, resilient_parsing=True)
        return
    command, rest = find(words)
    if command.name == "submit":
        assert rest[1] in SUBMITTED
        check_whole(rest[1:])
    with command.make_context(command.name, list(rest)) as context:
        for setting in context.params.get("settings") or []:
            check_setting(command.name, setting)


def check_setting(command: str, setting: str) -> None:
    key, _, value = setting.partition("=")
    if command == "study":
        return  # tests/studies knows the options of each study
    document: Any = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        document = {part: document}
    assert fits(document), f"--set {setting} sets no key of a file"


@functools.cache
def validator(form: Any) -> Any:
    return jsonschema.Draft202012Validator(json_schema(form))


def fits(document: Any) -> bool:
    """Tell whether a document is a part of a sweep's file, of its experiment, or of one of the groups named here."""
    groups = ({"experiment": document}, {"experiment": {"training": document}}, {"experiment": {"task": document}})
    return any(validator("sweep").is_valid({"extends": "a.yaml", **one}) for one in (document, *groups))


@pytest.mark.parametrize(("place", "line"), sorted(set(whole_commands())))
def test_a_command_that_readers_copy_is_one(place: str, line: str) -> None:
    try:
        check_whole(words_of(line))
    except click.exceptions.UsageError as error:
        pytest.fail(f"{place}: tskd-tune {line}: {error.format_message()}")


@pytest.mark.parametrize(("place", "line"), sorted(set(mentioned_commands())))
def test_a_command_in_the_text_has_its_options(place: str, line: str) -> None:
    command, rest = (ROOT_COMMAND, [line]) if line.startswith("-") else find(words_of(line))
    known = {flag for given in command.params for flag in (*given.opts, *given.secondary_opts)}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, place


def yaml_blocks() -> list[tuple[str, str]]:
    found = (
        (name_of(page), block) for page in PAGES for _, kind, block in FENCE.findall(page.read_text()) if kind == "yaml"
    )
    return [(f"{place}: {block.strip().splitlines()[0][:60]}", block) for place, block in found]


@pytest.mark.parametrize(("place", "block"), yaml_blocks(), ids=[place for place, _ in yaml_blocks()])
def test_a_block_of_yaml_has_keys_and_values_that_a_file_takes(place: str, block: str) -> None:
    indent = len(block) - len(block.lstrip(" "))
    text = "\n".join(line[indent:] for line in block.splitlines())
    try:
        documents = [parse(text, place).data]
    except InputError:
        documents = []
    # Lines that each show another value of one key are documents of their own.
    keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    if len(set(keys)) < len(keys):
        documents = [parse(line, place).data for line in text.splitlines() if line.strip()]
    assert documents and all(fits(one) for one in documents), place


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{name_of(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", there.read_text()), re.MULTILINE)
            assert anchor in map(slug, headings), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", [*PAGES, *COMMENTED], ids=name_of)
def test_files_variables_and_suites_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    code = functools.cache(lambda: "\n".join(path.read_text() for path in (ROOT / "tskd_tune").rglob("*.py")))
    for file in re.findall(
        r"(?<![\w/.~])((?:tests|docs|search_spaces|tskd_tune|benchmarks|\.ci|\.github)/[\w./-]*\w)", text
    ):
        assert (ROOT / file).exists() or re.search("_build|NAME", file), f"{name_of(page)}: {file}"
    for variable in re.findall(r"\bTSKD_TUNE_[A-Z]+\b", text):
        known = variable.removeprefix(PREFIX).lower() in ("sweep", "folder", *SHOWN) or variable in code()
        assert known or variable in (ROOT / "cluster.slurm.sh").read_text(), f"{name_of(page)}: {variable}"
    for suite in re.findall(r"python -m benchmarks ([a-z]\w*)", text):
        assert suite in [command.name for command in benchmarks.registered_commands], f"{name_of(page)}: {suite}"
    for module in re.findall(r"python -m ((?:tskd_tune|benchmarks)\.[\w.]*\w)", text):
        assert importlib.util.find_spec(module), f"{name_of(page)}: {module}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{name_of(page)}: make {target}"


def test_the_table_of_the_readme_has_every_search_space() -> None:
    table = (ROOT / "README.md").read_text().partition("## Search spaces in the package")[2].partition("\n## ")[0]
    named = {
        name
        for line in table.splitlines()
        if line.startswith("|")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert named == set(spaces())


def test_the_help_of_list_names_every_kind() -> None:
    from tskd_tune.cli.preparing.listing import REGISTRIES

    command = ROOT_COMMAND.commands["list"]
    [kind] = [given for given in command.params if given.name == "kind"]
    assert all(re.search(rf"\b{name}\b", kind.help) for name in REGISTRIES)


def test_every_command_belongs_to_a_group_of_the_help() -> None:
    assert [name for name, command in ROOT_COMMAND.commands.items() if not command.rich_help_panel] == []
    first, *_ = ROOT_COMMAND.list_commands(None)
    assert first == "init"


def test_the_readme_leads_to_every_page() -> None:
    more = (ROOT / "README.md").read_text()
    pages = [name_of(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "api"]
    own = {"docs/index.md", "docs/changelog.md", "docs/contributing.md"}
    assert [page for page in pages if f"]({page}" not in more and page not in own] == []


@pytest.mark.parametrize("name", spaces())
def test_the_comment_of_a_search_space_counts_its_runs(name: str) -> None:
    comment = " ".join(
        line.removeprefix("#").strip() for line in spaces()[name].read_text().splitlines() if line[0] == "#"
    )
    said = re.search(r"= (\d+) runs(?: of (\d+) epochs)?", comment)
    assert said, "the comment does not say how many runs the sweep has"
    sweep = Sweep.load(spaces()[name])
    trials, grid = sweep.search.options().get("trials"), sweep.space().grid
    assert int(said[1]) == (trials or len(grid())) * len(sweep.all_seeds())
    if said[2] and not trials:
        trainings: list[Any] = [point.experiment.get("training", {}) for point in grid()]
        assert {training.get("epochs", 240) for training in trainings} == {int(said[2])}


def forms_of(schema: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the keys of every form that a part of the schema allows."""
    if depth > 12 or not isinstance(schema, dict):
        return
    inner = [one for word in ("anyOf", "oneOf", "allOf") for one in schema.get(word, [])]
    if "$ref" in schema:
        inner.append(json_schema_of_sweep()["$defs"][schema["$ref"].rpartition("/")[2]])
    yield schema.get("properties", {})
    for one in [*inner, schema.get("items")]:
        yield from forms_of(one, depth + 1)


@functools.cache
def json_schema_of_sweep() -> dict[str, Any]:
    return json_schema("sweep")


def keys_of(schema: Any) -> set[str]:
    return {key for form in forms_of(schema) for key in form}


def is_key(path: str) -> bool:
    sweep = json_schema_of_sweep()
    for root in (sweep, sweep["properties"]["experiment"]):
        parts = [root]
        for name in path.split("."):
            parts = [form[name] for part in parts for form in forms_of(part) if name in form]
        if parts:
            return True
    return False


def texts() -> Iterator[tuple[str, str]]:
    """Yield where and what: the pages, and the texts of the package, such as messages, without their placeholders."""
    yield from ((name_of(page), page.read_text()) for page in PAGES if page.name != "architecture.md")
    for file in sorted((ROOT / "tskd_tune").rglob("*.py")):
        nodes = [*ast.walk(ast.parse(file.read_text()))]
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and " " in text and id(node) not in docstrings:
                yield name_of(file), text


def test_keys_that_pages_and_messages_name_are_keys_of_a_file() -> None:
    sweep = json_schema_of_sweep()
    first = keys_of(sweep) | keys_of(sweep["properties"]["experiment"])
    named = re.compile(rf"(?<![\w./'-])((?:{'|'.join(sorted(first))})(?:\.[a-z_0-9]+)+)(?![\w(/])")
    # Files, attributes in Python, and the options of a list's item or of a sampler, which the schema leaves open.
    others = re.compile(r".*\.(yaml|pth|logits)$|observe\.series\..*|search\.sampler\..*")
    found = {(place, key) for place, text in texts() for key in named.findall(text) if not others.match(key)}
    assert len(found) > 200
    assert sorted((place, key) for place, key in found if not is_key(key)) == []
