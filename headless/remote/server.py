"""Runs a workflow file in a ComfyUI, over HTTP and its websocket."""

import itertools
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...core.errors import first_of, shorten
from ...core.files.shapes import words
from ...core.images import write_atomic
from ...core.node_api import called, is_ui_form
from ..workflows.assign import set_inputs
from ..workflows.input_files import LOADERS, input_file, named_by_hand
from ..workflows.report import RunReport, node_reports, seeds_of
from ..workflows.workflow import ApiWorkflow, WorkflowError, node_title, to_api
from ..workflows.workflow_file import read_workflow
from . import answers as shape
from .answers import SavedFile, reasons
from .events import Events, Progress
from .http_client import RefusedError, get, get_patiently, post, server_url, tell, upload, view
from .specs import server_specs

__all__ = ["server_specs"]  # from here as well

DEFAULT_SERVER = "http://127.0.0.1:8188"
_POLL_SECONDS = 0.3
_GONE_POLLS = 10
_MOST_TEXT = 2**20


def answers(server: str, timeout: float = 0.3) -> bool:
    """Whether a ComfyUI with facewright installed answers at this address."""
    known = "FacewrightDetectFaces"
    try:
        return known in get(f"{server_url(server)}/object_info/{known}", dict[str, Any], timeout)
    except WorkflowError:
        return False


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

    Pictures and videos that LoadImage and LoadVideo nodes name are uploaded first, if they lie in
    `input_dir` or `inputs` names them; no other file is read. An interrupt (Ctrl-C) stops the run
    on the server, too.

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
    workflow = read_workflow(workflow)
    api = prepared(workflow, server_specs(server), inputs or {})
    _upload_files(api, server, input_dir, named_by_hand(inputs or {}))
    extra = {"extra_pnginfo": {"workflow": dict(workflow)}} if is_ui_form(workflow) else {}
    client_id = uuid.uuid4().hex
    body = {"prompt": api, "client_id": client_id, "extra_data": extra}
    # Listening before asking: the first messages may come before the answer.
    with closing(Events(server, client_id)) as events:
        try:
            prompt_id = post(f"{server}/prompt", body, shape.Prompted).prompt_id
        except RefusedError as refused:
            titles = {node_id: node_title(api, node_id) for node_id in api}
            raise WorkflowError(reasons(refused.answer, titles)) from refused
        progress = Progress(api, prompt_id)
        try:
            entry = _wait(server, events, progress, on_progress, timeout)
        except KeyboardInterrupt:
            _stop(server, prompt_id)
            raise
    report = RunReport(seeds=seeds_of(api))
    for node_id, output in entry.outputs.items():
        # A node of a subgraph or one the server added is not in what was sent.
        title = node_title(api, node_id) if node_id in api else shorten(node_id)
        told = output.get("text") or ()
        for text in told if isinstance(told, list | tuple) else (told,):
            said = words(text, _MOST_TEXT)
            on_text(node_id, title, said)
            report.add_text(node_id, said)
    report.saved = _fetch(server, entry, output_dir)
    report.nodes = node_reports(api, progress.seconds, frozenset(progress.cached))
    report.seconds = time.monotonic() - started
    return report


def prepared(workflow: Mapping[str, Any], specs: Any, inputs: Mapping[str, Any]) -> ApiWorkflow:
    """The API form of a workflow with its inputs set.

    Raises:
        WorkflowError: as `read_workflow`, `workflow.to_api` and `assign.set_inputs`.
    """
    api = to_api(read_workflow(workflow), specs)
    set_inputs(api, inputs, specs)
    return api


def _upload_files(api: ApiWorkflow, server: str, input_dir: Path, named: Collection[str]) -> None:
    for node in api.values():
        kind = node["class_type"]
        name = node["inputs"].get(LOADERS[kind][0]) if kind in LOADERS else None
        if not isinstance(name, str | Path):
            continue
        path = input_file(kind, name, input_dir, named)
        if path is not None:  # else it may be in the server's own input folder
            node["inputs"][LOADERS[kind][0]] = upload(server, path)


def _wait(
    server: str,
    events: Events,
    progress: Progress,
    on_progress: Callable[[str, float], None],
    timeout: float | None,
) -> shape.Entry:
    """The history entry of a run. It decides, whatever the socket told or failed to tell.

    Over the socket, success may be told before the results can be read.
    """
    started = time.monotonic()
    vanished, prompt_id = 0, progress.prompt_id
    url = f"{server}/history/{quote(prompt_id, safe='')}"
    while timeout is None or time.monotonic() - started < timeout:
        entry = get_patiently(url, dict[str, Any]).get(prompt_id)
        if entry is not None:
            entry = shape.checked(entry, shape.Entry, url)
            status = entry.status or shape.Status()
            if status.status_str == "error":
                raise WorkflowError(_failure(status, progress.api))
            if status.completed is not False:
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


def _catch_up(events: Events, progress: Progress, status: shape.Status) -> None:
    """Take what was told but not yet heard, where the results were quicker."""
    while events.connected and not progress.ended:
        event = events.next(_POLL_SECONDS)
        if event is None:
            break
        progress.take(event)
    for kind, data in status.told():
        progress.take({"type": kind, "data": data})


def _stop(server: str, prompt_id: str) -> None:
    """Take a run from the queue of a server, or interrupt it there; never somebody else's."""
    with suppress(WorkflowError):  # whoever pressed Ctrl-C wants out; the server may be gone
        tell(f"{server}/queue", {"delete": [prompt_id]})
        if _position(server, prompt_id) is not None:
            tell(f"{server}/interrupt", {"prompt_id": prompt_id})


def _position(server: str, prompt_id: str) -> int | None:
    """How many runs come before this one, or None where the queue does not hold it."""
    queue = get_patiently(f"{server}/queue", shape.Queue)
    if any(item[1:2] == [prompt_id] for item in queue.queue_running):
        return 0
    numbers = [item[0] for item in queue.queue_pending if item[1:2] == [prompt_id]]
    if not numbers or not isinstance(numbers[0], int | float):
        return len(queue.queue_pending) if numbers else None
    others = (item[0] for item in queue.queue_pending if item)
    return sum(isinstance(n, int | float) and n <= numbers[0] for n in others)


def _failure(status: shape.Status, api: ApiWorkflow) -> str:
    for kind, data in status.told():
        if kind == "execution_error":
            node_id = str(data.get("node_id"))
            given = data.get("node_type") or "a node that was not in the file"
            title = node_title(api, node_id) if node_id in api else shorten(given)
            said = words(data.get("exception_message") or "it gave no reason")
            return f"{called(node_id, title)}: {said}"
        if kind == "execution_interrupted":
            return "The run was interrupted on the server."
    return "The run failed on the server; its log tells why."


def _fetch(server: str, entry: shape.Entry, output_dir: Path) -> list[Path]:
    """Write what the run saved below `output_dir`. What cannot be had stops nothing else.

    Raises:
        WorkflowError: files were left out, after the others are there.
    """
    saved, refused = [], []
    for node_id, output in entry.outputs.items():
        told = output.get("images") or []
        for image in told if isinstance(told, list) else [told]:
            try:
                file = shape.checked(image, SavedFile, f"{server} about node {shorten(node_id)}")
                if file.type == "output":
                    saved.append(_fetch_one(server, file, output_dir))
            except WorkflowError as error:
                refused.append(str(error))
    if refused:
        rest = f" The run's other files, {len(saved)}, are in {output_dir}." if saved else ""
        raise WorkflowError(" ".join(first_of(refused, most=5)) + rest)
    return saved


def _fetch_one(server: str, file: SavedFile, output_dir: Path) -> Path:
    path = file.below(output_dir.resolve())
    content = view(server, file)
    try:
        path = _free(path, content)
        write_atomic(path, content)
    except OSError as error:
        raise WorkflowError(f"{shorten(path, 200)} cannot be written ({error}).") from error
    return path


def _free(path: Path, content: bytes) -> Path:
    """`path`, or with a number where another picture has the name: servers count from 1 again."""
    candidate, numbers = path, itertools.count(2)
    while candidate.exists() and not (candidate.is_file() and candidate.read_bytes() == content):
        candidate = path.with_stem(f"{path.stem}{next(numbers)}")
    return candidate
