"""The ``init`` command, which copies a search space of the package."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from tskd_tune.cli.terminal import put_json, say, show
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.files import write_whole
from tskd_tune.paths import in_shell
from tskd_tune.records.entries.origin import Origin
from tskd_tune.shipped import spaces


def init(name: str | None, *, as_json: bool) -> None:
    """Copy a search space into the current folder, or list all search spaces with their questions.

    Raises:
        InputError: there is no such search space, or the current folder already has its file.
        RunError: the file cannot be written.
    """
    if name is None:
        _list(as_json=as_json)
        return
    known = spaces()
    chosen = known.get(name.removesuffix(".yaml"))
    if chosen is None:
        raise InputError(f"init: there is no search space '{name}'{did_you_mean(name, known)}")
    copy = Path(chosen.name)
    if copy.exists() or copy.is_symlink():
        raise InputError(f"init: {copy} is in this folder already; rename it, or run init in another folder")
    write_whole(copy, chosen.read_bytes())
    if as_json:
        put_json({"name": chosen.stem, "file": str(copy.absolute()), "question": Origin.of(chosen).sentence})
    else:
        say(f"{copy}: {Origin.of(chosen).sentence}")
        say(f"check it with `tskd-tune check {in_shell(copy)}`, run it with `tskd-tune sweep {in_shell(copy)}`")


def _list(*, as_json: bool) -> None:
    asked = {name: Origin.of(path).sentence for name, path in spaces().items()}
    if as_json:
        put_json(asked)
        return
    table = Table("name", "question", title="search spaces of the package", title_justify="left")
    for name, text in asked.items():
        table.add_row(Text(name), Text(text))
    show(table)
    say("tskd-tune init NAME copies one into this folder; tskd-tune sweep NAME runs it as it is")
