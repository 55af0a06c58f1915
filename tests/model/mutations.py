"""The protocol with one of its steps taken out: small patches of the shipped code, each of which must do harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from freezer_sdk.engines.dedup import copy, protocol
from freezer_sdk.engines.dedup.catalog import Judged
from freezer_sdk.engines.dedup.deletion import Sweeps
from freezer_sdk.engines.dedup.index import BlobIndex
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.lease import Lease
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.session import WriteSession
from freezer_sdk.engines.dedup.upkeep import living, prune, reach, tidy, usage
from freezer_sdk.engines.dedup.upkeep.holdings import Holdings
from freezer_sdk.engines.dedup.upkeep.indexes import IndexMerge
from freezer_sdk.engines.dedup.upkeep.rewrite import Rewriter

Patches = Callable[[ExitStack], None]


@dataclass(frozen=True)
class Mutation:
    """A step that is missing.

    Args:
        step: what is taken out.
        world: name of the world in which that shows.
        harm: a part of what the model says.
        interruptions: that the counterexample needs.
    """

    step: str
    world: str
    harm: str
    apply: Patches
    interruptions: int = 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Until the block is left."""
        with ExitStack() as stack:
            self.apply(stack)
            yield


def _replace(stack: ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts something in the place of a function; ``make`` is given the function."""
    stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))


def _writers_use_condemned_packs(stack: ExitStack) -> None:
    def make(look: Any) -> Any:
        def mutated(self: WriteSession) -> None:
            look(self)
            fresh = BlobIndex(trusts=self._keys.trusts)
            self.reader = BlobReader(self._handle, fresh)

        return mutated

    _replace(stack, WriteSession, "look", make)


def _parents_are_taken_as_they_are(stack: ExitStack) -> None:
    _replace(stack, WriteSession, "stays", lambda _stays: lambda _self, _parent: True)


def _no_look_after_the_commit(stack: ExitStack) -> None:
    _replace(stack, Lease, "confirm", lambda _confirm: lambda _self, _generation: None)


def _no_decision(stack: ExitStack) -> None:
    _replace(stack, protocol, "decide", lambda _decide: lambda *_args, **_options: "")


def _decisions_are_not_heeded(stack: ExitStack) -> None:
    _replace(stack, Sweeps, "void", lambda _void: lambda _self, _name, _generation: False)


def _backups_are_listed_before_the_announcement(stack: ExitStack) -> None:
    late: list[tuple[Any, ...]] = []

    def announce(_announce: Any) -> Any:
        def mutated(*args: Any) -> str:
            late.append((_announce, *args))
            return ""

        return mutated

    def decide(_decide: Any) -> Any:
        def mutated(*args: Any, **options: Any) -> Any:
            really, *given = late.pop()
            late.clear()
            really(*given)
            return _decide(*args, **options)

        return mutated

    _replace(stack, protocol, "announce", announce)
    _replace(stack, protocol, "decide", decide)


def _leases_are_not_waited_for(stack: ExitStack) -> None:
    def make(find_due: Any) -> Any:
        return lambda marks, sweeps, _leases, **options: find_due(marks, sweeps, (), **options)

    _replace(stack, prune, "find_due", make)


def _leases_are_not_refreshed(stack: ExitStack) -> None:
    _replace(stack, Lease, "keep", lambda _keep: lambda _self: None)


def _needed_content_is_not_copied(stack: ExitStack) -> None:
    _replace(stack, Rewriter, "copy", lambda _copy: lambda *_args, **_options: set())


def _copies_in_marked_packs_count(stack: ExitStack) -> None:
    order = {usage.MARKED: 0, usage.GOOD: 1, usage.DUE: 2}

    def make(ranking: Any) -> Any:
        def mutated(*args: Any, **options: Any) -> Any:
            rank = ranking(*args, **options)
            return lambda *place: order.get(found := rank(*place), found)

        return mutated

    def is_stored(self: Holdings, kind: Any, pack: bytes, end: int) -> bool:
        info = self.packs.get((kind, pack))
        return info is not None and info.size > end

    _replace(stack, reach, "ranking", make)
    _replace(stack, Holdings, "present", lambda _present: is_stored)


def _marks_of_one_generation_count(stack: ExitStack) -> None:
    def make(find_due: Any) -> Any:
        def mutated(marks: protocol.Marks, sweeps: protocol.Sweeps, leases: Any, **options: Any) -> Any:
            due = [find_due(_only(marks, mark), sweeps, leases, **options) for mark in marks.marks]
            first = max(due, key=lambda each: each.generation)
            return first._replace(packs=frozenset().union(*(each.packs for each in due)))

        return mutated

    _replace(stack, prune, "find_due", make)


def _only(marks: protocol.Marks, mark: protocol.Mark) -> protocol.Marks:
    return protocol.Marks(generation=mark.generation, condemned=mark.packs, marks=(mark,), problems=())


def _unreadable_commits_are_passed_over(stack: ExitStack) -> None:
    def make(judge: Any) -> Any:
        def mutated(self: Any, *args: Any) -> Judged:
            found = judge(self, *args)
            found.void += [listed for listed, _error in found.damaged]
            found.damaged.clear()
            return found

        return mutated

    _replace(stack, living.Catalog, "judge", make)


def _generations_are_not_noted(stack: ExitStack) -> None:
    def make(look: Any) -> Any:
        def mutated(self: WriteSession) -> None:
            look(self)
            self.generation += 1000

        return mutated

    _replace(stack, WriteSession, "look", make)


def _second_lines_are_missing(stack: ExitStack) -> None:
    """Writers heed marks only, not decisions, and do not look whether packs are there."""

    def plain(read_sweeps: Any) -> Any:
        def mutated(*args: Any) -> Sweeps:
            sweeps = read_sweeps(*args)
            return replace(sweeps, decisions=tuple(replace(d, condemned=frozenset()) for d in sweeps.decisions))

        return mutated

    def make(look: Any) -> Any:
        def mutated(self: WriteSession) -> None:
            with patch.object(protocol, "read_sweeps", plain(protocol.read_sweeps)):
                look(self)

        return mutated

    _replace(stack, WriteSession, "look", make)
    _replace(stack, WriteSession, "lost_packs", lambda _lost: lambda _self, _parent: False)


def _indexes_are_read_before_marks(stack: ExitStack) -> None:
    _second_lines_are_missing(stack)

    def make(look: Any) -> Any:
        def mutated(self: WriteSession) -> None:
            early = BlobReader(self._handle, BlobIndex(trusts=self._keys.trusts))
            for kind in Kind:
                early.load_index(kind)
            look(self)
            for pack in self.reader.index.condemned:
                early.index.distrust(pack)
            self.reader = early

        return mutated

    _replace(stack, WriteSession, "look", make)


def _marks_are_read_before_sweeps(stack: ExitStack) -> None:
    """As the shipped code once did."""

    def make(look: Any) -> Any:
        def mutated(self: WriteSession) -> None:
            early = protocol.read_marks(self._storage, self._keys)
            with patch.object(protocol, "read_marks", lambda *_args: early):
                look(self)

        return mutated

    _replace(stack, WriteSession, "look", make)


def _any_commit_is_relied_on(stack: ExitStack) -> None:
    _replace(stack, copy, "refuse_undecided", lambda _refuse: lambda *_args: None)


def _indexes_go_last(stack: ExitStack) -> None:
    """As when maintenance dies between its marks and the indexes that name what they condemned."""
    _second_lines_are_missing(stack)
    _replace(stack, IndexMerge, "run", lambda _run: lambda _self, _gone: [])
    _replace(stack, tidy, "_old_marks", lambda old: lambda marks, sweeps, _there, *when: old(marks, sweeps, (), *when))


_SWEPT = "a writer while packs are marked and swept"
_LATE = "a late commit"

MUTATIONS = (
    Mutation("writers leave condemned packs alone", _SWEPT, "lacks", _writers_use_condemned_packs),
    Mutation(
        "what a parent refers to must not lie in condemned packs",
        "a parent that is forgotten meanwhile",
        "lacks",
        _parents_are_taken_as_they_are,
    ),
    Mutation("the look for announced sweeps after the commit", _LATE, "does not count", _no_look_after_the_commit),
    Mutation("the decision is stored", _LATE, "lacks", _no_decision),
    Mutation("readers and maintenance heed decisions", _LATE, "lacks", _decisions_are_not_heeded),
    Mutation("the generation in the commit", _LATE, "lacks", _generations_are_not_noted),
    Mutation(
        "backups are listed after the announcement",
        _LATE,
        "does not count",
        _backups_are_listed_before_the_announcement,
        interruptions=2,
    ),
    Mutation("sweeps wait for leases", "a writer that takes long", "kept waiting", _leases_are_not_waited_for),
    Mutation("writers refresh their leases", "a writer that takes long", "kept waiting", _leases_are_not_refreshed),
    Mutation("sweeps are read before marks", "a mark and its announcement", "lacks", _marks_are_read_before_sweeps),
    Mutation(
        "marks are read before indexes", "an index that was read long ago", "lacks", _indexes_are_read_before_marks
    ),
    Mutation("indexes go before packs, and marks last", "a mark that has gone", "lacks", _indexes_go_last),
    Mutation(
        "a copy does not rely on a commit that a sweep may make void",
        "two who copy the same backup",
        "does not count",
        _any_commit_is_relied_on,
        interruptions=2,
    ),
    Mutation(
        "needed content is copied before the decision",
        "a parent that is forgotten meanwhile",
        "lacks",
        _needed_content_is_not_copied,
    ),
    Mutation("copies in marked packs do not count", "copies in two marks", "lacks", _copies_in_marked_packs_count),
    Mutation(
        "of two marks of one generation none counts",
        "two marks of one generation",
        "lacks",
        _marks_of_one_generation_count,
    ),
    Mutation(
        "nothing is deleted while a commit cannot be read",
        "a commit that cannot be read",
        "gone",
        _unreadable_commits_are_passed_over,
    ),
)
