"""Whether a server can use what was restored: a private one is started on it, checks all collections, and is asked."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, RestoreError, SourceUnreadable
from freezer_sdk.files.datadir import owner_of
from freezer_sdk.model import JSON
from freezer_sdk.modes.mongo.bringing_back import OWN_DATABASES, Archive
from freezer_sdk.modes.mongo.login import Login
from freezer_sdk.modes.mongo.settings import Settings, Strategy
from freezer_sdk.streams.server import private_folder, private_server

_RECOVER_OPLOG = ("--setParameter=recoverFromOplogAsStandalone=true",)
_SHORT = 2.0


def check_restored(target: str, facts: Mapping[str, Any], queries: Sequence[str], settings: Settings) -> JSON:
    """See :meth:`MongoMode.verify_restored`.

    Raises:
        RestoreError, ConfigurationError.
    """
    known = facts.get("mongo")
    if not isinstance(known, Mapping):
        raise ConfigurationError("these are no facts of a backup made by mode mongo")
    folder = Path(os.path.abspath(target))
    try:
        if known["strategy"] == Strategy.DUMP:
            with _empty(folder) as data, _started(data, settings, more=()) as login:
                name = known["stream"]
                Archive(open=lambda: (folder / name).open("rb"), name=name, oplog=known["oplog_in_dump"]).replay(login)
                return _asked(login, queries)
        # a member of a set has its last changes in its oplog only, which it does not look at when started alone
        own = settings.check_command[0] == "mongod"
        more = _RECOVER_OPLOG if own and known.get("replica_set") else ()
        with _started(folder, settings, more=more) as login:
            return _asked(login, queries)
    except (CommandFailed, SourceUnreadable) as error:
        raise RestoreError(f"{folder} is of no use to MongoDB: {error.message}", hint=error.hint) from error


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix=".freezer-check-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _started(data: Path, settings: Settings, *, more: Sequence[str]) -> Iterator[Login]:
    owner = owner_of(data)
    with private_folder(owner=owner) as home:
        words = {"data": str(data), "folder": str(home), "socket": str(home / "mongod.sock"), "port": str(_free_port())}
        given = settings.check_command
        command = [_filled(word, words) for word in given]
        by_port = any("{port}" in word for word in given)
        place = {"host": "127.0.0.1", "port": int(words["port"])} if by_port else {"host": words["socket"]}
        login = Login(**place, timeout=settings.start_timeout)
        probing = Login(**place, timeout=_SHORT)
        with private_server(
            [*command, *more], ready=lambda: _answers(probing), patience=settings.start_timeout, owner=owner
        ):
            yield login


def _filled(word: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(login: Login) -> bool:
    try:
        with login.connected() as client:
            client.admin.command("ping")
    except SourceUnreadable:
        return False
    return True


def _asked(login: Login, queries: Sequence[str]) -> JSON:
    checked = 0
    with login.connected() as client:
        version = client.admin.command("buildInfo")["version"]
        names = sorted(set(client.list_database_names()) - {"local"})
        for name in names:
            for each in client[name].list_collections(filter={"type": "collection"}):
                _validate(client[name], each["name"])
                checked += 1
        answers = [_answer(client, query) for query in queries]
        users = len(set(names) - set(OWN_DATABASES))
    return {"server": version, "databases": users, "tables": checked, "queries": answers}


def _validate(database: Any, collection: str) -> None:
    found = database.command("validate", collection)
    if not found.get("valid"):
        errors = "; ".join(map(str, found.get("errors", ())))
        raise RestoreError(f"the collection {database.name}.{collection} is damaged: {errors}")


def _answer(client: Any, query: str) -> list[list[Any]]:
    """Runs a command such as ``{"find": "people", "filter": {"name": "x"}, "$db": "shop"}``."""
    from bson import json_util

    try:
        command = json_util.loads(query)
        name = command.pop("$db")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigurationError(
            f"not a command of MongoDB in JSON: {query}", hint='for example {"count": "people", "$db": "shop"}'
        ) from None
    reply = client[name].command(command)
    rows = reply["cursor"]["firstBatch"] if "cursor" in reply else [reply["n"]] if reply.get("n") else []
    if not rows:
        raise SourceUnreadable(f"no document answers the query {query}")
    import json

    return [[json.loads(json_util.dumps(row))] for row in rows]
