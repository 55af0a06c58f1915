"""The worlds that are searched: small repositories, and who is at work in them.

``W``: a writer. ``P``: maintenance. ``F``: somebody who forgets a backup. ``R``: somebody who restores one.
"""

from __future__ import annotations

from collections.abc import Callable

from model.lab import Lab
from model.rules import GRACE, Actor, Stored
from model.search import World

LONG = GRACE + 60
X = b"x" * 1000
Y = b"y" * 1000
DAMAGED = frozenset({"IntegrityError", "LeaseLost", "RepositoryLocked"})
ENDED = frozenset({"LeaseLost", "RepositoryLocked"})

WORLDS: dict[str, Callable[[Lab], World]] = {}


def world(make: Callable[[Lab], World]) -> Callable[[Lab], World]:
    """Puts a world into the list."""
    WORLDS[make.__name__.replace("_", " ")] = make
    return make


def _forgotten(lab: Lab) -> str:
    """A backup of X that was forgotten."""
    first: Stored = lab.alone("B0", lab.stream("B0", X))
    lab.alone("F0", lab.forget(first.backup))
    return first.backup


@world
def a_writer_while_packs_are_marked_and_swept(lab: Lab) -> World:
    """What the writer wants to use again is marked before, while or after it looks, and swept a grace time later."""
    _forgotten(lab)
    return lab.world(
        "a writer while packs are marked and swept",
        Actor(name="W", body=lab.stream("W", X)),
        Actor(name="P1", body=lab.prune()),
        Actor(name="P2", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def two_writers_while_marked_packs_are_swept(lab: Lab) -> World:
    """The mark is there, and due; both writers want what it condemns."""
    _forgotten(lab)
    lab.alone("P1", lab.prune())
    return lab.world(
        "two writers while marked packs are swept",
        Actor(name="W1", body=lab.stream("W1", X)),
        Actor(name="W2", body=lab.stream("W2", X)),
        Actor(name="P2", body=lab.prune()),
        times=[0],
    )


@world
def a_writer_whose_machine_sleeps(lab: Lab) -> World:
    """A virtual machine that is stopped with its clock at any call, while a mark becomes due and is swept."""
    _forgotten(lab)
    lab.together({"W": lab.stream("W0", X), "P": lab.prune()}, ["W before put packs/", "P"])
    return lab.world(
        "a writer whose machine sleeps",
        Actor(name="W", body=lab.stream("W", X), frozen=True, last=0),
        # suspended for a grace time between a listing and what it listed, it finds that gone
        Actor(name="P2", body=lab.prune(), start=1, last=1, failures=ENDED | {"StorageUnavailable"}),
        Actor(name="P3", body=lab.prune(), start=2),
        times=[0, LONG, 2 * LONG],
    )


@world
def a_parent_that_is_forgotten_meanwhile(lab: Lab) -> World:
    """A backup that was made while its packs were marked is the parent of the next, and forgotten before a sweep."""
    tree = lab.tree("B0", {"a": X})
    first: Stored = lab.alone("B0", tree)
    lab.alone("F0", lab.forget(first.backup))
    second = lab.together({"W": lab.tree("B1", {"a": X}), "P": lab.prune()}, ["W before put backups/", "P", "W"])
    backup: Stored = second["W"].result
    return lab.world(
        "a parent that is forgotten meanwhile",
        Actor(name="W", body=lab.tree("W", {"a": X}), last=0),
        Actor(name="F", body=lab.forget(backup.backup), forgets=frozenset({backup.backup}), last=0),
        Actor(name="P2", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def two_sweeps_at_once(lab: Lab) -> World:
    """One maintainer is suspended for so long that another one goes on with its work; a writer comes in between."""
    _forgotten(lab)
    lab.alone("P1", lab.prune())
    return lab.world(
        "two sweeps at once",
        Actor(name="P2", body=lab.prune()),
        Actor(name="P3", body=lab.prune(), start=1),
        Actor(name="W", body=lab.stream("W", X), start=1),
        times=[0, LONG],
    )


@world
def copies_of_the_same_content(lab: Lab) -> World:
    """Two writers stored the same content in two packs; two maintainers find one of them too many."""
    lab.together({"W1": lab.stream("B1", X), "W2": lab.stream("B2", X)}, ["W1 before put packs/", "W2", "W1"])
    return lab.world(
        "copies of the same content",
        Actor(name="P1", body=lab.prune()),
        Actor(name="P2", body=lab.prune(), start=1),
        Actor(name="P3", body=lab.prune(), start=2),
        times=[0, LONG, 2 * LONG],
    )


@world
def a_copy_that_is_forgotten(lab: Lab) -> World:
    """As before, and the backup is forgotten whose copy was to stay."""
    done = lab.together({"W1": lab.stream("B1", X), "W2": lab.stream("B2", X)}, ["W1 before put packs/", "W2", "W1"])
    backup: Stored = done["W1"].result
    return lab.world(
        "a copy that is forgotten",
        Actor(name="F", body=lab.forget(backup.backup), forgets=frozenset({backup.backup})),
        Actor(name="P1", body=lab.prune()),
        Actor(name="P2", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def a_commit_that_cannot_be_read(lab: Lab) -> World:
    """A flipped bit in a commit: what it needs is not known, and must stay until somebody repairs it."""
    first: Stored = lab.alone("B0", lab.stream("B0", X))
    precious = lab.needs(first.backup)
    lab.alone("B1", lab.stream("B1", Y))
    lab.damage("backups/", first.backup)
    return lab.world(
        "a commit that cannot be read",
        Actor(name="P1", body=lab.prune(), failures=DAMAGED),
        Actor(name="P2", body=lab.prune(), start=1, failures=DAMAGED),
        Actor(name="W", body=lab.stream("W", X), start=1),
        times=[0, LONG],
        precious=precious,
    )


@world
def a_restore_while_packs_are_rewritten(lab: Lab) -> World:
    """What is restored moves to another pack, and the old one is deleted."""
    first: Stored = lab.alone("B0", lab.tree("B0", {"a": X * 20, "b": Y}))
    (lab.folder / "tree" / "a").unlink()
    second: Stored = lab.alone("B1", lab.tree("B1", {"b": Y}))
    lab.alone("F0", lab.forget(first.backup))
    return lab.world(
        "a restore while packs are rewritten",
        Actor(name="R", body=lab.restore(second.backup, "b", Y)),
        Actor(name="P1", body=lab.prune()),
        Actor(name="P2", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def a_writer_that_takes_long(lab: Lab) -> World:
    """It is at work for longer than the grace time, and refreshes its lease: its work must not be in vain."""
    _forgotten(lab)
    return lab.world(
        "a writer that takes long",
        Actor(name="W", body=lab.slow("W", X, pieces=4, seconds=GRACE // 2), last=0),
        Actor(name="M", body=lab.mark(lab.packs(), 1), last=0),
        Actor(name="P", body=lab.prune(), start=3, last=3),
        times=[GRACE // 2 * number for number in range(5)],
        strict=True,
    )


@world
def a_clock_that_jumps(lab: Lab) -> World:
    """The storage's clock jumps a year ahead and back: all leases look dead, all marks due, and no writer can tell."""
    _forgotten(lab)
    return lab.world(
        "a clock that jumps",
        Actor(name="W", body=lab.stream("W", X), last=0),
        Actor(name="M", body=lab.mark(lab.packs(), 1), last=0),
        Actor(name="P", body=lab.prune(), start=1, failures=DAMAGED | {"StorageUnavailable"}),
        times=[0, 365 * 86400, 60],
        true=[0, 30, 60],
        lying=True,
    )


@world
def a_late_commit(lab: Lab) -> World:
    """A writer is about to commit what refers to marked packs, and nobody's clock shows that it is late."""
    _forgotten(lab)
    begun = lab.together({"W": lab.stream("W", X), "M": lab.mark(lab.packs(), 1)}, ["W before put backups/", "M"])
    return lab.world(
        "a late commit",
        Actor(name="W", begun=begun["W"]),
        Actor(name="P", body=lab.prune(), last=0, failures=DAMAGED | {"StorageUnavailable"}),
        after=0,
        times=[365 * 86400, 60],
        true=[30, 60],
        lying=True,
    )


@world
def a_backup_that_is_brought_back(lab: Lab) -> World:
    """Undelete while what the forgotten backup needs is swept."""
    forgotten = _forgotten(lab)
    lab.alone("P1", lab.prune())
    return lab.world(
        "a backup that is brought back",
        Actor(
            name="U",
            body=lab.undelete("B0", forgotten),
            last=0,
            failures=frozenset({"LeaseLost", "BackupNotFound", "IntegrityError"}),
        ),
        Actor(name="P2", body=lab.prune(), last=0),
        Actor(name="P3", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def copies_in_two_marks(lab: Lab) -> World:
    """One of two copies is marked; half a grace time later maintenance looks at the other one."""
    lab.together({"W1": lab.stream("B1", X), "W2": lab.stream("B2", X)}, ["W1 before put packs/", "W2", "W1"])
    lab.alone("P1", lab.prune())
    lab.alone("P2", lab.prune(), after=GRACE // 2)
    return lab.world(
        "copies in two marks",
        Actor(name="P3", body=lab.prune(), start=1),
        Actor(name="P4", body=lab.prune(), start=2),
        times=[-GRACE, -GRACE // 2, GRACE],
    )


@world
def two_marks_of_one_generation(lab: Lab) -> World:
    """Two maintainers marked at once, and a writer saw one of the marks only."""
    first: Stored = lab.alone("B0", lab.stream("B0", X))
    old = lab.packs()
    second: Stored = lab.alone("B1", lab.stream("B1", Y))
    new = lab.packs() - old
    for backup in (first, second):
        lab.alone(f"F{backup.backup}", lab.forget(backup.backup))
    lab.alone("M1", lab.mark(old, 1))
    return lab.world(
        "two marks of one generation",
        Actor(name="W", body=lab.stream("W", Y)),
        Actor(name="M2", body=lab.mark(new, 1)),
        Actor(name="P", body=lab.prune(), start=1),
        times=[-GRACE, LONG],
    )


@world
def two_sweeps_of_needed_content(lab: Lab) -> World:
    """What is needed of marked packs moves; another maintainer looks on, and a writer comes."""
    first: Stored = lab.alone("B0", lab.stream("B0", X))
    lab.alone("F0", lab.forget(first.backup))
    lab.together({"W": lab.stream("B1", X), "P": lab.prune()}, ["W before put backups/", "P", "W"])
    return lab.world(
        "two sweeps of needed content",
        Actor(name="P2", body=lab.prune(), last=0),
        Actor(name="P3", body=lab.prune()),
        Actor(name="W", body=lab.stream("W", X), start=1),
        times=[0, LONG],
    )


@world
def an_index_that_was_read_long_ago(lab: Lab) -> World:
    """A writer goes on after a sweep, and after its mark has gone; no clock shows how late it is."""
    _forgotten(lab)
    begun = lab.together({"W": lab.stream("W", X), "M": lab.mark(lab.packs(), 1)}, ["W before list sweeps/", "M"])
    year = 365 * 86400
    return lab.world(
        "an index that was read long ago",
        Actor(name="W", begun=begun["W"]),
        Actor(name="P2", body=lab.prune(), last=0, failures=DAMAGED | {"StorageUnavailable"}),
        Actor(name="P3", body=lab.prune(), start=1, last=1, failures=DAMAGED | {"StorageUnavailable"}),
        after=0,
        times=[year, 2 * year, 60],
        true=[30, 40, 60],
        lying=True,
    )


@world
def a_mark_that_has_gone(lab: Lab) -> World:
    """A writer begins when a sweep is over, and its mark removed."""
    _forgotten(lab)
    lab.alone("P1", lab.prune())
    return lab.world(
        "a mark that has gone",
        Actor(name="P2", body=lab.prune(), last=0),
        Actor(name="P3", body=lab.prune(), start=1, last=1),
        Actor(name="W", body=lab.stream("W", X), start=1),
        times=[0, LONG],
    )


@world
def a_client_that_may_only_write(lab: Lab) -> World:
    """Its commit comes late, and it cannot even hide it."""
    keys = lab.client()
    _forgotten(lab)
    begun = lab.together({"W": lab.stream("W", X, keys), "M": lab.mark(lab.packs(), 1)}, ["W before now", "M"])
    return lab.world(
        "a client that may only write",
        Actor(name="W", begun=begun["W"]),
        Actor(name="P2", body=lab.prune(), last=0),
        Actor(name="P3", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def two_who_copy_the_same_backup(lab: Lab) -> World:
    """From another repository, while what they want to use again is swept; one of them comes late."""
    source, backup = lab.other("S", X)
    _forgotten(lab)
    begun = lab.together({"C": lab.copy(source, backup), "M": lab.mark(lab.packs(), 1)}, ["C before put backups/", "M"])
    may = frozenset({"LeaseLost", "RepositoryError"})
    return lab.world(
        "two who copy the same backup",
        Actor(name="C1", begun=begun["C"], failures=may),
        Actor(name="C2", body=lab.copy(source, backup), failures=may),
        Actor(name="P", body=lab.prune()),
        times=[0],
    )


@world
def a_mark_and_its_announcement(lab: Lab) -> World:
    """They come between two calls of a writer."""
    _forgotten(lab)
    begun = lab.together({"W": lab.stream("W", X), "M": lab.mark(lab.packs(), 1)}, ["W before list sweeps/", "M"])
    return lab.world(
        "a mark and its announcement",
        Actor(name="W", begun=begun["W"]),
        Actor(name="P", body=lab.prune(), last=0, failures=DAMAGED | {"StorageUnavailable"}),
        after=0,
        times=[365 * 86400, 60],
        true=[30, 60],
        lying=True,
    )


@world
def packs_that_a_dead_writer_left(lab: Lab) -> World:
    """No index names them. The next writer uses them, maintenance takes them for waste."""
    _forgotten(lab)
    lab.together({"W": lab.stream("W0", Y)}, ["W before put index/"])
    return lab.world(
        "packs that a dead writer left",
        Actor(name="W", body=lab.stream("W", Y)),
        Actor(name="P1", body=lab.prune(), last=0),
        Actor(name="P2", body=lab.prune(), start=1),
        times=[0, LONG],
    )


@world
def two_writers_and_two_maintainers(lab: Lab) -> World:
    """The mark is due; everybody is at work, and one of the maintainers comes a grace time later."""
    _forgotten(lab)
    lab.alone("P1", lab.prune())
    return lab.world(
        "two writers and two maintainers",
        Actor(name="W1", body=lab.stream("W1", X), last=0),
        Actor(name="W2", body=lab.stream("W2", X), last=0),
        Actor(name="P2", body=lab.prune(), last=0),
        Actor(name="P3", body=lab.prune(), start=1),
        times=[0, LONG],
    )
