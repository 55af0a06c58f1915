"""One level of a tree, written by GNU tar."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Written
from freezer_sdk.engines.tar.excludes import may_be_left_out, member_arguments, name_arguments, name_patterns
from freezer_sdk.engines.tar.figures import Figures, Unmodified
from freezer_sdk.engines.tar.messages import Messages
from freezer_sdk.engines.tar.program import ENVIRONMENT, GnuTar
from freezer_sdk.engines.tar.scratch import ScratchFile
from freezer_sdk.engines.tar.snapshot import Known, Snapshot, in_place, settled
from freezer_sdk.engines.tar.survey import Survey
from freezer_sdk.errors import CommandFailed, ConfigurationError, SourceUnreadable
from freezer_sdk.files.report import NOT_IN_SNAPSHOT, OUT_OF_SNAPSHOT, Reporter
from freezer_sdk.model import Buffer
from freezer_sdk.modes.base import ProblemHandler, Protected, Stream, Tree, TreeRules
from freezer_sdk.streams.process import ProcessReader

_PIECE: Final = 1 << 20
_FAILED: Final = 2
_ACCEPTED: Final = (0, 1, _FAILED)  # 1: something changed; 2: also when entries could not be read
_FOLLOWED: Final = {
    "none": (),
    "soft": ("--dereference",),
    "hard": ("--hard-dereference",),
    "all": ("--dereference", "--hard-dereference"),
}


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What the engine's options say about writing.

    Attributes:
        xattrs: store extended attributes and access control lists.
        sparse: store holes of files as holes.
        exclude: one pattern, given to GNU tar as it is.
    """

    xattrs: bool = True
    sparse: bool = True
    exclude: str | None = None


@dataclass(frozen=True, kw_only=True)
class TarSource:
    """What one run of GNU tar reads.

    Attributes:
        root: path that is recorded.
        location: where it is read.
        single: it is no directory.
        as_of_ns: see :attr:`Tree.as_of_ns <freezer_sdk.modes.base.Tree.as_of_ns>`.
    """

    root: bytes
    location: bytes
    single: bool
    rules: TreeRules
    as_of_ns: int | None

    @property
    def follows(self) -> bool:
        """Symbolic links are followed."""
        return self.rules.follow in ("soft", "all")

    @classmethod
    def of(cls, protected: Protected) -> TarSource:
        """The one tree, with one root, that this format can hold.

        Raises:
            ConfigurationError: there is something else.
            SourceUnreadable: the root is not there.
        """
        trees = [source for source in protected.sources if isinstance(source, Tree)]
        streams = [source.name for source in protected.sources if isinstance(source, Stream)]
        if streams or not trees:
            raise ConfigurationError(
                f"the engine tar stores one directory or file, no streams ({', '.join(streams) or 'nothing given'})",
                hint="the engine dedup stores streams",
            )
        rules = trees[0].rules
        if rules is None:
            raise ConfigurationError(
                "the engine tar reads files by GNU tar, and this source can only be read by Freezer itself",
                hint="the engine dedup stores it",
            )
        if len(rules.locations) != 1:
            raise ConfigurationError(
                f"the engine tar stores one directory or file in a backup, not {len(rules.locations)}",
                hint="make one backup of each under names of their own, name a directory above them, or use the "
                "engine dedup",
            )
        ((root, location),) = rules.locations.items()
        follow = rules.follow in ("soft", "all")
        try:
            mode = os.stat(location, follow_symlinks=follow).st_mode
            if stat.S_ISDIR(mode):
                os.close(os.open(location, os.O_RDONLY))
        except OSError as error:
            raise SourceUnreadable(f"cannot read {os.fsdecode(location)}: {error.strerror}") from error
        single = not stat.S_ISDIR(mode)
        return cls(root=root, location=location, single=single, rules=rules, as_of_ns=trees[0].as_of_ns)


class LevelWriter:
    """Writes one level. Call :meth:`write` once.

    Args:
        base: snapshot file of the level below; ``None``: level 0.

    Raises:
        PluginUnavailable: there is no GNU tar.
        IntegrityError: ``base`` is no snapshot file.
        ConfigurationError: ``base`` belongs to a source of another kind.
    """

    def __init__(
        self,
        source: TarSource,
        options: WriteOptions,
        *,
        base: bytes | None,
        context: Context,
        problem: ProblemHandler,
    ) -> None:
        self._tar = GnuTar.find()
        self._source, self._options, self._context = source, options, context
        self._report = Reporter(problem)
        self._base = base if base is None else self._usable(base)
        self._known = None if self._base is None else Known(self._base)
        self._messages = Messages(self._report, root=source.root, single=source.single)
        self._figures = Figures(self._had if base is not None else None)

    def _usable(self, base: bytes) -> bytes:
        """What GNU tar may know of the level below.

        Raises:
            IntegrityError, ConfigurationError.
        """
        source, known = self._source, Known(base)
        if known.complete and bool(known) == source.single:
            raise ConfigurationError(
                "the levels of a chain are either of a directory or of a single file, and this one is of another kind",
                hint="give the backup another name, or begin a new chain with a full backup",
            )
        if source.single:
            return base
        found = in_place(base, self._inode)
        if found.dropped > found.kept:
            self._report.note(
                source.root,
                "moved",
                f"{found.dropped} of {found.dropped + found.kept} directories are not the ones that the last level saw "
                "(moved, copied, or numbered anew by the file system): their content is stored again",
            )
        return found.state

    def _inode(self, name: bytes) -> int | None:
        try:
            found = os.stat(self._source.location + name[1:], follow_symlinks=self._source.follows)
        except OSError:
            return None
        return found.st_ino if stat.S_ISDIR(found.st_mode) else None

    def _had(self, member: bytes) -> bool:
        return self._source.single or (self._known is not None and self._known.had(member))

    def write(self, output: Callable[[Buffer], None]) -> Written:
        """Runs GNU tar and hands on its stream.

        Raises:
            CommandFailed, SourceUnreadable, IntegrityError, Cancelled, and whatever ``output`` raises.
        """
        self._tell_missing()
        with ExitStack() as stack:
            snapshot = stack.enter_context(ScratchFile(self._base or b""))
            excluded = stack.enter_context(ScratchFile())
            arguments = self._arguments(snapshot, excluded)
            reader = stack.enter_context(
                ProcessReader(
                    arguments,
                    name=os.fsdecode(self._source.root),
                    environment=ENVIRONMENT,
                    descriptors=(*snapshot.descriptors, *excluded.descriptors),
                    accepted=_ACCEPTED,
                    said=self._messages.feed,
                    check=self._context.cancel.check,
                )
            )
            piece = memoryview(bytearray(_PIECE))
            while count := reader.readinto(piece):
                self._figures.feed(piece[:count])
                output(piece[:count])
            return self._written(snapshot.read(), reader.status)

    def _tell_missing(self) -> None:
        rules = self._source.rules
        for path in () if rules.one_file_system else rules.missing:
            self._report.fatal(path, *NOT_IN_SNAPSHOT)
        if self._source.as_of_ns is not None and self._source.follows:
            message = "links that lead out of the snapshot are stored as what they lead to now"
            self._report.note(self._source.root, OUT_OF_SNAPSHOT[0], message)

    def _written(self, state: bytes, status: int | None) -> Written:
        messages, source = self._messages, self._source
        messages.close(lambda: {each.name for each in Snapshot(state).directories()})
        if status == _FAILED and (messages.unclear or not messages.lost):
            raise CommandFailed(f"GNU tar failed: {'; '.join(messages.unclear) or f'exit status {status}'}")
        if messages.unclear:
            self._report.note(source.root, "tar", "; ".join(messages.unclear))
        if not source.single and not self._figures.directories:
            raise SourceUnreadable(f"GNU tar could not read {os.fsdecode(source.location)}")
        if source.single and messages.lost and not self._figures.files:
            raise SourceUnreadable(f"GNU tar could not read the file {os.fsdecode(source.location)}")
        unmodified = Unmodified(source.location, follow=source.follows)
        if source.single and not self._figures.files:
            unmodified.add_file(os.stat(source.location, follow_symlinks=source.follows))
        safe = settled(
            state,
            known=self._known,
            lost=messages.lost,
            left_out=may_be_left_out(source.rules, self._options.exclude, root=source.root),
            unmodified=unmodified.add if self._known else lambda directory, names: None,
            as_of_ns=source.as_of_ns,
        )
        return Written(
            state=safe,
            root=source.root,
            stats=self._figures.stats(unmodified),
            mount_points=(*messages.mount_points, *source.rules.missing),
        )

    # -- arguments -----------------------------------------------------------------------------------------

    def _arguments(self, snapshot: ScratchFile, excluded: ScratchFile) -> list[bytes]:
        """The command line; a file's name comes last, and is never taken for an option."""
        source, rules = self._source, self._source.rules
        arguments = [os.fsencode(self._tar.path), *map(str.encode, self._general())]
        arguments.append(b"--listed-incremental=" + snapshot.path)
        if source.single:
            folder, name = os.path.split(source.location)
            arguments += [b"--directory=" + folder, b"--add-file=" + name]
            return arguments
        if rules.one_file_system:
            arguments.append(b"--one-file-system")
        if rules.exclude_caches:
            arguments.append(b"--exclude-caches")
        arguments += self._excludes(excluded)
        return [*arguments, b"--directory=" + source.location, b"."]

    def _general(self) -> Sequence[str]:
        options = ["--create", "--file=-", "--format=posix", "--pax-option=delete=atime,delete=ctime"]
        options += ["--no-check-device", "--ignore-failed-read", "--quoting-style=c", "--no-unquote"]
        if self._options.xattrs and self._tar.stores_attributes:
            options += ["--xattrs", "--acls"]
        if self._options.sparse:
            options.append("--sparse")
        options += _FOLLOWED[self._source.rules.follow]
        return options

    def _excludes(self, file: ScratchFile) -> list[bytes]:
        rules, raw = self._source.rules, self._options.exclude
        arguments = [] if raw is None else [b"--exclude=" + os.fsencode(raw)]
        names = name_patterns(rules)
        arguments += name_arguments(names or ())
        if names is None or self._source.follows:
            survey = Survey(
                rules,
                root=self._source.root,
                location=self._source.location,
                report=self._report,
                check=self._context.cancel.check,
            )
            members, content = member_arguments(survey.left_out(), file=file.path)
            file.replace(content)
            arguments += members
        return arguments
