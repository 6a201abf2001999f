"""A callback hears all events in order, and nothing it does slows or breaks the run."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.callbacks import CALLBACKS, Callback, Heard, heard, hearing, refuse_unready
from tskd_tune.callbacks.base import build
from tskd_tune.callbacks.hearing import Hearer
from tskd_tune.errors import InputError
from tskd_tune.outside import whole_name
from tskd_tune.records.entries.events import Event
from tskd_tune.registry import Component

HERE = Heard("a-run", Path("runs/a-run"))
MODULE = '''
from tskd_tune.callbacks import Callback

heard = []

def tell(event, *, word: str = "none"):
    heard.append((event.what, word))

class Told(Callback):
    def __init__(self, run, *, word: str = "none"):
        self.run, self.word = run, word
    def hear(self, event):
        heard.append((event.what, self.run.name, self.word))
    def close(self):
        heard.append("closed")

class Broken(Callback):
    def __init__(self, run):
        raise OSError("no network")
    def hear(self, event):
        """Never called."""

class NoCallback:
    def __init__(self, run):
        self.run = run

def breaks(event):
    heard.append(event.what)
    raise KeyError(event.arm)

def leaves(event):
    raise SystemExit(3)
'''


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    name = f"heard_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    return str(tmp_path / name)


def component(name: str, **options: Any) -> Component:
    return CALLBACKS.slot().parse({"name": whole_name(name), **options})


def heard_by(module: str) -> list[Any]:
    found: list[Any] = CALLBACKS.entry(f"{module}:tell").factory.__globals__["heard"]
    return found


def test_a_function_and_a_class_hear_every_event_with_their_options(module: str) -> None:
    told: list[Event] = []
    parts = [component(f"{module}:tell", word="x"), component(f"{module}:Told", word="y")]
    with heard(parts[:1], HERE, told.append) as listener:
        listener(Event("epoch", "kd", "t1", 1))
    assert heard_by(module) == [("begun", "x"), ("epoch", "x"), ("ended", "x")]
    heard_by(module).clear()
    with pytest.raises(ZeroDivisionError), heard(parts[1:], HERE, told.append):
        raise ZeroDivisionError("by a trial")
    assert heard_by(module) == [("begun", "a-run", "y"), ("ended", "a-run", "y"), "closed"]
    assert [event.what for event in told] == ["begun", "epoch", "ended", "begun", "ended"]
    assert (told[2].reason, told[4].reason) == (None, "by a trial")


def test_an_error_is_named_as_the_callbacks_once_for_each_kind_of_event(module: str) -> None:
    told: list[Event] = []
    with heard([component(f"{module}:breaks"), component(f"{module}:leaves")], HERE, told.append) as listener:
        for epoch in range(5):
            listener(Event("epoch", "kd", "t1", 1, epoch))
    notes = [str(event.reason) for event in told if event.what == "note"]
    short = module.rpartition("/")[2]
    of_one = [note for note in notes if f"{short}:breaks" in note]
    assert [note.partition("' (")[0].rpartition("'")[2] for note in of_one] == ["begun", "epoch", "ended"]
    assert of_one[1].startswith(
        f"warning: callback {short}:breaks failed at the event 'epoch' (KeyError: 'kd', {short}.py:"
    )
    assert any(f"{short}:leaves failed at the event 'epoch' (SystemExit: 3" in note for note in notes)
    assert heard_by(module) == ["begun", *["epoch"] * 5, "ended"], "after an error the next event is heard"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Broken", "cannot be built with these options .OSError: no network"),
        ("NoCallback", "is the class NoCallback, which is no subclass of tskd_tune.callbacks.Callback"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_what_is_no_callback_is_refused_before_the_run(module: str, name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        refuse_unready([component(f"{module}:{name}")])


class Slow(Callback):
    """Takes its time until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.found: list[Event] = []

    def hear(self, event: Event) -> None:
        self.go.wait(20)
        self.found.append(event)


def test_a_slow_callback_slows_nothing_and_is_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "LAST_SECONDS", 0.2)
    slow = Slow()
    monkeypatch.setattr(hearing, "build", lambda *_: slow)
    told: list[Event] = []
    begun = time.monotonic()
    with heard([component("command", words=["true"])], HERE, told.append) as listener:
        for epoch in range(300):
            listener(Event("epoch", "kd", "t1", 1, epoch))
    took = time.monotonic() - begun
    slow.go.set()
    assert took < 5
    notes = [event.reason for event in told if event.what == "note"]
    # The thread holds one event; 300 epochs and the end wait.
    assert notes == [
        "warning: callback command is still busy 0.2 s after the end of the run, which waits no longer; 301 events are"
        " left unheard"
    ]


def test_events_beyond_the_queue_are_left_out_and_this_is_said_once() -> None:
    slow = Slow()
    hearer = Hearer("slow", slow, most=3)
    for epoch in range(50):
        hearer.tell(Event("epoch", "kd", "t1", 1, epoch))
    assert list(hearer.problems()) == ["callback slow is 3 events behind; it does not hear some of the next events"]
    slow.go.set()
    hearer.close(20)
    assert 3 <= len(slow.found) <= 4 and slow.found[0].epoch == 0


def test_a_built_function_needs_no_class(module: str) -> None:
    build(component(f"{module}:tell"), HERE).hear(Event("note", ""))
    assert heard_by(module) == [("note", "none")]
