"""Whether an account sees all that a dump has to hold: a dump program passes over in silence what it may not see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from freezer_sdk.errors import SourceError, SourceUnreadable
from freezer_sdk.modes.mysql.server import Server

_NAME = r"`(?:[^`]|``)*`"
_GRANT = re.compile(rf"GRANT (.+?) ON (\*|{_NAME})\.(\*|{_NAME}) TO ")
_ROLE = re.compile(rf"GRANT (?:{_NAME}|\S+?)(?:@(?:{_NAME}|\S+?))?(?:,.*)? TO ")
_ALL = "ALL PRIVILEGES"
_ROUTINES = ("EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE", "SHOW CREATE ROUTINE")
"""With one of these a routine is seen, and a dump program that may not read it says so."""


def check_privileges(server: Server, databases: Sequence[str]) -> None:
    """Refuses an account to which triggers, routines or whole databases may be hidden.

    Raises:
        SourceUnreadable: it lacks a privilege.
    """
    try:
        lines = [str(next(iter(row.values()))) for row in server.rows("SHOW GRANTS")]
    except SourceError:  # a server without accounts
        return
    if any(_ROLE.match(line) and not _GRANT.match(line) for line in lines):
        return  # roles may hold anything
    grants = list(_parsed(lines))
    lacking = [name for name in databases if not _held(grants, name, "TRIGGER")]
    if lacking:
        raise SourceUnreadable(
            f"triggers of {', '.join(lacking[:5])} would be missing from the dump without a word",
            hint="GRANT TRIGGER to this account; docs: how-to, MySQL and MariaDB",
        )
    if _held(grants, "mysql", "SELECT", table="proc") or _held(grants, "*", "SHOW_ROUTINE"):
        return
    lacking = [name for name in databases if not any(_held(grants, name, each) for each in _ROUTINES)]
    if lacking:
        raise SourceUnreadable(
            f"routines of {', '.join(lacking[:5])} would be missing from the dump without a word",
            hint="GRANT SELECT ON mysql.proc (MySQL: SHOW_ROUTINE) to this account; docs: how-to, MySQL and MariaDB",
        )


def _parsed(lines: Sequence[str]) -> Iterator[tuple[set[str], str, str]]:
    """Privileges, the pattern of the databases, and the table."""
    for line in lines:
        found = _GRANT.match(line)
        if found is not None:
            yield set(found[1].split(", ")), _plain(found[2]), _plain(found[3])


def _plain(name: str) -> str:
    return name if name == "*" else name[1:-1].replace("``", "`")


def _held(grants: Sequence[tuple[set[str], str, str]], database: str, privilege: str, *, table: str = "*") -> bool:
    return any(
        (privilege in held or _ALL in held) and on in ("*", table) and _fits(pattern, database)
        for held, pattern, on in grants
    )


def _fits(pattern: str, database: str) -> bool:
    """As ``LIKE``: ``_`` is any letter, ``%`` any text, unless a backslash stands before."""
    if pattern == "*":
        return True
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    anything = {"_": ".", "%": ".*"}
    text = "".join(anything.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(text, database, re.DOTALL) is not None
