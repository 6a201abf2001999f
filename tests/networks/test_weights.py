from __future__ import annotations

import argparse
import errno
import os
import pathlib
import pickle
import re
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch

from tskd_tune.errors import InputError, RunError
from tskd_tune.networks import build
from tskd_tune.networks.weights import load_into, read_state, write_state


def network(seed: int = 0, classes: int = 10, name: str = "resnet8"):
    torch.manual_seed(seed)
    return build(name, classes=classes)


def prefixed(state, prefix):
    return OrderedDict((f"{prefix}{key}", value) for key, value in state.items())


TEACHER_KEYS = ("module.teacher.fc.weight", "module.teacher.fc.bias")
EXTRACTOR_KEYS = ("ConvLSTMs.0.encoder.weight", "ConvLSTMs.1.encoder.weight")


def beside(keys):
    return {key: torch.ones(2) for key in keys}


# layout -> (what torch.save gets, made from the state; the accuracy it claims; what is ignored)
LAYOUTS = {
    "bare": (lambda state: state, None, ()),
    "model": (lambda state: {"epoch": 240, "model": state, "accuracy": 72.34}, 72.34, ()),
    "model with a tensor": (lambda state: {"model": state, "accuracy": torch.tensor([72.5])}, 72.5, ()),
    "model with a numpy scalar": (lambda state: {"model": state, "best_acc": np.float32(70.5)}, 70.5, ()),
    "model with a numpy double": (lambda state: {"model": state, "best_acc": np.float64(70.25)}, 70.25, ()),
    "model with arguments": (lambda state: {"opt": argparse.Namespace(lr=0.05, steps=[1]), "model": state}, None, ()),
    "state_dict": (lambda state: {"state_dict": state, "best_acc": 71}, 71.0, ()),
    "student_best": (lambda state: {"student_best": {"model": state}}, None, ()),
    "data parallel": (lambda state: {"state_dict": prefixed(state, "module.")}, None, ()),
    "compiled": (lambda state: prefixed(state, "_orig_mod."), None, ()),
    "compiled in parallel": (lambda state: prefixed(state, "module._orig_mod."), None, ()),
    "student": (lambda state: prefixed(state, "student."), None, ()),
    "student in parallel": (lambda state: prefixed(state, "student.module."), None, ()),
    "whole distiller": (
        lambda state: {"model": {**prefixed(state, "module.student."), **beside(TEACHER_KEYS)}, "best_acc": 60.5},
        60.5,
        TEACHER_KEYS,
    ),
    "student and extractors": (
        lambda state: {**beside(EXTRACTOR_KEYS), **prefixed(state, "student.")},
        None,
        EXTRACTOR_KEYS,
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_layout_of_the_field_is_read(tmp_path, layout, zipped):
    wrap, accuracy, ignored = LAYOUTS[layout]
    source, target, path = network(0), network(1), tmp_path / "net.pth"
    source(torch.randn(4, 3, 8, 8))  # So that the moving statistics are not those of a new network.
    torch.save(wrap(source.state_dict()), path, _use_new_zipfile_serialization=zipped)

    report = load_into(target, path, name="resnet8")

    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    assert report.accuracy == accuracy
    assert report.ignored == ignored
    assert report.parameters == sum(parameter.numel() for parameter in source.parameters())


# Of every family, what it needs to be built; the small ones stand for the rest.
FAMILIES = {
    "wrn_16_1": {},
    "vgg8": {},
    "resnet18": {},
    "mobilenet_v2": {},
    "shufflenet_v1": {},
    "shufflenet_v2": {},
    "torchvision": {"model": "mobilenet_v3_small"},
    "timm": {"model": "test_resnet"},
}


def of_family(name, seed=0, classes=10):
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(seed)
    return build(name, classes=classes, **FAMILIES[name])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layout", ["model", "data parallel", "student", "whole distiller"])
def test_the_layouts_are_read_for_every_family(tmp_path, name, layout):
    wrap, accuracy, ignored = LAYOUTS[layout]
    source, target, path = of_family(name, 0), of_family(name, 1), tmp_path / "net.pth"
    state = source.state_dict()
    # As torch 0.4 left them: without the counters of batch norms.
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(wrap(older), path)

    report = load_into(target, path, name=name)

    loaded = target.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())
    assert (report.accuracy, report.ignored) == (accuracy, ignored)
    assert report.parameters == sum(parameter.numel() for parameter in source.parameters())


@pytest.mark.parametrize("name", [name for name, options in FAMILIES.items() if not options])
def test_the_hint_names_every_family_whatever_its_classes_and_channels(tmp_path, name):
    path = saved(tmp_path / "net.pth", build(name, classes=6, channels=1).state_dict())
    sentence = refusal(path)
    assert sentence.endswith(
        f"; the file is a {name} with 6 classes for images of 1 channels: set name: {name}, or give a checkpoint of"
        " resnet8 with 10 classes"
    )


def test_other_classes_of_another_package_are_named(tmp_path):
    path = saved(tmp_path / "net.pth", of_family("torchvision", classes=10).state_dict())
    with pytest.raises(InputError) as caught:
        load_into(of_family("torchvision", classes=7), path, name="torchvision")
    title = "torchvision's mobilenet_v3_small with 7 classes"
    assert str(caught.value) == (
        f"teacher: {path}: classifier.3.weight has shape [10, 1024] but {title} needs [7, 1024], classifier.3.bias has"
        f" shape [10] but {title} needs [7]; the file has 10 classes for images of 3 channels: give one"
        " that was trained on this task"
    )


def test_a_checkpoint_goes_to_another_package_and_comes_back(tmp_path):
    """What torchvision itself saves is read, and what is written here is what torchvision reads."""
    import torchvision

    ours, path = of_family("torchvision"), tmp_path / "net.pth"
    write_state(path, ours, facts={})
    theirs = torchvision.models.get_model("mobilenet_v3_small", num_classes=10)
    theirs.load_state_dict(torch.load(path)["model"])
    torch.save(theirs.state_dict(), path)
    other = of_family("torchvision", 1)
    load_into(other, path, name="torchvision")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in ours.state_dict().items())


def test_a_scalar_of_numpy_1_is_read(tmp_path):
    path = tmp_path / "net.pth"
    payload = {"model": network().state_dict(), "best_acc": np.float64(70.25)}
    torch.save(payload, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_state(path).accuracy == 70.25


def test_facts_beside_the_state_are_kept(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"epoch": 3, "name": "resnet8", "student_best": {"model": network().state_dict(), "lr": 0.5}}, path)
    assert read_state(path).facts == {"epoch": 3, "name": "resnet8", "lr": 0.5}


@pytest.mark.parametrize("claim", [None, "72.3", [1.0], torch.ones(2)])
def test_a_claim_that_is_no_number_is_no_accuracy(tmp_path, claim):
    path = tmp_path / "net.pth"
    torch.save({"model": network().state_dict(), "accuracy": claim}, path)
    assert read_state(path).accuracy is None


def test_a_file_without_counters_keeps_those_of_the_network(tmp_path):
    source, target, path = network(0), network(1), tmp_path / "net.pth"
    state = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, path)
    load_into(target, path, name="resnet8")
    assert torch.equal(target.conv1.weight, source.conv1.weight)
    assert target.bn1.num_batches_tracked == 0


def refusal(path, name="resnet8", classes=10, **options):
    """Load a file that does not fit, see that the network is as it was, and return the sentence."""
    target = network(1, classes, name)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    drawn = torch.get_rng_state()
    with pytest.raises(InputError) as caught:
        load_into(target, path, name=name, **options)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def saved(path, payload):
    torch.save(payload, path)
    return path


def test_other_classes(tmp_path):
    path = saved(tmp_path / "net.pth", network(classes=10).state_dict())
    assert refusal(path, classes=100) == (
        f"teacher: {path}: fc.weight has shape [10, 64] but resnet8 with 100 classes needs [100, 64], "
        "fc.bias has shape [10] but resnet8 with 100 classes needs [100]; the file has 10 classes for images of "
        "3 channels: give one that was trained on this task"
    )


def test_another_depth_is_named(tmp_path):
    path = saved(tmp_path / "net.pth", {"model": network(name="resnet14").state_dict()})
    assert refusal(path) == (
        f"teacher: {path}: layer1.1.conv1.weight is no part of resnet8 with 10 classes, "
        "layer1.1.bn1.weight is no part of resnet8 with 10 classes, "
        "layer1.1.bn1.bias is no part of resnet8 with 10 classes and 27 more; the file is a resnet14 with 10 classes "
        "for images of 3 channels: set name: resnet14, or give a checkpoint of resnet8 with 10 classes"
    )
    path = saved(tmp_path / "shallow.pth", network().state_dict())
    sentence = refusal(path, name="resnet14")
    assert "layer1.1.conv1.weight is missing, which resnet14 with 10 classes needs" in sentence
    assert "set name: resnet8, or" in sentence


def test_another_family_and_width_are_named(tmp_path):
    path = saved(tmp_path / "net.pth", network(name="wrn_16_2", classes=4).state_dict())
    sentence = refusal(path)
    assert sentence.startswith(f"teacher: {path}: bn1.weight has shape [128] but resnet8 with 10 classes needs [16], ")
    assert "the file is a wrn_16_2 with 4 classes for images of 3 channels: set name: wrn_16_2, or" in sentence


def test_a_network_that_nobody_registered(tmp_path):
    state = network().state_dict()
    path = saved(tmp_path / "net.pth", {**state, "extra.weight": torch.ones(1)})
    assert refusal(path) == (
        f"teacher: {path}: extra.weight is no part of resnet8 with 10 classes; "
        "give a checkpoint of resnet8 with 10 classes"
    )
    path = saved(tmp_path / "headless.pth", {key: value for key, value in state.items() if key != "fc.weight"})
    assert refusal(path, where="student") == (
        f"student: {path}: fc.weight is missing, which resnet8 with 10 classes needs; "
        "give a checkpoint of resnet8 with 10 classes"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path, value):
    source = network()
    with torch.no_grad():
        source.fc.bias[3] = value
    path = saved(tmp_path / "net.pth", source.state_dict())
    assert refusal(path) == f"teacher: {path}: fc.bias has values that are not finite; give another checkpoint"


UNUSABLE = {
    "has a shape and no values": lambda weight: weight.to("meta"),
    "is quantized or sparse": lambda weight: weight.to_sparse(),
    "is of torch.int8, but the network needs floating-point numbers": lambda weight: weight.to(torch.int8),
    "is of torch.complex64, but": lambda weight: weight.to(torch.complex64),
}


@pytest.mark.parametrize("problem", UNUSABLE)
def test_tensors_whose_values_are_no_weights(tmp_path, problem):
    state = network().state_dict()
    path = saved(tmp_path / "net.pth", {**state, "fc.weight": UNUSABLE[problem](state["fc.weight"])})
    assert refusal(path).startswith(f"teacher: {path}: fc.weight {problem}")


def test_numpy_arrays_are_named_and_other_keys_hide_no_state(tmp_path):
    state = network().state_dict()
    arrays = saved(tmp_path / "arrays.pth", {"model": {key: value.numpy() for key, value in state.items()}})
    assert "holds numpy arrays and no tensors; convert each by torch.from_numpy" in refusal(arrays)
    load_into(network(1), saved(tmp_path / "keys.pth", {"model": state, 3: "three"}), name="resnet8")


def test_what_pickle_wrote_is_refused_without_the_words_of_torch(tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"epoch": 3}, protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "is damaged or not a checkpoint" in refusal(path)


def test_a_missing_file_and_a_folder(tmp_path):
    path = tmp_path / "none.pth"
    remedy = "give a checkpoint's path"
    assert refusal(path) == f"teacher: {path}: cannot be read (No such file or directory); {remedy}"
    assert refusal(tmp_path) == f"teacher: {tmp_path}: cannot be read (Is a directory); {remedy}"
    with pytest.raises(InputError, match=re.escape(f"student: {path}: cannot be read")):
        read_state(path, where="student")


def test_files_of_other_kinds_are_named_and_damage_is_said(tmp_path):
    path = saved(tmp_path / "net.pth", network().state_dict())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(source_bytes(path)) + 5] ^= 1
    sentences = {
        b"": "is empty (0 bytes); copy or download it again",
        b"<!DOCTYPE html><html>": "is a web page; download the file itself, not the page that shows it",
        whole[: len(whole) // 2]: "is damaged: it ends too early, or its table of contents is broken; copy it again",
        bytes(flipped): "is damaged: the checksum of its part net/data/0 does not match; copy it again from",
        b"\x00" * 100: "is damaged or not a checkpoint (its pickle is not one that torch.save writes); give a file",
    }
    for content, sentence in sentences.items():
        path.write_bytes(content)
        assert refusal(path).startswith(f"teacher: {path}: {sentence}")


def source_bytes(path):
    return torch.load(path)["conv1.weight"].numpy().tobytes()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_code_in_a_file_is_not_run(tmp_path):
    sprung = tmp_path / "sprung"
    path = saved(tmp_path / "net.pth", {"model": network().state_dict(), "trap": Trap(str(sprung))})
    sentence = refusal(path)
    assert re.fullmatch(
        re.escape(f"teacher: {path}: holds a Python object (") + r"[\w.]+" + re.escape(
            ") that could run code, so it was not loaded; save the network again as "
            "torch.save(network.state_dict(), path)"
        ),
        sentence,
    )  # fmt: skip
    assert not sprung.exists()
    assert "holds a Python object" in refusal(saved(tmp_path / "whole.pth", network()))


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (torch.ones(3), "holds one Tensor, not a mapping of names to tensors"),
        ([1, 2], "holds one list, not a mapping of names to tensors"),
        ({}, "holds no tensors of a network"),
        ({"model": {}}, "holds no tensors of a network, only the keys model"),
        ({"epoch": 3, "lr": 0.1}, "holds no tensors of a network, only the keys epoch, lr"),
        (dict.fromkeys("abcde", 0), "holds no tensors of a network, only the keys a, b, c and 2 more"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, payload, problem):
    path = saved(tmp_path / "net.pth", payload)
    remedy = "give a state dict, bare or under a key such as model, state_dict or model_state_dict"
    assert refusal(path) == f"teacher: {path}: {problem}; {remedy}"


def test_parameters_that_are_there_twice(tmp_path):
    state = network().state_dict()
    path = saved(tmp_path / "net.pth", {**state, **prefixed(state, "module.")})
    assert refusal(path) == (
        f"teacher: {path}: holds the same parameters twice, under several prefixes; save one network alone"
    )


def test_what_is_written_is_read(tmp_path):
    source, target, path = network(0), network(1), tmp_path / "net.pth"
    path.write_bytes(b"an older file")
    facts = {"accuracy": 71.25, "epoch": 239, "name": "resnet8", "metrics": {"val_top1": 70.5, "test_top1": None}}
    write_state(path, source, facts=facts)

    assert load_into(target, path, name="resnet8").accuracy == 71.25
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    assert read_state(path).facts == facts
    plain = torch.load(path, weights_only=True)
    assert list(plain["model"]) == list(source.state_dict())
    assert plain["epoch"] == 239
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_a_file_does_not_show_how_images_lay_in_memory(tmp_path):
    """Strides choose kernels, also those of sides of one pixel, which `contiguous` keeps."""
    path, states = tmp_path / "net.pth", []
    for layout in (torch.contiguous_format, torch.channels_last):
        write_state(path, network(0).to(memory_format=layout), facts={})
        states.append(torch.load(path, weights_only=True)["model"])
    assert any(tensor.dim() == 4 and tensor.shape[2:] == (1, 1) for tensor in states[0].values())
    for key, usual in states[0].items():
        assert states[1][key].stride() == usual.stride() and torch.equal(states[1][key], usual), key


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"an older file")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError) as caught:
        write_state(path, network(), facts={})
    assert str(caught.value) == (
        f"{path}: could not be written (No space left on device); free some space there and run `tskd-tune resume`"
    )
    assert path.read_bytes() == b"an older file"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_an_interruption_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_state(tmp_path / "net.pth", network(), facts={})
    assert list(tmp_path.iterdir()) == []


def test_the_folder_must_be_there(tmp_path):
    path = tmp_path / "gone" / "net.pth"
    with pytest.raises(RunError, match=r"could not be written \(No such file or directory\)"):
        write_state(path, network(), facts={})
    (tmp_path / "gone").write_text("a file")
    with pytest.raises(RunError, match=r"could not be written \(Not a directory\)"):
        write_state(path, network(), facts={})
