"""Cached teachers are found by these digests: they stay as they are from one version to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tskd_tune.tasks import build
from tskd_tune.tasks.cinic10 import CLASSES

GOLDEN: list[tuple[str, dict[str, Any], str]] = [
    ("digits", {}, "6a03deb0e909cf6fc73aaf676b931fb913d1bac9de612532c37c6e6fde35baf3"),
    (
        "digits",
        {"validation": 200, "train": 300, "padding": 0},
        "9128a37a74f9f5bf7d84ee7c1e0b5fea7a19defd5d71ddf7805bd79d4036aeb4",
    ),
    ("synthetic", {}, "100708510680cdf7914f989f58c57b08e64e0cbf3d48ada26b30ec5d670583af"),
    ("synthetic", {"classes": 3, "flip": True}, "73841de41b1bedfd771e2dc94d90c86be18f1c0ead680cfc134000d7b7cbda6f"),
    ("cifar10", {}, "b24b7b33f85fe09aabd05a9cbd3cc90cfa1662a6dc62cc3176638288b5bb4333"),
    (
        "cifar10",
        {"validation": 5000, "fraction": 0.5},
        "a4a6991e0cf652454e6d23995eb6a5412c04a6a1fe9063e7d14a640c2a98c6cb",
    ),
    ("cifar100", {}, "5ee819907456dcf5cd57d0a674638a4e04ca10f8d62deaadac756eba42cb84c9"),
    (
        "cifar100",
        {"validation": 5000, "split_seed": 3, "normalization": "cifar10"},
        "17342c09ca0737fe541a77511c351ca9928a3114ddd5dcf5673b82bd0c467cbb",
    ),
    ("image_folder", {}, "2a71105faac55195b34059227c1d5959220337c5f0007e009b67aa582eabbc88"),
    (
        "image_folder",
        {"size": 4, "validation": 4, "padding": 0},
        "e98832a5afda7b386dbe5cd834648d4112a3d338a46ea05a3610d83dec7e6448",
    ),
    ("cinic10", {}, "9860de4008d101ce9e9c82605f3262e584c2d4a7cb821cfb6d2d96215c9141d4"),
    ("tiny_imagenet", {}, "23ca7940967829180ea77ed9560aacb1a13608fd9329ea893443ba4448c2e722"),
]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    for label, name in enumerate("ab"):
        for number in range(10):
            pixels = bytes((label * 90 + number * 7 + place * 3) % 256 for place in range(48))
            write(tmp_path / "set" / name / f"{number}.ppm", b"P6 4 4 255\n" + pixels)
    for part in ("train", "valid", "test"):
        for name in CLASSES:
            write(tmp_path / "cinic" / part / name / "0.ppm", b"P6 4 4 255\n" + bytes(48))
    tiny = tmp_path / "tiny-imagenet-200"
    for name in ("n0", "n1"):
        write(tiny / "train" / name / "images" / "0.JPEG", b"x" * 10)
    write(tiny / "val" / "images" / "v.JPEG", b"x" * 11)
    write(tiny / "val" / "val_annotations.txt", b"v.JPEG\tn0\t0\t0\t63\t63\n")
    write(tiny / "wnids.txt", b"n0\nn1")
    return {"image_folder": str(tmp_path / "set"), "cinic10": str(tmp_path / "cinic"), "tiny_imagenet": str(tmp_path)}


@pytest.mark.parametrize(("name", "options", "digest"), GOLDEN)
def test_the_fingerprint_is_the_one_of_earlier_versions(
    name: str, options: dict[str, Any], digest: str, roots: dict[str, str]
) -> None:
    root = {"root": roots[name]} if name in roots else {}
    assert build(name, **root, **options).fingerprint() == digest
