"""``freezer plugin``: what is installed, what it can be told, and whether it keeps its contract."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from freezer_cli.base import Column, ListCommand, ShowCommand
from freezer_cli.documents import Document, plain
from freezer_cli.plugin_options import assigned
from freezer_sdk.errors import AmbiguousError, ConfigurationError, PluginNotFound

if TYPE_CHECKING:
    from freezer_sdk import PluginInfo
    from freezer_sdk.options import Option

LOG = logging.getLogger("freezer")
KINDS = ("engine", "storage", "mode", "compressor", "snapshot")


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _options(value: Sequence[Document]) -> list[str]:
    return [_option_line(option) for option in value] or ["none"]


def _option_line(option: Document) -> str:
    notes = [option["type"]]
    notes += [f"one of {', '.join(option['choices'])}"] if option["choices"] else []
    notes += [word for word in ("required", "secret", "multiple") if option[word]]
    if option["default"] not in (None, []):
        notes.append(f"default {option['default']}")
    return f"{option['name']} ({'; '.join(notes)}): {option['help']}"


LISTED = (
    Column("kind", "Kind"),
    Column("name", "Name"),
    Column("distribution", "Distribution"),
    Column("version", "Version"),
    Column("available", "Available", _yes),
    Column("reason", "Why not"),
    Column("summary", "Summary"),
    Column("alias_of", "Alias of", extra=True),
    Column("target", "Target", extra=True),
)


def plugin_document(info: PluginInfo) -> Document:
    """What is known about a plug-in."""
    return {
        "kind": info.kind,
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "available": info.available,
        "reason": info.reason,
        "summary": info.summary,
        "alias_of": info.alias_of,
        "target": info.target,
        "options": [option_document(option) for option in (*info.options, *info.common_options)],
    }


def option_document(option: Option) -> Document:
    """What a plug-in declares about one option."""
    return {
        "name": option.name,
        "flag": option.flag,
        "type": option.type,
        "default": None if option.secret else plain(option.default),
        "required": option.required,
        "secret": option.secret,
        "choices": list(option.choices),
        "multiple": option.multiple,
        "help": option.help,
    }


def find_plugin(name: str, kind: str | None) -> PluginInfo:
    """The plug-in of that name.

    Raises:
        PluginNotFound: there is none.
        AmbiguousError: several kinds have one.
    """
    from freezer_sdk.plugins import list_plugins

    found = [info for info in list_plugins(kind) if info.name == name]
    if not found:
        raise PluginNotFound(f"there is no {kind or 'plug-in'} {name!r}", hint="`freezer plugin list` shows all")
    if len({info.kind for info in found}) > 1:
        raise AmbiguousError(
            f"{name!r} is the name of plug-ins of several kinds: {', '.join(info.kind for info in found)}",
            hint="choose one with --kind",
        )
    return found[0]


def _add_plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the plug-in")
    parser.add_argument("--kind", choices=KINDS, help="where several kinds have the name")


class ListPlugins(ListCommand):
    """List the installed plug-ins, also those that cannot be used, and why."""

    examples = ("freezer plugin list", "freezer plugin list --kind storage -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the kind."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--kind", choices=KINDS, help="only these")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Lists."""
        from freezer_sdk.plugins import list_plugins

        return LISTED, [plugin_document(info) for info in list_plugins(parsed_args.kind)]


class ShowPlugin(ShowCommand):
    """Show a plug-in and its options."""

    examples = ("freezer plugin show local", "freezer plugin show none --kind compressor -f json")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the name."""
        parser = super().get_parser(prog_name)
        _add_plugin(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Any]:
        """Describes."""
        columns = [Column(each.key, each.title, each.human) for each in LISTED]
        return [*columns, Column("options", "Options", _options)], plugin_document(
            find_plugin(parsed_args.name, parsed_args.kind)
        )


_RESULTS = (
    Column("name", "Test", lambda name: name.replace("_", " ")),
    Column("outcome", "Outcome"),
    Column("message", "Message"),
)


class TestPlugin(ListCommand):
    """Run the conformance suite that is shipped with the library against an installed plug-in.

    A storage is tested in a live backend, below a prefix of its own that is removed afterwards. Exits with 1 when a
    test fails."""

    examples = (
        "freezer plugin test local --option path=/tmp/conformance",
        "freezer plugin test zstd --kind compressor -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the name and the options of the plug-in."""
        parser = super().get_parser(prog_name)
        _add_plugin(parser)
        parser.add_argument(
            "--option",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help="option of the plug-in (repeatable; a secret: NAME-file=FILE)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Runs the suite."""
        from freezer_sdk.plugins import KINDS as LOADABLE
        from freezer_sdk.plugins import PluginRegistry

        info = find_plugin(parsed_args.name, parsed_args.kind)
        run_suite = _suite(info.kind)
        registry, kind = PluginRegistry(), LOADABLE[info.kind]
        values = assigned(info.options, parsed_args.option, flag="--option")
        registry.build(kind, info.name, values)  # wrong options are told once, not by every test
        results = run_suite(
            lambda: registry.build(kind, info.name, values),
            progress=lambda result: LOG.debug("%s: %s", result.name, result.outcome),
        )
        self.exit_code = int(any(result.outcome != "passed" for result in results))
        return _RESULTS, [plain(result) for result in results]


def _suite(kind: str) -> Callable[..., Sequence[Any]]:
    """The runner of a kind's suite.

    Raises:
        ConfigurationError: there is no suite for this kind.
    """
    from freezer_sdk.testing import run_compressor_suite, run_storage_suite

    suites: dict[str, Callable[..., Sequence[Any]]] = {
        "storage": run_storage_suite,
        "compressor": run_compressor_suite,
    }
    if kind not in suites:
        raise ConfigurationError(f"there is no conformance suite for a {kind}", hint=f"suites: {', '.join(suites)}")
    return suites[kind]
