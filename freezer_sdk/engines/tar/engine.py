"""Engine ``tar``: incremental archives of GNU tar, in the original's layout."""

from __future__ import annotations

from typing import ClassVar

from freezer_sdk.engines.chains.engine import ChainEngine
from freezer_sdk.engines.chains.settings import LEVEL_OPTIONS, STREAM_OPTIONS
from freezer_sdk.engines.tar.codec import READERS, TarCodec
from freezer_sdk.engines.tar.writing import WriteOptions
from freezer_sdk.options import Option


class TarEngine(ChainEngine):
    """Reads and continues what the original wrote, and writes what the original and GNU tar read."""

    name = "tar"
    api_version = 1
    summary = "levels as archives of GNU tar; reads and continues stores of the original Freezer"
    compression_names: ClassVar[dict[str, str]] = {"gzip": "gzip", "bzip2": "bzip2", "xz": "xz"}
    options = (
        *LEVEL_OPTIONS,
        Option(
            name="compression",
            choices=tuple(compression_names),
            default="gzip",
            help="How streams are compressed",
        ),
        *STREAM_OPTIONS,
        Option(
            name="tar_exclude",
            help="A pattern of GNU tar, handed on as it is: what fits is left out. Patterns of freezer itself are "
            "given with the paths",
        ),
        Option(name="xattrs", type="bool", default=True, help="Store extended attributes and ACLs"),
        Option(name="sparse", type="bool", default=True, help="Store holes of sparse files as holes"),
        Option(
            name="reader",
            choices=READERS,
            default="auto",
            help="What reads archives on a restore. python: this program alone; gnu: GNU tar, which restores whole "
            "backups into empty folders only; auto: python",
        ),
    )

    def codec(self) -> TarCodec:
        """The format of the levels."""
        given = {name: self._options[name] for name in ("xattrs", "sparse") if name in self._options}
        writing = WriteOptions(exclude=self._options.get("tar_exclude"), **given)
        return TarCodec(writing=writing, reader=self._options.get("reader", READERS[0]))
