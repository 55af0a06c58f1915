"""A run that is killed while it has a snapshot; run as a program by the snapshot suite.

Reads a job as JSON from standard input: ``module``, ``file`` and ``class`` of the provider, its ``options``, and the
``paths``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from freezer_sdk.snapshots.base import SnapshotProvider
from freezer_sdk.testing._killed_client import kill, load_module


def main() -> None:
    """Does the job on standard input."""
    job = json.load(sys.stdin)
    provider: SnapshotProvider = getattr(load_module(job["module"], job["file"]), job["class"])(**job["options"])
    with provider.create([Path(path) for path in job["paths"]]):
        kill()


if __name__ == "__main__":
    main()
