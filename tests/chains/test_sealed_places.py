"""What a store with a password holds: sealed objects that belong to their places, as the documentation says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freezer_sdk import Freezer
from freezer_sdk.crypto.sealed import SealKeys
from freezer_sdk.errors import IntegrityError
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "correct horse"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sealed-streams.md"
SECRET = "a-name-that-nobody-may-see"

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Two levels and a hold."""
    tree = tmp_path_factory.mktemp("tree")
    (tree / SECRET).write_text("content that nobody may see\n" * 50)
    storage = MemoryStorage()
    options = {"strategy": "incremental"}
    with Freezer(storage, create=True, engine="tar", password=PASSWORD, engine_options=options) as freezer:
        freezer.backup(tree, name="etc", host="node1")
        (tree / "other").write_text("more\n")
        newest = freezer.backup(tree, name="etc", host="node1")
        freezer.retention.hold(newest.id, reason=f"because of {SECRET}")
    return storage


def context_of(name):
    """As the table in the documentation has it."""
    if name.startswith("freezer-sdk/holds/"):
        return f"freezer-sdk {name}".encode()
    return f"freezer-sdk {name.partition('/')[2]}".encode()


def names(storage):
    plain = ("metadata/", "freezer-sdk/store")
    return [info.name for info in storage.list() if not info.name.startswith(plain)]


def test_every_object_opens_at_its_place_and_nowhere_else(storage):
    keys = SealKeys(PASSWORD)
    assert len(names(storage)) == 2 * 3 + 1
    for name in names(storage):
        opener = keys.opener(context_of(name))
        assert opener.update(storage.get(name)) + opener.finalize()
        for other in names(storage):
            if other != name:
                opener = keys.opener(context_of(other))
                with pytest.raises(IntegrityError):
                    opener.update(storage.get(name)) + opener.finalize()


def test_nothing_lies_in_the_clear(storage):
    for info in storage.list():
        content = storage.get(info.name)
        for secret in (SECRET, "nobody may see", PASSWORD, "tree"):
            assert secret.encode() not in content, info.name


def test_the_salt_is_one_for_the_chain(storage):
    """A restore derives one key."""
    assert len({storage.get(name)[24:40] for name in names(storage)}) == 1
    assert len({storage.get(name)[40:72] for name in names(storage)}) == len(names(storage))


def test_the_reader_in_the_documentation_and_tar_restore_it(storage, tmp_path):
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "unseal.py").write_text(source)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "out").mkdir()
    streams = [name for name in names(storage) if re.fullmatch(r"data/tar-sealed/.*/\d_\d+/data", name)]
    for name in streams:
        level = name.removesuffix("data").replace("data/", "metadata/", 1) + "metadata"
        assert json.loads(storage.get(level))["compression"] == "gzip"
        command = [sys.executable, tmp_path / "unseal.py", tmp_path / "password", context_of(name).decode()]
        plain = subprocess.run(command, input=storage.get(name), capture_output=True, check=True).stdout
        subprocess.run(["tar", "-xz", "-C", tmp_path / "out"], input=plain, check=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SECRET, "other"]


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_levels_of_the_exchange_form_need_tar_and_openssl_only(password, tmp_path):
    """As the guide to recovery has it; what was deleted between two levels goes."""
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "recover-without-freezer.md").read_text()
    assert "tar --extract --gzip --incremental --directory=" in guide
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    out.mkdir()
    options = {"strategy": "incremental", "cipher": "openssl"}
    storage = MemoryStorage()
    with Freezer(
        storage, create=True, engine="tar", password=password, encryption=password is not None, engine_options=options
    ) as freezer:
        for number in range(3):
            (tree / f"new{number}").write_text(f"{number}\n" * 100)
            (tree / f"new{number - 2}").unlink(missing_ok=True)
            freezer.backup(tree, name="etc", host="node1")
    (tmp_path / "password").write_text(f"{password}\n")
    streams = sorted(info.name for info in storage.list("data/tar/") if info.name.endswith("/data"))
    assert len(streams) == 3
    for name in streams:
        data = storage.get(name)
        if password:
            command = ["openssl", "enc", "-d", "-aes-256-cfb", "-pass", f"file:{tmp_path / 'password'}"]
            data = subprocess.run(command, input=data, capture_output=True, check=True).stdout
        command = ["tar", "--extract", "--gzip", "--incremental", f"--directory={out}"]
        subprocess.run(command, input=data, check=True)
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        path.name: path.read_text() for path in tree.iterdir()
    }
    assert sorted(path.name for path in out.iterdir()) == ["new1", "new2"]
