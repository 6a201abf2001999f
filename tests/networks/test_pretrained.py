"""Published weights, from files in the packages' own caches; nothing here asks the network."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
import torchvision

from tskd_tune.errors import InputError
from tskd_tune.networks import build
from tskd_tune.networks.pretrained import identity, is_published, load_published

MOBILENET = "mobilenet_v3_small"
MOBILENET_FILE = "mobilenet_v3_small-047dcff4.pth"
DENSENET_FILE = "densenet121-a639ec97.pth"


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def network(
    package: str = "torchvision", model: str = MOBILENET, classes: int = 1000, channels: int = 3, seed: int = 0
):
    torch.manual_seed(seed)
    return build(package, classes=classes, channels=channels, model=model)


def cached(file: str) -> Path:
    """Return where torchvision looks for a file before it downloads it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    path.parent.mkdir(parents=True)
    return path


def refusal(target, weights: str, name: str = "torchvision", **options) -> str:
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_published(target, weights, name=name, **options)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("weights", "published"),
    [
        ("torchvision:IMAGENET1K_V1", True),
        ("timm:default", True),
        ("auto", False),
        ("untrained", False),
        ("net.pth", False),
        ("/data/timm:net.pth", False),
        ("C:net.pth", False),
        ("timm", False),
    ],
)
def test_a_name_is_told_from_a_path(weights, published):
    assert is_published(weights) is published


@pytest.mark.parametrize("tag", ["IMAGENET1K_V1", "DEFAULT"])
def test_torchvisions_weights_are_read_from_its_cache(tag):
    own = torchvision.models.get_model(MOBILENET)
    torch.save(own.state_dict(), cached(MOBILENET_FILE))
    target = network()
    drawn = torch.get_rng_state()
    load_published(target, f"torchvision:{tag}", name="torchvision")
    state = target.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_names_of_an_older_torchvision_are_read_as_it_reads_them():
    own = torchvision.models.get_model("densenet121").state_dict()
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in own.items()
        if not key.endswith("num_batches_tracked")
    }
    assert older.keys() != own.keys()
    torch.save(older, cached(DENSENET_FILE))
    target = network(model="densenet121")
    load_published(target, "torchvision:IMAGENET1K_V1", name="torchvision")
    state = target.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items())


def test_weights_that_are_nowhere():
    sentence = refusal(network(), "torchvision:IMAGENET1K_V1")
    url = torchvision.models.get_model_weights("mobilenet_v3_small").__members__["IMAGENET1K_V1"].url
    assert sentence == (
        "teacher.weights: the weights 'IMAGENET1K_V1' of torchvision's mobilenet_v3_small are not in the cache and"
        f" could not be downloaded (<urlopen error no network in this test>); download {url} on a machine with a"
        f" network and put it at {torch.hub.get_dir()}/checkpoints/{MOBILENET_FILE}"
    )


def test_a_damaged_file():
    path = cached(MOBILENET_FILE)
    path.write_bytes(b"half of it")
    sentence = refusal(network(), "torchvision:IMAGENET1K_V1", where="student.weights")
    assert sentence.startswith(
        "student.weights: the weights 'IMAGENET1K_V1' of torchvision's mobilenet_v3_small could not be read ("
    )
    assert sentence.endswith(f"put it at {path}")


def test_other_classes_or_channels_are_refused_before_anything_is_read():
    sentence = refusal(network(classes=10), "torchvision:DEFAULT")
    assert sentence == (
        "teacher.weights: the weights 'DEFAULT' of torchvision's mobilenet_v3_small are for 1000 classes and 3"
        " channels, but the task has 10 classes and 3 channels; use weights: auto, set teacher.fine_tune,"
        " or give a checkpoint that was trained on this task"
    )
    assert "has 1000 classes and 1 channels" in refusal(network(channels=1), "torchvision:DEFAULT")


def test_unknown_tags_and_networks_of_another_package():
    assert refusal(network(), "torchvision:IMAGENET1K_V3") == (
        "teacher.weights: torchvision's mobilenet_v3_small has no weights 'IMAGENET1K_V3'; did you mean"
        " 'IMAGENET1K_V1'? known: DEFAULT, IMAGENET1K_V1"
    )
    assert refusal(build("resnet8", classes=10), "torchvision:DEFAULT", name="resnet8") == (
        "teacher.weights: 'torchvision:DEFAULT' names weights of torchvision's networks, but the teacher is a resnet8;"
        " set name: torchvision and its model, or give auto or the path of a checkpoint"
    )


def test_what_a_default_means_hangs_on_the_package():
    assert identity("torchvision:DEFAULT") == {
        "weights": "torchvision:DEFAULT",
        "version": torchvision.__version__.partition("+")[0],
    }


class TestTimm:
    @pytest.fixture(autouse=True)
    def hub(self, monkeypatch, tmp_path):
        pytest.importorskip("timm")
        import huggingface_hub

        self.folder = tmp_path / "hub"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(self.folder))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def keep(self, name: str, model) -> None:
        """Put weights where the hub's client keeps what it has downloaded."""
        from safetensors.torch import save_file

        commit = "0123456789012345678901234567890123456789"
        repository = self.folder / f"models--timm--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(model.state_dict(), snapshot / "model.safetensors")

    @pytest.mark.parametrize("tag", ["default", "r160_in1k"])
    def test_weights_are_read_from_the_hubs_cache(self, tag):
        import timm

        own = timm.create_model("test_resnet")
        self.keep("test_resnet.r160_in1k", own)
        target = network("timm", "test_resnet", seed=1)
        load_published(target, f"timm:{tag}", name="timm")
        state = target.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in own.state_dict().items())

    def test_weights_that_are_nowhere(self):
        sentence = refusal(network("timm", "test_resnet"), "timm:r160_in1k", name="timm")
        assert sentence.startswith(
            "teacher.weights: the weights 'r160_in1k' of timm's test_resnet are not in the cache and could not be"
            " downloaded"
        )
        assert sentence.endswith(
            "on a machine with a network run `hf download timm/test_resnet.r160_in1k` and copy the folder"
            f" models--timm--test_resnet.r160_in1k of its cache to {self.folder}"
        )

    def test_weights_that_are_no_download_of_the_hub(self):
        sentence = refusal(network("timm", "legacy_seresnet18"), "timm:in1k", name="timm")
        assert sentence.endswith(f"put it at {torch.hub.get_dir()}/checkpoints/seresnet18-4bb0ce65.pth")

    def test_what_does_not_fit(self):
        sentence = refusal(network("timm", "test_resnet", classes=10), "timm:default", name="timm")
        assert "the weights 'default' of timm's test_resnet are for 1000 classes and 3 channels, but" in sentence
        assert refusal(network("timm", "test_resnet"), "timm:a1_in1k", name="timm") == (
            "teacher.weights: timm's test_resnet has no weights 'a1_in1k'; known: default, r160_in1k"
        )
        assert refusal(network("timm", "test_mambaout"), "timm:default", name="timm") == (
            "teacher.weights: timm's test_mambaout has no weights 'default'; known: none"
        )
        sentence = refusal(network("timm", "test_resnet"), "torchvision:DEFAULT", name="timm")
        assert sentence.startswith("teacher.weights: 'torchvision:DEFAULT' names weights of torchvision's networks")
