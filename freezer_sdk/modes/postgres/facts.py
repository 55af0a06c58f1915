"""What is recorded of a server with each backup."""

from __future__ import annotations

from typing import Any

from freezer_sdk.modes.postgres.connection import Session

_POSITION = """
SELECT pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
       (SELECT timeline_id FROM pg_control_checkpoint()),
       (SELECT system_identifier FROM pg_control_system()),
       (SELECT rolname FROM pg_roles WHERE oid = 10)
"""
_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template1' ORDER BY datname"


def described(session: Session, *, strategy: str, major: int, version: str) -> dict[str, Any]:
    """The server, and how far it was when the backup began.

    Raises:
        SourceUnreadable: it does not answer.
    """
    standby, position, timeline, identifier, superuser = session.rows(_POSITION)[0]
    return {
        "strategy": str(strategy),
        "major": major,
        "server_version": version,
        "system_identifier": identifier,
        "standby": standby == "t",
        "wal_position": position,
        "timeline": int(timeline),
        "superuser": superuser,
        "databases": databases(session),
    }


def databases(session: Session) -> list[str]:
    """The names of all databases that can be connected to, but for the template.

    Raises:
        SourceUnreadable: the server does not answer.
    """
    return [row[0] for row in session.rows(_DATABASES)]
