"""Small repositories, and the programs that work on them: what worlds are made of."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.actors import Failure, Program
from model.checker import Blob, Checker, Still
from model.contents import BLOBS, Call, Contents, Entries
from model.rules import CONDITIONAL, GRACE, Actor, Begun, Done, Rules, Stored
from model.search import World
from model.virtual import BASE, Virtual

from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyholders import add_slot, reload
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import digest_of
from freezer_sdk.engines.dedup.repository import DedupRepository
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.engines.dedup.upkeep.service import DedupMaintenance
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import BackupOptions, CopyOutcome
from freezer_sdk.modes.base import Protected, Source, Stream
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.upkeep_model import PruneOptions

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


class Lab:
    """Makes a repository, lets things happen in it, and builds worlds from there.

    Args:
        folder: for files that are backed up.
    """

    def __init__(self, virtual: Virtual, folder: Path) -> None:
        self.virtual, self.folder = virtual, folder
        self.contents = Contents(Entries(), {})
        self.settings = Settings(threads=1, pack_size=1 << 20, queue_size=1 << 20, compression="none", reserve=0)
        self._compressors = DedupEngine().compressor
        self.moment = -20 * GRACE
        self.keys: KeyRing = self.alone(
            "init", lambda storage: create_repository(storage, password="correct horse", kdf=CHEAP, grace=GRACE)
        )
        self.expected: dict[str, Mapping[bytes, bytes]] = {}

    def alone(self, name: str, body: Callable[[Storage], Any], *, after: int = GRACE + GRACE // 2) -> Any:
        """Lets a program run by itself.

        Args:
            after: seconds since what happened before.
        """
        program = Program(name, body, virtual=self.virtual, capabilities=CONDITIONAL)
        self.moment += after
        node, contents = program.root, self.contents
        while not node.ended:
            assert node.call is not None
            contents, answer = contents.do(node.call, self.moment)
            node = program.next(node, answer, self.moment)
            if not node.known:
                program.learn(node, contents, self.moment)
        self.contents = contents
        if isinstance(node.result, Failure):
            raise AssertionError(str(node.result))
        return node.result

    def together(self, bodies: Mapping[str, Callable[[Storage], Any]], script: Sequence[str]) -> dict[str, Begun]:
        """Lets programs run in turns.

        Args:
            script: names of programs, each optionally with ``before`` and the beginning of a call: it runs until it
                asks that; else to its end.

        Returns:
            How far each has come; one that has not ended can go on in a world.
        """
        self.moment += GRACE + GRACE // 2
        programs = {
            name: Program(name, body, seed=str(self.moment), virtual=self.virtual, capabilities=CONDITIONAL)
            for name, body in bodies.items()
        }
        nodes = {name: program.root for name, program in programs.items()}
        for line in script:
            name, _before, until = line.partition(" before ")
            node, program = nodes[name], programs[name]
            while True:
                if not node.known:
                    program.learn(node, self.contents, self.moment)
                if node.ended or (until and str(node.call).startswith(until)):
                    break
                assert node.call is not None
                self.contents, answer = self.contents.do(node.call, self.moment)
                node = program.next(node, answer, self.moment)
            nodes[name] = node
        return {name: Begun(programs[name], node) for name, node in nodes.items()}

    def damage(self, prefix: str, part: str) -> None:
        """Flips a bit in an object whose name has this part."""
        (name,) = (name for name in self.contents.objects if name.startswith(prefix) and part in name)
        content = bytearray(self.contents.objects[name].content)
        content[len(content) // 2] ^= 1
        self.contents, _ = self.contents.do(Call("put", name, bytes(content), (False,)), self.moment)

    def needs(self, backup: str) -> frozenset[Blob]:
        """The blobs of a backup."""
        checker = self.checker()
        return checker.needs(checker.known(self.contents).visible[backup], self.contents)

    def client(self) -> KeyRing:
        """The keys of somebody who may only write."""

        def body(storage: Storage) -> KeyRing:
            add_slot(storage, self.keys, password="client", roles={Role.WRITER}, trusted=True, kdf=CHEAP)
            return open_repository(storage, lambda: "client")

        keys: KeyRing = self.alone("client", body)
        self.keys = self.alone("reload", lambda storage: reload(storage, self.keys))
        return keys

    def handle(self, storage: Storage, keys: KeyRing | None = None) -> Handle:
        return Handle(storage, keys or self.keys, self.settings, self._compressors)

    def repository(self, storage: Storage, keys: KeyRing | None = None) -> DedupRepository:
        return DedupRepository(self.handle(storage, keys))

    # -- bodies of programs --------------------------------------------------------------------------------

    def stream(self, name: str, content: bytes, keys: KeyRing | None = None) -> Callable[[Storage], Stored]:
        """A backup of one stream."""
        self.expected[name] = {b"/data": content}
        return self._backup(name, lambda: Stream(name="data", open=lambda: _reader(content), size=len(content)), keys)

    def tree(self, name: str, files: Mapping[str, bytes]) -> Callable[[Storage], Stored]:
        """A backup of a folder; what is there already is left as it is, so that it is found unchanged."""
        root = self.folder / "tree"
        for path, content in files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists() or place.read_bytes() != content:
                place.write_bytes(content)
        self.expected[name] = {os.fsencode(root / path): content for path, content in files.items()}
        return self._backup(name, lambda: LocalTree([os.fsencode(root)]))

    def _backup(
        self, name: str, source: Callable[[], Source], keys: KeyRing | None = None
    ) -> Callable[[Storage], Stored]:
        def body(storage: Storage) -> Stored:
            options = BackupOptions(name=name, host="node")
            protected = Protected(sources=[source()])
            return Stored(self.repository(storage, keys).backup(protected, options, Context()).id)

        return body

    def slow(self, name: str, content: bytes, *, pieces: int, seconds: int) -> Callable[[Storage], Stored]:
        """A backup of a stream that comes in pieces.

        Args:
            seconds: that pass before each of them.
        """
        self.expected[name] = {b"/data": content}
        cut = -(-len(content) // pieces)

        @contextlib.contextmanager
        def opened() -> Iterator[Any]:
            yield _Slow([content[at : at + cut] for at in range(0, len(content), cut)], seconds)

        return self._backup(name, lambda: Stream(name="data", open=opened, size=len(content)))

    def other(self, name: str, content: bytes) -> tuple[DedupRepository, str]:
        """A repository like this one elsewhere, and a backup in it."""
        storage = MemoryStorage()
        keys = create_repository(storage, password="other", kdf=CHEAP, like=self.keys)
        repository = DedupRepository(Handle(storage, keys, self.settings, self._compressors))
        stream = Stream(name="data", open=lambda: _reader(content), size=len(content))
        protected = Protected(sources=[stream])
        backup = repository.backup(protected, BackupOptions(name=name, host="other", time=BASE), Context())
        self.expected[name] = {b"/data": content}
        return repository, backup.id

    def copy(self, source: DedupRepository, backup: str) -> Callable[[Storage], Any]:
        """Copies a backup from another repository."""

        def body(storage: Storage) -> Any:
            result = self.repository(storage).copy(source, backup, Context())
            return Stored(backup) if result.outcome in (CopyOutcome.COPIED, CopyOutcome.PRESENT) else Done("not copied")

        return body

    def undelete(self, name: str, backup: str) -> Callable[[Storage], Stored]:
        """Brings a forgotten backup back."""
        self.expected.setdefault(name, {})

        def body(storage: Storage) -> Stored:
            return Stored(self.repository(storage).retention().undelete(backup, Context()).id)

        return body

    def mark(self, packs: Iterable[bytes], generation: int) -> Callable[[Storage], Done]:
        """A mark by hand."""

        def body(storage: Storage) -> Done:
            protocol.write_mark(storage, self.keys, packs, generation=generation)
            return Done("marked")

        return body

    def packs(self) -> frozenset[bytes]:
        """All packs that are there now."""
        names = (name for name in self.contents.objects if name.startswith(BLOBS))
        return frozenset(digest for name in names if (digest := digest_of(name)))

    def forget(self, backup: str) -> Callable[[Storage], Done]:
        """Forgets a backup."""

        def body(storage: Storage) -> Done:
            self.repository(storage).forget([backup])
            return Done("forgotten")

        return body

    def restore(self, backup: str, path: str, content: bytes) -> Callable[[Storage], Done]:
        """Reads a file of a backup."""
        name = os.fsencode(self.folder / "tree" / path)

        def body(storage: Storage) -> Done:
            with self.repository(storage).open(backup, name) as reader:
                assert reader.read() == content
            return Done("restored")

        return body

    def prune(self, **options: Any) -> Callable[[Storage], Done]:
        """Maintenance: sweeps what is due, marks what nobody needs."""

        def body(storage: Storage) -> Done:
            result = DedupMaintenance(self.handle(storage)).prune(PruneOptions(**options), Context())
            return Done(f"deleted {result.freed_packs} packs, marked {result.marked_packs}")

        return body

    # -- worlds --------------------------------------------------------------------------------------------

    def world(
        self,
        name: str,
        *actors: Actor,
        times: Sequence[int],
        true: Sequence[int] = (),
        after: int = GRACE + GRACE // 2,
        lags: tuple[int, ...] = (0,),
        **options: Any,
    ) -> World:
        """What these actors may do with the repository as it is now.

        Args:
            times: seconds from the world's beginning at which anything happens, by the storage's clock.
            after: seconds from what happened before to the world's beginning.
            lags: seconds for which listings may miss what was stored.
            true: the same as all others see it, where the storage's clock lies.
            options: of :class:`Rules`.
        """
        begin = self.moment + after
        clocks = {begin + seconds: begin + right for seconds, right in zip(times, true or times, strict=True)}
        programs = [self._program(actor, lambda moment: clocks.get(moment, moment)) for actor in actors]
        return World(
            name=name,
            contents=self.contents,
            programs=programs,
            nodes=[
                program.root if a.begun is None else a.begun.node for a, program in zip(actors, programs, strict=True)
            ],
            times=[begin + seconds for seconds in times],
            begins=[range(actor.start, (len(times) if actor.last is None else actor.last + 1)) for actor in actors],
            violation=Rules(self.checker(options.pop("precious", frozenset())), actors, **options).violation,
        )

    def _program(self, actor: Actor, clock: Callable[[int], int]) -> Program:
        if actor.begun is not None:
            actor.begun.program.clock = clock
            return actor.begun.program
        assert actor.body is not None
        return Program(
            actor.name,
            actor.body,
            skew=actor.skew,
            frozen=actor.frozen,
            clock=clock,
            virtual=self.virtual,
            capabilities=actor.capabilities,
        )

    def checker(self, precious: frozenset[Blob] = frozenset()) -> Checker:
        return Checker(
            Handle(_nothing(), self.keys, self.settings, self._compressors), self.expected, precious=precious
        )


class _Slow:
    """A producer that takes its time: before each piece it sleeps."""

    def __init__(self, pieces: list[bytes], seconds: int) -> None:
        self._pieces, self._seconds = pieces, seconds

    def readinto(self, buffer: memoryview) -> int:
        if not self._pieces:
            return 0
        time.sleep(self._seconds)
        piece = self._pieces.pop(0)
        buffer[: len(piece)] = piece
        return len(piece)


@contextlib.contextmanager
def _reader(content: bytes) -> Iterator[Any]:
    yield io.BytesIO(content)


def _nothing() -> Storage:
    return Still(Contents(Entries(), {}))
