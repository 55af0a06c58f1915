"""The ``freezer`` program."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence

BROKEN_PIPE = 141  # as a shell reports death by SIGPIPE
INTERRUPTED = 130
FAILED = 1
_RARELY = 50_000  # new objects until the collector of cycles looks at them
_SOON = 0.0002  # seconds until a thread lets others go on; most of theirs is a call that needs the interpreter no more


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: arguments without the program's name; ``None``: those of the process.

    Returns:
        The exit code; ``docs/reference/exit-codes.md`` lists them.
    """
    return run_program(argv, _run)


def run_program(argv: Sequence[str] | None, run: Callable[[list[str], Mapping[str, str]], int]) -> int:
    """What the programs of this project have in common: streams that are open, signals, and the end of the output.

    Args:
        argv: arguments without the program's name; ``None``: those of the process.
        run: is given the arguments and the environment, and gives the exit code.
    """
    environ = dict(os.environ)
    if argv is None:
        gc.set_threshold(_RARELY, 50, 100)  # much lives to the end of the run, and hardly anything of it is a cycle
        sys.setswitchinterval(_SOON)
        _open_standard_streams()
        for name in ("FREEZER_PASSWORD", "FREEZER_FROM_PASSWORD", "FREEZER_NEW_PASSWORD"):
            os.environ.pop(name, None)  # programs that are started have no business with it
    try:
        code = run(list(sys.argv[1:] if argv is None else argv), environ)
        return _flush() or code
    except SystemExit as error:  # argparse: wrong arguments, or help and version
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: list[str], environ: Mapping[str, str]) -> int:
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"freezer {version('freezer-sdk')}")
        return 0
    from freezer_cli import signals
    from freezer_cli.app import FreezerApp

    signals.install()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # an ASCII terminal shows escapes instead of failing
    return FreezerApp(environ).run(arguments)


def _open_standard_streams() -> None:
    """Opens what was closed by whoever started us: else the next file gets that number, and messages go into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _flush() -> int:
    """Makes sure that the output has arrived; a full disk must not look like success.

    Raises:
        BrokenPipeError: nobody reads it.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: cannot write the output: {error.strerror}", file=sys.stderr)
        _silence_stdout()
        return FAILED
    return 0


def _silence_stdout() -> None:
    """Keeps the interpreter from complaining when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
