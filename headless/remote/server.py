"""Runs a workflow file in a ComfyUI, over HTTP and its websocket."""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...core.errors import shorten
from ...core.files.shapes import words
from ...core.node_api import called, is_ui_form
from ..workflows.assign import set_inputs
from ..workflows.endings import (
    LateError,
    MisnamedError,
    TakenError,
    UnfitError,
    UnreachableError,
    refusing,
)
from ..workflows.input_files import files_read, named_by_hand
from ..workflows.report import RunReport, node_reports, seeds_of
from ..workflows.specs import Specs
from ..workflows.workflow import ApiWorkflow, WorkflowError, node_title, to_api
from ..workflows.workflow_file import read_workflow
from . import answers as shape
from .address import Server
from .answers import node_reasons, reasons
from .events import Events, Progress
from .http_client import RefusedError, get, get_patiently, post, tell, upload
from .results import fetch
from .specs import server_specs

__all__ = ["server_specs"]  # from here as well

DEFAULT_SERVER = "http://127.0.0.1:8188"
_POLL_SECONDS = 0.3
_GONE_POLLS = 10
_MOST_TEXT = 2**20
_QUICKLY = 5.0
"""Seconds for a request of somebody who wants out."""


def answers(server: str | Server, timeout: float = 0.3) -> bool:
    """Whether a ComfyUI with facewright installed answers at this address."""
    known = "FacewrightDetectFaces"
    try:
        at = Server.of(server)
        return known in get(at, f"/object_info/{known}", dict[str, Any], timeout)
    except WorkflowError:
        return False


def run_on_server(
    workflow: Mapping[str, Any],
    server: str | Server,
    inputs: Mapping[str, Any] | None = None,
    *,
    input_dir: Path,
    output_dir: Path,
    on_progress: Callable[[str, float], None] = lambda text, share: None,
    on_text: Callable[[str, str, str], None] = lambda node_id, title, text: None,
    timeout: float | None = None,
    api_key: str | None = None,
    specs: Specs | None = None,
) -> RunReport:
    """Run a workflow of either form in a ComfyUI and fetch the files it saves.

    Pictures, videos, sounds and 3D models that nodes load are uploaded first, if they lie in
    `input_dir` or `inputs` names them; no other file is read. An interrupt (Ctrl-C) takes the run
    from the server, too.

    Args:
        server: its address, or a `Server` with headers and certificates.
        inputs: as in `runner.run_workflow`; images are file names.
        output_dir: where the saved files go, under the names the server gave them; a number is
            added where another file has that name.
        on_progress: called with the title of the node that is running, and the share that is done.
        on_text: called with id, title and text of each node that shows text.
        timeout: seconds until the result has to be there, sending pictures included; after them the
            run is taken from the server. None waits as long as the server works.
        api_key: of comfy.org, for nodes that use paid services. It is in no saved file.
        specs: node classes as the server describes them, where they are known already.

    Raises:
        WorkflowError: no server, a workflow it refuses (its own reasons are told), a failing node,
            files that cannot be fetched, or no result in time. Which of these tells its class, see
            `workflows.endings`.
    """
    started = time.monotonic()
    server = Server.of(server)
    run = _Run(server, timeout)
    try:
        workflow = read_workflow(workflow)
        specs = specs or server_specs(run.server)
        api = prepared(workflow, specs, inputs or {})
        named = named_by_hand(inputs or {})
        _upload_files(api, run.server, specs, input_dir, named, on_progress)
        extra: dict[str, Any] = {"api_key_comfy_org": api_key} if api_key else {}
        if is_ui_form(workflow):
            extra["extra_pnginfo"] = {"workflow": dict(workflow)}
        entry, progress, left_out = run.result(api, extra, on_progress)
    except BaseException as error:
        if run.asked and isinstance(error, KeyboardInterrupt | LateError | UnreachableError):
            _stop(server, run.prompt_id)
        if isinstance(error, LateError):
            taken = " It was taken from the queue there." if run.asked else ""
            raise LateError(
                f"The ComfyUI at {server} gave no result within {timeout:g} s.{taken}"
            ) from error
        raise
    report = RunReport(seeds=seeds_of(api), left_out=left_out)
    for node_id, output in entry.outputs.items():
        # A node of a subgraph or one the server added is not in what was sent.
        title = node_title(api, node_id) if node_id in api else shorten(node_id)
        told = output.get("text") or ()
        for text in told if isinstance(told, list | tuple) else (told,):
            said = words(text, _MOST_TEXT)
            on_text(node_id, title, said)
            report.add_text(node_id, said)
    fetch(server, entry.outputs, output_dir, report)
    report.nodes = node_reports(api, progress.seconds, frozenset(progress.cached))
    report.seconds = time.monotonic() - started
    return report


class _Run:
    """One run on a server, which knows it by a number that is ours to choose.

    So it can be taken back at any moment, also before the server's answer is here.
    """

    def __init__(self, server: Server, timeout: float | None) -> None:
        self.server = server
        if timeout is not None:
            self.server = replace(server, until=time.monotonic() + timeout)
        self.prompt_id = str(uuid.uuid4())
        self.asked = False

    def result(
        self, api: ApiWorkflow, extra: Mapping[str, Any], on_progress: Callable[[str, float], None]
    ) -> tuple[shape.Entry, Progress, list[str]]:
        """Its entry in the history, who told of it, and what the server leaves out of it."""
        client_id = uuid.uuid4().hex
        body = {"prompt": api, "client_id": client_id, "prompt_id": self.prompt_id}
        titles = {node_id: node_title(api, node_id) for node_id in api}
        # Listening before asking: the first messages may come before the answer.
        with closing(Events(self.server, client_id)) as events:
            self.asked = True
            try:
                answer = post(self.server, "/prompt", {**body, "extra_data": extra}, shape.Prompted)
            except RefusedError as refused:
                said = str(refused) if refused.by_login else reasons(refused.answer, titles)
                raise UnfitError(said) from refused
            self.prompt_id = answer.prompt_id
            progress = Progress(api, self.prompt_id)
            entry = _wait(self.server, events, progress, on_progress)
        return entry, progress, node_reasons(answer.node_errors, titles)


def prepared(
    workflow: Mapping[str, Any],
    specs: Any,
    inputs: Mapping[str, Any],
    notice: Callable[[str], None] = lambda text: None,
) -> ApiWorkflow:
    """The API form of a workflow with its inputs set.

    Args:
        notice: as for `workflow.to_api`.

    Raises:
        WorkflowError: as `read_workflow`, `workflow.to_api` and `assign.set_inputs`.
    """
    source = read_workflow(workflow)
    with refusing():
        api = to_api(source, specs, notice)
    with refusing(MisnamedError):
        set_inputs(api, inputs, specs)
    return api


def _upload_files(
    api: ApiWorkflow,
    server: Server,
    specs: Specs,
    input_dir: Path,
    named: Collection[str],
    on_progress: Callable[[str, float], None],
) -> None:
    for node_id, name, path in files_read(api, input_dir, named, specs):
        if path is not None:  # else it may be in the server's own input folder
            on_progress(f"Sending {shorten(path.name)}", 0.0)
            api[node_id]["inputs"][name] = upload(server, path)


def _wait(
    server: Server, events: Events, progress: Progress, on_progress: Callable[[str, float], None]
) -> shape.Entry:
    """The history entry of a run. It decides, whatever the socket told or failed to tell.

    Over the socket, success may be told before the results can be read.
    """
    started = time.monotonic()
    vanished, prompt_id = 0, progress.prompt_id
    path = f"/history/{quote(prompt_id, safe='')}"
    while True:
        entry = get_patiently(server, path, dict[str, Any]).get(prompt_id)
        if entry is not None:
            entry = shape.checked(entry, shape.Entry, f"{server}{path}")
            status = entry.status or shape.Status()
            if status.status_str == "error":
                raise _failure(status, progress.api)
            if status.completed is not False:
                _catch_up(events, progress, status)
                on_progress("Done", 1.0)
                return entry
        waiting = _position(server, prompt_id)
        # Between leaving the queue and entering the history a run is in neither for a moment.
        vanished = 0 if waiting is not None or entry is not None else vanished + 1
        if vanished > _GONE_POLLS:
            raise TakenError(
                f"The run was removed from the queue of the ComfyUI at {server}, or the ComfyUI "
                "was started anew."
            )
        _listen(events, progress, on_progress, waiting, time.monotonic() - started)


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


def _stop(server: Server, prompt_id: str) -> None:
    """Take a run from the queue of a server, or interrupt it there; never somebody else's."""
    with suppress(WorkflowError):  # whoever pressed Ctrl-C wants out; the server may be gone
        tell(server, "/queue", {"delete": [prompt_id]}, _QUICKLY)
        if _place(get(server, "/queue", shape.Queue, _QUICKLY), prompt_id) is not None:
            tell(server, "/interrupt", {"prompt_id": prompt_id}, _QUICKLY)


def _position(server: Server, prompt_id: str) -> int | None:
    """How many runs come before this one, or None where the queue does not hold it."""
    return _place(get_patiently(server, "/queue", shape.Queue), prompt_id)


def _place(queue: shape.Queue, prompt_id: str) -> int | None:
    if any(item[1:2] == [prompt_id] for item in queue.queue_running):
        return 0
    numbers = [item[0] for item in queue.queue_pending if item[1:2] == [prompt_id]]
    if not numbers or not isinstance(numbers[0], int | float):
        return len(queue.queue_pending) if numbers else None
    others = (item[0] for item in queue.queue_pending if item)
    return sum(isinstance(n, int | float) and n <= numbers[0] for n in others)


def _failure(status: shape.Status, api: ApiWorkflow) -> WorkflowError:
    for kind, data in status.told():
        if kind == "execution_error":
            node_id = str(data.get("node_id"))
            given = data.get("node_type") or "a node that was not in the file"
            title = node_title(api, node_id) if node_id in api else shorten(given)
            said = words(data.get("exception_message") or "it gave no reason")
            return WorkflowError(f"{called(node_id, title)}: {said}")
        if kind == "execution_interrupted":
            return TakenError("The run was interrupted on the server.")
    return WorkflowError("The run failed on the server; its log tells why.")
