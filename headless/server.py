"""Runs a workflow file in a ComfyUI over HTTP, with the standard library only."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib import error, parse, request

from .images import write_atomic
from .standin import WIDGET_TYPES
from .workflow import (
    ApiWorkflow,
    InputSpec,
    WorkflowError,
    has_control,
    is_ui_form,
    node_title,
    set_inputs,
    to_api,
)

DEFAULT_SERVER = "http://127.0.0.1:8188"
_POLL_SECONDS = 0.3
_GONE_POLLS = 10


def answers(server: str, timeout: float = 0.3) -> bool:
    """Whether a ComfyUI with facewright installed answers at this address."""
    try:
        info = _get(f"{server}/object_info/FacewrightDetectFaces", timeout=timeout)
    except (WorkflowError, ValueError):
        return False
    return bool(info)


def run_on_server(
    workflow: Mapping[str, Any],
    server: str,
    inputs: Mapping[str, Any] | None = None,
    *,
    input_dir: Path,
    output_dir: Path,
    on_progress: Callable[[str, float], None] = lambda text, share: None,
    on_text: Callable[[str, str, str], None] = lambda node_id, title, text: None,
    timeout: float | None = None,
) -> list[Path]:
    """Run a workflow of either form in a ComfyUI and fetch the pictures it saves.

    Pictures that LoadImage nodes name and that lie in `input_dir` are uploaded first.

    Args:
        inputs: as in `runner.run_workflow`; images are file names.
        output_dir: where the saved pictures go, under the names the server gave them.
        on_text: called with id, title and text of each node that shows text.
        timeout: seconds to wait for the result; None waits as long as the server works.

    Raises:
        WorkflowError: no server, a workflow it refuses (its own reasons are told), a failing node,
            or no result in time.
    """
    server = server.rstrip("/") if "://" in server else f"http://{server.rstrip('/')}"
    specs = _ServerSpecs(server)
    api = to_api(workflow, specs)
    set_inputs(api, inputs or {})
    _upload_images(api, server, input_dir)
    extra = {"extra_pnginfo": {"workflow": dict(workflow)}} if is_ui_form(workflow) else {}
    body = {"prompt": api, "client_id": uuid.uuid4().hex, "extra_data": extra}
    prompt_id = _post(f"{server}/prompt", body, api)["prompt_id"]
    history = _wait(server, prompt_id, on_progress, timeout)
    for node_id, output in history["outputs"].items():
        # A node of a subgraph or one the server added is not in what was sent.
        title = node_title(api, node_id) if node_id in api else node_id
        for text in output.get("text", []):
            on_text(node_id, title, str(text))
    return _fetch(server, history, output_dir)


class _ServerSpecs:
    """Inputs of node classes as the server describes them."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.info: dict[str, Any] | None = None

    def __call__(self, kind: str) -> list[InputSpec] | None:
        if self.info is None:
            self.info = _get(f"{self.server}/object_info", timeout=60)
        node = self.info.get(kind)
        if node is None:
            raise WorkflowError(
                f"The ComfyUI at {self.server} has no node {kind}. Install the node pack that "
                "brings it (for Facewright nodes: this package in custom_nodes) and restart it."
            )
        return [
            _spec(name, entry)
            for group in ("required", "optional")
            for name, entry in (node["input"].get(group) or {}).items()
        ]


def _spec(name: str, entry: list) -> InputSpec:
    kind = entry[0]
    options = entry[1] if len(entry) > 1 else {}
    has_widget = (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")
    control = has_control(str(kind), name, options.get("control_after_generate"))
    return InputSpec(name, has_widget, has_widget and control)


def _upload_images(api: ApiWorkflow, server: str, input_dir: Path) -> None:
    for node in api.values():
        name = node["inputs"].get("image")
        if node["class_type"] != "LoadImage" or not isinstance(name, (str, Path)):
            continue
        path = Path(name).expanduser()
        path = path if path.is_absolute() else input_dir / path
        if path.is_file():  # else it may be in the server's own input folder
            node["inputs"]["image"] = _upload(server, path)


def _upload(server: str, path: Path) -> str:
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\nfacewright\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{parse.quote(path.name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    data = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    answer = _send(request.Request(f"{server}/upload/image", data, {"Content-Type": kind}))
    return "/".join(p for p in (answer.get("subfolder"), answer["name"]) if p)


def _wait(
    server: str, prompt_id: str, on_progress: Callable[[str, float], None], timeout: float | None
) -> dict[str, Any]:
    """Poll the history: over the socket, success may be told before the results can be read."""
    started = time.monotonic()
    vanished = 0
    while timeout is None or time.monotonic() - started < timeout:
        entry = _get(f"{server}/history/{prompt_id}").get(prompt_id)
        if entry is not None:
            status = entry.get("status", {})
            if status.get("status_str") == "error":
                raise WorkflowError(_failure(status))
            if status.get("completed", True):
                on_progress("Done", 1.0)
                return entry
        waiting = _position(server, prompt_id)
        # Between leaving the queue and entering the history a run is in neither for a moment.
        vanished = 0 if waiting is not None or entry is not None else vanished + 1
        if vanished > _GONE_POLLS:
            raise WorkflowError(f"The run was removed from the queue of the ComfyUI at {server}.")
        seconds = time.monotonic() - started
        text = f"{waiting} runs are before this one" if waiting else "ComfyUI is working"
        on_progress(f"{text} ({seconds:.0f} s)", 0.0)
        time.sleep(_POLL_SECONDS)
    raise WorkflowError(f"The ComfyUI at {server} gave no result within {timeout:g} s.")


def _position(server: str, prompt_id: str) -> int | None:
    """How many runs come before this one, or None where the queue does not hold it."""
    queue = _get(f"{server}/queue")
    if any(item[1] == prompt_id for item in queue["queue_running"]):
        return 0
    pending = sorted(queue["queue_pending"], key=lambda item: item[0])
    numbers = {item[1]: n for n, item in enumerate(pending, start=1)}
    return numbers.get(prompt_id)


def _failure(status: Mapping[str, Any]) -> str:
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            return f"Node {data['node_id']} ({data['node_type']}): {data['exception_message']}"
        if kind == "execution_interrupted":
            return "The run was interrupted on the server."
    return "The run failed on the server; its log tells why."


def _fetch(server: str, entry: Mapping[str, Any], output_dir: Path) -> list[Path]:
    saved = []
    for output in entry["outputs"].values():
        for image in output.get("images", []):
            if image["type"] != "output":
                continue
            query = parse.urlencode({k: image[k] for k in ("filename", "subfolder", "type")})
            root = output_dir.resolve()
            path = (root / image["subfolder"] / image["filename"]).resolve()
            if not path.is_relative_to(root):
                raise WorkflowError(f"The server named a file outside {output_dir}: {path}.")
            write_atomic(path, _read(request.Request(f"{server}/view?{query}")))
            saved.append(path)
    return saved


def _get(url: str, timeout: float = 30) -> Any:
    return _send(request.Request(url), timeout)


def _post(url: str, body: Any, api: ApiWorkflow) -> Any:
    data = json.dumps(body, default=str).encode()
    try:
        return _send(request.Request(url, data, {"Content-Type": "application/json"}))
    except _RefusedError as refused:
        raise WorkflowError(_reasons(refused.answer, api)) from refused


class _RefusedError(WorkflowError):
    def __init__(self, url: str, status: int, answer: Any) -> None:
        super().__init__(f"{url} answered {status}: {answer}")
        self.answer = answer


def _reasons(answer: Any, api: ApiWorkflow) -> str:
    """The server's validation errors in words."""
    if not isinstance(answer, Mapping):
        return f"The server refused the workflow: {answer}"
    lines = [answer.get("error", {}).get("message", "The server refused the workflow") + "."]
    for node_id, problem in (answer.get("node_errors") or {}).items():
        kind = api.get(node_id, {}).get("class_type", "?")
        reasons = "; ".join(f"{e['message']}: {e['details']}" for e in problem["errors"])
        lines.append(f"Node {node_id} ({kind}): {reasons}.")
    return " ".join(lines)


def _send(req: request.Request, timeout: float = 30) -> Any:
    return json.loads(_read(req, timeout))


def _read(req: request.Request, timeout: float = 30) -> bytes:
    try:
        with request.urlopen(req, timeout=timeout) as response:
            return response.read()
    except error.HTTPError as refused:
        text = refused.read().decode(errors="replace")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text[:500]
        raise _RefusedError(req.full_url, refused.code, answer) from refused
    except (error.URLError, OSError) as failed:
        raise WorkflowError(
            f"No ComfyUI answers at {req.full_url} ({failed}). Start it, or run with --embedded."
        ) from failed
