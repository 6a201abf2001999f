"""The machines of a cluster: what each must have, how many trials they hold, and what a sweep waits for."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray import cloudpickle, tune
from ray.exceptions import RayActorError

from factories import raised
from tskd_tune.errors import InputError, LostWorkerError, RunError
from tskd_tune.paths import Address
from tskd_tune.records.entries.events import Event
from tskd_tune.records.sessions.breakage import breakage
from tskd_tune.storage.objects import Objects
from tskd_tune.sweeps import preflight
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines import growing, late_nodes, lost_nodes, node_probe, waiting
from tskd_tune.sweeps.machines.node_probe import Needs, problems
from tskd_tune.sweeps.machines.nodes import Kind, Node, in_words
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError, UnfitNodeError
from tskd_tune.sweeps.on_ray import ray_address, ray_private
from tskd_tune.sweeps.searching.listed_points import ListedPoints
from tskd_tune.sweeps.trials import team
from tskd_tune.tasks.base import Task

COMPONENT = """
from tskd_tune.errors import InputError
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import synthetic


def data() -> Task:
    '''Random images.'''
    return synthetic(batch_size=8, size=8, train=24, validation=8, test=8)
"""
CPU = Node("a", "one", "10.0.0.1", {"CPU": 8.0})
GPU = Node("b", "two", "10.0.0.2", {"CPU": 4.0, "GPU": 1.0})


@pytest.fixture
def sweep(tiny_document: dict[str, Any], tmp_path: Path) -> Sweep:
    (tmp_path / "mine.py").write_text(COMPONENT)
    experiment = {**tiny_document, "task": {"name": f"{tmp_path}/mine:data"}}
    return Sweep.read({"experiment": experiment, "search": {"name": "grid"}})


@pytest.fixture
def needs(sweep: Sweep, tmp_path: Path) -> Needs:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "marker").touch()
    return preflight.needs_of(sweep, tmp_path / "runs", "marker")


def test_the_machine_that_starts_a_sweep_has_all_that_the_sweep_needs(needs: Needs) -> None:
    assert problems(needs) == []
    assert [*needs.components] == [needs.experiments[0]["task"]["name"]]
    assert list(Path(needs.storage or "").iterdir()) == [Path(needs.storage or "") / "marker"], "nothing is left"


def test_a_machine_that_shares_no_storage_is_told_what_to_do(needs: Needs) -> None:
    (told,) = problems(replace(needs, storage="/no/such/folder"))
    assert "does not share the storage /no/such/folder" in told and "--storage" in told
    assert problems(replace(needs, storage=None)) == []


def test_an_object_storage_is_looked_at_from_the_machine(sweep: Sweep, memory: Address) -> None:
    with preflight._marked(memory) as marker:
        needs = preflight.needs_of(sweep, memory, marker)
        assert needs.storage is None and needs.address == memory.url
        assert problems(needs) == []
        assert Objects(memory).read(marker) is not None
    assert Objects(memory).read(marker) is None, "nothing is left"
    (told,) = problems(needs)
    assert told.startswith(f"does not share the storage {memory}") and "--storage" in told
    assert problems(replace(needs, marker="")) == [], "a machine that joins later finds no marker"


def test_an_object_storage_that_a_machine_cannot_use_is_named(needs: Needs, s3: Address) -> None:
    (told,) = problems(replace(needs, storage=None, address="s3://no-such-bucket/runs"))
    assert told.startswith("cannot use the storage s3://no-such-bucket/runs") and "no such bucket" in told
    (told,) = problems(replace(needs, storage=None, address="gs://bucket/runs"))
    assert "the package that fsspec needs for gs:// is missing on this machine; install it" in told


def test_a_storage_that_cannot_be_written_is_named(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        if "marker" in path.name:
            raise RunError(f"{path}: could not be written (Read-only file system); make it writable")
        path.write_bytes(content)

    monkeypatch.setattr(node_probe, "write_whole", refuse)
    (told,) = problems(needs)
    assert told.startswith("cannot write to the storage") and "Read-only file system" in told


def test_other_versions_hide_every_other_problem(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(needs, storage="/no/such/folder", versions={**needs.versions, "torch": "1.0", "ray": "1.1"})
    (told,) = problems(other)
    assert "torch" in told and "and not 1.0" in told and "and not 1.1" in told and "storage" not in told
    (told,) = problems(replace(needs, code="another"))
    assert "has other code of tskd-tune" in told


def test_code_and_data_of_the_user_are_compared(needs: Needs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(needs.components))
    (told,) = problems(replace(needs, components={name: "another digest"}))
    assert told.startswith("has other code of 'mine:data'") and str(tmp_path / "mine.py") in told
    (told,) = problems(replace(needs, components={f"{tmp_path}/nowhere:data": "digest"}))
    assert told.startswith("cannot import 'nowhere:data'") and "copy its file" in told
    (told,) = problems(replace(needs, data=["another fingerprint"]))
    assert "its data differ" in told

    def missing(task: Task) -> None:
        raise InputError("task.root: there is no folder /data; give the folder of the images")

    monkeypatch.setattr(Task, "facts", missing)
    (told,) = problems(needs)
    assert "there is no folder /data" in told and "put the same data" in told


def test_a_disk_that_is_almost_full_is_named(needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_probe.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    told = problems(needs)
    assert len(told) == 3 and all("has 1 MiB free at" in one and "free space there" in one for one in told)


def test_one_error_names_every_machine_that_lacks_something() -> None:
    lacks = {"node one (10.0.0.1)": ["has no disk", "has no data"], "node two (10.0.0.2)": ["has no python"]}
    with pytest.raises(InputError) as raised:
        preflight._refuse(lacks, 3, "10.0.0.1:6379")
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("2 of 3 nodes of the cluster at 10.0.0.1:6379 cannot train this sweep")
    assert lines[1:] == [
        "node one (10.0.0.1): has no disk",
        "node one (10.0.0.1): has no data",
        "node two (10.0.0.2): has no python",
    ]
    preflight._refuse({}, 3, "10.0.0.1:6379")


def test_what_a_machine_carries_out_says_that_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = preflight._asking()
    assert cloudpickle.loads(cloudpickle.dumps(ask)) is not ask, "its code is sent, not its name"
    monkeypatch.setitem(sys.modules, "tskd_tune.sweeps.machines.node_probe", None)
    (told,) = ask({"versions": {"tskd-tune": "0.9"}})
    assert told.startswith("cannot run tskd-tune 0.9") and "install it there" in told


def test_without_a_cluster_nothing_is_looked_at(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert preflight.look_at_nodes(sweep, tmp_path / "runs" / "run", {"cpu": 1}, lambda event: None) is None
    assert not (tmp_path / "runs").exists()


def test_the_marker_leaves_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    with preflight._marked(tmp_path / "runs") as marker:
        assert (tmp_path / "runs" / marker).is_file()
    assert list(tmp_path.iterdir()) == []


def test_an_option_wins_over_the_variable_and_is_named_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with ray_address.addressed("local"):
        assert ray_address.named_cluster() is None and not ray_address.is_named()
    with ray_address.addressed("127.0.0.1:2"):
        with pytest.raises(InputError, match=r"^--address 127.0.0.1:2: no cluster answers .* correct --address, or"):
            ray_address.named_cluster()
        assert ray_address.is_named()
    with pytest.raises(InputError, match=r"^RAY_ADDRESS=127.0.0.1:1: no cluster answers"):
        ray_address.named_cluster()
    monkeypatch.delenv("RAY_ADDRESS")
    with ray_address.addressed("127.0.0.1:2"):
        pass
    assert "RAY_ADDRESS" not in os.environ


def test_more_trials_begin_as_the_cluster_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    room, now = [1], [0.0]
    monkeypatch.setattr(growing, "capacity", lambda wanted, workers=1: room[0])
    points = ListedPoints([TrialConfig(f"arm{number}", {}, {}, number=number) for number in range(9)])
    limit = growing.Growing(points, {"cpu": 1}, clock=lambda: now[0])
    cloudpickle.dumps(limit.get_state())
    assert limit.suggest("t0") is not None and limit.suggest("t1") is None
    room[0] = 3
    assert limit.suggest("t1") is None, "the number is known for a while"
    now[0] = 3.0
    assert [limit.suggest(f"t{number}") is not None for number in (1, 2, 3)] == [True, True, False]
    room[0], now[0] = 1, 6.0
    limit.on_trial_complete("t0")
    assert limit.suggest("t3") is None, "a cluster that shrank gets no new trial"
    fixed = growing.Growing(points, {"cpu": 1}, fixed=2)
    assert fixed.max_concurrent == 2


def test_every_30_seconds_a_line_says_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    now = [0.0]
    monkeypatch.setattr(waiting, "alive", lambda: [CPU])
    monkeypatch.setattr(waiting, "planned", list)
    monkeypatch.setattr(waiting.ray, "available_resources", lambda: {"CPU": 8.0})
    patience = waiting.Patience("the next trial", {"cpu": 1, "gpu": 1.0}, heard.append, lambda: now[0])
    for second in range(71):
        now[0] = float(second)
        patience.wait()
    assert [event.what for event in heard] == ["machines", "machines"]
    assert heard[0].reason == (
        "the next trial has waited for 30 s for cpu 1, gpu 1: the cluster has 1 node, 8 CPUs, 0 GPUs, with cpu 8, gpu 0"
        " free in all; no machine is large enough, and no autoscaler adds one: add a machine, or lower resources"
    )
    patience.go()
    patience.wait()
    assert len(heard) == 2
    more = waiting.sentence("it", {"gpu": 1.0}, [CPU], {}, [Kind({"CPU": 4.0, "GPU": 1.0}, 8)])
    assert "the autoscaler may add up to 8 machines that fit" in more
    assert "or other work uses them" in waiting.sentence("it", {"gpu": 1.0}, [GPU], {}, [])


def test_nothing_is_said_while_a_trial_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    there = [[CPU], [CPU, GPU], [GPU]]
    monkeypatch.setattr(waiting, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(waiting, "alive", lambda: there.pop(0))
    pending, running = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")
    with waiting.Waiting.told({"cpu": 1}, heard.append):
        patience = waiting.Waiting._live.patience if waiting.Waiting._live else None
        waiting.Waiting().on_step_end(1, [pending])  # type: ignore[list-item]
        assert patience is not None and patience._since is not None
        for _ in range(2):
            waiting.Waiting().on_step_end(1, [pending, running])  # type: ignore[list-item]
        assert patience._since is None
    assert [event.reason for event in heard] == [
        "node two (10.0.0.2) has joined: 2 nodes, 12 CPUs, 1 GPU",
        "node one (10.0.0.1) is gone: 1 node, 4 CPUs, 1 GPU",
    ]
    assert in_words([]) == "0 nodes, 0 CPUs, 0 GPUs"


@dataclass
class FakeTrial:
    """A trial that failed, as Ray Tune knows it."""

    trial_id: str = "trial"
    last_result: dict[str, Any] | None = field(default_factory=lambda: {"node_ip": "10.0.0.1"})


def kwargs(place: tune.PlacementGroupFactory | None) -> Any:
    assert place is not None
    return place._bound.kwargs


def avoids(*names: str) -> Any:
    return {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(names)})"}]}


def excused(error: Exception, trial: FakeTrial | None = None) -> tune.PlacementGroupFactory | None:
    return late_nodes.excused(trial or FakeTrial(), error)  # type: ignore[arg-type]


def test_a_trial_leaves_an_unfit_machine_without_losing_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    monkeypatch.setattr(late_nodes, "alive", lambda: [CPU, GPU])
    monkeypatch.setattr(late_nodes, "planned", list)
    late_nodes.Placed.begin({"cpu": 1}, heard.append)
    asked = late_nodes.resources({"cpu": 1})
    cloudpickle.dumps(asked)
    assert asked({}).bundles == [{"CPU": 1.0}]
    for _ in range(2):
        place = excused(raised(UnfitNodeError("a", "node one (10.0.0.1): has no data")))
        assert kwargs(place) == avoids("a")
    assert len(heard) == 1 and "has no data" in (heard[0].reason or ""), "it is said once"
    assert asked({}) == place, "new trials avoid the machine too"
    assert excused(raised(RuntimeError("its own"))) is None
    with pytest.raises(RunError, match="no other node can train this sweep: node two .*; correct the node, then"):
        excused(raised(UnfitNodeError("b", "node two (10.0.0.2): has no data")))


PROCESS_DIED = RayActorError(error_msg="The actor is dead because its worker process has died. node: x")


class Losses:
    """A cluster whose machines die before it knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes, self.dead, self.now = [CPU, GPU], set[str](), 0.0
        monkeypatch.setattr(late_nodes, "alive", lambda: self.nodes)
        monkeypatch.setattr(lost_nodes, "_refuses", lambda node: node.id in self.dead)
        monkeypatch.setattr(late_nodes, "Machines", lambda: lost_nodes.Machines(lambda: self.now))
        late_nodes.Placed.begin({"cpu": 1}, lambda event: None)


def test_a_trial_counts_its_own_deaths_and_not_those_of_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses(monkeypatch)
    assert excused(PROCESS_DIED) is None
    losses.dead |= {"a", "b"}  # nobody asks about machines where the trial was not
    assert kwargs(excused(PROCESS_DIED)) == avoids("a")
    told = excused(RayActorError(error_msg="The actor died because its node has died."))
    assert told is not None, "the cluster knows of the death itself"
    died = RayActorError(error_msg="its node has died")
    counted = [excused(died) is None for _ in range(10)]
    assert counted == [False] * 8 + [True] * 2, "a trial that ends each of its machines fails"


def test_all_trials_of_a_lost_machine_are_excused_and_later_deaths_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses(monkeypatch)
    losses.dead.add("a")
    for name in ("first", "second", "third"):
        assert kwargs(excused(PROCESS_DIED, FakeTrial(name))) == avoids("a")
    losses.nodes, losses.now = [GPU], 50.0  # now the cluster knows, but its message was written before
    assert excused(PROCESS_DIED, FakeTrial("fourth", None)) is not None
    losses.now = 61.0
    assert excused(PROCESS_DIED, FakeTrial("later", None)) is None
    assert excused(PROCESS_DIED, FakeTrial("elsewhere", {"node_ip": "10.0.0.2"})) is None


def test_a_trial_whose_other_worker_was_lost_with_its_machine_is_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses(monkeypatch)
    lost = raised(BrokenTrialError(1, "training: the process of worker 2 of 2 ended", "", lost_worker=True))
    assert excused(lost) is None, "no machine was lost"
    losses.dead.add("b")  # the machine of the other worker
    assert excused(raised(BrokenTrialError(1, "MemoryError", ""))) is None
    assert kwargs(excused(lost)) == avoids("b")


def test_a_silent_machine_under_another_worker_costs_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster takes a machine that stops answering for alive for a minute."""
    Losses(monkeypatch)
    silent = {"b"}
    monkeypatch.setattr(late_nodes, "is_silent", lambda node: node.id in silent)

    def lost(*addresses: str) -> Exception:
        known: Any = {"lost_worker": True, "silent": addresses}
        return raised(BrokenTrialError(1, "training: worker 0 of 2 waited 600 s", "", **known))

    found = excused(lost("10.0.0.2"))
    assert found is not None and kwargs(found) == {}, "the machine may come back"
    assert excused(lost()) is None, "its workers ended: a death of the trial's own"
    assert excused(lost("10.0.0.1")) is None, "another machine than the silent one"
    silent.clear()
    assert excused(lost("10.0.0.2")) is None, "the machine answers, so the worker hangs by itself"
    silent.add("b")
    assert [excused(lost("10.0.0.2")) is None for _ in range(10)] == [False] * 9 + [True]


def test_a_machine_is_silent_if_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_nodes, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as full:
        node = replace(CPU, address="127.0.0.1", port=server.getsockname()[1])
        assert not lost_nodes.is_silent(node)
        for _ in range(3):  # connections that nobody accepts, until the kernel answers no more
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        assert lost_nodes.is_silent(node)
    assert not lost_nodes.is_silent(node), "a machine that refuses answers"


def test_the_workers_that_neither_answered_nor_ended_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(calls: list[str], num_returns: int, timeout: float | None) -> tuple[list[str], list[str]]:
        return [call for call in calls if call != "hangs"], [call for call in calls if call == "hangs"]

    monkeypatch.setattr(team.ray, "wait", wait)
    assert team._silent(["ended", "hangs"], ["10.0.0.1", "10.0.0.2"]) == ("10.0.0.2",)
    error = LostWorkerError("training: worker 0 of 3 waited 600 s")
    assert breakage(error).silent == ()
    error.silent = ("10.0.0.2",)
    found = breakage(error)
    assert (found.passing, found.lost_worker, found.silent) == (True, True, ("10.0.0.2",))
    known: Any = {"lost_worker": True, "silent": found.silent}
    sent = cloudpickle.loads(cloudpickle.dumps(BrokenTrialError(1, found.reason, found.text, **known)))
    assert (sent.lost_worker, sent.silent) == (True, ("10.0.0.2",)), "Ray sends the error to the driver"


def test_a_machine_is_gone_if_nothing_listens_there() -> None:
    def lost(address: str | None) -> list[Node]:
        return lost_nodes.Machines().lost([node], address)

    with socket.create_server(("127.0.0.1", 0)) as server:
        node = replace(CPU, address="127.0.0.1", port=server.getsockname()[1])
        assert lost(None) == []
    assert lost(None) == [node] == lost("127.0.0.1")
    assert lost("10.9.9.9") == []


def test_the_kinds_of_a_cluster_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    kinds = {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "spot": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 20},
        "none": {"resources": {"CPU": 4}, "max_workers": 0},
    }
    file.write_text(yaml.safe_dump({"head_node_type": "head", "max_workers": 8, "available_node_types": kinds}))
    assert ray_private.kinds_in(file) == [({"CPU": 4.0, "GPU": 1.0}, 8)]
    file.write_text("a: [")
    assert ray_private.kinds_in(file) == ray_private.kinds_in(tmp_path / "none.yaml") == []
