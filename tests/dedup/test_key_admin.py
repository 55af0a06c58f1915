"""Who has keys: adding, removing, new passwords, rotation, recovery keys and the recovery sheet."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from dedup.holders import CLIENT, content, copied, handle_of, join, made, opened, opens, service
from dedup.upkeep.world import GRACE, Clocked, write_files

from freezer_sdk import Freezer
from freezer_sdk.engines.dedup import recovery_key
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.keyholders import reload, rotate
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.segment import SegmentHeader
from freezer_sdk.errors import (
    AccessDenied,
    AmbiguousError,
    ConfigurationError,
    PolicyRefusal,
    WrongPassword,
)
from freezer_sdk.key_model import KeyRole, Rewrite
from freezer_sdk.storages.memory import MemoryStorage


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    made(storage)
    return storage


def test_keys_are_listed_with_what_they_may_do(storage: MemoryStorage) -> None:
    keys = service(storage)
    added = keys.add("web", roles=[KeyRole.WRITER], label="web1", hosts=["web1", "www"])
    assert [key.label for key in keys.list()] == ["owner", "web1"]
    owner, web = keys.list()
    assert web == added
    assert (owner.own, owner.owner, owner.trusted, owner.hosts) == (True, True, True, None)
    assert (web.own, web.owner, web.trusted, web.hosts) == (False, False, False, ("web1", "www"))
    assert (web.roles, web.added, web.removed) == (("writer",), 2, None)
    assert service(storage, "web").list()[1].own


@pytest.mark.parametrize(
    ("roles", "held", "trusted"),
    [
        ([KeyRole.OWNER], ("maintainer", "reader", "writer"), True),
        ([KeyRole.MAINTAINER], ("maintainer", "reader"), True),
        ([KeyRole.WRITER, KeyRole.READER], ("reader", "writer"), False),
    ],
)
def test_roles(storage: MemoryStorage, roles: list[KeyRole], held: tuple[str, ...], trusted: bool) -> None:
    key = service(storage).add("another", roles=roles)
    assert (key.roles, key.trusted) == (held, trusted)


def test_what_cannot_be_added(storage: MemoryStorage) -> None:
    keys = service(storage)
    keys.add("web", roles=[KeyRole.WRITER], label="web")
    before = storage.list()
    for password, label, message in [
        ("other", "web", "label"),
        ("web", "x", "opens the key"),
        ("owner", "x", "opens the key"),
        ("", "x", "empty"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            keys.add(password, roles=[KeyRole.WRITER], label=label)
    with pytest.raises(ConfigurationError, match="role"):
        keys.add("other", roles=[])
    assert list(before) == list(storage.list())
    with pytest.raises(AccessDenied, match="maintainer"):
        service(storage, "web").add("other", roles=[KeyRole.WRITER])


def test_a_removed_key_opens_nothing_and_leaves_nothing(storage: MemoryStorage) -> None:
    keys = service(storage)
    keys.add("web", roles=[KeyRole.WRITER], label="web")
    before = {info.name for info in storage.list("keys/")}
    result = keys.remove("web")
    assert (result.epoch, [key.label for key in result.removed]) == (2, ["web"])
    assert not opens(storage, "web")
    assert opens(storage, "owner")
    assert keys.list()[1].removed == 2
    for name in before - {info.name for info in storage.list("keys/")}:
        with pytest.raises(Exception, match=name):
            storage.get("copies/" + name)
    assert keys.add("web", roles=[KeyRole.WRITER], label="web").label == "web"  # label and password are free again


def test_which_key_is_meant(storage: MemoryStorage) -> None:
    keys = service(storage)
    first, second = (keys.add(name, roles=[KeyRole.WRITER], label=name) for name in ("one", "two"))
    for text in ("on", first.id[:3], "zzzz", ""):
        with pytest.raises(ConfigurationError, match="no key"):
            keys.remove(text)
    keys.remove(first.id[:8].upper())
    keys.remove("two")
    with pytest.raises(ConfigurationError, match="no key"):
        keys.remove(second.id)
    assert issubclass(AmbiguousError, ConfigurationError)


def test_the_last_owner_and_the_key_in_use_stay(storage: MemoryStorage) -> None:
    keys = service(storage)
    with pytest.raises(PolicyRefusal, match="last owner"):
        keys.remove("owner")
    keys.add("maintainer", roles=[KeyRole.MAINTAINER], label="maintainer")
    with pytest.raises(PolicyRefusal, match="last owner"):
        service(storage, "maintainer").remove("owner")
    keys.add("second", roles=[KeyRole.OWNER], label="second")
    with pytest.raises(ConfigurationError, match="opened with"):
        keys.remove("owner")
    assert service(storage, "second").remove("owner").epoch == 2
    assert not opens(storage, "owner")


@pytest.mark.parametrize("roles", [(Role.WRITER,), CLIENT, (Role.READER, Role.MAINTAINER)])
def test_anybody_changes_their_own_password(storage: MemoryStorage, roles: tuple[Role, ...]) -> None:
    before = join(storage, "somebody", *roles)
    configurations = {info.name for info in storage.list("config/")}
    change = service(storage, "somebody").change_password("new one")
    assert (change.key.label, change.left) == ("somebody", ())
    assert not opens(storage, "somebody")
    after = open_repository(storage, lambda: "new one")
    assert (after.slot_id, after.roles) == (before.slot_id, before.roles)
    assert {info.name for info in storage.list("config/")} == configurations
    assert len(list(storage.list("keys/"))) == len(list(storage.list("copies/keys/"))) == 2
    assert after.problems == ()


def test_a_changed_password_survives_rotations(storage: MemoryStorage) -> None:
    join(storage, "somebody", *CLIENT)
    rotate(storage, open_repository(storage, lambda: "owner"))
    service(storage, "somebody").change_password("new one")
    rotate(storage, open_repository(storage, lambda: "owner"))
    keys = open_repository(storage, lambda: "new one")
    assert sorted(keys.epochs) == [1, 2, 3]
    assert not opens(storage, "somebody")
    service(storage, "new one").change_password("newer")
    assert sorted(open_repository(storage, lambda: "newer").epochs) == [1, 2, 3]


def test_a_storage_that_keeps_the_old_password_is_told(storage: MemoryStorage) -> None:
    class AppendOnly(MemoryStorage):
        def delete(self, name: str) -> None:
            raise AccessDenied(f"{name} stays")

    kept = AppendOnly(space=storage.location.removeprefix("memory:"))
    change = service(kept).change_password("new one")
    assert sorted(name.split("/")[0] for name in change.left) == ["copies", "keys"]
    assert opens(storage, "new one")
    assert opens(storage, "owner")


def test_a_password_changes_while_a_rotation_is_half_done(storage: MemoryStorage) -> None:
    """The new epoch's keys lie in a slot object that no configuration speaks of yet; it must stay."""
    join(storage, "somebody", *CLIENT)
    owner = open_repository(storage, lambda: "owner")
    ahead = copied(storage)
    rotate(ahead, owner)
    later = {info.name: ahead.get(info.name) for info in ahead.list() if info.name.split("/")[-2] in ("keys", "config")}
    for name, data in later.items():
        if "keys/" in name:
            storage.put(name, [data])
    change = service(storage, "somebody").change_password("new one")
    assert change.left
    for name, data in later.items():
        storage.put(name, [data])
    assert open_repository(storage, lambda: "new one").epoch == 2
    assert service(storage, "new one").change_password("newest").left == ()
    assert [opens(storage, name) for name in ("somebody", "new one", "newest")] == [False, False, True]


def test_an_unencrypted_repository_has_no_passwords() -> None:
    with Freezer(MemoryStorage(), create=True, encryption=False) as freezer:
        assert [key.owner for key in freezer.keys.list()] == [True]
        for action in (
            lambda: freezer.keys.add("x"),
            lambda: freezer.keys.change_password("x"),
            lambda: freezer.keys.recovery_key(),
        ):
            with pytest.raises(ConfigurationError, match="no passwords"):
                action()
        assert freezer.keys.rotate().epoch == 2


def test_rotation_keeps_everything_readable(storage: MemoryStorage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random(1).randbytes(100_000))
    with opened(storage, "owner") as freezer:
        first = freezer.backup(source, name="n")
        assert freezer.keys.rotate().epoch == 2
        (source / "more").write_bytes(random.Random(2).randbytes(100_000))
        second = freezer.backup(source, name="n")  # by the same object: it knows the new keys
        assert second.parent == first.id
        assert freezer.verify(read_data=True).ok
    assert set(packs(storage).values()) == {1, 2}
    with opened(storage, "owner") as freezer:
        freezer.restore(first.id, tmp_path / "first")
        freezer.restore(second.id, tmp_path / "second")
    assert set(content(tmp_path / "first")) == {"file"}
    assert content(tmp_path / "second") == content(source)


def test_rewriting_stores_all_again_with_new_keys(tmp_path: Path) -> None:
    storage = Clocked()
    made(storage, grace=GRACE)
    write_files(tmp_path / "source", seed=1)
    with opened(storage, "owner") as freezer:
        backup = freezer.backup(tmp_path / "source", name="n")
        storage.pass_time(60)
        old = set(packs(storage))
        result = freezer.keys.rotate(rewrite="now")
        assert result.epoch == 2
        assert result.rewritten_bytes > 1_000_000
        assert result.marked_packs == len(old)
        assert result.due is not None
        assert freezer.verify(read_data=True).ok
        storage.pass_time()
        assert freezer.maintenance.prune().freed_packs == len(old)
        assert not old & set(packs(storage))
        assert set(packs(storage).values()) == {2}
        assert freezer.backup(tmp_path / "source", name="n", force_read=True).stats.added_bytes < 5000
        freezer.restore(backup.id, tmp_path / "out")
        with pytest.raises(ConfigurationError, match="rewrite"):
            freezer.keys.rotate(rewrite="tomorrow")
    assert content(tmp_path / "out") == content(tmp_path / "source")
    assert Rewrite("lazily") is Rewrite.LAZILY


def test_who_cannot_rewrite_does_not_rotate_for_it(storage: MemoryStorage) -> None:
    join(storage, "maintainer", Role.READER, Role.MAINTAINER)
    with opened(storage, "maintainer") as freezer:
        with pytest.raises(AccessDenied, match="role writer"):
            freezer.keys.rotate(rewrite="now")
        assert open_repository(storage, lambda: "owner").epoch == 1
        assert freezer.keys.rotate().epoch == 2


def packs(storage: MemoryStorage) -> dict[str, int]:
    """Names of all packs, and the epochs that they are encrypted in."""
    infos = [info for prefix in ("packs/", "meta/") for info in storage.list(prefix)]
    return {info.name: SegmentHeader.unpack(storage.get(info.name)).epoch for info in infos}


def test_a_recovery_key_opens_everything(storage: MemoryStorage) -> None:
    made_key = service(storage).recovery_key()
    assert made_key.key.owner
    assert made_key.text not in repr(made_key)
    for text in (made_key.text, made_key.text.lower().replace("-", " ").replace("\n", " "), _worst(made_key.text)):
        assert open_repository(storage, lambda text=text: text).slot_id.hex() == made_key.key.id
    assert service(storage).recovery_key().key.label == "recovery key 2"
    service(storage).remove("recovery key")
    assert not opens(storage, made_key.text)


def _worst(text: str) -> str:
    """Without any separators, and with the letters that look alike."""
    return "".join(text.split()).replace("-", "").replace("0", "o").replace("1", "l").lower()


def test_a_typing_error_is_located(storage: MemoryStorage) -> None:
    text = service(storage).recovery_key().text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        for at in (0, 6, len(line) - 1):
            wrong = line[:at] + ("7" if line[at] != "7" else "8") + line[at + 1 :]
            typed = "\n".join([*lines[:number], wrong, *lines[number + 1 :]])
            with pytest.raises(WrongPassword, match=f"line {number + 1}$"):
                open_repository(storage, lambda typed=typed: typed)
    short = "\n".join([lines[0], lines[1][:-1], *lines[2:]])
    with pytest.raises(WrongPassword, match=r"line 2$"):
        open_repository(storage, lambda: short)
    swapped = "\n".join([lines[1], lines[0], *lines[2:]])
    with pytest.raises(WrongPassword, match="lines 1 and 2"):
        open_repository(storage, lambda: swapped)


@pytest.mark.parametrize("text", ["correct horse", "a" * 48, "x", "aaaa-" * 11 + "aaaa", "\udc80", "é" * 48, "0" * 500])
def test_other_passwords_stay_what_they_are(text: str) -> None:
    assert recovery_key.as_password(text) == text


def test_recovery_keys_differ() -> None:
    made_keys = {recovery_key.generate() for _ in range(50)}
    assert len(made_keys) == 50
    assert all(set(text) <= set(recovery_key.ALPHABET + "-\n") for text in made_keys)


def test_the_recovery_sheet(storage: MemoryStorage) -> None:
    keys = service(storage)
    sheet = keys.export_recovery()
    ring = open_repository(storage, lambda: "owner")
    assert (sheet.location, sheet.repository_id) == (storage.location, ring.repository_id.hex())
    assert [key.label for key in sheet.keys] == ["owner"]
    assert sheet.recovery_key is None
    assert all(storage.location in command for command in sheet.commands)
    secret = keys.export_recovery(with_recovery_key=True)
    assert [key.label for key in secret.keys] == ["owner", "recovery key"]
    assert secret.recovery_key is not None
    assert secret.recovery_key not in repr(secret)
    assert opens(storage, secret.recovery_key)


def test_a_removed_key_notices_when_it_administers(storage: MemoryStorage) -> None:
    join(storage, "gone", Role.READER, Role.MAINTAINER)
    keys = service(storage, "gone")
    service(storage).remove("gone")
    with pytest.raises(WrongPassword, match="removed"):
        keys.list()


def test_reloading_knows_the_hosts(storage: MemoryStorage) -> None:
    service(storage).add("web", roles=[KeyRole.WRITER], hosts=["b", "a", "a"])
    line = reload(storage, handle_of(storage, "owner").keys).config.roster[1]
    assert line.hosts == ("a", "b")
    assert line.speaks_for("a")
    assert not line.speaks_for("c")
