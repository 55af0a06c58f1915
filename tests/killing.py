"""Programs that end the process that runs them: kill -9 between any two steps of something that runs programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_WRAPPER = """\
#!/bin/sh
count=$(($(cat {folder}/count 2>/dev/null || echo 0) + 1))
echo $count >{folder}/count
[ $count -ne {at} ] || [ {when} = after ] || {{ kill -KILL $PPID; exit 1; }}
{program} "$@"
status=$?
[ $count -ne {at} ] || kill -KILL $PPID
exit $status
"""


def killed_at_each_step(folder: Path, programs: Sequence[str], script: str, *arguments: str) -> Iterator[str]:
    """Runs a Python script again and again, each time killed one step later: before or after a program that it runs.

    After each run the caller may look at what was left behind; the last run is the first that is not killed.

    Args:
        folder: an empty one for this alone.
        programs: names of those that count as steps.
        script: Python; must exit with status 0 when it is not killed.
        arguments: the script's.

    Yields:
        Where it was killed, for messages.
    """
    for place, path in _steps(folder, programs):
        command = [sys.executable, "-c", script, *arguments]
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        yield place
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            assert not place.endswith(" 1"), "none of the programs was run"
            return


def killed_forks_at_each_step(
    folder: Path, programs: Sequence[str], function: Callable[..., object], *arguments: object
) -> Iterator[str]:
    """The same with a function, in a fork of this process, killed only after programs: where those start slowly."""
    for place, path in _steps(folder, programs, ("after",)):
        pid = os.fork()
        if not pid:
            os.environ["PATH"] = path
            try:
                function(*arguments)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        yield place
        if status != -signal.SIGKILL:
            assert status == 0
            assert not place.endswith(" 1"), "none of the programs was run"
            return


def _steps(
    folder: Path, programs: Sequence[str], moments: Sequence[str] = ("before", "after")
) -> Iterator[tuple[str, str]]:
    """Where the next run is killed, and the PATH that does it."""
    for step in range(1, 100):
        for when in moments:
            place = folder / f"{when}-{step}"
            place.mkdir(parents=True)
            for name in programs:
                text = _WRAPPER.format(folder=place, at=step, when=when, program=shutil.which(name))
                (place / name).write_text(text)
                (place / name).chmod(0o755)
            yield f"{when} program {step}", f"{place}:{os.environ['PATH']}"
    raise AssertionError("it never ends")
