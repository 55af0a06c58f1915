"""What plug-ins raise comes out as FreezerError with the plug-in's name; and how Freezer drives plug-ins."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from freezer_sdk import (
    Cancelled,
    CancelToken,
    ConfigurationError,
    Event,
    Freezer,
    FreezerError,
    PluginError,
    PluginNotFound,
    RepositoryExists,
    RepositoryNotFound,
    WrongPassword,
    open_storage,
)

Site = Any

ENGINE = """
    from contextlib import contextmanager
    from datetime import UTC, datetime, timedelta
    from freezer_sdk.engines.base import Engine, EngineCapabilities
    from freezer_sdk.errors import RepositoryExists, RepositoryNotFound, WrongPassword
    from freezer_sdk.model import *
    from freezer_sdk.options import Option

    class ToyEngine(Engine):
        '''Remembers backups in the object; fails where its option says.'''
        name = "toy"
        api_version = 1
        summary = "remembers"
        options = (Option(name="fail", help="where", default=""),)
        capabilities = EngineCapabilities()
        made = {}

        def __init__(self, *, fail):
            self.fail = fail

        def probe(self, storage):
            return storage.location in self.made

        def create(self, storage, *, password, encryption=True):
            if storage.location in self.made:
                raise RepositoryExists("there")
            repository = ToyRepository(self.fail, password() if encryption else None)
            self.made[storage.location] = repository
            return repository

        def open(self, storage, *, password):
            if storage.location not in self.made:
                raise RepositoryNotFound("none")
            repository = self.made[storage.location]
            password(); password()
            if repository.password != password():
                raise WrongPassword("wrong")
            repository.fail = self.fail
            return repository

    class ToyReader:
        def __init__(self, fail): self.fail = fail
        def read(self, size=-1):
            if self.fail == "read": raise OSError(5, "read failed")
            return b"content"

    class ToyRepository:
        problems = ()

        def __init__(self, fail, password):
            self.fail, self.password, self.list, self.closed, self.calls = fail, password, [], 0, []

        def _check(self, what):
            if self.fail == what:
                raise OSError(28, "No space left")
            if self.fail == "interrupt " + what:
                raise KeyboardInterrupt

        def backup(self, protected, options, context):
            self._check("backup")
            context.events(Event(kind="progress", operation="backup"))
            for source in protected.sources:
                with source.open() as reader:
                    reader.readinto(memoryview(bytearray(10)))
            self.calls.append((protected, options, context))
            time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=len(self.list))
            backup = Backup(
                id=f"{len(self.list):032x}", time=time, host=options.host, name=options.name, mode=options.mode,
                engine="toy", status=Status.PARTIAL, paths=("/data",), tags=options.tags, facts=protected.facts,
            )
            if not options.dry_run:
                self.list.append(backup)
            return backup

        def backups(self):
            self._check("backups")
            return list(reversed(self.list))

        def entries(self, backup, *, path=None, recursive=True):
            yield Entry(path=b"/data", type=EntryType.DIRECTORY)
            self._check("entries")
            yield Entry(path=b"/data/a.txt", type=EntryType.FILE)

        @contextmanager
        def open(self, backup, path):
            self._check("open")
            yield ToyReader(self.fail)
            self._check("close reader")

        def restore(self, backup, target, options, context):
            self._check("restore")
            self.calls.append((backup, target, options))
            return RestoreResult(backup=backup, target=target)

        def verify(self, backups, *, read_data, context):
            self._check("verify")
            self.calls.append(list(backups))
            return VerifyResult(read_data=read_data)

        def forget(self, backups):
            self._check("forget")
            gone = set(backups)
            self.list = [each for each in self.list if each.id not in gone]

        def info(self):
            self._check("info")
        def stats(self):
            self._check("stats")
        def close(self):
            self.closed += 1
            self._check("close")
"""

MODES = """
    import dataclasses
    from contextlib import contextmanager
    from freezer_sdk.modes.base import Mode, Protected, Stream
    from freezer_sdk.options import Option

    class Trouble(Exception):
        pass

    class ToyMode(Mode):
        name = "toymode"
        api_version = 1
        summary = "one stream"
        options = (Option(name="fail", help="where", default=""),
                   Option(name="paths", type="path", multiple=True, help="roots"),
                   Option(name="label", help="a name"),
                   Option(name="password", secret=True, help="secret"))
        states = []

        def __init__(self, *, fail, paths, label, password):
            self.fail, self.paths, self.label, self.password = fail, paths, label, password

        def default_name(self): return self.label

        @contextmanager
        def protect(self):
            if self.fail == "enter":
                raise Trouble("cannot quiesce " + str(self.password))
            self.states.append("quiesced")
            try:
                yield Protected(sources=[Stream(name="s", open=self.reader)], facts={"position": 5}, excludes=["x"])
            finally:
                self.states.append("resumed")
            if self.fail == "leave":
                raise Trouble("cannot resume")

        @contextmanager
        def reader(self):
            yield self

        def readinto(self, buffer):
            if self.fail == "read":
                raise Trouble("source broke")
            return 0

        def restore(self, restorer, target):
            if self.fail == "restore":
                raise Trouble("no")
            if self.fail == "result":
                return "done"
            with restorer.stream("s") as stream:
                assert stream.read() == b"content"
            assert restorer.facts == {"position": 5}
            return dataclasses.replace(restorer.files(target), files=1)

    class Plain(ToyMode):
        name = "plain"
        options = (Option(name="fail", help="where", default=""),)
        def __init__(self, *, fail): self.fail, self.label, self.password = fail, None, None
"""


@pytest.fixture(autouse=True)
def plugins(site: Site) -> Any:
    points = {
        "engines: toy": "toys:ToyEngine",
        "modes: toymode": "toy_modes:ToyMode",
        "modes: plain": "toy_modes:Plain",
    }
    site.install("toys", "0.9", points, toys=ENGINE, toy_modes=MODES)
    return SimpleNamespace(
        ToyEngine=importlib.import_module("toys").ToyEngine, ToyMode=importlib.import_module("toy_modes").ToyMode
    )


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"local:{tmp_path / 'store'}"


def freezer(place: str, *, fail: str = "", **arguments: Any) -> Freezer:
    return Freezer(place, engine="toy", create=True, password="pw", engine_options={"fail": fail}, **arguments)


def taken(place: str, count: int = 1, **arguments: Any) -> list[str]:
    with freezer(place) as target:
        return [target.backup(mode="toymode", name="n", **arguments).id for _ in range(count)]


CALLS: dict[str, Any] = {
    "backup": lambda f: f.backup(mode="toymode", name="n"),
    "backups": lambda f: f.backups(),
    "entries": lambda f: list(f.entries("0")),
    "open": lambda f: f.open("0", "a").__enter__(),
    "restore": lambda f: f.restore("0", "/t"),
    "verify": lambda f: f.verify(),
    "forget": lambda f: f.forget("0"),
    "info": lambda f: f.info(),
    "stats": lambda f: f.stats(),
}


class TestErrors:
    @pytest.mark.parametrize("call", CALLS)
    def test_an_engine_error_names_the_engine(self, place: str, call: str) -> None:
        taken(place)
        with (
            freezer(place, fail=call) as target,
            pytest.raises(PluginError, match=r"engine 'toy' failed: OSError: .*No space left") as caught,
        ):
            CALLS[call](target)
        assert isinstance(caught.value.__cause__, OSError)

    @pytest.mark.parametrize("call", ["backup", "backups", "verify"])
    def test_keyboard_interrupt_passes(self, place: str, call: str) -> None:
        with freezer(place, fail=f"interrupt {call}") as target, pytest.raises(KeyboardInterrupt):
            CALLS[call](target)

    @pytest.mark.parametrize("service", ["retention", "keys", "maintenance"])
    def test_what_an_engine_lacks_is_refused(self, place: str, service: str) -> None:
        with freezer(place) as target, pytest.raises(ConfigurationError, match="engine toy has no"):
            getattr(target, service)

    def test_a_failing_close_still_closes_the_storage_and_only_once(self, place: str, plugins: Any) -> None:
        target = freezer(place, fail="close")
        with pytest.raises(PluginError, match="engine 'toy'"):
            target.close()
        target.close()
        assert next(iter(plugins.ToyEngine.made.values())).closed == 1

    @pytest.mark.parametrize("fail", ["enter", "leave", "read"])
    def test_a_mode_error_names_the_mode(self, place: str, fail: str) -> None:
        with freezer(place) as target, pytest.raises(PluginError, match="mode 'toymode' failed: Trouble"):
            target.backup(mode="toymode", name="n", mode_options={"fail": fail})

    def test_a_backup_whose_clean_up_failed_is_named(self, place: str) -> None:
        with freezer(place) as target:
            with pytest.raises(PluginError) as caught:
                target.backup(mode="toymode", name="n", mode_options={"fail": "leave"})
            (backup,) = target.backups()
            assert backup.short_id in str(caught.value.hint)

    def test_a_secret_of_the_mode_is_not_shown(self, place: str) -> None:
        with freezer(place) as target, pytest.raises(PluginError, match=r"cannot quiesce \*\*\*$"):
            target.backup(mode="toymode", name="n", mode_options={"fail": "enter", "password": "canary"})

    def test_a_storage_error_names_the_storage(self, tmp_path: Path, site: Site) -> None:
        source = """
            from freezer_sdk.storages.memory import MemoryStorage
            class Broken(MemoryStorage):
                name = "broken"
                @classmethod
                def parse_url(cls, url): raise LookupError(url)
        """
        site.install("broken", "1", {"storages: broken": "broken_storage:Broken"}, broken_storage=source)
        with pytest.raises(PluginError, match="storage 'broken' failed: LookupError"):
            freezer("broken:x")

    def test_the_engine_is_resumed_and_the_error_kept_when_the_backup_fails(self, place: str, plugins: Any) -> None:
        with freezer(place, fail="backup") as target, pytest.raises(PluginError, match="engine 'toy'"):
            target.backup(mode="toymode", name="n")
        assert plugins.ToyMode.states == ["quiesced", "resumed"]

    def test_errors_while_reading_are_wrapped_but_those_of_the_caller_are_not(self, place: str) -> None:
        taken(place)
        with (
            freezer(place, fail="read") as target,
            target.open("0", "a") as reader,
            pytest.raises(PluginError, match=r"OSError: .*read failed"),
        ):
            reader.read()
        with freezer(place) as target, pytest.raises(ZeroDivisionError), target.open("0", "a"):
            _ = 1 / 0
        with freezer(place, fail="close reader") as target, pytest.raises(PluginError), target.open("0", "a"):
            pass

    def test_an_iteration_that_is_left_early_is_no_error(self, place: str) -> None:
        taken(place)
        with freezer(place) as target:
            entries = target.entries("0")
            assert next(entries).path == b"/data"
            entries.close()  # type: ignore[attr-defined]


class TestOpening:
    def test_create_needs_to_be_asked_for(self, place: str) -> None:
        with pytest.raises(RepositoryNotFound):
            Freezer(place, engine="toy", password="pw")
        Freezer.create(place, engine="toy", password="pw").close()
        with pytest.raises(RepositoryExists):
            Freezer.create(place, engine="toy", password="pw")
        Freezer(place, engine="toy", password="pw").close()
        Freezer(place, engine="toy", password="pw", create=True).close()

    def test_the_password_is_asked_for_once_and_shown_nowhere(self, place: str) -> None:
        taken(place)
        asked = []

        def ask() -> str:
            asked.append(1)
            return "pw"

        with Freezer(place, engine="toy", password=ask) as target:
            assert asked == [1]
            assert "pw" not in repr(target) + str(vars(target))
            assert repr(target) == f"<Freezer toy {place}>"
        with pytest.raises(WrongPassword):
            Freezer(place, engine="toy", password=lambda: "other")

    def test_not_even_asked_without_need(self, place: str) -> None:
        def ask() -> str:
            raise AssertionError("asked")

        Freezer.create(place, engine="toy", password=ask, encryption=False).close()

    @pytest.mark.parametrize("answer", [b"bytes", 5])
    def test_a_password_is_text(self, place: str, answer: Any) -> None:
        with pytest.raises(ConfigurationError, match="instead of text"):
            Freezer.create(place, engine="toy", password=lambda: answer)

    def test_a_password_source_that_fails(self, place: str) -> None:
        def ask() -> str:
            raise RuntimeError("canary")

        with pytest.raises(ConfigurationError, match="RuntimeError") as caught:
            Freezer.create(place, engine="toy", password=ask)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("url", ["/srv/backups", "", "LOCAL:/x", ":x"])
    def test_a_url_needs_a_scheme(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="no scheme"):
            freezer(url)

    def test_an_unknown_scheme_lists_the_storages(self) -> None:
        with pytest.raises(PluginNotFound, match="'gopher'") as caught:
            freezer("gopher://x")
        assert "local" in str(caught.value.hint)

    def test_unknown_options_are_refused(self, place: str) -> None:
        with pytest.raises(ConfigurationError, match="'colour'"):
            freezer(place, storage_options={"colour": "red"})
        with pytest.raises(ConfigurationError, match="'colour'"):
            Freezer(place, engine="toy", create=True, engine_options={"colour": "red"})

    def test_an_open_storage_stays_open(self, place: str) -> None:
        with open_storage(place) as storage:
            with Freezer(storage, engine="toy", create=True, password="pw") as target:
                assert target.location == storage.location
            storage.put("x", [b"1"])
            assert storage.get("x") == b"1"
            with pytest.raises(ConfigurationError, match="open already"):
                Freezer(storage, engine="toy", storage_options={"path": "/x"})

    def test_a_closed_freezer_says_so(self, place: str) -> None:
        target = freezer(place)
        target.close()
        target.close()
        for call in CALLS.values():
            with pytest.raises(FreezerError, match="closed"):
                call(target)


class TestBackup:
    def test_what_is_recorded(self, place: str, plugins: Any) -> None:
        with freezer(place) as target:
            backup = target.backup(mode="toymode", name="n", host="h", tags=["a", "b"])
        protected, options, _ = next(iter(plugins.ToyEngine.made.values())).calls[0]
        assert (options.name, options.host, options.tags, options.mode) == ("n", "h", ("a", "b"), "toymode")
        assert options.excludes == ("x",)
        assert protected.facts == {"position": 5}
        assert backup.status == "partial"  # returned, not raised

    def test_machine_and_user_are_recorded_but_not_the_raw_id(self, place: str, plugins: Any) -> None:
        taken(place)
        _, options, _ = next(iter(plugins.ToyEngine.made.values())).calls[0]
        assert options.username
        raw = Path("/etc/machine-id")
        if raw.exists() and raw.read_text().strip():
            assert len(options.machine_id) == 32
            assert options.machine_id != raw.read_text().strip()

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"paths": "/srv/www/"}, "www"),
            ({"paths": [Path("/srv/www"), "/etc"]}, "www"),
            ({"paths": b"/srv/\xff"}, "\udcff"),
            ({"paths": "/"}, "root"),
            ({"mode_options": {"label": "proposed"}}, "proposed"),
            ({"paths": "/srv/www", "name": "given"}, "given"),
        ],
    )
    def test_the_name(self, place: str, arguments: dict[str, Any], name: str) -> None:
        with freezer(place) as target:
            assert target.backup(mode="toymode", **arguments).name == name

    def test_no_name_is_an_error_before_anything_is_quiesced(self, place: str, plugins: Any) -> None:
        with freezer(place) as target, pytest.raises(ConfigurationError, match="no name"):
            target.backup(mode="toymode")
        assert plugins.ToyMode.states == []

    def test_paths_and_excludes_only_where_the_mode_takes_them(self, place: str) -> None:
        with freezer(place) as target:
            with pytest.raises(ConfigurationError, match="mode 'plain' takes no paths"):
                target.backup("/srv", mode="plain")
            with pytest.raises(ConfigurationError, match="mode 'plain' takes no excludes"):
                target.backup(mode="plain", name="n", excludes=["*.o"])
            with pytest.raises(ConfigurationError, match="given twice"):
                target.backup("/srv", mode="toymode", mode_options={"paths": ["/etc"]})

    @pytest.mark.parametrize("argument", ["tags", "excludes"])
    def test_a_lone_text_is_no_list(self, place: str, argument: str) -> None:
        with freezer(place) as target, pytest.raises(ConfigurationError, match=f"{argument} is a list"):
            target.backup("/srv", mode="toymode", **{argument: "daily"})

    def test_dry_run_and_parent_pass_through(self, place: str, plugins: Any) -> None:
        first, second = taken(place, 2)
        with freezer(place) as target:
            target.backup(mode="toymode", name="n", dry_run=True, force_read=True, parent=first[:32])
            assert len(target.backups()) == 2
        _, options, _ = next(iter(plugins.ToyEngine.made.values())).calls[-1]
        assert (options.dry_run, options.force_read, options.parent) == (True, True, first)
        assert second != first


class TestEvents:
    def test_start_progress_finish(self, place: str) -> None:
        seen: list[Event] = []
        with freezer(place, events=seen.append) as target:
            target.backup(mode="toymode", name="n", paths="/srv")
            assert [event.kind for event in seen] == ["start", "progress", "finish"]
            assert seen[0].data["paths"] == ["/srv"]
            assert seen[-1].data["status"] == "partial"
            other: list[Event] = []
            target.verify(events=other.append)
            assert [(event.operation, event.kind) for event in other] == [("verify", "start"), ("verify", "finish")]
            assert len(seen) == 3

    def test_a_failing_listener_does_not_end_the_backup(self, place: str, caplog: pytest.LogCaptureFixture) -> None:
        calls = []

        def listen(event: Event) -> None:
            calls.append(event)
            raise BrokenPipeError

        with freezer(place) as target:
            assert target.backup(mode="toymode", name="n", events=listen).name == "n"
        assert len(calls) == 1
        assert "event handler failed" in caplog.text

    @pytest.mark.parametrize("call", ["backup", "restore", "verify"])
    def test_a_cancelled_token_starts_nothing(self, place: str, plugins: Any, call: str) -> None:
        taken(place)
        plugins.ToyMode.states.clear()
        token = CancelToken()
        token.cancel()
        calls: dict[str, Any] = {
            "backup": lambda f: f.backup(mode="toymode", name="n", cancel=token),
            "restore": lambda f: f.restore("0", "/t", cancel=token),
            "verify": lambda f: f.verify(cancel=token),
        }
        with freezer(place) as target, pytest.raises(Cancelled):
            calls[call](target)
        assert plugins.ToyMode.states == []

    def test_the_token_reaches_the_engine(self, place: str, plugins: Any) -> None:
        token = CancelToken()
        with freezer(place) as target:
            target.backup(mode="toymode", name="n", cancel=token)
        _, _, context = next(iter(plugins.ToyEngine.made.values())).calls[0]
        assert context.cancel is token


class TestUse:
    def test_backups_come_sorted_whatever_the_engine_gives(self, place: str) -> None:
        ids = taken(place, 3)
        with freezer(place) as target:
            assert [each.id for each in target.backups()] == ids
            assert target.find_backup(name="n").id == ids[-1]

    def test_resolve_gives_the_path_too(self, place: str) -> None:
        ids = taken(place, 2)
        with freezer(place) as target:
            assert target.resolve("latest:a.txt") == (target.find_backup(ids[1]), "/data/a.txt")
            assert target.resolve(ids[0])[1] is None
            with pytest.raises(ConfigurationError, match="two paths"):
                target.open(f"{ids[0]}:a.txt", "b.txt")
            with pytest.raises(ConfigurationError, match="path inside the backup is needed"):
                target.open(ids[0])
            with pytest.raises(ConfigurationError, match="is not the id"):
                target.verify(f"{ids[0]}:a.txt")

    def test_find(self, place: str) -> None:
        ids = taken(place, 2)
        with freezer(place) as target:
            found = [(backup.id, entry.path) for backup, entry in target.find("*.TXT", ignore_case=True)]
            assert found == [(ids[0], b"/data/a.txt"), (ids[1], b"/data/a.txt")]
            assert [backup.id for backup, _ in target.find("a*", backups=[ids[1]])] == [ids[1]]
            assert [backup.id for backup, _ in target.find("a*", backups=ids[0])] == [ids[0]]
            assert list(target.find("nothing")) == []

    def test_verify_and_forget_take_prefixes_and_each_backup_once(self, place: str, plugins: Any) -> None:
        ids = taken(place, 3)
        with freezer(place) as target:
            target.verify([ids[0], ids[0][:32], ids[2]])
            assert next(iter(plugins.ToyEngine.made.values())).calls[-1] == [ids[0], ids[2]]
            target.verify()
            assert next(iter(plugins.ToyEngine.made.values())).calls[-1] == []
            gone = target.forget([ids[1], ids[1]])
            assert [each.id for each in gone] == [ids[1]]
            with pytest.raises(FreezerError, match="no backup"):
                target.forget([ids[0], ids[1]])
            assert [each.id for each in target.backups()] == [ids[0], ids[2]]

    def test_a_mode_restores_its_own_backups(self, place: str) -> None:
        (backup,) = taken(place)
        with freezer(place) as target:
            result = target.restore(backup, "/target", mode_options={"label": "x"})
            assert (result.files, result.target) == (1, "/target")
            with pytest.raises(PluginError, match="mode 'toymode' failed: Trouble: no"):
                target.restore(backup, "/target", mode_options={"fail": "restore"})
            with pytest.raises(PluginError, match=r"mode 'toymode' failed: TypeError: .*str instead of RestoreResult"):
                target.restore(backup, "/target", mode_options={"fail": "result"})

    def test_restore_options_reach_the_engine(self, place: str, plugins: Any) -> None:
        (backup,) = taken(place)
        with freezer(place) as target:
            target.restore(f"{backup}:a.txt", Path("/t"), paths=["b", b"\xff"], overwrite="if-changed", layout="full")
            options = next(iter(plugins.ToyEngine.made.values())).calls[-1][2]
            assert options.paths == (b"b", b"\xff", b"/data/a.txt")
            assert (options.overwrite, options.layout) == ("if-changed", "full")
            target.restore(backup, "/t", paths="one")
            assert next(iter(plugins.ToyEngine.made.values())).calls[-1][2].paths == (b"one",)
            with pytest.raises(ConfigurationError, match="overwrite 'maybe' is none of always, if-changed, never"):
                target.restore(backup, "/t", overwrite="maybe")
            with pytest.raises(ConfigurationError, match="layout"):
                target.restore(backup, "/t", layout="flat")
            with pytest.raises(ConfigurationError, match="include is a list"):
                target.restore(backup, "/t", include="*.txt")

    def test_closing_from_several_threads_closes_once(self, place: str, plugins: Any) -> None:
        target = freezer(place)
        threads = [threading.Thread(target=target.close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert next(iter(plugins.ToyEngine.made.values())).closed == 1
