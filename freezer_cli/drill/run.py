"""``freezer drill run``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from freezer_cli.base import ResultCommand, Row
from freezer_cli.config_file import Profile
from freezer_cli.drill.columns import DRILL, drill_document
from freezer_cli.operation import INTEGRITY, running
from freezer_cli.plugin_options import assigned
from freezer_cli.priority import add_priority_options, apply_priority
from freezer_cli.prune import parse_share
from freezer_cli.repository_command import RepositoryCommand
from freezer_cli.settings import DEFAULT_MODE
from freezer_cli.text import counted, human_duration, human_size
from freezer_sdk.errors import ConfigurationError


class RunDrill(RepositoryCommand, ResultCommand):
    """Restore a backup into scratch space, check it, measure how long that takes, and write it down.

    Restored files are compared with the backup; where the mode that made the backup can start its application on the
    restored data, that is asked instead. Nothing is restored to where an application expects it, and everything is
    removed afterwards. A signed record stays in the repository, which `freezer status` looks at.

    Exits with 13 when the backup cannot be restored or is not what it was; the record says so, too."""

    examples = (
        "freezer drill run --name etc",
        "freezer drill run --name etc --sample 5% --scratch /srv/scratch",
        "freezer drill run 3f2a9c1e -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the backup, the place and how thorough to be."""
        from freezer_sdk import Verifier

        parser = super().get_parser(prog_name)
        parser.add_argument(
            "backup", metavar="ID", nargs="?", default="latest", help="start of an id, or latest (default)"
        )
        parser.add_argument("--name", metavar="NAME", help="the newest backup of this name")
        parser.add_argument("--host", metavar="HOST", help="of this host (default: this one)")
        parser.add_argument("--tag", metavar="TAG", action="append", default=[], help="with this tag (repeatable)")
        parser.add_argument("--scratch", metavar="DIR", help="where there is room (default: as temporary files)")
        parser.add_argument(
            "--sample", metavar="SHARE", type=parse_share, default=1.0, help="files chosen at random, e.g. 5%%"
        )
        parser.add_argument("--verifier", choices=list(Verifier), help="what checks the data (default: see above)")
        parser.add_argument(
            "--query",
            metavar="TEXT",
            action="append",
            default=[],
            help="what the application is asked; must give something (repeatable)",
        )
        parser.add_argument(
            "--mode-option",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help="option of the mode that made the backup, for its application (repeatable)",
        )
        parser.add_argument("--no-record", action="store_true", help="leave no record in the repository")
        parser.add_argument("--json-events", action="store_true", help="print one JSON object a line, for wrappers")
        add_priority_options(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Makes the drill."""
        apply_priority(parsed_args.nice, parsed_args.ionice)
        freezer = self.open(parsed_args)
        found = freezer.find_backup(
            parsed_args.backup, name=parsed_args.name, host=parsed_args.host, tags=parsed_args.tag
        )
        options = _mode_options(found.mode, parsed_args.mode_option, self.settings.profile)
        with running(self, parsed_args, "drill") as how:
            drill = freezer.drills.run(
                found.id,
                scratch=parsed_args.scratch,
                sample=parsed_args.sample,
                verifier=parsed_args.verifier,
                queries=parsed_args.query,
                mode_options=options,
                record=not parsed_args.no_record,
                events=how.listener,
                cancel=how.cancel,
            )
        self.exit_code = 0 if drill.passed else INTEGRITY
        document = drill_document(drill)
        how.finish(document, self.exit_code)
        return DRILL, document

    def summary(self, document: Row) -> Iterable[str]:
        """What came of it; what is wrong was told while it ran."""
        share = "" if document["sample"] == 1 else f" (a sample of {100 * document['sample']:.3g} %)"
        title = f"backup {document['backup'][:8]} of {document['name']} of {document['host']}{share}"
        if not document["passed"]:
            yield f"{title}: DID NOT PASS: {document['error']}"
            return
        how = "compared" if document["verifier"] == "files" else "checked by its application"
        yield (
            f"{title}: {counted(document['files'], 'file')} ({human_size(document['bytes'])}) restored in "
            f"{human_duration(document['restore_seconds'])}, {how} in {human_duration(document['verify_seconds'])}"
        )


def _mode_options(mode: str, assignments: Sequence[str], profile: Profile) -> dict[str, Any] | None:
    """Options of the mode, the command line over the profile; a secret may only come from a file there.

    Raises:
        ConfigurationError: not of the form NAME=VALUE, or a secret in clear.
    """
    from freezer_sdk.errors import PluginNotFound
    from freezer_sdk.plugins import MODE, PluginRegistry

    same = mode == profile.backup.get("mode") and mode != DEFAULT_MODE
    configured = dict(profile.mode_options) if same else {}
    if not assignments:
        return configured or None
    try:
        options = PluginRegistry().load(MODE, mode).options
    except PluginNotFound as error:
        raise ConfigurationError(f"mode {mode!r} is not installed: it has no options here") from error
    return {**configured, **assigned(options, assignments, flag="--mode-option")}
