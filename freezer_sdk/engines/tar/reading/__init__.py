"""Reads the tar streams of a chain without any program: every level's headers, merged into one tree."""

from __future__ import annotations

from freezer_sdk.engines.tar.reading.content import TarContent, read_levels

__all__ = ["TarContent", "read_levels"]
