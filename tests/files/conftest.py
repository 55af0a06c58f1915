"""Scan and target together: a copy of a tree through the library."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trees

from freezer_sdk.files.posix import Owners
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.files.target import Decision, Item, RestoreTarget
from freezer_sdk.model import Problem, RestoreOptions
from freezer_sdk.modes.base import STAT, Attributes, Directory, Enter, Extra, Extras

SMALL = 1 << 20


def items(directory: Directory) -> Iterator[tuple[int, bytes, Attributes]]:
    for index, name in enumerate(directory.names):
        yield index, name, Attributes(*STAT.unpack_from(directory.stats, index * STAT.size))


class Copier:
    """Restores what a scan of one root finds, as an engine would."""

    def __init__(
        self, tree: LocalTree, target: RestoreTarget, options: RestoreOptions, problems: list[Problem]
    ) -> None:
        self.tree, self.target, self.options, self.problems = tree, target, options, problems
        self.links: dict[bytes, bytes] = {}
        self.decisions: dict[bytes, Decision] = {}
        self.waiting: dict[bytes, tuple[Attributes, Extras]] = {}

    def run(self) -> None:
        relative: list[bytes] = []
        for event in self.tree.walk(self.problems.append):
            if not isinstance(event, Enter):
                if relative:
                    relative.pop()
                continue
            directory = event.directory
            if not directory.path:
                (found,) = items(directory)
                index, name, attributes = found
                names = None
                if stat.S_ISDIR(attributes.mode):
                    self.root = directory, index, attributes
                else:
                    self.leaf(directory, index, name.rpartition(b"/")[2], attributes)
                continue
            if not relative:
                top, index, attributes = self.root
                self.target.directory(b"", Item(attributes, top.extras(index, None)), names=self.names(directory))
                relative.append(b"")
            else:
                base = os.path.basename(directory.path)
                relative.append(relative[-1] + b"/" + base if relative[-1] else base)
                attributes, extras = self.waiting.pop(relative[-1])
                names = None if attributes.flags else self.names(directory)
                self.target.directory(relative[-1], Item(attributes, extras), names=names)
            self.entries(directory, relative[-1])
        self.target.finish()

    def names(self, directory: Directory) -> frozenset[bytes] | None:
        return frozenset(directory.names) if self.options.delete else None

    def entries(self, directory: Directory, relative: bytes) -> None:
        for index, name, attributes in items(directory):
            path = relative + b"/" + name if relative else name
            if stat.S_ISDIR(attributes.mode):
                self.waiting[path] = attributes, directory.extras(index, None)
            else:
                self.leaf(directory, index, path, attributes)

    def leaf(self, directory: Directory, index: int, path: bytes, attributes: Attributes) -> None:
        regular = stat.S_ISREG(attributes.mode)
        fd = directory.open(index) if regular else None
        try:
            item = Item(attributes, directory.extras(index, fd))
            decision = self.decisions[path] = self.target.decide(path, item)
            if decision is Decision.SKIP:
                return
            group = next((value for tag, value in item.extras if tag == Extra.LINK_GROUP), None)
            if group in self.links:
                self.target.hardlink(path, self.links[group], item)
                return
            if group is not None:
                self.links[group] = path
            if decision is Decision.METADATA:
                self.target.metadata(path, item)
            elif fd is None:
                self.target.special(path, item)
            elif not self.options.dry_run:
                self.content(directory, index, path, fd, item)
        finally:
            if fd is not None:
                os.close(fd)

    def content(self, directory: Directory, index: int, path: bytes, fd: int, item: Item) -> None:
        if item.attributes.size <= SMALL:
            self.target.write_file(path, item, os.read(fd, item.attributes.size + 1))
        else:
            with self.target.open_file(path, item) as writer:
                offset = 0
                while block := os.pread(fd, 300_001, offset):
                    writer.write_at(offset, block)
                    offset += len(block)
                writer.commit()
        row = directory.stats[index * STAT.size : (index + 1) * STAT.size]
        assert directory.restat(index, fd) == row


class Copy:
    """What a copy gave."""

    def __init__(self, copier: Copier) -> None:
        self.problems = copier.problems
        self.decisions = copier.decisions
        self.plan = {action.path: action.action for action in copier.target.plan}
        self.deleted = copier.target.deleted

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.fatal]


def copy_tree(source: Path | LocalTree, target: Path, **options: object) -> Copy:
    """Copies through scan and target; RestoreOptions as keywords, and ``keep`` patterns."""
    keep = options.pop("keep", ())
    tree = source if isinstance(source, LocalTree) else LocalTree([os.fsencode(source)])
    chosen = RestoreOptions(**options)
    problems: list[Problem] = []
    names = Owners()
    users = {uid: name for uid in range(100) if (name := names.user_name(uid))}
    groups = {gid: name for gid in range(100) if (name := names.group_name(gid))}
    with RestoreTarget(
        os.fspath(target),
        chosen,
        problem=problems.append,
        users=users,
        groups=groups,
        keep=keep,
        origin=tree.roots[0],
        roots=tree.roots,
    ) as place:
        copier = Copier(tree, place, chosen, problems)
        copier.run()
    return Copy(copier)


@pytest.fixture
def copy() -> Callable[..., Copy]:
    return copy_tree


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("every") / "kind"
    trees.make_every_kind(path)
    yield path
    trees.remove(path)
