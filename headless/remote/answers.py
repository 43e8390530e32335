"""What a ComfyUI answers, checked before it is used: the address may be anybody's."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.shapes import Shape, fault, words
from ..workflows.endings import UnreachableError
from ..workflows.workflow_file import WorkflowError

T = TypeVar("T")


class AnswerError(WorkflowError):
    """Something answers, but not as a ComfyUI does: there is none at that address."""

    exit_code = UnreachableError.exit_code


class Prompted(Shape):
    prompt_id: shapes.NAME
    node_errors: shapes.LIST_OR_FIELDS | None = None


class Uploaded(Shape):
    name: shapes.NAME
    subfolder: shapes.TEXT | None = None


class Queue(Shape):
    queue_running: list[shapes.LIST]
    queue_pending: list[shapes.LIST]


class Status(Shape):
    status_str: shapes.TEXT | None = None
    completed: bool | None = None
    messages: shapes.LIST | None = None

    def told(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and content of each message; they only make sentences fuller, so odd ones go."""
        for message in self.messages or ():
            match message:
                case [str(kind), dict(data)]:
                    yield kind, data


class Entry(Shape):
    """A run in the history."""

    outputs: dict[str, dict[str, Any]]
    status: Status | None = None


def checked(answer: Any, shape: type[T], url: str) -> T:
    """An answer in the shape it should have.

    Raises:
        AnswerError: it has another one.
    """
    try:
        return TypeAdapter(shape).validate_python(answer)
    except ValidationError as error:
        raise AnswerError(
            f"{shorten(url, 200)} answers, but not as a ComfyUI does: its answer {fault(error)}. "
            "Is that the address of a ComfyUI?"
        ) from error


def reasons(answer: Any, called: Mapping[str, str]) -> str:
    """A refused workflow in words, as far as the server gives any.

    Args:
        called: titles of nodes by their ids.
    """
    if not isinstance(answer, Mapping):
        return f"The server refused the workflow: {words(answer, 500)}"
    error = answer.get("error")
    first = error.get("message") if isinstance(error, Mapping) else error
    lines = [f"{words(first or 'The server refused the workflow', 500)}."]
    return " ".join([*lines, *node_reasons(answer.get("node_errors"), called)])


def node_reasons(problems: Any, called: Mapping[str, str]) -> list[str]:
    """What a server says against single nodes; `called` as for `reasons`."""
    lines: list[str] = []
    for node_id, problem in problems.items() if isinstance(problems, Mapping) else ():
        told = problem.get("errors") if isinstance(problem, Mapping) else None
        said = "; ".join(
            f"{words(e.get('message', 'refused'), 500)}: {words(e.get('details', ''), 500)}"
            for e in (told if isinstance(told, list) else ())
            if isinstance(e, Mapping)
        )
        title = shorten(called.get(node_id, "?"))
        lines.append(f"Node {shorten(node_id, 40)} ({title}): {said or 'refused'}.")
    return lines[:39]
