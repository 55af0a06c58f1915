"""What may help where arguments are wrong: which plug-in has an option that the chosen one has not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from freezer_sdk.errors import PluginError
from freezer_sdk.plugins import ENGINE, MODE, SNAPSHOT, Kind, PluginRegistry


@dataclass(frozen=True)
class Choice:
    """An option of the command line that chooses a plug-in, whose options are flags then.

    Attributes:
        flag: for example ``--mode``.
        kind: of the plug-in.
        prefix: may be put before the options' names.
        required: is always put before them.
    """

    flag: str
    kind: Kind[Any]
    prefix: str
    required: bool = False

    def owners(self, flag: str) -> Iterator[str]:
        """Names of the plug-ins that have an option, without aliases and what cannot be loaded."""
        registry = PluginRegistry()
        for name in registry.names(self.kind):
            try:
                plugin = registry.load(self.kind, name)
            except PluginError:  # `freezer plugin list` says so
                continue
            if plugin.name == name and any(flag in self._flags(option.name) for option in plugin.options):
                yield name

    def _flags(self, option: str) -> Sequence[str]:
        name = option.replace("_", "-")
        return [f"--{self.prefix}{name}", *([] if self.required else [f"--{name}"])]


ENGINES = Choice("--engine", ENGINE, "engine-")
MODES = Choice("--mode", MODE, "mode-")
SNAPSHOTS = Choice("--snapshot", SNAPSHOT, "snapshot-", required=True)


def advice_on(arguments: Sequence[str], known: Collection[str], choices: Sequence[Choice]) -> str | None:
    """Names the plug-ins that have the options that nobody knows.

    Args:
        arguments: the command line.
        known: flags of the command as it is.
        choices: how plug-ins could be chosen.
    """
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    found = []
    for flag in dict.fromkeys(word.partition("=")[0] for word in own if word.startswith("--")):
        if flag in known:
            continue
        for choice in choices:
            owners = list(choice.owners(flag)) or list(choice.owners(flag.removesuffix("-file")))
            if owners:
                found.append(f"{flag}: for {choice.flag} {' or '.join(owners)}")
    return "; ".join(found) or None
