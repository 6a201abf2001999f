"""The code of a user's own component: which files count, and that a process trains what the files say."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tskd_tune import outside
from tskd_tune.errors import InputError
from tskd_tune.outside import code_digest, load, own_code
from tskd_tune.sources import digest_of


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(outside, "_FOLDERS", type(outside._FOLDERS)())
    yield
    sys.path[:] = path
    for name in {name for name in sys.modules if name.startswith("mine_")} - modules:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    """Write modules: ``a__b`` is the module ``b`` of the package ``a``."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def digest(folder: Path, module: str) -> str:
    return digest_of(folder / f"{module.replace('.', '/')}.py", folder, module)


def test_a_file_alone_has_the_digest_that_kept_teachers_are_named_by(tmp_path: Path) -> None:
    write(tmp_path, mine_net="import torch\nWIDTH = 1\n", other="X = 1\n")
    assert digest(tmp_path, "mine_net") == hashlib.sha256((tmp_path / "mine_net.py").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("line", "helper"),
    [
        ("import mine_help", "mine_help"),
        ("from mine_help import WIDTH", "mine_help"),
        ("def f():\n    import mine_help", "mine_help"),
        ("from mine_pack import part", "mine_pack__part"),
        ("from mine_pack.part import WIDTH", "mine_pack__part"),
        ("import mine_pack.part", "mine_pack__part"),
        ("import mine_mid", "mine_deep"),
    ],
)
def test_a_file_that_is_imported_counts(tmp_path: Path, line: str, helper: str) -> None:
    write(
        tmp_path, mine_net=line, mine_mid="import mine_deep, mine_net", mine_deep="", mine_pack__part="", mine_help=""
    )
    before = digest(tmp_path, "mine_net")
    write(tmp_path, **{helper: "WIDTH = 2"})
    assert digest(tmp_path, "mine_net") != before
    write(tmp_path, unrelated="WIDTH = 3")
    after = digest(tmp_path, "mine_net")
    write(tmp_path, unrelated="WIDTH = 4")
    assert digest(tmp_path, "mine_net") == after


def test_relative_imports_of_a_package_count(tmp_path: Path) -> None:
    write(tmp_path, pack__net="from . import help\nfrom .more import X", pack__help="", pack__more="")
    found = {digest(tmp_path, "pack.net")}
    for name in ("help", "more", "__init__"):
        (tmp_path / "pack" / f"{name}.py").write_text("X = 1")
        found.add(digest(tmp_path, "pack.net"))
    assert len(found) == 4


def test_a_process_says_which_code_it_imported_and_renews_it(tmp_path: Path) -> None:
    write(tmp_path, mine_net="from mine_help import WIDTH", mine_help="WIDTH = 1")
    name = f"{tmp_path}/mine_net:WIDTH"
    assert load(name) == 1
    before = code_digest(name)
    write(tmp_path, mine_help="WIDTH = 1000")
    assert (load(name), code_digest(name)) == (1, before)
    outside.renew()
    assert load(name) == 1000
    assert code_digest(name) not in (None, before)
    assert own_code([{"student": {"name": name}, "observe": ["kd"]}]) == {name: code_digest(name)}


def test_what_was_not_edited_is_not_imported_again(tmp_path: Path) -> None:
    write(tmp_path, mine_net="class Net: ...")
    found = load(f"{tmp_path}/mine_net:Net")
    outside.renew()
    assert load(f"{tmp_path}/mine_net:Net") is found


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("__main__:Hint", "'__main__' is a script or a notebook.*write the class into a file, such as my_parts.py"),
        ("random:Hint", "random.py has no 'Hint'; an installed module hides a file of the same name.*rename the file"),
    ],
)
def test_a_module_that_is_no_file_of_the_users_is_said_to_be_so(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(name)
