"""Runs a workflow file in a ComfyUI, over HTTP and its websocket."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from .assign import set_inputs
from .events import Events, Progress
from .http_client import RefusedError, get, get_patiently, post, upload, view
from .images import write_atomic
from .report import RunReport, node_reports, seeds_of
from .standin import WIDGET_TYPES
from .workflow import (
    ApiWorkflow,
    InputSpec,
    NodeSpec,
    WorkflowError,
    has_control,
    is_ui_form,
    node_title,
    to_api,
)

DEFAULT_SERVER = "http://127.0.0.1:8188"
_POLL_SECONDS = 0.3
_GONE_POLLS = 10


def answers(server: str, timeout: float = 0.3) -> bool:
    """Whether a ComfyUI with facewright installed answers at this address."""
    try:
        info = get(f"{server_url(server)}/object_info/FacewrightDetectFaces", timeout=timeout)
    except (WorkflowError, ValueError):
        return False
    return bool(info)


def server_url(server: str) -> str:
    """An address as people write it, such as localhost:8188, in full."""
    return server.rstrip("/") if "://" in server else f"http://{server.rstrip('/')}"


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
) -> RunReport:
    """Run a workflow of either form in a ComfyUI and fetch the pictures it saves.

    Pictures that LoadImage nodes name and that lie in `input_dir` are uploaded first. An interrupt
    (Ctrl-C) stops the run on the server, too.

    Args:
        inputs: as in `runner.run_workflow`; images are file names.
        output_dir: where the saved pictures go, under the names the server gave them; a number is
            added where another picture has that name.
        on_progress: called with the title of the node that is running, and the share that is done.
        on_text: called with id, title and text of each node that shows text.
        timeout: seconds to wait for the result; None waits as long as the server works.

    Raises:
        WorkflowError: no server, a workflow it refuses (its own reasons are told), a failing node,
            or no result in time.
    """
    started = time.monotonic()
    server = server_url(server)
    api = prepared(workflow, server_specs(server), inputs or {})
    _upload_images(api, server, input_dir)
    extra = {"extra_pnginfo": {"workflow": dict(workflow)}} if is_ui_form(workflow) else {}
    client_id = uuid.uuid4().hex
    body = {"prompt": api, "client_id": client_id, "extra_data": extra}
    # Listening before asking: the first messages may come before the answer.
    with closing(Events(server, client_id)) as events:
        try:
            prompt_id = post(f"{server}/prompt", body)["prompt_id"]
        except RefusedError as refused:
            raise WorkflowError(_reasons(refused.answer, api)) from refused
        progress = Progress(api, prompt_id)
        try:
            entry = _wait(server, events, progress, on_progress, timeout)
        except KeyboardInterrupt:
            _stop(server, prompt_id)
            raise
    report = RunReport(seeds=seeds_of(api))
    for node_id, output in entry["outputs"].items():
        # A node of a subgraph or one the server added is not in what was sent.
        title = node_title(api, node_id) if node_id in api else node_id
        for text in output.get("text") or ():
            on_text(node_id, title, str(text))
            before = report.texts.get(node_id)
            report.texts[node_id] = str(text) if before is None else f"{before}\n{text}"
    report.saved = _fetch(server, entry, output_dir)
    report.nodes = node_reports(api, progress.seconds, frozenset(progress.cached))
    report.seconds = time.monotonic() - started
    return report


def prepared(workflow: Mapping[str, Any], specs: Any, inputs: Mapping[str, Any]) -> ApiWorkflow:
    """The API form of a workflow with its inputs set.

    Raises:
        WorkflowError: as `workflow.to_api` and `assign.set_inputs`.
    """
    api = to_api(workflow, specs)
    set_inputs(api, inputs, specs)
    return api


def server_specs(server: str) -> Callable[[str], NodeSpec | None]:
    """Node classes as a server describes them."""
    return _ServerSpecs(server_url(server))


class _ServerSpecs:
    def __init__(self, server: str) -> None:
        self.server = server
        self.info: dict[str, Any] | None = None

    def __call__(self, kind: str) -> NodeSpec:
        if self.info is None:
            self.info = get(f"{self.server}/object_info", timeout=60)
        node = self.info.get(kind)
        if node is None:
            raise WorkflowError(
                f"The ComfyUI at {self.server} has no node {kind}. Install the node pack that "
                "brings it (for Facewright nodes: this package in custom_nodes) and restart it."
            )
        inputs = [
            _spec(name, entry)
            for group in ("required", "optional")
            for name, entry in (node["input"].get(group) or {}).items()
        ]
        return NodeSpec(inputs, node.get("display_name"))


def _spec(name: str, entry: list) -> InputSpec:
    kind = entry[0]
    options = entry[1] if len(entry) > 1 else {}
    has_widget = (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")
    control = has_control(str(kind), name, options.get("control_after_generate"))
    # Combos of older servers are the list of what they offer.
    offered = kind if isinstance(kind, list) else options.get("options") or ()
    io_type = "COMBO" if isinstance(kind, list) else str(kind)
    return InputSpec(name, has_widget, has_widget and control, io_type, tuple(offered))


def _upload_images(api: ApiWorkflow, server: str, input_dir: Path) -> None:
    for node in api.values():
        slot = {"LoadImage": "image", "LoadVideo": "file"}.get(node["class_type"], "")
        name = node["inputs"].get(slot)
        if not isinstance(name, (str, Path)):
            continue
        path = Path(name).expanduser()
        path = path if path.is_absolute() else input_dir / path
        if path.is_file():  # else it may be in the server's own input folder
            node["inputs"][slot] = upload(server, path)


def _wait(
    server: str,
    events: Events,
    progress: Progress,
    on_progress: Callable[[str, float], None],
    timeout: float | None,
) -> dict[str, Any]:
    """The history entry of a run. It decides, whatever the socket told or failed to tell.

    Over the socket, success may be told before the results can be read.
    """
    started = time.monotonic()
    vanished, prompt_id = 0, progress.prompt_id
    while timeout is None or time.monotonic() - started < timeout:
        entry = get_patiently(f"{server}/history/{prompt_id}").get(prompt_id)
        if entry is not None:
            status = entry.get("status", {})
            if status.get("status_str") == "error":
                raise WorkflowError(_failure(status, progress.api))
            if status.get("completed", True):
                _catch_up(events, progress, status)
                on_progress("Done", 1.0)
                return entry
        waiting = _position(server, prompt_id)
        # Between leaving the queue and entering the history a run is in neither for a moment.
        vanished = 0 if waiting is not None or entry is not None else vanished + 1
        if vanished > _GONE_POLLS:
            raise WorkflowError(f"The run was removed from the queue of the ComfyUI at {server}.")
        _listen(events, progress, on_progress, waiting, time.monotonic() - started)
    raise WorkflowError(f"The ComfyUI at {server} gave no result within {timeout:g} s.")


def _listen(
    events: Events,
    progress: Progress,
    on_progress: Callable[[str, float], None],
    waiting: int | None,
    seconds: float,
) -> None:
    """Take what is told until it is time to ask again."""
    until = time.monotonic() + _POLL_SECONDS
    if progress.now is None:
        text = f"{waiting} runs are before this one" if waiting else "ComfyUI is working"
        on_progress(f"{text} ({seconds:.0f} s)", progress.share)
    while (left := until - time.monotonic()) > 0:
        event = events.next(left)
        if event is None:
            return
        ended = progress.ended
        progress.take(event)
        if progress.now is not None:
            on_progress(progress.now, progress.share)
        if progress.ended and not ended:
            return


def _catch_up(events: Events, progress: Progress, status: Mapping[str, Any]) -> None:
    """Take what was told but not yet heard, where the results were quicker."""
    while events.connected and not progress.ended:
        event = events.next(_POLL_SECONDS)
        if event is None:
            break
        progress.take(event)
    for kind, data in status.get("messages", []):
        progress.take({"type": kind, "data": data})


def _stop(server: str, prompt_id: str) -> None:
    """Take a run from the queue of a server, or interrupt it there; never somebody else's."""
    with suppress(WorkflowError):  # whoever pressed Ctrl-C wants out; the server may be gone
        post(f"{server}/queue", {"delete": [prompt_id]})
        if _position(server, prompt_id) is not None:
            post(f"{server}/interrupt", {"prompt_id": prompt_id})


def _position(server: str, prompt_id: str) -> int | None:
    """How many runs come before this one, or None where the queue does not hold it."""
    queue = get_patiently(f"{server}/queue")
    if any(item[1] == prompt_id for item in queue["queue_running"]):
        return 0
    pending = sorted(queue["queue_pending"], key=lambda item: item[0])
    numbers = {item[1]: n for n, item in enumerate(pending, start=1)}
    return numbers.get(prompt_id)


def _failure(status: Mapping[str, Any], api: ApiWorkflow) -> str:
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            node_id = str(data["node_id"])
            title = node_title(api, node_id) if node_id in api else data["node_type"]
            return f"Node {node_id} ({title}): {str(data['exception_message']).strip()}"
        if kind == "execution_interrupted":
            return "The run was interrupted on the server."
    return "The run failed on the server; its log tells why."


def _reasons(answer: Any, api: ApiWorkflow) -> str:
    """The server's validation errors in words."""
    if not isinstance(answer, Mapping):
        return f"The server refused the workflow: {answer}"
    lines = [answer.get("error", {}).get("message", "The server refused the workflow") + "."]
    for node_id, problem in (answer.get("node_errors") or {}).items():
        title = node_title(api, node_id) if node_id in api else "?"
        reasons = "; ".join(f"{e['message']}: {e['details']}" for e in problem["errors"])
        lines.append(f"Node {node_id} ({title}): {reasons}.")
    return " ".join(lines)


def _fetch(server: str, entry: Mapping[str, Any], output_dir: Path) -> list[Path]:
    root, saved = output_dir.resolve(), []
    for output in entry["outputs"].values():
        for image in output.get("images") or ():
            if image["type"] != "output":
                continue
            path = (root / image["subfolder"] / image["filename"]).resolve()
            if not path.is_relative_to(root):
                raise WorkflowError(f"The server named a file outside {output_dir}: {path}.")
            content = view(server, image)
            path = _free(path, content)
            write_atomic(path, content)
            saved.append(path)
    return saved


def _free(path: Path, content: bytes) -> Path:
    """`path`, or with a number where another picture has the name: servers count from 1 again."""
    candidate, number = path, 1
    while candidate.exists() and candidate.read_bytes() != content:
        number += 1
        candidate = path.with_stem(f"{path.stem}{number}")
    return candidate
