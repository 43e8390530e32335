"""What a ComfyUI answers, checked before it is used: the address may be anybody's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ...core.errors import shorten
from ...core.files import shapes
from ...core.files.confined import inside
from ...core.files.shapes import Shape, fault, words
from ...core.images import PICTURE_SUFFIXES
from ..workflows.workflow_file import WorkflowError

T = TypeVar("T")


class AnswerError(WorkflowError):
    """Something answers, but not as a ComfyUI does."""


class Prompted(Shape):
    prompt_id: shapes.NAME


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


class SavedFile(Shape):
    """A file that a run wrote, as the server names it."""

    filename: shapes.NAME
    subfolder: shapes.TEXT = ""
    type: shapes.TEXT = "output"

    def below(self, folder: Path) -> Path:
        """Where it goes.

        Raises:
            AnswerError: outside the folder, hidden in it, or no picture or video by its name.
        """
        plain = not set(self.filename) & set("/\\:") and not self.filename.startswith(".")
        plain = plain and (self.subfolder + self.filename).isprintable()
        name = f"{self.subfolder}/{self.filename}" if self.subfolder else self.filename
        path = inside(folder, name) if plain else None
        if path is None or any(p.startswith(".") for p in Path(self.subfolder).parts):
            raise AnswerError(
                f"The server named a file outside {folder}: {shorten(name)}. It was not fetched."
            )
        if path.suffix.lower() not in _MEDIA:
            raise AnswerError(
                f"The server named {shorten(name)}, which is neither a picture nor a video by its "
                "name. It was not fetched; it lies in the server's output folder."
            )
        return path


_MEDIA = frozenset({".heic", ".heif", ".jxl", ".exr", ".hdr", ".svg"}) | PICTURE_SUFFIXES
_MEDIA |= {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv"}
_MEDIA |= {".flv", ".ogv", ".mxf", ".wav", ".mp3", ".flac", ".opus", ".ogg"}


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
    problems = answer.get("node_errors")
    for node_id, problem in problems.items() if isinstance(problems, Mapping) else ():
        told = problem.get("errors") if isinstance(problem, Mapping) else None
        said = "; ".join(
            f"{words(e.get('message', 'refused'), 500)}: {words(e.get('details', ''), 500)}"
            for e in (told if isinstance(told, list) else ())
            if isinstance(e, Mapping)
        )
        title = shorten(called.get(node_id, "?"))
        lines.append(f"Node {shorten(node_id, 40)} ({title}): {said or 'refused'}.")
    return " ".join(lines[:40])
