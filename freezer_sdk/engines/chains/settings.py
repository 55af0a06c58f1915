"""The options that all engines with levels have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import Option
from freezer_sdk.policy.levels import STRATEGIES, LevelPolicy, Strategy, check_levels

AUTO: Final = "auto"
CIPHERS: Final = (AUTO, "sealed", "openssl")
_SEGMENTS: Final = (4 << 10, 5 << 30)  # Swift takes no larger object

LEVEL_OPTIONS: Final = (
    Option(
        name="strategy",
        choices=STRATEGIES,
        help="full: level 0 each time; incremental: on top of the last backup; differential: on top of level 0. "
        "incremental when an option for levels is given, else full",
    ),
    Option(name="max_level", type="int", help="Highest level of a chain; the backup after it is full"),
    Option(name="always_level", type="int", help="Level that is repeated once it is reached"),
    Option(
        name="restart_always_level",
        type="float",
        help="Days after which a new chain begins, counted from its full backup",
    ),
)

STREAM_OPTIONS: Final = (
    Option(name="compression_level", type="int", help="Level of the compressor; its own default when not given"),
    Option(
        name="cipher",
        choices=CIPHERS,
        default=AUTO,
        help="How streams are encrypted when there is a password. sealed: authenticated, only for this program; "
        "openssl: as openssl enc does, for exchange with the original Freezer; auto: openssl where the backups of that "
        "name are in the original's form already, else sealed",
    ),
    Option(
        name="segment_size",
        type="size",
        default=32 << 20,
        help="Bytes of a segment on storages that keep streams in segments (Swift); so much is held in memory",
    ),
)


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """Checked values of the options.

    Attributes:
        compression: name in the original's documents.
    """

    levels: LevelPolicy
    compression: str
    compression_level: int | None = None
    cipher: str = AUTO
    segment_size: int = 32 << 20

    @classmethod
    def of(cls, values: Mapping[str, Any], *, compression: str) -> ChainSettings:
        """From the values of an engine's options.

        Raises:
            ConfigurationError: they cannot be meant.
        """
        names = ("max_level", "always_level", "restart_always_level")
        limits = {name: values[name] for name in names if values.get(name) is not None}
        strategy = cast(Strategy, values.get("strategy") or ("incremental" if limits else "full"))
        levels = LevelPolicy(strategy=strategy, **limits)
        check_levels(levels)
        names = ("compression_level", "cipher", "segment_size")
        rest = {name: values[name] for name in names if values.get(name) is not None}
        return cls(levels=levels, compression=compression, **rest)

    def __post_init__(self) -> None:
        low, high = _SEGMENTS
        if not low <= self.segment_size <= high:
            raise ConfigurationError("segment_size must lie between 4K and 5G")
