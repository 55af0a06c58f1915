"""Finds commands by their entry points, and imports only the one that is asked for."""

from __future__ import annotations

from typing import Any

from cliff.command import Command
from cliff.commandmanager import CommandManager
from stevedore import ExtensionManager

NAMESPACE = "freezer.cli"


class LazyCommandManager(CommandManager):
    """cliff's manager imports every command at start; this one reads the names only."""

    def load_commands(self, namespace: str) -> None:
        """Reads the entry points of a namespace."""
        self.group_list.append(namespace)
        finder: ExtensionManager[Any] = ExtensionManager.make_test_instance([], namespace=namespace)
        for point in finder.list_entry_points():
            self.commands[point.name.replace("_", " ")] = point

    def add_command(self, name: str, command_class: type[Command]) -> None:
        """Adds a built-in command of cliff, unless an entry point has the name."""
        if name not in self.commands:
            super().add_command(name, command_class)

    def below(self, words: list[str]) -> list[str]:
        """The commands whose names start with these words, sorted."""
        return sorted(name for name in self.commands if name.split()[: len(words)] == words)
