"""Limits and policies reach the storage that a URL names; plug-ins never see these options."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from freezer_sdk import ConfigurationError, Freezer, FreezerGroup, Limits, Target, open_storage
from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import PluginError, StorageUnavailable
from freezer_sdk.options import Option
from freezer_sdk.plugins import STORAGE, PluginRegistry, list_plugins, reference_page
from freezer_sdk.storages.base import COMMON_OPTIONS
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail


class CountingLimits(Limits):
    """Lets everything pass, and counts."""

    def __init__(self):
        super().__init__(upload=1 << 50, download=1 << 50)
        self.counts = {"up": 0, "down": 0}
        self.lock = threading.Lock()
        self.sending.take = lambda size, *, cancel: self.count("up", size)
        self.receiving.take = lambda size, *, cancel: self.count("down", size)

    def count(self, direction, size):
        with self.lock:
            self.counts[direction] += size


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(bytes(range(256)) * 4000)
    return tmp_path / "source"


def test_options_of_all_storages(tmp_path):
    options = {"upload_limit": "500K", "download_limit": 0, "retry_attempts": "3", "retry_time": "1m", "sync": "no"}
    with open_storage(f"local:{tmp_path}/store", options=options) as storage:
        assert (storage.limits.upload, storage.limits.download) == (512_000, None)
        assert storage.name == "local"
        storage.put("x", [b"content"])
        assert storage.get("x") == b"content"


def test_all_wrong_options_are_named_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        open_storage(f"local:{tmp_path}", options={"upload_limit": "fast", "retry_time": "soon", "sync": "maybe"})
    for word in ("fast", "soon", "maybe", "storage 'local'"):
        assert word in str(caught.value)
    with pytest.raises(ConfigurationError, match="attempts"):
        open_storage(f"local:{tmp_path}", options={"retry_attempts": 0})


@pytest.mark.parametrize(("options", "calls"), [({}, 1), ({"retry_attempts": 3, "retry_time": "5s"}, 3)])
def test_retries_that_are_asked_for_hold_for_every_storage(monkeypatch, options, calls):
    monkeypatch.setattr("random.random", lambda: 0.0)
    seen = []

    def busy(self, name):
        seen.append(name)
        raise StorageUnavailable("busy")

    monkeypatch.setattr(MemoryStorage, "stat", busy)
    with open_storage("memory:", options=options) as storage, pytest.raises(StorageUnavailable):
        storage.stat("x")
    assert len(seen) == calls


def test_a_backup_and_its_restore_are_traffic(source, tmp_path):
    limits = CountingLimits()
    with Freezer(f"local:{tmp_path}/store", create=True, encryption=False, limits=limits) as freezer:
        assert freezer.limits is limits
        backup = freezer.backup(source)
        stored = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
        assert limits.counts["up"] >= stored > 5000
        before = limits.counts["down"]
        freezer.restore(backup.id, tmp_path / "out")
        assert limits.counts["down"] > before


def test_limits_can_be_changed_while_they_hold(source):
    with Freezer("memory:", create=True, encryption=False, storage_options={"upload_limit": "1G"}) as freezer:
        assert freezer.limits.upload == 1 << 30
        freezer.limits.upload = "5M"
        assert freezer.limits.upload == 5 << 20
        freezer.limits.upload = freezer.limits.download = None
        freezer.backup(source)


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_limits_are_never_exceeded_by_four_threads(direction, tmp_path):
    """However fast the machine is. That limits are reached, too, is for a virtual clock: test_ratelimit."""
    objects, content = 30, bytes(512 << 10)
    wanted = 8 << 20  # bytes a second
    with open_storage(f"local:{tmp_path}/store", options={"sync": "no"}) as storage:
        for number in range(objects):
            storage.put(str(number), [content])
        setattr(storage.limits, direction, wanted)
        transfer = (lambda name: storage.put(name, [content])) if direction == "upload" else storage.get
        with ThreadPoolExecutor(4) as pool:
            start = time.monotonic()
            list(pool.map(transfer, map(str, range(objects))))
            rate = objects * len(content) / (time.monotonic() - start)
    assert rate <= 1.1 * wanted


def test_several_repositories_can_share_limits(source, tmp_path):
    limits = CountingLimits()
    targets = [Target(f"local:{tmp_path}/{name}", create=True, encryption=False, limits=limits) for name in "ab"]
    with FreezerGroup(targets) as group:
        group.backup(source)
    stored = sum(path.stat().st_size for name in "ab" for path in (tmp_path / name).rglob("*") if path.is_file())
    assert limits.counts["up"] >= stored


def test_a_storage_of_the_caller_has_its_own_limits(tmp_path):
    with pytest.raises(ConfigurationError, match="limits are for a storage URL"):
        Freezer(MemoryStorage(), create=True, encryption=False, limits=Limits())
    freezer = Freezer(MemoryStorage(), create=True, encryption=False)
    with freezer, pytest.raises(ConfigurationError, match="opened by the caller"):
        _ = freezer.limits
    storage = open_storage(f"local:{tmp_path}/store", limits=Limits(upload=1 << 30))
    with storage, Freezer(storage, create=True, encryption=False) as freezer:
        assert freezer.limits is storage.limits


def test_a_plugin_may_not_declare_them():
    from importlib.metadata import EntryPoint

    class Distribution:
        version = "1"
        metadata = {"Name": "clashing"}  # noqa: RUF012
        entry_points = (EntryPoint("clashing", f"{__name__}:Clashing", "freezer_sdk.storages"),)

    import sys

    sys.modules.setdefault(__name__, sys.modules[Clashing.__module__])
    with pytest.raises(PluginError, match="every storage has the options upload_limit already"):
        PluginRegistry([Distribution()]).load(STORAGE, "clashing")


class Clashing(MemoryStorage):
    name = "clashing"
    api_version = API_VERSION
    options = (Option(name="upload_limit", help="mine"),)


def test_they_are_described():
    page = reference_page(list_plugins("storage"))
    for option in COMMON_OPTIONS:
        assert page.count(f"`{option.name}`") == 1
    for info in list_plugins():
        assert info.common_options == (COMMON_OPTIONS if info.kind == "storage" else ())


def test_a_cancelled_backup_does_not_wait_for_the_storage(source, monkeypatch):
    """The network is gone, and the user has enough."""
    from freezer_sdk import CancelToken
    from freezer_sdk.errors import Cancelled
    from freezer_sdk.reliable import ReliableStorage
    from freezer_sdk.streams.retry import RetryPolicy

    token, inner = CancelToken(), MemoryStorage()

    def give_up(call):
        threading.Timer(0.2, token.cancel).start()

    faults = [Fault(fail(StorageUnavailable("gone")), methods={"put"}, prefix="packs/", times=None)]
    faults.insert(0, Fault(give_up, methods={"put"}, prefix="packs/"))
    with Freezer(inner, create=True, encryption=False):
        pass
    policy = RetryPolicy(attempts=99, first_wait=3600, longest_wait=3600, total=1e6)
    monkeypatch.setattr("random.random", lambda: 1.0)
    with ReliableStorage(FaultyStorage(inner, *faults), policy=policy) as storage, Freezer(storage) as freezer:
        with pytest.raises(Cancelled):
            freezer.backup(source, cancel=token)
        assert freezer.backups() == []
