"""How a run of a workflow ends where it does not end well: what scripts tell apart by exit codes.

Every other `WorkflowError` is a failure of what was asked for, exit code 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .workflow_file import WorkflowError


class MisnamedError(WorkflowError):
    """Inputs to set that the workflow does not have, or values that they do not take."""

    exit_code = 2


class UnreachableError(WorkflowError):
    """Nobody answers at an address."""

    exit_code = 3
    saved: Sequence[Path] = ()
    """What is there all the same."""


class UnfitError(WorkflowError):
    """A workflow that is refused before any of it runs."""

    exit_code = 4


class LateError(WorkflowError):
    """No result within the time that was given."""

    exit_code = 5


class TakenError(WorkflowError):
    """Somebody else interrupted the run, or took it from the queue."""

    exit_code = 6


@contextmanager
def refusing(kind: type[WorkflowError] = UnfitError) -> Iterator[None]:
    """What is wrong with a workflow in here keeps it from running.

    Raises:
        WorkflowError: of that kind, in place of one that is nothing more special.
    """
    try:
        yield
    except WorkflowError as error:
        if hasattr(error, "exit_code"):
            raise
        raise kind(str(error)) from error
