"""The ComfyUI client against a small server that answers as ComfyUI does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from facewright.headless.remote.server import answers, run_on_server
from facewright.headless.workflows.workflow import WorkflowError

INFO = {
    "LoadImage": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}},
    "Work": {
        "input": {
            "required": {"image": ["IMAGE"], "noise_seed": ["INT", {"default": 0}]},
            "optional": {"mode": ["COMBO", {"options": ["a"]}], "mask": ["MASK"]},
        }
    },
    "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}}},
}
SAVED = {"filename": "a_00001_.png", "subfolder": "sub", "type": "output"}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): ...

    def answer(self, value, code=200):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        state = self.server.state
        if self.path == "/object_info":
            self.answer(INFO)
        elif self.path.startswith("/object_info/"):
            self.answer({"FacewrightDetectFaces": {}} if state["ours"] else {})
        elif self.path.startswith("/history/"):
            state["polls"] += 1
            found = state["polls"] > 1 and state["history"]
            self.answer({"p": state["history"]} if found else {})
        elif self.path == "/queue":
            held = [[0, "p", {}, {}, []]] if state["queued"] else []
            self.answer({"queue_running": held, "queue_pending": []})
        elif self.path.startswith("/view"):
            self.answer(f"picture {self.path}".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state = self.server.state
        if self.path == "/upload/image":
            state["upload"] = body
            self.answer({"name": "up.png", "subfolder": "facewright", "type": "input"})
        elif state["refuse"]:
            self.answer(state["refuse"], 400)
        else:
            state["prompt"] = json.loads(body)
            self.answer({"prompt_id": "p", "node_errors": {}})


@pytest.fixture
def comfyui():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = {
        "ours": True,
        "polls": 0,
        "queued": True,
        "refuse": None,
        "history": {
            "status": {"status_str": "success", "completed": True},
            "outputs": {"3": {"images": [SAVED, {**SAVED, "type": "temp"}]}},
        },
    }
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def workflow():
    def socket(name, link):
        return {"name": name, "type": "IMAGE", "link": link}

    return {
        "nodes": [
            {"id": 1, "type": "LoadImage", "widgets_values": ["a.png", "image"]},
            {
                "id": 2,
                "type": "Work",
                "widgets_values": [5, "fixed", "a"],
                "inputs": [socket("image", 1)],
            },
            {
                "id": 3,
                "type": "SaveImage",
                "widgets_values": ["out"],
                "inputs": [socket("images", 2)],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
    }


def run(comfyui, tmp_path, **options):
    return run_on_server(
        workflow(), comfyui.url, input_dir=tmp_path, output_dir=tmp_path / "out", **options
    )


def test_uploads_runs_and_fetches(comfyui, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG pixels")
    texts = []
    comfyui.state["history"]["outputs"]["2"] = {"text": ["scored"]}
    report = run(
        comfyui, tmp_path, inputs={"Work.mode": "b"}, on_text=lambda *text: texts.append(text)
    )
    saved = report.saved
    assert report.texts == {"2": "scored"} and report.seeds == {"2.noise_seed": 5}
    assert texts == [("2", "Work", "scored")]
    assert b"\x89PNG pixels" in comfyui.state["upload"]
    sent = comfyui.state["prompt"]
    assert sent["prompt"]["1"]["inputs"]["image"] == "facewright/up.png"
    assert sent["prompt"]["2"]["inputs"] == {"image": ["1", 0], "noise_seed": 5, "mode": "b"}
    assert sent["extra_data"]["extra_pnginfo"]["workflow"] == workflow()
    assert saved == [(tmp_path / "out/sub/a_00001_.png").resolve()]
    assert saved[0].read_bytes().startswith(b"picture /view?filename=a_00001_.png&subfolder=sub")


def test_a_refused_workflow_names_the_nodes(comfyui, tmp_path):
    problem = {"message": "Required input is missing", "details": "vae"}
    comfyui.state["refuse"] = {
        "error": {"message": "Prompt outputs failed validation"},
        "node_errors": {"2": {"errors": [problem]}},
    }
    with pytest.raises(WorkflowError, match=r"Node 2 \(Work\): Required input is missing: vae"):
        run(comfyui, tmp_path)


def test_a_failing_node_is_named(comfyui, tmp_path):
    error = {"node_id": "2", "node_type": "Work", "exception_message": "no model"}
    comfyui.state["history"]["status"] = {
        "status_str": "error",
        "completed": False,
        "messages": [["execution_start", {}], ["execution_error", error]],
    }
    with pytest.raises(WorkflowError, match=r"Node 2 \(Work\): no model"):
        run(comfyui, tmp_path)


def test_an_unknown_node_is_named(comfyui, tmp_path):
    ui = {"nodes": [{"id": 1, "type": "Nope"}], "links": []}
    with pytest.raises(WorkflowError, match="no node Nope"):
        run_on_server(ui, comfyui.url, input_dir=tmp_path, output_dir=tmp_path)


def test_a_file_outside_the_output_folder_is_refused(comfyui, tmp_path):
    comfyui.state["history"]["outputs"]["3"]["images"][0] = {**SAVED, "subfolder": "../.."}
    with pytest.raises(WorkflowError, match="outside"):
        run(comfyui, tmp_path)


def test_no_result_in_time(comfyui, tmp_path):
    comfyui.state["history"]["status"] = {"status_str": "?", "completed": False}
    with pytest.raises(WorkflowError, match="no result within"):
        run(comfyui, tmp_path, timeout=0.1)


def test_a_run_that_somebody_removed(comfyui, tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.headless.remote.server._POLL_SECONDS", 0.01)
    comfyui.state |= {"queued": False, "history": None}
    with pytest.raises(WorkflowError, match="removed from the queue"):
        run(comfyui, tmp_path)


def test_nobody_there(tmp_path):
    with pytest.raises(WorkflowError, match=r"No ComfyUI answers.*--embedded"):
        run_on_server(workflow(), "127.0.0.1:9", input_dir=tmp_path, output_dir=tmp_path)
    assert not answers("http://127.0.0.1:9")


def test_a_server_without_our_nodes_is_not_chosen(comfyui):
    assert answers(comfyui.url, timeout=5)
    comfyui.state["ours"] = False
    assert not answers(comfyui.url, timeout=5)
