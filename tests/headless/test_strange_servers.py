"""Whatever is behind an address: a sentence, nothing outside OUT, no file sent unasked."""

import hashlib
import json
import random
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.remote import http_client
from facewright.headless.remote.address import Server
from facewright.headless.remote.answers import AnswerError
from facewright.headless.remote.events import Progress
from facewright.headless.remote.server import answers, run_on_server
from PIL import Image

PAGE = b"<!DOCTYPE html><html><body><form>Log in</form></body></html>"
INFO = {
    "LoadImage": {"input": {"required": {"image": [["x.png"], {}]}, "hidden": {"a": "PROMPT"}}},
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING"]}}},
    "FacewrightDetectFaces": {"input": {}},
}
SAVED = {"filename": "a_00001_.png", "subfolder": "", "type": "output"}
DONE = {
    "status": {"status_str": "success", "completed": True},
    "outputs": {"2": {"images": [SAVED]}},
}
WHOLE = {
    "/object_info": INFO,
    "/object_info/FacewrightDetectFaces": {"FacewrightDetectFaces": {}},
    "/prompt": {"prompt_id": "p"},
    "/upload/image": {"name": "up.png", "subfolder": "facewright"},
    "/history/p": {"p": DONE},
    "/queue": {"queue_running": [], "queue_pending": []},
    "/view": b"\x89PNG a picture",
}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): ...

    def do_GET(self):
        if take := self.server.takes.get(self.path):
            take(self)
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        answer = self.server.answers.get(path, b"")
        if callable(answer):
            answer(self)
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815


@pytest.fixture
def stranger(monkeypatch):
    """A server that answers as `answers` of it says, whole at first."""
    monkeypatch.setattr(http_client, "_PATIENCE", 0.0)
    monkeypatch.setattr(http_client, "_PAUSE", 0.0)
    monkeypatch.setattr("facewright.headless.remote.server._POLL_SECONDS", 0.01)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.answers, server.asked, server.takes = dict(WHOLE), [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def api(image="in.png"):
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }


def ui():
    nodes = [
        {"id": 1, "type": "LoadImage", "widgets_values": ["in.png"]},
        {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "link": 1}]},
    ]
    return {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]}


def go(stranger, tmp_path, workflow=None, **more):
    room = tmp_path / "in"
    room.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(room / "in.png")
    given = {"input_dir": room, "output_dir": tmp_path / "out", "timeout": 2, **more}
    return run_on_server(workflow or ui(), stranger.url, **given)


def redirect(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"p":')


def hung_up(handler):
    handler.connection.close()


def no_http(handler):
    handler.wfile.write(b"\x00\xff SSH-2.0-OpenSSH\r\n\r\n")


def refused(code, body):
    def answer(handler):
        handler.send_response(code)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"[" * 65536)
    except OSError:
        pass


ANYWHERE = {
    "a login page": PAGE,
    "nothing": b"",
    "null": None,
    "text": "hello",
    "a number": 5,
    "a list": [],
    "lists in lists": [[[]]],
    "binary": bytes(range(256)),
    "UTF-16": '{"p": 1}'.encode("utf-16"),
    "deep": b"[" * 100_000,
    "cut off": cut_off,
    "hung up": hung_up,
    "no HTTP": no_http,
    "refused in HTML": refused(403, PAGE),
    "refused in JSON": refused(400, b'{"error": "Unauthorized"}'),
    "refused in odd JSON": refused(
        400, b'{"error": [], "node_errors": {"1": 5, "2": {"errors": [1]}}}'
    ),
    "refused in lists": refused(400, b'{"error": {"message": []}, "node_errors": [1]}'),
    "refused deeply": refused(500, b"[" * 50_000),
    "refused silently": refused(502, b""),
    "redirected": redirect("http://127.0.0.1:9/"),
    "redirected to a file": redirect("file:///etc/passwd"),
    "redirected nowhere": redirect(""),
}
STRANGE = {
    "/object_info": [{}, {**INFO, "SaveImage": 5}, {**INFO, "SaveImage": {}},
        {**INFO, "SaveImage": {"input": []}}, {**INFO, "SaveImage": {"input": {"required": []}}},
        {**INFO, "SaveImage": {"input": {"required": {"images": "IMAGE"}}}},
        {**INFO, "SaveImage": {"input": {"required": {"images": None}}}},
        {**INFO, "SaveImage": {"input": {}, "display_name": []}}],
    "/prompt": [{}, {"prompt_id": None}, {"prompt_id": 5}, {"prompt_id": ""}, {"prompt_id": []}],
    "/upload/image": [{}, {"name": None}, {"name": []}, {"name": "a", "subfolder": 5}],
    "/history/p": [{"p": 5}, {"p": {}}, {"p": {"outputs": []}}, {"p": {"outputs": {"2": 5}}},
        {"p": {**DONE, "status": 5}}, {"p": {**DONE, "status": {"status_str": []}}},
        {"p": {**DONE, "status": {"completed": "yes"}}},
        {"p": {**DONE, "status": {"status_str": "error", "messages": [1, [], ["execution_error"],
            ["execution_error", {}]]}}},
        {"p": {**DONE, "status": {"status_str": "error", "messages": 5}}},
        {"p": {"outputs": {"2": {"images": 5}}}}, {"p": {"outputs": {"2": {"images": [5]}}}},
        {"p": {"outputs": {"2": {"images": [{}]}}}},
        {"p": {"outputs": {"2": {"images": [{**SAVED, "filename": None}]}}}},
        {"p": {"outputs": {"2": {"images": [{**SAVED, "subfolder": []}]}}}}],
    "/queue": [{}, {"queue_running": 5, "queue_pending": []},
        {"queue_running": [5], "queue_pending": []},
        {"queue_running": [], "queue_pending": [[]]}],
}  # fmt: skip
CASES = [(p, n, a) for p in WHOLE if p != "/view" for n, a in ANYWHERE.items() if "Detect" not in p]
CASES += [(p, f"shape {i}", a) for p, each in STRANGE.items() for i, a in enumerate(each)]


@pytest.mark.parametrize("path", sorted({path for path, _, _ in CASES}))
def test_a_strange_answer_is_a_sentence(path, stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    for _, name, answer in (case for case in CASES if case[0] == path):
        stranger.answers = {**WHOLE, path: answer}
        if path == "/queue":  # asked for while the run is in no history
            stranger.answers["/history/p"] = {}
        with pytest.raises(FacewrightError) as caught:
            go(stranger, tmp_path, timeout=0.3)
        said = str(caught.value)
        assert said.isprintable() and said.strip() and len(said) < 2000, (name, said)
    assert not (tmp_path / "out").exists()


class Silent:
    connected = False

    def __init__(self, *args): ...

    def next(self, seconds):
        time.sleep(seconds)

    def close(self): ...


def test_a_whole_server_is_served(stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    assert answers(stranger.url, 5)
    assert [p.name for p in go(stranger, tmp_path).saved] == ["a_00001_.png"]


def test_only_our_nodes_make_an_address_ours(stranger):
    for answer in (
        PAGE,
        {},
        [],
        {"error": "FacewrightDetectFaces"},
        b"[" * 5000,
        redirect("/x"),
        hung_up,
    ):
        stranger.answers["/object_info/FacewrightDetectFaces"] = answer
        assert not answers(stranger.url, 5)


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/object_info", PAGE, r"answers, but with a web page, perhaps of a login"),
        ("/object_info", redirect("http://elsewhere/x"), r"sends on to http://elsewhere/x"),
        (
            "/prompt",
            {},
            r"/prompt answers, but not as a ComfyUI does: its answer lacks `prompt_id`",
        ),
        ("/prompt", refused(400, b'{"error": {"message": "No"}}'), r"^No\.$"),
        ("/history/p", cut_off, r"the answer ended after 5 of 1000 bytes|IncompleteRead"),
    ],
)
def test_what_is_said(path, answer, words, stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    stranger.answers[path] = answer
    with pytest.raises(FacewrightError, match=words):
        go(stranger, tmp_path)


def test_an_answer_that_drips_is_given_up(stranger, tmp_path, monkeypatch):
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b" ")
                time.sleep(0.01)
        except OSError:
            pass

    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    monkeypatch.setattr(http_client, "_MOST_SECONDS", 0.05)
    stranger.answers = {**WHOLE, "/object_info": drip}
    started = time.monotonic()
    with pytest.raises(AnswerError, match="for minutes"):
        go(stranger, tmp_path)
    assert time.monotonic() - started < 8  # of the 10 s that the whole answer takes


def test_answers_are_bounded(stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    monkeypatch.setattr(http_client, "_MOST_JSON", 200_000)
    monkeypatch.setattr(http_client, "_MOST_FILE", 200_000)
    for path in ("/object_info", "/view"):
        stranger.answers = {**WHOLE, path: endless}
        with pytest.raises(
            AnswerError if path != "/view" else FacewrightError, match="answers more than"
        ):
            go(stranger, tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        {"filename": "../evil.png"},
        {"filename": "/tmp/evil.png"},
        {"filename": "a/evil.png"},
        {"filename": "..\\evil.png"},
        {"filename": "C:evil.png"},
        {"filename": ".evil.png"},
        {"filename": ".."},
        {"filename": "evil\0.png"},
        {"filename": "evil\n.png"},
        {"filename": "evil.py"},
        {"filename": "evil"},
        {"filename": "x" * 300 + ".png"},
        {"filename": "evil.png", "subfolder": ".."},
        {"filename": "evil.png", "subfolder": "a/../.."},
        {"filename": "evil.png", "subfolder": "/tmp"},
        {"filename": "evil.png", "subfolder": "..\\.."},
        {"filename": "evil.png", "subfolder": ".config"},
        {"filename": "evil.png", "subfolder": "linked"},
        {"filename": "link.png"},
    ],
)
def test_names_of_results_stay_in_the_output_folder(file, stranger, tmp_path, monkeypatch):
    """What else the run saved is there all the same."""
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept.png").write_bytes(b"mine")
    (out / "linked").symlink_to(tmp_path / "elsewhere")
    (out / "link.png").symlink_to(tmp_path / "elsewhere/kept.png")
    images = [{**SAVED, **file}, SAVED]
    stranger.answers["/history/p"] = {"p": {"outputs": {"2": {"images": images}}}}
    with pytest.raises(FacewrightError, match=r"was not fetched|cannot be written"):
        go(stranger, tmp_path)
    assert sorted(p.name for p in out.iterdir()) == ["a_00001_.png", "link.png", "linked"]
    assert (tmp_path / "elsewhere/kept.png").read_bytes() == b"mine"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_no_result_replaces_another_file(stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    out = tmp_path / "out"
    (out / "a_00001_2.png").mkdir(parents=True)
    (out / "a_00001_.png").write_bytes(b"mine")
    assert [p.name for p in go(stranger, tmp_path).saved] == ["a_00001_3.png"]
    assert (out / "a_00001_.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.png", "link.png", "notes.txt", "notes.png"]
)
def test_no_other_file_is_uploaded(name, stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server.Events", Silent)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret.png")
    for text in ("notes.txt", "notes.png"):
        (tmp_path / "in" / text).write_text("password")
    with pytest.raises(FacewrightError):
        go(stranger, tmp_path, api(name))
    assert "/upload/image" not in stranger.asked and "/prompt" not in stranger.asked
    if name == "../secret.png":  # unless somebody names it in this very command
        go(stranger, tmp_path, api("x"), inputs={"1.image": str(tmp_path / "secret.png")})
        assert "/upload/image" in stranger.asked


def test_a_file_larger_than_memory_can_be_sent(stranger, tmp_path):
    path, piece = tmp_path / 'clip "é".mp4', random.Random(3).randbytes(2**20)
    path.write_bytes(piece * 24 + b"end")
    taken, digest = [], hashlib.sha256()

    def take(handler):
        left = int(handler.headers["Content-Length"])
        while left:
            taken.append(handler.rfile.read(min(left, 2**16)))
            left -= len(taken[-1])
            digest.update(taken[-1])
            taken[1:-1] = []
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps(WHOLE["/upload/image"]).encode())

    stranger.takes["/upload/image"] = take
    tracemalloc.start()
    assert http_client.upload(Server.of(stranger.url), path) == "facewright/up.png"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20
    head, end = taken[0].split(piece[:100])[0], taken[-1].split(b"end")[-1]
    assert b'filename="clip%20%22%C3%A9%22.mp4"' in head
    whole = hashlib.sha256(head + piece * 24 + b"end" + end).digest()
    assert digest.digest() == whole and end.startswith(b"\r\n--" + head[2:34])


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://a", "http://", "http://a b", "http://[::1", "http://a:99999",
     "http://us/er:word@a", "", "http://a\nb", "javascript:x", "http://ü", "x" * 5000 + ":1:2"],
)  # fmt: skip
def test_what_is_no_address(address):
    with pytest.raises(FacewrightError, match="is no address of a ComfyUI"):
        Server.of(address)


def test_addresses_as_people_write_them():
    for given in ("localhost:8188", "http://localhost:8188/", " http://localhost:8188"):
        assert Server.of(given).url == "http://localhost:8188"
    assert Server.of("https://a.b/comfy/").url == "https://a.b/comfy"


def test_messages_of_no_shape_are_passed_over():
    """Results do not depend on them. Whatever is told, the share stays between 0 and 1."""
    rng = random.Random(7)
    odd = [None, True, -1, 10**30, float("nan"), float("inf"), "x", [], {}, [None], {"a": []}, 0.5]
    progress = Progress(api(), "p")
    kinds = ["execution_cached", "progress_state", "execution_start", None, [], {}]
    for _ in range(2000):
        state = {k: rng.choice([*odd, "running", "finished", 1]) for k in
                 ("state", "value", "max", "display_node_id")}  # fmt: skip
        nodes = rng.choice([*odd, ["1", None, []], {"1": state}, {"2": rng.choice(odd)}])
        progress.take({"type": rng.choice(kinds), "data": {"prompt_id": "p", "nodes": nodes}})
        progress.take({"type": rng.choice(odd), "data": rng.choice(odd)})
        assert 0 <= progress.share <= 1 and not progress.ended
    progress.take({"type": "execution_success", "data": {"prompt_id": "p"}})
    assert progress.ended
