"""What a pipeline needs of `facewright run`: doors that open, ends that are told apart."""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from facewright.core.errors import FacewrightError
from facewright.headless.cli import app
from facewright.headless.remote import http_client
from facewright.headless.remote.address import Server
from facewright.headless.remote.http_client import get, upload
from facewright.headless.remote.server import run_on_server
from facewright.headless.workflows.endings import LateError, UnfitError, UnreachableError
from PIL import Image
from typer.testing import CliRunner

from .comfy_double import API, INFO, PICTURE, Double, entry

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def doubles(monkeypatch):
    monkeypatch.setattr(http_client, "_PATIENCE", 0.0)
    monkeypatch.setattr("facewright.headless.remote.server._POLL_SECONDS", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def make(context=None):
        made.append(Double(context))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def comfy(doubles):
    return doubles()


@pytest.fixture
def room(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "in/in.png")
    (tmp_path / "w.json").write_text(json.dumps(API))
    return tmp_path


def run(room, address, *words, workflow=None):
    """The command, with its exit code, JSON and what it says."""
    if workflow is not None:
        (room / "w.json").write_text(json.dumps(workflow))
    folders = ["--input-dir", str(room / "in"), "-o", str(room / "out")]
    words = ["run", str(room / "w.json"), "--server", address, *folders, *map(str, words)]
    result = CliRunner().invoke(app, words)
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    assert SECRET not in result.output
    result.said = " ".join(result.stderr.split())
    return result


def go(room, server, **more):
    return run_on_server(API, server, input_dir=room / "in", output_dir=room / "out", **more)


def with_login(address, user="ada", word=SECRET):
    return address.replace("://", f"://{user}:{word}@")


def test_a_login_in_the_address_opens_every_door(comfy, room):
    comfy.login = f"Basic {base64.b64encode(b'ada:a/b@c').decode()}"
    refused = run(room, comfy.address)
    assert refused.exit_code == 4 and "wants a login" in refused.said
    assert run(room, with_login(comfy.address)).exit_code == 4
    assert "does not accept the Authorization" in run(room, with_login(comfy.address)).said
    comfy.asked.clear()
    opened = run(room, with_login(comfy.address, word="a%2Fb%40c"), "--json")
    assert opened.exit_code == 0 and json.loads(opened.stdout)["where"] == comfy.address
    assert {path for path, _ in comfy.asked} == {
        *("/object_info", "/upload/image", "/ws", "/prompt", "/history/p", "/view")
    }
    assert all(headers.get("Authorization") == comfy.login for _, headers in comfy.asked)


def test_headers_go_along_also_from_a_file(comfy, room):
    comfy.login = f"Bearer {SECRET}"
    (room / "headers").write_text(f"Authorization: Bearer {SECRET}\nX-Team: faces\n")
    given = ["--header", f"@{room / 'headers'}", "--header", "X-Api-Key: 5"]
    assert run(room, comfy.address, *given).exit_code == 0
    assert all(
        (h["X-Team"], h["X-Api-Key"]) == ("faces", "5")
        for h in ({k.title(): v for k, v in told.items()} for _, told in comfy.asked)
    )
    for wrong, words in (
        ("nonsense", "no header"),
        ("Content-Length: 5", "by the request itself"),
        ("X: \u00fc", "no header can hold"),
        (f"@{room / 'nowhere'}", "no file or folder"),
    ):
        refused = run(room, comfy.address, "--header", wrong)
        assert refused.exit_code == 2 and words in refused.said
    twice = run(room, comfy.address, "--header", "X-Api-Key: 5", "--header", "x-api-key: 6")
    assert twice.exit_code == 2 and "x-api-key is given twice" in twice.said
    both = run(room, with_login(comfy.address), "--header", "authorization: x")
    assert both.exit_code == 2 and "Leave one of them out" in both.said


def test_nothing_shows_a_password(comfy):
    server = Server.of(with_login("https://host:5/comfy/"))
    assert server.url == str(server) == "https://host:5/comfy" and SECRET not in repr(server)
    for wrong in (f"https://ada:{SECRET}@", f"ftp://ada:{SECRET}@host", f"a:{SECRET}@b c"):
        with pytest.raises(FacewrightError, match="no address") as caught:
            Server.of(wrong)
        assert SECRET not in str(caught.value)


def test_nothing_is_sent_to_where_an_answer_points(doubles, room):
    first, second = doubles(), doubles()
    to = f"{second.address}/object_info?token={SECRET}"
    first.answers["/object_info"] = lambda handler: handler.answer(code=307, Location=to)
    result = run(room, with_login(first.address))
    assert result.exit_code == 3 and f"sends on to {second.address}/object_info," in result.said
    assert second.asked == []


def test_a_proxy_is_asked_and_its_password_stays_here(comfy, monkeypatch):
    proxy = comfy.address.replace("://", f"://me:{SECRET}@")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    assert get(Server.of("http://comfy.test:8188"), "/object_info", dict) == INFO
    told = comfy.asked[-1][1]
    assert told["Host"] == "comfy.test:8188" and "Proxy-Authorization" in told
    monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:9")
    assert get(Server.of(comfy.address), "/object_info", dict) == INFO, "this machine goes without"
    for wrong in (f"http://me:{SECRET}@127.0.0.1:9", f"http:/me:{SECRET}@x"):
        monkeypatch.setenv("http_proxy", wrong)
        with pytest.raises(FacewrightError) as caught:
            get(Server.of("http://comfy.test:8188"), "/object_info", dict)
        assert SECRET not in str(caught.value)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate that its owner signed, and its key."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    room = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    words += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out own.pem"
    subprocess.run([openssl, *words.split()], check=True, capture_output=True, cwd=room)
    return room / "own.pem", room / "key.pem"


def test_a_certificate_of_ones_own(doubles, room, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    comfy = doubles(context)
    refused = run(room, with_login(comfy.address))
    assert refused.exit_code == 3 and "self-signed certificate" in refused.said
    assert "--ca-file" in refused.said and not comfy.asked, "no password before the certificate"
    for options in (["--ca-file", certificate[0]], ["--insecure"]):
        comfy.asked.clear()
        assert run(room, comfy.address, *options).exit_code == 0
        assert "/ws" in [path for path, _ in comfy.asked]
    for options in (["--ca-file", certificate[1]], ["--ca-file", room / "w.json"]):
        assert run(room, comfy.address, *options).exit_code == 2
    plain = doubles()
    assert run(room, plain.address, "--insecure").exit_code == 2
    wrong = run(room, plain.address.replace("http:", "https:"))
    assert wrong.exit_code == 3 and "begin with http://" in wrong.said


NODE = {"node_id": "2", "node_type": "Save", "exception_message": "the disk is full"}
REFUSAL = {"message": "Value not in list", "details": "prefix"}
REFUSED = {"error": {"message": "No"}, "node_errors": {"2": {"errors": [REFUSAL]}}}
WRONG = {"nodes": [{"id": 1, "type": "Nope", "outputs": []}], "links": []}


@pytest.mark.parametrize(
    ("code", "words", "arrange", "options"),
    [
        (0, "Saved", None, []),
        (1, "Node 2 (Save): the disk is full",
            lambda c: c.ends(entry({}, ["execution_error", NODE], status="error")), []),
        (2, "has no input 'prefx'", None, ["--set", "Save.prefx=5"]),
        (3, "answers, but with a web page", lambda c: c.answers.update(
            {"/object_info": b"<p>"}), []),
        (3, "answered 502", lambda c: c.answers.update(
            {"/prompt": lambda handler: handler.answer(code=502)}), []),
        (4, "Node 2 (Save): Value not in list: prefix", lambda c: c.answers.update(
            {"/prompt": lambda handler: handler.answer(REFUSED, 400)}), []),
        (4, "has no node LoadImage", lambda c: c.answers.update({"/object_info": {}}), ["--json"]),
        (5, "no result within 0.3 s", lambda c: c.ends(None), ["--timeout", "0.3"]),
        (6, "interrupted on the server", lambda c: c.ends(
            entry({}, ["execution_interrupted", {}], status="error")), []),
        (6, "removed from the queue", lambda c: c.answers.update({"/history/p": {}}), []),
    ],
)  # fmt: skip
def test_ends_are_told_apart(code, words, arrange, options, comfy, room):
    if arrange:
        arrange(comfy)
    result = run(room, comfy.address, *options, workflow=UI)
    assert result.exit_code == code and words in result.said, result.said
    if "--json" in options:
        assert words in json.loads(result.stdout)["error"]


UI = {
    "nodes": [
        {"id": 1, "type": "LoadImage", "widgets_values": ["in.png"],
         "outputs": [{"type": "IMAGE"}]},
        {"id": 2, "type": "Save", "widgets_values": ["a"],
         "inputs": [{"name": "images", "link": 1}]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}  # fmt: skip


def test_a_batch_tells_as_json_why_it_ended_and_what_is_there(comfy, room):
    for name in "ab":
        Image.new("RGB", (3, 3)).save(room / "in" / f"{name}.png")

    def dies(handler):
        comfy.answers["/prompt"] = comfy.answers["/object_info/FacewrightDetectFaces"] = hang_up
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer({"prompt_id": "p"})

    def hang_up(handler):
        handler.close_connection = True

    comfy.answers["/prompt"] = dies
    result = run(room, comfy.address, "--batch", room / "in", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 3 and "at picture 2 of 3" in told["error"]
    assert told["saved"] == [str(room / "out/a.png")] and (room / "out/a.png").is_file()
    for code, where, workflow in ((3, "127.0.0.1:9", API), (4, comfy.address, WRONG)):
        result = run(room, where, "--batch", room / "in", "--json", workflow=workflow)
        assert result.exit_code == code and json.loads(result.stdout)["error"]
    result = run(room, comfy.address, "--json", workflow=["no workflow"])
    assert result.exit_code == 1 and json.loads(result.stdout)["where"] is None


def test_nobody_there(room):
    assert run(room, "127.0.0.1:9").exit_code == 3
    assert run(room, "http://a b").exit_code == 2


def test_here_ends_are_told_apart_too(room):
    def code(workflow, *words):
        (room / "w.json").write_text(json.dumps(workflow))
        out = ["-o", str(room / "out"), "--embedded"]
        return CliRunner().invoke(app, ["run", str(room / "w.json"), *out, *words]).exit_code

    assert code({"1": {"class_type": "Nope", "inputs": {}}}) == 4
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}
    load = {"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}}
    assert code({"1": load, "2": {**save, "inputs": {}}}) == 4
    assert code({"1": load, "2": save}) == 1
    assert code({"1": load, "2": save}, "--set", "1.imgae=x") == 2


def test_a_run_here_that_takes_too_long(room, monkeypatch):
    from facewright.headless.host.builtin import SaveImage

    monkeypatch.setattr(
        SaveImage, "execute", lambda **k: [time.sleep(0.01) for _ in range(1000)] and None
    )
    demo = {"class_type": "FacewrightDemoPicture", "inputs": {"picture": "group"}}
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}}
    (room / "w.json").write_text(json.dumps({"1": demo, "2": save}))
    words = ["run", str(room / "w.json"), "--embedded", "-o", str(room / "out")]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for `command &` in a script
    try:
        result = CliRunner().invoke(app, [*words, "--timeout", "0.5"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 5 and "no result within 0.5 s" in " ".join(result.stderr.split())


def test_what_comes_too_late_is_taken_back(comfy, room):
    comfy.ends(None)
    with pytest.raises(LateError, match="taken from the queue"):
        go(room, comfy.address, timeout=0.2)
    assert comfy.told == [
        ("/queue", {"delete": ["p"]}),
        ("/interrupt", {"prompt_id": "p"}),
    ]
    comfy.told.clear()
    with pytest.raises(LateError) as caught:
        comfy.answers["/object_info"] = lambda handler: time.sleep(1)
        go(room, comfy.address, timeout=0.2)
    assert comfy.told == [] and "taken" not in str(caught.value), "nothing was asked for yet"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_takes_the_run_back_even_before_the_server_answered(comfy, room):
    """The number of the run is ours, so that the server knows which is meant."""
    asked = threading.Event()

    def slow(handler):
        comfy.prompt = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        asked.set()
        time.sleep(5)

    comfy.answers["/prompt"] = slow

    def stop():
        asked.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert run(room, comfy.address).exit_code == 143
    assert comfy.told == [("/queue", {"delete": [comfy.prompt["prompt_id"]]})]


def test_an_upload_that_stalls_is_given_up(doubles, room, monkeypatch):
    comfy = doubles()
    go_on = threading.Event()
    comfy.answers["/upload/image"] = lambda handler: go_on.wait(20)
    with (room / "in/in.png").open("ab") as file:
        file.write(bytes(32 * 2**20))  # more than the sockets hold
    started = time.monotonic()
    with pytest.raises(LateError):
        go(room, comfy.address, timeout=0.2)
    monkeypatch.setattr(http_client, "_STALLED", 0.2)
    monkeypatch.setattr(http_client, "_BYTES_PER_SECOND", 1e9)
    with pytest.raises(
        UnreachableError, match=r"in\.png \(33\.6 MB\) could not be sent .*timed out"
    ):
        go(room, comfy.address)
    assert time.monotonic() - started < 15  # of the 40 s that the server would take
    go_on.set()
    assert comfy.prompt is None


def test_a_server_has_time_for_a_large_file(comfy, room, monkeypatch):
    """More after the last byte than it has at any other time."""
    monkeypatch.setattr(http_client, "_STALLED", 0.1)
    monkeypatch.setattr(http_client, "_BYTES_PER_SECOND", 100)
    (room / "x").write_bytes(bytes(500))

    def slow(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        time.sleep(0.4)
        handler.answer({"name": "x"})

    comfy.answers["/upload/image"] = slow
    assert upload(Server.of(comfy.address), room / "x") == "x"


def test_a_file_that_a_server_finds_too_large(comfy, room):
    """It says so and hangs up while most of the file is still to be sent."""

    def refuse(handler):
        handler.rfile.read(1000)
        handler.answer(b"Maximum request body size exceeded", 413)
        handler.connection.shutdown(socket.SHUT_RD)

    comfy.answers["/upload/image"] = refuse
    (room / "x").write_bytes(bytes(64 * 2**20))
    with pytest.raises(FacewrightError, match=r"answered 413.*--max-upload-size"):
        upload(Server.of(comfy.address), room / "x")


def test_files_of_every_kind_are_sent(comfy, room):
    """By what the server says of its inputs; what only is called so is not read."""

    def takes(mark, **more):
        return {"input": {"required": {"file": ["COMBO", {"options": [], mark: True, **more}]}}}

    names = {
        "LoadAudio": ("audio_upload", "a.wav"), "Film": ("audio_upload", "v.mp4"),
        "LoadMask": ("image_upload", "in.png"), "Load3D": ("file_upload", "3d/cube.obj"),
        "Odd": ("odd_upload", "in.png"),
    }  # fmt: skip
    (room / "in/3d").mkdir()
    (room / "in/3d/cube.obj").write_text("v 0 0 0")
    (room / "in/a.wav").write_bytes(b"RIFF....WAVEfmt ")
    (room / "in/v.mp4").write_bytes(b"....ftypisom")
    (room / "in/l.latent").write_bytes(bytes(8) + b"{}")
    (room / "in/secret").write_text(SECRET)
    comfy.answers["/object_info"] = {k: takes(mark) for k, (mark, _) in names.items()}
    nested = {"key": "x", "inputs": {"required": {"mask": ["COMBO", {"image_upload": True}]}}}
    comfy.answers["/object_info"] |= {
        "LoadLatent": {"input": {"required": {"file": [[]], "latent": [[]]}}},
        "There": takes("image_upload", image_folder="output"),
        "Deep": {"input": {"required": {"way": ["COMFY_DYNAMICCOMBO_V3", {"options": [nested]}]}}},
    }
    api = {k: {"class_type": k, "inputs": {"file": name}} for k, (_, name) in names.items()}
    api["LoadLatent"] = {"class_type": "LoadLatent", "inputs": {"latent": "l.latent"}}
    api["Deep"] = {"class_type": "Deep", "inputs": {"way": "x", "way.mask": "in.png"}}
    kept = {"There": "in.png", "LoadAudio": "a.wav [output]", "LoadMask": "elsewhere.png"}
    for kind, name in kept.items():
        api[f"{kind} there"] = {"class_type": kind, "inputs": {"file": name}}
    assert run(room, comfy.address, workflow=api).exit_code == 0
    sent = {k: [*node["inputs"].values()][-1] for k, node in comfy.prompt["prompt"].items()}
    there = {f"{kind} there": name for kind, name in kept.items()}
    assert sent == {**dict.fromkeys([*names, "LoadLatent", "Deep"], "facewright/up.png"), **there}
    for kind in names:
        comfy.prompt = None
        wrong = {"1": {"class_type": kind, "inputs": {"file": "secret"}}}
        refused = run(room, comfy.address, workflow=wrong)
        assert refused.exit_code == 1 and "that can be read" in refused.said, refused.said
        assert comfy.prompt is None


def test_files_of_every_kind_are_fetched(comfy, room):
    def file(name, **more):
        return {**PICTURE, "filename": name, **more}

    comfy.ends(entry({
        "2": {"images": [PICTURE, file("seen.png", type="temp")], "animated": [True]},
        "3": {"audio": [file("a.flac", subfolder="audio")], "gifs": [file("b.mp4", fullpath="/x")]},
        "4": {"latents": [file("c.latent")], "3d": [file("d.glb")], "text": ["told.glb"]},
        "5": {"result": ["3d/e.ply", {"position": {"x": 1}}, None]},
        "6": {"files": [file("f.md")], "odd": [{"deep": [[file("g.psd", subfolder="h\\i")]]}]},
        "7": {"again": file("d.glb"), "path": ["/abs/j.glb", "k.jpg"]},
    }))  # fmt: skip
    report = go(room, comfy.address)
    out = (room / "out").resolve()
    names = [p.relative_to(out).as_posix() for p in report.saved]
    assert names == [
        *("a_00001_.png", "audio/a.flac", "b.mp4", "c.latent", "d.glb", "3d/e.ply", "f.md"),
        "h/i/g.psd",
    ]
    assert report.previews == 1 and all(p.read_bytes() for p in report.saved)
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


def test_what_is_not_fetched_is_named_and_the_rest_is_there(comfy, room):
    odd = {**PICTURE, "filename": "run.py", "subfolder": "odd"}
    comfy.ends(entry({"2": {"files": [odd, PICTURE]}}))
    result = run(room, comfy.address, "--json")
    assert result.exit_code == 1 and "odd/run.py" in result.said
    told = json.loads(result.stdout)
    assert told["saved"] == [str((room / "out/a_00001_.png").resolve())] and told["error"]


def test_nothing_saved_is_said_as_it_is(comfy, room):
    comfy.ends(entry({"2": {"images": [{**PICTURE, "type": "temp"}]}}))
    assert "1 file that nodes showed are previews" in run(room, comfy.address).said
    comfy.ends(entry({}))
    silent = run(room, comfy.address)
    assert silent.exit_code == 0 and "Nothing was saved" not in silent.said
    assert "look into the server's output folder" in silent.said


def test_a_part_that_the_server_leaves_out_is_a_failure(comfy, room):
    comfy.answers["/prompt"] = {**REFUSED, "prompt_id": "p"}
    result = run(room, comfy.address)
    assert result.exit_code == 1 and "Saved" in result.said
    assert "left out a part" in result.said and "(Save): Value not in list" in result.said
    told = json.loads(run(room, comfy.address, "--json").stdout)
    assert "left out a part" in told["error"] and told["saved"]
    batch = run(room, comfy.address, "--batch", room / "in", "--json")
    assert batch.exit_code == 1 and len(json.loads(batch.stdout)["done"]) == 1


def test_a_key_for_paid_nodes_goes_to_the_server_alone(comfy, room):
    (room / "key").write_text(f"{SECRET}\n")
    result = run(room, comfy.address, "--api-key", f"@{room / 'key'}", "--json", workflow=UI)
    assert result.exit_code == 0
    extra = comfy.prompt["extra_data"]
    assert extra == {"api_key_comfy_org": SECRET, "extra_pnginfo": {"workflow": UI}}


def test_a_batch_asks_for_the_nodes_once(comfy, room):
    for name in "abc":
        Image.new("RGB", (3, 3)).save(room / "in" / f"{name}.png")
    assert run(room, comfy.address, "--batch", room / "in").exit_code == 0
    assert [path for path, _ in comfy.asked].count("/object_info") == 1


def test_the_api_form_is_written(comfy, room):
    target = room / "sub/w.api.json"
    words = ["--to-api", target, "--set", "Save.prefix=b"]
    assert run(room, comfy.address, *words, workflow=UI).exit_code == 0
    assert json.loads(target.read_text()) == {
        "1": {**API["1"], "_meta": {"title": "LoadImage"}},
        "2": {
            "class_type": "Save",
            "_meta": {"title": "Save"},
            "inputs": {"images": ["1", 0], "prefix": "b"},
        },
    }
    assert comfy.prompt is None and not (room / "out").exists()
    assert json.loads(run(room, comfy.address, "--to-api", "-").stdout) == {
        **json.loads(target.read_text()),
        "2": {**API["2"], "_meta": {"title": "Save"}},
    }
    for wrong in (["--to-api", room / "W.json"], ["--to-api", "-", "--json"]):
        assert run(room, comfy.address, *wrong).exit_code == 2
    assert run(room, comfy.address, "--to-api", target, "--batch", room / "in").exit_code == 2
    assert json.loads((room / "w.json").read_text()) == UI


def test_options_that_belong_together(room):
    for words in (
        *(["--header", "a: b"], ["--insecure"], ["--ca-file", str(room / "w.json")]),
        *(["--api-key", "x"], ["--embedded", "--api-key", "x"], ["--timeout", "0"]),
    ):
        assert CliRunner().invoke(app, ["run", str(room / "w.json"), *words]).exit_code == 2


def test_refusals_have_classes_for_python(comfy, room):
    comfy.answers["/object_info"] = {}
    with pytest.raises(UnfitError):
        go(room, comfy.address)
