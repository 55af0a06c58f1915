"""Programs that may not read everything, even where tests are run by root."""

from __future__ import annotations

import os
import shutil

import pytest

_RIGHTS = "-dac_override,-dac_read_search"

AS_OTHERS = ["setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}"] if os.geteuid() == 0 else []
"""Goes before a command."""

needs_rights = pytest.mark.skipif(bool(AS_OTHERS) and not shutil.which("setpriv"), reason="setpriv is not installed")
