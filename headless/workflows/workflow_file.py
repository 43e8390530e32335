"""Reading workflow files. Whatever passes here has the shape that all other code relies on."""

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ...core.errors import FacewrightError, shorten
from ...core.files import shapes
from ...core.files.json_text import JsonError, check_plain, parse_json
from ...core.files.shapes import Shape, fault
from ...core.node_api import called

_MOST_BYTES = 64 * 2**20
_PNG = b"\x89PNG\r\n\x1a\n"


class WorkflowError(FacewrightError):
    """A workflow that cannot run as it stands."""


class _Slot(Shape):
    name: shapes.TEXT
    link: shapes.WHOLE | None = None


class _Pack(Shape):
    cnr_id: shapes.TEXT | None = None
    aux_id: shapes.TEXT | None = None


class _UiNode(Shape):
    id: shapes.ID
    type: shapes.NAME
    title: shapes.TEXT | None = None
    mode: shapes.WHOLE | None = None
    inputs: list[_Slot] | None = None
    outputs: list[shapes.FIELDS] | None = None
    widgets_values: shapes.LIST_OR_FIELDS | None = None
    properties: _Pack | None = None


class _Link(Shape):
    id: shapes.WHOLE
    origin_id: shapes.ID
    origin_slot: shapes.COUNT


class _Graph(Shape):
    nodes: list[_UiNode]
    links: list[shapes.LIST_OR_FIELDS] | None = None


class _Subgraph(_Graph):
    id: shapes.ID
    name: shapes.TEXT | None = None


class _Definitions(Shape):
    subgraphs: list[_Subgraph] | None = None


class _Ui(_Graph):
    definitions: _Definitions | None = None


class _Meta(Shape):
    title: shapes.TEXT | None = None


class _ApiNode(Shape):
    class_type: shapes.NAME
    inputs: shapes.FIELDS | None = None
    meta: _Meta | None = Field(None, alias="_meta")


def read_workflow(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A workflow in either form from a dict, JSON text, a JSON file or a PNG that ComfyUI saved.

    A name without a folder and suffix, such as "nano_restore", is that of a workflow which comes
    along, where no file is called so.

    Everything the rest of the package looks at is there and of its kind; what is left out may be
    left out. Nothing given is changed.

    Raises:
        WorkflowError: no such file, no JSON, or JSON that is no workflow; the node is named.
    """
    if isinstance(source, Mapping):
        try:
            check_plain(source)
        except JsonError as error:
            raise WorkflowError(f"This workflow cannot be used: {error}.") from error
        content: Any = _copied(source)
    else:
        text, name = _text_of(source)
        try:
            content = parse_json(text)
        except JsonError as error:
            raise WorkflowError(f"{name} cannot be read as a workflow: {error}.") from error
    if not isinstance(content, dict):
        raise WorkflowError(_NO_WORKFLOW)
    nodes = content.get("nodes")  # which may also be what somebody calls a node of the API form
    if "nodes" in content and not (isinstance(nodes, dict) and "class_type" in nodes):
        return _checked_ui(content)
    return _checked_api(content)


_NO_WORKFLOW = (
    "This JSON is no ComfyUI workflow: expected the editor's form (with a list of nodes) or the "
    'API form ({"1": {"class_type": ..., "inputs": ...}}). Save or export it again in ComfyUI.'
)
_AGAIN = "Open the workflow in ComfyUI and save it again, or mend that entry."


def link_parts(link: Any) -> tuple[int, str, int]:
    """Number, node and output of an entry of `links`: where the link starts."""
    if isinstance(link, list):
        return link[0], str(link[1]), link[2]
    return link["id"], str(link["origin_id"]), link["origin_slot"]


def _text_of(source: str | os.PathLike[str]) -> tuple[str | bytes, str]:
    if isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("{"):
        return source, "The text"
    if not isinstance(source, str | os.PathLike):
        raise WorkflowError(
            f"A workflow is given as a dict, JSON text or the path of a file, got "
            f"{type(source).__name__}."
        )
    name = shorten(os.fspath(source), 200)
    path = _shipped(os.fspath(source)) or Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name no file can have
        reason = getattr(error, "strerror", None) or error
        hint = ""
        if isinstance(error, FileNotFoundError) and path.parent == Path():
            hint = f" Workflows that come along: {', '.join(sorted(_bundled()))}."
        raise WorkflowError(f"{name} cannot be read as a workflow ({reason}).{hint}") from error
    if data.startswith(_PNG):
        return _text_in_picture(path, name), name
    if len(data) > _MOST_BYTES:
        raise WorkflowError(f"{name} is larger than any workflow ({_MOST_BYTES >> 20} MiB).")
    if b"\0" in data[:64] and not data.lstrip(b"\0").startswith((b"{", b"\xff\xfe", b"\xfe\xff")):
        raise WorkflowError(
            f"{name} is neither JSON nor a PNG. ComfyUI keeps workflows in these; export it again."
        )
    return data, name


_WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def _bundled() -> dict[str, Path]:
    """Workflows that come along, by name."""
    return {path.stem: path for path in _WORKFLOWS.glob("*.json")}


def _shipped(name: str) -> Path | None:
    """The bundled workflow of that name, unless a file is called so."""
    return None if os.path.lexists(name) else _bundled().get(name)


def _text_in_picture(path: Path, name: str) -> str:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes: no pixel of it is decoded
            with Image.open(path, formats=["PNG"]) as image:
                text = image.info.get("prompt") or image.info.get("workflow")
    except Exception as error:  # Pillow's own decoders raise whatever a damaged file brings about
        raise WorkflowError(f"{name} is a damaged PNG ({error}).") from error
    if not isinstance(text, str):
        raise WorkflowError(
            f"{name} carries no workflow in its metadata. Programs that send or edit pictures drop "
            "it: use the file that ComfyUI wrote."
        )
    return text


def _copied(value: Any) -> Any:
    """Lists and objects anew; what is in them, such as a tensor for Load Image, stays the same."""
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list | tuple) else value


def _checked_ui(content: dict[str, Any]) -> dict[str, Any]:
    try:
        _Ui.model_validate(content)
    except ValidationError as error:
        raise WorkflowError(f"{_faulty(content, error)}. {_AGAIN}") from error
    parts = [content, *((content.get("definitions") or {}).get("subgraphs") or [])]
    for graph in parts:
        where = "" if graph is content else f" of the subgraph {_name_of(graph)}"
        graph["links"] = graph.get("links") or []
        for link in graph["links"]:
            _check_link(link, where)
        _check_once("nodes", [str(n["id"]) for n in graph["nodes"]], where)
        _check_once("links", [link_parts(link)[0] for link in graph["links"]], where)
    _check_once("subgraphs", [str(graph["id"]) for graph in parts[1:]], "")
    if not content["nodes"]:
        raise WorkflowError("This workflow has no nodes. Save or export it again in ComfyUI.")
    return content


def _check_link(link: Any, where: str) -> None:
    given = dict(zip(_Link.model_fields, link, strict=False)) if isinstance(link, list) else link
    try:
        _Link.model_validate(given)
    except ValidationError as error:
        raise WorkflowError(
            f"A link{where}, {shorten(link, 60)}, {fault(error)}. A link is [its number, node, "
            f"output, node, input, type]. {_AGAIN}"
        ) from error


def _check_once(what: str, names: Sequence[Any], where: str) -> None:
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise WorkflowError(
            f"{times} {what}{where} have the number {shorten(name, 40)}, so that it is open which "
            f"one is meant. {_AGAIN}"
        )


def _faulty(content: dict[str, Any], error: ValidationError) -> str:
    """The start of a sentence on the first fault in the editor's form."""
    way = error.errors(include_url=False)[0]["loc"]
    at: Any = content
    skip = 0
    whole = "This workflow"
    while skip + 1 < len(way) and way[skip] in {"definitions", "subgraphs", "nodes"}:
        number = way[skip + 1]
        if way[skip] == "definitions" or not isinstance(number, int):
            at, skip = at[way[skip]], skip + 1
            continue
        entry = at[way[skip]][number]
        inner = way[skip] == "nodes" or not isinstance(entry, dict) or "nodes" not in entry
        whole = f"{_name_of(entry) or f'Entry {number + 1} of `{way[skip]}`'}"
        at, skip = entry, skip + 2
        if inner:
            break
    return f"{whole} {fault(error, skip)}"


def _name_of(entry: Any) -> str:
    """What a node or a subgraph is called; empty where it says nothing usable."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str | int):
        return ""
    if "nodes" in entry:
        return shorten(entry.get("name") or entry["id"])
    title = next((t for t in map(entry.get, ("title", "type")) if t and isinstance(t, str)), "?")
    return called(entry["id"], title)


def _checked_api(content: dict[Any, Any]) -> dict[str, Any]:
    if not any(isinstance(n, dict) and "class_type" in n for n in content.values()):
        raise WorkflowError(_NO_WORKFLOW)
    api: dict[str, Any] = {}
    for key, node in content.items():
        try:
            _ApiNode.model_validate(node)
        except ValidationError as error:
            title = node.get("class_type") if isinstance(node, dict) else None
            name = called(key, title) if isinstance(title, str) else f"Node {shorten(key, 40)}"
            raise WorkflowError(f"{name} {fault(error)}. {_AGAIN}") from error
        node["inputs"] = node.get("inputs") or {}
        if node.get("_meta") is None:
            node.pop("_meta", None)
        api[str(key)] = node
    if len(api) < len(content):
        raise WorkflowError(f"Two nodes have the same number. {_AGAIN}")
    return api
