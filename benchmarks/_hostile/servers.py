"""Whatever answers at an address: a sentence or the files it saved, and only what was asked for."""

import json
import threading
from http.server import ThreadingHTTPServer

from facewright.headless.remote import http_client, server
from facewright.headless.remote.server import run_on_server
from PIL import Image

from ...tests.core.hostile_files import mutated
from ...tests.core.test_hostile_weights import _damaged
from ...tests.headless.test_strange_servers import (
    ANYWHERE,
    STRANGE,
    WHOLE,
    Handler,
    Silent,
    api,
    ui,
)
from .watch import Told, Wrong

_NAMES = [
    "../x.png", "/tmp/x.png", "a/x.png", "..\\x.png", ".x.png", "x.py", "x", "x" * 300 + ".png",
    "C:x.png", "x\0.png", "a_00001_.png", "x.mp4", "X.PNG", "con.png", "", ".", "\ud800.png",
]  # fmt: skip
_FOLDERS = ["", "", "sub", "..", "/tmp", "a/../..", ".hidden", "linked", "..\\..", "x" * 300]


def answers(room):
    http_client._PATIENCE = http_client._PAUSE = 0.0
    server._POLL_SECONDS = 0.01
    server.Events = Silent
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # whoever asked went away
    http.asked, http.takes = [], {}
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    Image.new("RGB", (4, 4)).save(room.given / "in.png")
    Image.new("RGB", (4, 4)).save(room.secret / "secret.png")
    address = f"http://127.0.0.1:{http.server_port}"

    def case(rng):
        http.answers, told = dict(WHOLE), {}
        http.asked.clear()
        for _ in range(rng.choice((1, 1, 2))):
            path = rng.choice([*WHOLE, "/history/p", "/history/p"])
            told[path] = http.answers[path] = _answer(path, rng)
        if rng.random() < 0.1:
            http.answers["/history/p"] = {}
        (room.out / "linked").symlink_to(room.secret)
        picture = rng.choice(("in.png", "in.png", "in.png", "../secret/secret.png", "no.png"))
        workflow = api(picture) if rng.random() < 0.7 else ui()
        folders = {"input_dir": room.given, "output_dir": room.out}
        report = room.watch(run_on_server, workflow, address, timeout=0.3, **folders)
        if "secret" in picture and workflow == api(picture) and "/upload/image" in http.asked:
            raise Wrong("a file outside the input folder was sent")
        made = {p for p in room.out.rglob("*") if p.is_file() and not p.is_symlink()}
        if not isinstance(report, Told) and made != {p.resolve() for p in report.saved}:
            raise Wrong(f"told to have saved {report.saved}, but there is {made}")
        sent = http.answers["/view"]
        if made and isinstance(sent, bytes) and any(p.read_bytes() != sent for p in made):
            raise Wrong(f"{made} is not what was sent")
        return report

    return case


def _answer(path, rng):
    draw = rng.random()
    if draw < 0.25 or path == "/view":
        return rng.choice(list(ANYWHERE.values()))
    if draw < 0.35 and path in STRANGE:
        return rng.choice(STRANGE[path])
    if draw < 0.6 and path == "/history/p":
        name = {"filename": rng.choice(_NAMES), "subfolder": rng.choice(_FOLDERS), "type": "output"}
        return {
            "p": {**WHOLE[path]["p"], "outputs": {"2": {"images": [name] * rng.choice((1, 2))}}}
        }
    if draw < 0.7:
        return _damaged(json.dumps(WHOLE[path]).encode(), rng)
    return json.dumps(mutated(WHOLE[path], rng)).encode()
