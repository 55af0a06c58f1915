"""Exclude patterns as GNU tar understands them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import Final

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.modes.base import TreeRules

_PLAIN_NAME: Final = re.compile(rb"[^!\s/\\\[\]{}*?][^\s/\\\[\]{}]*|\*[^\s/\\\[\]{}]+")
_TRIMMED: Final = b" \t\n\v\f\r"
_MOST_ARGUMENTS: Final = 64 << 10


def name_patterns(rules: TreeRules) -> Sequence[bytes] | None:
    """The patterns of a tree, when GNU tar gives each of them the same meaning; else ``None``.

    That is so for plain names with ``*`` and ``?``, such as ``*.log``: what is made while the backup runs is left out,
    too. Everything else takes a :class:`~freezer_sdk.engines.tar.survey.Survey`.
    """
    return tuple(rules.excludes) if all(map(_means_the_same, rules.excludes)) else None


def _means_the_same(pattern: bytes) -> bool:
    """What fits a dot would leave out everything: GNU tar compares with the dot of ``./name``, too."""
    return bool(_PLAIN_NAME.fullmatch(pattern)) and not Patterns([pattern]).verdict(b"/.", is_directory=True)


def name_arguments(patterns: Iterable[bytes]) -> list[bytes]:
    """Options for patterns that are compared with the name of an entry.

    Wildcards are the default; to ask for them would make GNU tar take the name of the source for a pattern.
    """
    arguments = [b"--exclude=" + pattern for pattern in patterns]
    return [b"--no-wildcards-match-slash", *arguments] if arguments else []


def member_arguments(members: Iterable[bytes], *, file: bytes) -> tuple[list[bytes], bytes]:
    """Options that leave out exactly these members, and the content of the file that they need.

    Args:
        file: path under which GNU tar will read the content.

    Raises:
        ConfigurationError: too many names that no such file can hold.
    """
    lines: list[bytes] = []
    arguments: list[bytes] = []
    size = 0
    for member in members:
        if b"\n" in member or member[-1:] in _TRIMMED:  # a line's end, or cut off at the end of a line
            arguments.append(b"--exclude=" + member)
            size += len(member)
            if size > _MOST_ARGUMENTS:
                raise ConfigurationError(
                    "too many excluded names have line ends or blanks at their end",
                    hint="exclude the directory that they lie in, or use another engine",
                )
        else:
            lines.append(member + b"\n")
    options = [b"--anchored", b"--no-wildcards"]
    if lines:
        options.append(b"--exclude-from=" + file)
    return (options + arguments if lines or arguments else []), b"".join(lines)


def may_be_left_out(rules: TreeRules | None, raw: str | None, *, root: bytes) -> Callable[[bytes], bool] | None:
    """Whether patterns may leave out a member, for the state that the next level builds upon.

    It may say yes too often: such an entry is stored once more.

    Args:
        raw: a pattern of GNU tar.
    """
    patterns = Patterns(rules.excludes if rules is not None else ())
    expression = None if raw is None else re.compile(_loose(raw), re.DOTALL)
    if not patterns and expression is None:
        return None

    def left_out(member: bytes) -> bool:
        path = root.rstrip(b"/") + member[1:]
        for is_directory in (False, True):
            if patterns.verdict(path, is_directory=is_directory, root=root):
                return True
        return expression is not None and expression.fullmatch(member) is not None

    return left_out


def _loose(pattern: str) -> bytes:
    """GNU tar compares with every tail of a path that begins after a slash, and with directories above."""
    inner = translate(re.sub(r"\\.", "?", pattern.rstrip("/")))
    return b"(?:.*/)?%s(?:/.*)?" % re.sub(r"\\[zZ]$", "", inner).encode("utf-8", "surrogateescape")
