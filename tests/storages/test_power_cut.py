"""Acknowledged objects survive a power cut at any moment, whole."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from power_cut import Recorder, power_cuts

from freezer_sdk.storages.local import LocalStorage


class Journal:
    """Runs operations on a storage and marks in a recording when each began and ended."""

    def __init__(self, storage, recorder):
        self.storage = storage
        self.recorder = recorder

    def put(self, name, *pieces, if_absent=False):
        self._run("put", name, b"".join(pieces), lambda: self.storage.put(name, pieces, if_absent=if_absent))

    def upload(self, name, *pieces):
        def run():
            with self.storage.upload(name) as upload:
                for piece in pieces:
                    upload.write(piece)
                upload.commit()

        self._run("put", name, b"".join(pieces), run)

    def delete(self, name):
        self._run("delete", name, None, lambda: self.storage.delete(name))

    def flush(self):
        self._run("flush", None, None, self.storage.flush)

    def _run(self, kind, name, content, call):
        self.recorder.mark(("begin", kind, name, content))
        call()
        self.recorder.mark(("end", kind, name, content))


def allowed_states(marks, *, sync):
    """For each name the contents (``None``: absent) that a storage may have after these marks.

    Without ``sync`` a name is left out while its last put was not flushed: anything may be there.
    """
    allowed = {}
    loose = set()
    for moment, kind, name, content in marks:
        if kind == "flush":
            if moment == "end":
                loose.clear()
                for states in allowed.values():
                    del states[:-1]
        elif moment == "begin":
            allowed.setdefault(name, [None]).append(content)
            if kind == "put" and not sync:
                loose.add(name)
        elif kind == "put" and sync:
            allowed[name] = [content]
    return {name: set(states) for name, states in allowed.items() if name not in loose}


def check_every_cut(recorder, tmp_path, *, sync=True):
    recorder.check_complete()
    count = 0
    for crash in power_cuts(recorder):
        target = tmp_path / "after"
        target.mkdir()
        crash.write_to(target)
        with LocalStorage(path=str(target / "store"), sync=False) as storage:
            found = {info.name: storage.get(info.name) for info in storage.list()}
            allowed = allowed_states(crash.marks, sync=sync)
            where = f"cut after {crash.after} events, {crash.outcome} survived"
            for name, states in allowed.items():
                assert found.get(name) in states, f"{name}: {where}"
            if sync:
                assert set(found) <= set(allowed), where
            storage.put("and/it/goes/on", [b"x"])
        shutil.rmtree(target)
        count += 1
    return count


@pytest.fixture
def recorder(tmp_path):
    (tmp_path / "disk").mkdir()
    return Recorder(tmp_path / "disk")


def backup_like(journal):
    journal.put("config/1", b"{}", b"signature", if_absent=True)
    journal.put("leases/ab/1", b"lease", if_absent=True)
    for number in range(3):
        journal.put(f"packs/{number:02x}/pack", *[b"segment %d" % number] * 5)
    journal.upload("meta/00/pages", b"page", b"page two")
    journal.flush()
    journal.put("index/1", b"index")
    journal.flush()
    journal.put("backups/1", b"commit", if_absent=True)
    journal.put("leases/ab/closed", b"")
    journal.put("turns", b"first")
    journal.put("turns", b"second, longer")
    journal.delete("leases/ab/1")
    journal.delete("leases/ab/closed")
    journal.delete("packs/01/pack")
    journal.flush()
    journal.put("packs/01/pack", b"there again")
    journal.put("leases/cd/1", b"lease")
    journal.flush()


@pytest.mark.parametrize("sync", [True, False])
def test_one_writer(recorder, tmp_path, sync):
    with recorder:
        backup_like(Journal(LocalStorage(path=str(recorder.base / "store"), sync=sync), recorder))
    assert check_every_cut(recorder, tmp_path, sync=sync) > 100


def test_a_storage_below_folders_that_are_made_with_it(recorder, tmp_path):
    with recorder:
        storage = LocalStorage(path=str(recorder.base / "store" / "not" / "yet" / "there"))
        Journal(storage, recorder).put("x", b"x")
    recorder.check_complete()
    for crash in power_cuts(recorder):
        (tmp_path / "after").mkdir()
        crash.write_to(tmp_path / "after")
        if ("end", "put", "x", b"x") in crash.marks:
            with LocalStorage(path=str(tmp_path / "after" / "store" / "not" / "yet" / "there")) as again:
                assert again.get("x") == b"x"
        shutil.rmtree(tmp_path / "after")


def test_folders_made_by_another_writer_count_only_when_synced(recorder, monkeypatch):
    """One writer makes a folder and dies before it syncs; what another stores in it must survive all the same."""
    path = str(recorder.base / "store")
    with recorder:
        LocalStorage(path=path).put("config/1", [b"{}"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", die)
            with pytest.raises(KeyboardInterrupt):
                LocalStorage(path=path).put("packs/00/x", [b"x"])
        assert os.listdir(os.path.join(path, "packs")) == ["00"]
        Journal(LocalStorage(path=path), recorder).put("packs/00/y", b"y")
    last = [crash for crash in power_cuts(recorder) if ("end", "put", "packs/00/y", b"y") in crash.marks]
    assert last
    for crash in last:
        assert crash.tree["store"]["packs"]["00"]["y"] == b"y", crash.outcome


def die(*args, **kwargs):
    raise KeyboardInterrupt


def test_threads_in_folders_that_come_and_go(recorder, tmp_path):
    storage = LocalStorage(path=str(recorder.base / "store"))

    def work(worker):
        journal = Journal(storage, recorder)
        for number in range(3):
            name = f"leases/{number}/{worker}"
            journal.put(name, b"%d" % worker)
            if worker % 2:
                journal.delete(name)

    with recorder, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(work, range(4)):
            pass
    assert check_every_cut(recorder, tmp_path) > 100


@pytest.mark.parametrize("broken", ["fsync of files", "fsync of folders", "fsync of upper folders"])
def test_the_test_finds_what_it_is_made_for(recorder, tmp_path, monkeypatch, broken):
    """Without one of the syncs some cut loses an acknowledged object; else this whole file would prove nothing."""

    def careless(fd):
        is_folder = os.path.isdir(f"/proc/self/fd/{fd}")
        if is_folder != (broken == "fsync of folders"):
            recorded(fd)

    with recorder, monkeypatch.context() as patch:
        recorded = os.fsync
        if broken == "fsync of upper folders":
            patch.setattr("freezer_sdk.storages.local.sync_up", lambda chain: recorded(chain[-1]))
        else:
            patch.setattr(os, "fsync", careless)
        backup_like(Journal(LocalStorage(path=str(recorder.base / "store")), recorder))
    with pytest.raises(AssertionError, match="cut after"):
        check_every_cut(recorder, tmp_path)


def test_marks_and_states():
    marks = [("begin", "put", "a", b"1"), ("end", "put", "a", b"1"), ("begin", "put", "a", b"2")]
    assert allowed_states(marks, sync=True) == {"a": {b"1", b"2"}}
    marks += [("end", "put", "a", b"2"), ("begin", "delete", "a", None), ("end", "delete", "a", None)]
    assert allowed_states(marks, sync=True) == {"a": {b"2", None}}
    assert allowed_states([*marks, ("end", "flush", None, None)], sync=True) == {"a": {None}}
    assert allowed_states(marks, sync=False) == {}
