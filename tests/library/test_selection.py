"""Choosing backups, paths and entries."""

from __future__ import annotations

import fnmatch
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk import AmbiguousError, Backup, BackupNotFound, ConfigurationError, Entry, EntryType, Status
from freezer_sdk.selection import (
    BackupFilter,
    absolute_path,
    as_utc,
    choose_backup,
    entry_matcher,
    split_selector,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def backup(identifier: str, *, hours: float = 0, **values: Any) -> Backup:
    fields = {"host": "node1", "name": "etc", "mode": "fs", "engine": "dedup", "status": Status.COMPLETE}
    return Backup(id=identifier.ljust(32, "0"), time=NOON + timedelta(hours=hours), **{**fields, **values})


def choose(backups: list[Backup], identifier: str = "latest", **wanted: Any) -> str:
    return choose_backup(backups, identifier, wanted=BackupFilter(**wanted), this_host="node1").short_id


class TestFilter:
    SET = (
        backup("a", hours=0, tags=("daily", "x")),
        backup("b", hours=1, name="home", paths=("/home",)),
        backup("c", hours=2, host="node2", mode="mysql"),
    )

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, "abc"),
            ({"name": "etc"}, "ac"),
            ({"host": "node2"}, "c"),
            ({"tags": ("daily",)}, "a"),
            ({"tags": ("x", "daily")}, "a"),
            ({"tags": ("daily", "weekly")}, ""),
            ({"mode": "mysql"}, "c"),
            ({"path": "/home/"}, "b"),
            ({"before": NOON + timedelta(hours=1)}, "a"),
            ({"after": NOON + timedelta(hours=1)}, "bc"),
            ({"at": NOON + timedelta(hours=1)}, "ab"),
            ({"after": NOON, "before": NOON + timedelta(hours=2)}, "ab"),
            ({"name": "etc", "host": "node1"}, "a"),
        ],
    )
    def test_every_condition_must_hold(self, wanted: dict[str, Any], found: str) -> None:
        assert "".join(each.id[0] for each in self.SET if BackupFilter(**wanted)(each)) == found

    def test_another_zone_is_converted(self) -> None:
        east = timezone(timedelta(hours=5))
        assert BackupFilter(at=datetime(2026, 3, 1, 17, tzinfo=east))(self.SET[0])
        assert not BackupFilter(at=datetime(2026, 3, 1, 16, 59, tzinfo=east))(self.SET[0])

    def test_a_time_without_zone_is_local(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        try:
            assert as_utc(datetime(2026, 3, 1, 7)) == NOON
            assert as_utc(datetime(2026, 7, 1, 8)) == datetime(2026, 7, 1, 12, tzinfo=UTC)  # daylight saving
            assert BackupFilter(before=datetime(2026, 3, 1, 7, 0, 1))(self.SET[0])
            assert not BackupFilter(before=datetime(2026, 3, 1, 7))(self.SET[0])
        finally:
            monkeypatch.undo()
            time.tzset()


class TestById:
    def test_a_prefix_is_enough(self) -> None:
        assert choose([backup("ab"), backup("cd")], "c") == "cd000000"
        assert choose([backup("ab"), backup("cd")], "CD00") == "cd000000"

    def test_any_host_and_name(self) -> None:
        assert choose([backup("ab", host="node9", name="x")], "ab") == "ab000000"

    def test_several_are_listed(self) -> None:
        with pytest.raises(AmbiguousError) as caught:
            choose([backup("ab1", name="first"), backup("ab2", name="second"), backup("cd")], "ab")
        for text in ("'ab' fits 2 backups", "ab100000", "first", "ab200000", "second"):
            assert text in caught.value.message
        assert caught.value.exit_code == 2

    def test_a_long_list_is_cut(self) -> None:
        with pytest.raises(AmbiguousError, match="92 more"):
            choose([backup(f"a{number:03}") for number in range(100)], "a")

    def test_other_conditions_resolve_a_prefix(self) -> None:
        assert choose([backup("ab1", name="x"), backup("ab2", name="y")], "ab", name="y") == "ab200000"
        with pytest.raises(BackupNotFound, match="does not fit the other conditions"):
            choose([backup("ab1", name="x")], "ab", name="y")

    def test_unknown(self) -> None:
        with pytest.raises(BackupNotFound, match="'cd'"):
            choose([backup("ab")], "cd")

    @pytest.mark.parametrize("text", ["", "lates", "xyz", "a" * 33, "٣", "ab cd"])
    def test_no_id_at_all(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="is not the id"):
            choose([backup("ab")], text)


class TestLatest:
    def test_the_newest_whatever_the_order(self) -> None:
        assert choose([backup("b", hours=2), backup("c", hours=3), backup("a", hours=1)]) == "c0000000"

    def test_only_of_this_host(self) -> None:
        assert choose([backup("a"), backup("b", hours=1, host="node2")]) == "a0000000"
        assert choose([backup("a"), backup("b", hours=1, host="node2")], host="node2") == "b0000000"

    def test_no_backup_of_this_host_tells_the_others(self) -> None:
        with pytest.raises(BackupNotFound, match="of host 'node1'") as caught:
            choose([backup("b", host="node3"), backup("c", host="node2"), backup("d", host="node2")])
        assert caught.value.hint == "there are backups of other hosts: node2, node3"

    def test_no_backup_at_all(self) -> None:
        with pytest.raises(BackupNotFound) as caught:
            choose([], name="etc")
        assert "'etc'" in caught.value.message
        assert caught.value.hint is None

    def test_several_names_are_listed(self) -> None:
        backups = [backup("a"), backup("b", name="home"), backup("c", name="other", host="node2")]
        with pytest.raises(AmbiguousError, match=r"several names: etc, home$"):
            choose(backups)
        assert choose(backups, name="home") == "b0000000"

    def test_at_is_the_newest_not_after(self) -> None:
        backups = [backup("a", hours=0), backup("b", hours=1), backup("c", hours=2)]
        assert choose(backups, at=NOON + timedelta(hours=1)) == "b0000000"
        assert choose(backups, at=NOON + timedelta(minutes=59)) == "a0000000"
        with pytest.raises(BackupNotFound):
            choose(backups, at=NOON - timedelta(seconds=1))

    def test_tags(self) -> None:
        backups = [backup("a", tags=("weekly",)), backup("b", hours=1, tags=("daily",))]
        assert choose(backups, tags=("weekly",)) == "a0000000"


class TestSelector:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("latest", ("latest", None)),
            ("1a2b", ("1a2b", None)),
            ("1a2b:/etc/ssh", ("1a2b", "/etc/ssh")),
            ("latest:ssh", ("latest", "ssh")),
            ("1a2b:/odd:name", ("1a2b", "/odd:name")),
        ],
    )
    def test_split(self, text: str, parts: tuple[str, str | None]) -> None:
        assert split_selector(text) == parts

    @pytest.mark.parametrize("text", ["", ":", ":/etc", "1a2b:"])
    def test_nothing_chosen(self, text: str) -> None:
        with pytest.raises(ConfigurationError):
            split_selector(text)


class TestPaths:
    @pytest.mark.parametrize(
        ("roots", "path", "expected"),
        [
            (("/etc",), "/etc/ssh/", b"/etc/ssh"),
            (("/etc",), "ssh", b"/etc/ssh"),
            (("/etc",), "./ssh//keys/.", b"/etc/ssh/keys"),
            (("/etc",), b"ssh/\xff", b"/etc/ssh/\xff"),
            (("/etc", "/srv"), "/srv", b"/srv"),
            (("/",), "etc", b"/etc"),
            (("/",), "/", b"/"),
            ((), "dump.sql", b"/dump.sql"),
        ],
    )
    def test_absolute(self, roots: tuple[str, ...], path: Any, expected: bytes) -> None:
        assert absolute_path(path, roots) == expected

    @pytest.mark.parametrize("path", ["../x", "/etc/../x", "a\0b"])
    def test_refused(self, path: str) -> None:
        with pytest.raises(ConfigurationError):
            absolute_path(path, ("/etc",))

    def test_relative_to_several_roots(self) -> None:
        with pytest.raises(ConfigurationError, match="several roots") as caught:
            absolute_path("ssh", ("/etc", "/srv"))
        assert "/etc, /srv" in str(caught.value.hint)


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "path", "fits"),
        [
            ("*.conf", "/etc/ssh/sshd.conf", True),
            ("*.conf", "/etc/x.conf/file", False),
            ("ssh*", "/etc/ssh", True),
            ("ssh/*.conf", "/etc/ssh/sshd.conf", True),
            ("ssh/*.conf", "/etc/ssh/more/sshd.conf", False),
            ("ssh/*.conf", "/etc/openssh/sshd.conf", False),
            ("/ssh/*.conf", "/etc/ssh/sshd.conf", False),
            ("/etc/*/*.conf", "/etc/ssh/sshd.conf", True),
            ("/etc/*.conf", "/etc/ssh/sshd.conf", False),
            ("/etc/**/*.conf", "/etc/ssh/a/b.conf", True),
            ("/etc/**/*.conf", "/etc/b.conf", True),
            ("/etc/**", "/etc/ssh/a", True),
            ("/etc/**", "/etcetera", False),
            ("**/ssh/**", "/etc/ssh/a/b", True),
            ("?", "/etc/a", True),
            ("[ab]", "/etc/b", True),
            ("[!ab]", "/etc/b", False),
            ("A*", "/etc/abc", False),
            ("*\udcff*", "/etc/x\udcffy", True),
            ("*", "/etc/two\nlines", True),
            ("etc/", "/etc", True),
        ],
    )
    def test_glob(self, pattern: str, path: str, fits: bool) -> None:
        entry = Entry(path=path.encode("utf-8", "surrogateescape"), type=EntryType.FILE)
        assert entry_matcher(pattern)(entry) is fits

    def test_ignore_case(self) -> None:
        assert entry_matcher("A*", ignore_case=True)(Entry(path=b"/etc/abc", type=EntryType.FILE))

    @pytest.mark.parametrize("pattern", ["", "/", "//"])
    def test_empty(self, pattern: str) -> None:
        with pytest.raises(ConfigurationError):
            entry_matcher(pattern)

    @given(
        st.text(st.sampled_from("ab*?[]!-."), min_size=1, max_size=6),
        st.text(st.sampled_from("ab.-]"), min_size=1, max_size=6),
    )
    def test_a_name_pattern_means_what_fnmatch_means(self, pattern: str, name: str) -> None:
        if pattern == "**":
            return
        entry = Entry(path=f"/data/{name}".encode(), type=EntryType.FILE)
        assert entry_matcher(pattern)(entry) is fnmatch.fnmatchcase(name, pattern)
