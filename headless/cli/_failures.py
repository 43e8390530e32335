"""How a command ends: errors as sentences, exit codes, consoles of any encoding."""

import errno
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import FrameType
from typing import Any

from ._common import fail, say

_GO_ON = "Interrupted. What is finished stays; run the same command again to go on."


class Terminated(KeyboardInterrupt):
    """Raised in the main thread by SIGTERM; what tidies up after Ctrl-C then does so, too."""


def exit_code(error: KeyboardInterrupt) -> int:
    """128 and the number of the signal, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
    number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    return 128 + int(number)


def sentences(command: Callable | None = None, *, interrupted: str = _GO_ON) -> Callable:
    """Show errors that a user can act on as their sentence, without a traceback.

    Those are `FacewrightError`, every error of the operating system and a lack of memory: exit code
    1, or the one that the error bears (`headless.workflows.endings`). Ctrl-C ends with 130 and
    SIGTERM with 143.

    Args:
        interrupted: what to say after Ctrl-C.
    """
    if command is None:
        return functools.partial(sentences, interrupted=interrupted)

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from ...core.errors import FacewrightError, os_sentence

        try:
            with _sigterm_raises():
                copy_context().run(command, *args, **kwargs)  # its settings end with it
        except FacewrightError as error:
            fail(str(error), getattr(error, "exit_code", 1))
        except KeyboardInterrupt as error:
            said = interrupted
            if isinstance(error, Terminated):
                said = said.replace("Interrupted", "Stopped by SIGTERM", 1)
            fail(said, exit_code(error))
        except BrokenPipeError:
            raise  # whoever read the output has enough of it: typer ends with 1 and says nothing
        except OSError as error:
            fail(os_sentence(error))
        except Exception as error:
            if not _lacks_memory(error):
                raise
            what = next(iter(str(error).splitlines()), "none was left")
            fail(
                f"There was not enough memory ({what}). Close other programs, or use fewer "
                "--workers, smaller pictures or fewer faces at once."
            )

    return run


def _lacks_memory(error: Exception) -> bool:
    """Also of torch, which raises a RuntimeError on the CPU and one of its own on accelerators."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only a main thread may set handlers
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_app(app: Callable[..., Any]) -> None:
    """Run the command line; what the console cannot show or take never ends in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A letter that the console's encoding lacks is written as its escape.
        with suppress(OSError, ValueError):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="facewright")
        code = 0
    except SystemExit as end:
        code = end.code
    except OSError as error:  # of help pages and usage errors, which no command writes
        code = _say_quietly(error)
    raise SystemExit(_flushed(code))


def _flushed(code: Any) -> Any:
    """The exit code, once standard output took everything: a full disk may only show now."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # Or the interpreter tries again while it ends, and complains in words of its own.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or _say_quietly(error)
    return code


def _say_quietly(error: Exception) -> int:
    """Exit code 1; the sentence, too, unless nobody listens any more."""
    from ...core.errors import os_sentence

    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        with suppress(OSError):
            say(os_sentence(error), style="red")
    return 1
