"""``freezer status``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from freezer_cli.base import Column, ListCommand
from freezer_cli.check import duration
from freezer_cli.documents import Document, plain
from freezer_cli.group_command import GroupCommand
from freezer_cli.operation import PARTIAL
from freezer_cli.text import human_duration, human_iso, printable
from freezer_sdk.errors import ConfigurationError, FreezerError, Overdue

if TYPE_CHECKING:
    from freezer_sdk import FreshnessReport, SeriesFreshness

LOG = logging.getLogger("freezer")


def _age(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    return f"{days} d {rest // 3600} h" if days else human_duration(rest)


_COLUMNS = (
    Column("state", "State"),
    Column("name", "Name"),
    Column("host", "Host"),
    Column("newest", "Newest backup", human_iso),
    Column("age_seconds", "Age", _age),
    Column("status", "Status"),
    Column("drilled", "Last good drill", human_iso),
    Column("drill_age_seconds", "Drill age", _age),
    Column("recovery_seconds", "Restored in", human_duration),
    Column("drill_passed", "Last drill passed", lambda value: "yes" if value else "NO"),
    Column("backup", "Backup", extra=True),
    Column("drill_sample", "Sample", extra=True),
    Column("drill_error", "Drill error", extra=True),
    Column("location", "Storage", extra=True),
)
_SEVERAL = (Column("location", "Storage"), *_COLUMNS[:-1])


class _Code(IntEnum):
    """What monitors understand."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class ShowStatus(GroupCommand, ListCommand):
    """Say which names have no recent backup, and of which it was not shown lately that they can be restored.

    The repository itself is asked, so that any machine can watch it. Exits with 15 when a name is overdue or
    undrilled, and with 3 when one of several storages could not be asked. With --nagios one line is printed, and the
    exit code is that of a monitor's plug-in: 0 fine, 1 undrilled or partial, 2 overdue, 3 not known."""

    examples = (
        "freezer status --max-age 26h",
        "freezer status --max-age 26h --drill-max-age 30d --expect etc",
        "freezer status --max-age 26h --nagios",
    )
    nagios = False
    limits: Mapping[str, Any]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the limits and the choice of names."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--max-age", metavar="AGE", type=duration, help="of the newest backup, e.g. 26h")
        parser.add_argument(
            "--drill-max-age", metavar="AGE", type=duration, help="of the last restore drill that passed, e.g. 30d"
        )
        parser.add_argument(
            "--name", metavar="NAME", action="append", default=[], help="only this, and it must be there (repeatable)"
        )
        parser.add_argument("--host", metavar="HOST", help="only backups of this host")
        parser.add_argument(
            "--expect", metavar="NAME", action="append", help="must be there, beside those that are (repeatable)"
        )
        parser.add_argument("--nagios", action="store_true", help="one line and exit codes for monitors")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Asks the repositories."""
        self.nagios = parsed_args.nagios
        try:
            reports = self._reports(parsed_args)
        except FreezerError as error:
            if not self.nagios:
                raise
            return (), _line(_Code.UNKNOWN, [error.message], [])
        rows = [row_of(report, each) for report in reports for each in report.series]
        for report in reports:
            for problem in report.problems:
                LOG.warning("%s: %s; this record does not count", problem.path, problem.message)
        if self.nagios:
            return (), _judged(reports, in_vain=self.asked_in_vain)
        late = any(report.late or report.missing for report in reports)
        for report in reports:
            if report.missing:
                LOG.error("%s: there is no backup at all", report.location)
        self.exit_code = Overdue.exit_code if late else PARTIAL if self.asked_in_vain else 0
        return _SEVERAL if self.several else _COLUMNS, rows

    def _reports(self, parsed_args: argparse.Namespace) -> list[FreshnessReport]:
        arguments = {
            **limits_of(parsed_args, self.settings.profile.status),
            "names": parsed_args.name,
            "host": parsed_args.host,
        }
        if not self.several:
            return [self.open(parsed_args).freshness(**arguments)]
        group = self.open_group(parsed_args)
        self.tell_lost(group)
        return [freezer.freshness(**arguments) for freezer in group.freezers.values()]

    def wrong_arguments(self) -> int:
        """Monitors take 2 for a critical state."""
        if "--nagios" not in self.arguments:
            return super().wrong_arguments()
        line, code = _line(_Code.UNKNOWN, ["wrong arguments"], [])
        self.app.stdout.write(line + "\n")
        return code

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[Any], data: Any) -> int:
        """Prints the rows, or the line for a monitor."""
        if not self.nagios:
            return super().produce_output(parsed_args, column_names, data)
        line, code = data
        self.app.stdout.write(printable(line) + "\n")
        self.exit_code = code
        return 0


def limits_of(parsed_args: argparse.Namespace, configured: Mapping[str, Any]) -> dict[str, Any]:
    """The limits and the names that must be there, the command line over the profile.

    Raises:
        ConfigurationError: the profile's age is none.
    """
    found: dict[str, Any] = {}
    for key in ("max-age", "drill-max-age"):
        name = key.replace("-", "_")
        value = getattr(parsed_args, name, None)
        if value is None and key in configured:
            try:
                value = duration(configured[key])
            except argparse.ArgumentTypeError as error:
                raise ConfigurationError(f"status.{key}: {error}") from None
        found[name] = value
    expected = getattr(parsed_args, "expect", None)
    expected = configured.get("expect", []) if expected is None else expected
    return {**found, "expected": [expected] if isinstance(expected, str) else list(expected)}


def row_of(report: FreshnessReport, found: SeriesFreshness) -> Document:
    """How it stands with one name."""
    newest, drill, passed = found.newest, found.drill, found.passed
    return {
        "state": found.state.value,
        "name": plain(found.name),
        "host": plain(found.host),
        "newest": None if newest is None else newest.time.isoformat(),
        "age_seconds": _seconds(found.age),
        "status": None if newest is None else newest.status.value,
        "drilled": None if passed is None else passed.started.isoformat(),
        "drill_age_seconds": _seconds(found.drill_age),
        "recovery_seconds": None if passed is None else passed.restore_seconds,
        "drill_passed": None if drill is None else drill.passed,
        "backup": None if newest is None else newest.id,
        "drill_sample": None if passed is None else passed.sample,
        "drill_error": None if drill is None else plain(drill.error),
        "location": report.location,
    }


def _seconds(age: timedelta | None) -> int | None:
    return None if age is None else int(age.total_seconds())


def _judged(reports: Sequence[FreshnessReport], *, in_vain: bool) -> tuple[str, _Code]:
    """The line for a monitor."""
    from freezer_sdk import Freshness

    series = [each for report in reports for each in report.series]
    by_state = {state: [each for each in series if each.state is state] for state in Freshness}
    code, said = _Code.OK, [f"{len(by_state[Freshness.OK])} of {len(series)} names are fine"]
    if by_state[Freshness.PARTIAL] or by_state[Freshness.UNDRILLED]:
        code = _Code.WARNING
    if not series:
        code, said = _Code.UNKNOWN, ["there is no backup at all"]
    if in_vain:
        code, said = _Code.UNKNOWN, ["a storage cannot be asked", *said]
    missing = [report.location for report in reports if report.missing]
    if missing and series:
        said[:0] = [f"there is no backup at all in {location}" for location in missing]
    if by_state[Freshness.OVERDUE] or missing:
        code = _Code.CRITICAL
    for state in (Freshness.PARTIAL, Freshness.UNDRILLED, Freshness.OVERDUE):
        said[:0] = [_said(each) for each in by_state[state]]
    oldest = max((each.age.total_seconds() for each in series if each.age is not None), default=0)
    figures = [
        f"names={len(series)}",
        *(f"{state}={len(by_state[state])}" for state in Freshness if state is not Freshness.OK),
        f"oldest={int(oldest)}s",
    ]
    return _line(code, said, figures)


def _said(found: SeriesFreshness) -> str:
    title = f"{found.name} of {found.host}" if found.host else found.name
    if found.state == "overdue":
        return f"{title} has no backup" if found.age is None else f"{title} is {_age(found.age.total_seconds())} old"
    if found.state == "partial":
        return f"{title} is partial"
    if found.drill is not None and not found.drill.passed:
        return f"{title} did not pass its last drill"
    if found.drill_age is None:
        return f"{title} was never drilled"
    return f"{title} was drilled {_age(found.drill_age.total_seconds())} ago"


def _line(code: _Code, said: Iterable[str], figures: Iterable[str]) -> tuple[str, _Code]:
    text = "; ".join(said).replace("|", "/")  # what follows a bar is figures
    return f"FREEZER {code.name} - {text}" + (f" | {' '.join(figures)}" if figures else ""), code
