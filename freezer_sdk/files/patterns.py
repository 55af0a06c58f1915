"""Exclude and include patterns, written as in ``.gitignore``, matched on the raw bytes of names.

The rules are those of gitignore(5), checked against ``git check-ignore`` by the tests. The last pattern that
matches decides; ``!`` re-includes; what lies below an excluded directory cannot be re-included.

A pattern with a slash that is not its last character is anchored. A backup has two natural anchors, and both count:
the pattern is compared with the recorded absolute path and with the path relative to the root it lies under. In
a backup of ``/etc``, both ``/etc/ssh/*_key`` and ``/ssh/*_key`` leave out the host keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import groupby
from typing import NamedTuple

from freezer_sdk.errors import ConfigurationError

_CLASSES = {
    b"alnum": r"0-9A-Za-z",
    b"alpha": r"A-Za-z",
    b"blank": r" \t",
    b"cntrl": r"\x00-\x1f\x7f",
    b"digit": r"0-9",
    b"graph": r"\x21-\x7e",
    b"lower": r"a-z",
    b"print": r"\x20-\x7e",
    b"punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": r"\t\n\v\f\r ",
    b"upper": r"A-Z",
    b"xdigit": r"0-9A-Fa-f",
}


class _Malformed(Exception):
    """The pattern can match nothing."""


class _Rule(NamedTuple):
    regex: bytes
    negated: bool
    directories: bool
    anchored: bool


def _bracket(pattern: bytes, position: int) -> tuple[bytes, int]:
    """Translates a set that starts after its ``[``; returns it with the position after its ``]``."""
    negated = pattern[position : position + 1] in (b"!", b"^")
    position += negated
    parts: list[bytes] = []
    previous: int | None = None
    first = True
    while True:
        if position >= len(pattern):
            raise _Malformed
        char = pattern[position]
        if char == ord("]") and not first:
            break
        first = False
        if char == ord("-") and previous and pattern[position + 1 : position + 2] not in (b"", b"]"):
            end, position = _escaped(pattern, position + 1)
            if previous <= end:
                parts.append(b"\\x%02x-\\x%02x" % (previous, end))
            previous = None
            continue
        named = re.compile(rb"\[:([^\]]*):\]").match(pattern, position)
        if named:
            if named[1] not in _CLASSES:
                raise _Malformed
            parts.append(_CLASSES[named[1]].encode())
            previous, position = None, named.end()
            continue
        previous, position = _escaped(pattern, position)
        parts.append(b"\\x%02x" % previous)
    members = b"".join(parts)
    if negated:
        return b"[^/" + members + b"]", position + 1
    return (b"(?!/)[" + members + b"]" if members else b"(?!)"), position + 1


def _escaped(pattern: bytes, position: int) -> tuple[int, int]:
    if pattern[position] == ord("\\"):
        position += 1
        if position >= len(pattern):
            raise _Malformed
    return pattern[position], position + 1


class _Any(Enum):
    """What stands for any number of bytes in a pattern."""

    IN_NAME = auto()  # of one name
    FOLDERS = auto()  # whole folders, and the slash behind each
    ALL = auto()  # all that is left


_Token = bytes | _Any


def _translate(pattern: bytes) -> bytes:
    """A regular expression for one glob, with the meaning of git's ``wildmatch``.

    It is made so that it never looks for long: a pattern may come with a backup that somebody else has made.
    """
    groups: list[list[_Token]] = [[]]  # each but the first begins with what stands for any number of folders, or all
    for token in _tokens(pattern):
        if token in (_Any.FOLDERS, _Any.ALL):
            groups.append([])
        groups[-1].append(token)
    return b"".join(_group(group, last=number == len(groups)) for number, group in enumerate(groups, 1))


def _tokens(pattern: bytes) -> Iterator[_Token]:
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == ord("*"):
            end = position
            while pattern[end : end + 1] == b"*":
                end += 1
            whole = (position == 0 or pattern[position - 1] == ord("/")) and end - position > 1
            if whole and end == len(pattern):
                yield _Any.ALL
            elif whole and pattern[end : end + 1] == b"/":
                yield _Any.FOLDERS
                end += 1
            else:
                yield _Any.IN_NAME
            position = end
        elif char == ord("?"):
            yield b"[^/]"
            position += 1
        elif char == ord("["):
            members, position = _bracket(pattern, position + 1)
            yield members
        else:
            literal, position = _escaped(pattern, position)
            yield re.escape(bytes([literal]))


def _group(tokens: Sequence[_Token], *, last: bool) -> bytes:
    """The expression for what stands between two places where any number of folders may be.

    What follows can take in whatever lies behind the first place where this fits: the first is always right, and no
    other need be tried.
    """
    if tokens[:1] == [_Any.ALL]:
        return b".*"
    anywhere = tokens[:1] == [_Any.FOLDERS]
    body = _names(tokens[anywhere:])
    if last:
        return (b"(?:.*/)?" if anywhere else b"") + body
    return b"(?>%s%s)" % (b"(?:.*?/)??" if anywhere else b"", body)


def _names(tokens: Sequence[_Token]) -> bytes:
    """The same for asterisks inside of names: a part that another asterisk follows is taken where it comes first."""
    parts: list[list[bytes]] = [[]]
    for token in tokens:
        if isinstance(token, bytes):
            parts[-1].append(token)
        else:
            parts.append([])
    first, *others = (b"".join(part) for part in parts)
    if not others:
        return first
    return first + b"".join(b"(?>[^/]*?%s)" % part for part in others[:-1]) + b"[^/]*" + others[-1]


def _rule(pattern: bytes) -> _Rule | None:
    negated = pattern.startswith(b"!")
    body = pattern[negated:]
    directories = body.endswith(b"/")
    if directories:
        body = body[:-1]
    anchored = b"/" in body
    body = body.removeprefix(b"/")
    if not body:
        return None
    try:
        return _Rule(_translate(body), negated, directories, anchored)
    except _Malformed:
        return None


_Search = Callable[[bytes], object]


def _compiled(rules: Iterable[_Rule]) -> _Search | None:
    expressions = [rule.regex for rule in rules]
    if not expressions:
        return None
    return re.compile(b"|".join(b"(?:%s)" % expression for expression in expressions), re.DOTALL).fullmatch


class _Group:
    """Neighbouring rules of one sign, joined into at most four regular expressions."""

    def __init__(self, negated: bool, rules: Sequence[_Rule]) -> None:
        self.excludes = not negated
        self.name = _compiled(r for r in rules if not r.anchored and not r.directories)
        self.path = _compiled(r for r in rules if r.anchored and not r.directories)
        self.directory_name = _compiled(r for r in rules if not r.anchored and r.directories)
        self.directory_path = _compiled(r for r in rules if r.anchored and r.directories)

    def matches(self, name: bytes, paths: Sequence[bytes], is_directory: bool) -> bool:
        if self.name and self.name(name):
            return True
        if self.path and any(map(self.path, paths)):
            return True
        if not is_directory:
            return False
        if self.directory_name and self.directory_name(name):
            return True
        return bool(self.directory_path and any(map(self.directory_path, paths)))


class Patterns:
    """A list of patterns, in order; later ones win.

    Args:
        lines: patterns without comments; see :func:`read_patterns` for files.

    Attributes:
        lines: the patterns as given.
        need_paths: some pattern is anchored, so that names alone are not enough.
        need_types: some pattern is for directories only.
    """

    def __init__(self, lines: Iterable[str | bytes] = ()) -> None:
        self.lines = tuple(os.fsencode(line) for line in lines)
        rules = [rule for rule in map(_rule, self.lines) if rule]
        groups = [_Group(negated, list(group)) for negated, group in groupby(rules, key=lambda rule: rule.negated)]
        self._groups = groups[::-1]
        self.need_paths = any(rule.anchored for rule in rules)
        self.need_types = any(rule.directories for rule in rules)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def verdict(self, path: bytes, *, is_directory: bool, root: bytes = b"/") -> bool | None:
        """What the patterns say about this very entry, whatever they say about its parents.

        Args:
            path: absolute, as recorded.
            is_directory: for patterns that end in a slash.
            root: the root of the backup that the entry lies under.

        Returns:
            ``True``: excluded, ``False``: re-included, ``None``: no pattern matches.
        """
        paths: tuple[bytes, ...] = ()
        if self.need_paths:
            absolute = path[1:]
            relative = path[len(root) :].lstrip(b"/") if path.startswith(root) else absolute
            paths = (absolute,) if relative == absolute else (absolute, relative)
        name = path[path.rfind(b"/") + 1 :]
        for group in self._groups:
            if group.matches(name, paths, is_directory):
                return group.excludes
        return None

    def excludes(self, path: bytes, *, is_directory: bool, root: bytes = b"/") -> bool:
        """Whether an entry is left out, itself or with a directory above it (below ``root``)."""
        if not self._groups:
            return False
        for parent in _parents(path, root):
            if self.verdict(parent, is_directory=True, root=root):
                return True
        return bool(self.verdict(path, is_directory=is_directory, root=root))


def _parents(path: bytes, root: bytes) -> list[bytes]:
    """The directories above ``path`` and below ``root``, outermost first."""
    found = []
    position = path.find(b"/", len(root.rstrip(b"/")) + 1)
    while position > 0:
        found.append(path[:position])
        position = path.find(b"/", position + 1)
    return found


class Filter:
    """Chooses entries of a backup by include and exclude patterns.

    An entry is chosen when no exclude pattern hits it or a directory above it, and, where there are include
    patterns, one of them hits it or a directory above it. A ``!`` among the include patterns takes out again.
    """

    def __init__(self, include: Iterable[str | bytes] = (), exclude: Iterable[str | bytes] = ()) -> None:
        self._include = Patterns(include)
        self._exclude = Patterns(exclude)

    def __bool__(self) -> bool:
        return bool(self._include.lines or self._exclude.lines)

    def chooses(self, path: bytes, *, is_directory: bool, root: bytes = b"/") -> bool:
        """Whether the entry is to be restored."""
        if self._exclude.excludes(path, is_directory=is_directory, root=root):
            return False
        if not self._include.lines:
            return True
        chosen = False
        for parent in _parents(path, root):
            verdict = self._include.verdict(parent, is_directory=True, root=root)
            chosen = chosen if verdict is None else verdict
        verdict = self._include.verdict(path, is_directory=is_directory, root=root)
        return chosen if verdict is None else verdict

    def enters(self, path: bytes, *, root: bytes = b"/") -> bool:
        """Whether something below this directory may be chosen."""
        return not self._exclude.excludes(path, is_directory=True, root=root)


def read_patterns(path: str) -> list[bytes]:
    """Reads a file of patterns, one a line, with the comments, blank lines and escapes of ``.gitignore``.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read the exclude file {path}: {error.strerror}") from error
    lines = (_trimmed(line.removesuffix(b"\r")) for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    return [line for line in lines if line and not line.startswith(b"#")]


def _trimmed(line: bytes) -> bytes:
    """Without trailing blanks, unless a backslash protects them."""
    bare = line.rstrip(b" ")
    if bare == line:
        return line
    backslashes = len(bare) - len(bare.rstrip(b"\\"))
    return bare + b" " if backslashes % 2 else bare
