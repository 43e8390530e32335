"""Progress and interruption of runs on a server that talks over its websocket as ComfyUI does."""

import asyncio
import threading
import time

import pytest
from aiohttp import WSMsgType, web
from facewright.headless.remote.events import Progress
from facewright.headless.remote.server import run_on_server

API = {
    "1": {"class_type": "Make", "inputs": {"seed": 3}},
    "2": {"class_type": "Work", "inputs": {"image": ["1", 0]}, "_meta": {"title": "My work"}},
    "3": {"class_type": "Save", "inputs": {"images": ["2", 0]}},
}
INFO = {
    "Make": {"input": {"required": {"seed": ["INT", {}]}}, "display_name": "Make a Picture"},
    "Work": {"input": {"required": {"image": ["IMAGE"]}}, "display_name": "Work"},
    "Save": {"input": {"required": {"images": ["IMAGE"]}}, "display_name": "Save Image"},
}
DONE = {"status": {"status_str": "success", "completed": True}, "outputs": {}}


def state(node, kind, value=0, largest=1):
    told = {"node_id": node, "display_node_id": node, "state": kind, "value": value}
    return {node: {**told, "max": largest, "prompt_id": "p"}}


def message(kind, **data):
    return {"type": kind, "data": {"prompt_id": "p", **data}}


def states(*told):
    return message("progress_state", nodes={k: v for one in told for k, v in one.items()})


SCRIPT = [
    message("execution_cached", nodes=["1"]),
    states(state("2", "running", 0, 4)),
    b"\0\0\0\1\0\0\0\2 a preview",
    {"type": "progress_state", "data": {"prompt_id": "other", "nodes": state("3", "running")}},
    states(state("2", "running", 2, 4)),
    "drop",
    states(state("2", "finished", 4, 4), state("3", "running")),
    states(state("2", "finished", 4, 4), state("3", "finished")),
    message("execution_success"),
]


class Fake:
    """Plays a script to whoever is connected; the history knows of the end only later."""

    def __init__(self, script=(), ends=True, socket=True):
        self.script, self.ends, self.has_socket = list(script), ends, socket
        self.running = self.connections = self.told = 0
        self.posted, self.ended_at = [], None
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    async def serve(self):
        app = web.Application()
        app.add_routes([
            web.get("/ws" if self.has_socket else "/nothing", self.socket),
            web.get("/object_info", self.object_info),
            web.get("/history/p", self.history),
            web.get("/queue", self.queue),
            web.post("/{what:prompt|queue|interrupt}", self.post),
        ])  # fmt: skip
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        self.ready.set()
        await self.stop.wait()
        await runner.cleanup()

    def close(self):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)

    async def object_info(self, _):
        return web.json_response(INFO)

    async def history(self, _):
        late = self.ended_at is not None and time.monotonic() > self.ended_at + 0.4
        return web.json_response({"p": DONE} if late else {})

    async def queue(self, _):
        held = [[0, "p", {}, {}, []]] if self.running and self.ended_at is None else []
        return web.json_response({"queue_running": held, "queue_pending": []})

    async def post(self, request):
        self.posted.append((request.match_info["what"], await request.json()))
        if request.match_info["what"] == "prompt":
            self.running = 1
            return web.json_response({"prompt_id": "p"})
        return web.Response()

    async def socket(self, request):
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self.connections += 1
        while not self.running:
            await asyncio.sleep(0.01)
        while self.script:
            part = self.script.pop(0)
            if part == "drop":
                request.transport.abort()
                return socket
            await (socket.send_bytes(part) if isinstance(part, bytes) else socket.send_json(part))
            self.told += 1
            await asyncio.sleep(0.02)
        self.ended_at = time.monotonic() if self.ends else None
        async for told in socket:
            if told.type in {WSMsgType.CLOSE, WSMsgType.ERROR}:
                break
        return socket


@pytest.fixture
def fake():
    made = []

    def make(*args, **options):
        made.append(Fake(*args, **options))
        return made[0]

    yield make
    for one in made:
        one.close()


def test_nodes_are_told_by_name_over_a_line_that_breaks(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.events._RETRY_SECONDS", 0.1)
    server, seen = fake(SCRIPT), []
    report = run_on_server(
        API, server.address, input_dir=tmp_path, output_dir=tmp_path,
        on_progress=lambda text, share: seen.append((text, round(share, 3))), timeout=20,
    )  # fmt: skip
    assert server.connections == 2 and server.told == len(SCRIPT) - 1
    named = [x for x in seen if x[0] in {"My work", "Save Image", "Make a Picture"}]
    assert list(dict.fromkeys(named)) == [
        ("My work", round(1 / 3, 3)),  # the first was cached
        ("My work", 0.5),
        ("Save Image", round(2 / 3, 3)),
        ("Save Image", 1.0),
    ]
    assert seen[-1] == ("Done", 1.0)
    assert [(n.id, n.title, n.cached) for n in report.nodes] == [
        ("2", "My work", False),
        ("3", "Save Image", False),
        ("1", "Make a Picture", True),
    ]
    assert report.nodes[0].seconds > 0 and report.nodes[2].seconds is None
    assert report.as_dict()["seeds"] == {"1.seed": 3}


def test_a_server_without_a_socket_is_polled(fake, tmp_path):
    server = fake(socket=False)
    server.ended_at = time.monotonic()
    report = run_on_server(API, server.address, input_dir=tmp_path, output_dir=tmp_path, timeout=20)
    assert report.saved == [] and [n for n in report.nodes if n.seconds] == []


def test_ctrl_c_stops_the_run_there_and_nobody_elses(fake, tmp_path):
    server = fake(SCRIPT[:2], ends=False)

    def on_progress(text, share):
        if text == "My work":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_server(
            API, server.address, input_dir=tmp_path, output_dir=tmp_path, on_progress=on_progress
        )
    assert server.posted[1:] == [("queue", {"delete": ["p"]}), ("interrupt", {"prompt_id": "p"})]


def test_a_node_that_becomes_a_graph_counts_as_one():
    progress = Progress(API, "p")
    for part in ("2.0.0.1", "2.0.0.2"):
        for kind in ("running", "finished"):
            told = {**state(part, kind)[part], "display_node_id": "2"}
            progress.take(message("progress_state", nodes={part: told}))
    assert progress.seconds.keys() == {"2"} and progress.now == "My work"
    assert progress.share == 0.0  # the node itself has not ended
