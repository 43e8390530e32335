"""A small server that answers as ComfyUI does, and remembers what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

INFO = {
    "LoadImage": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}},
    "Save": {"input": {"required": {"images": ["IMAGE"], "prefix": ["STRING", {}]}}},
    "FacewrightDetectFaces": {"input": {}},
}
API = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
    "2": {"class_type": "Save", "inputs": {"images": ["1", 0], "prefix": "a"}},
}
PICTURE = {"filename": "a_00001_.png", "subfolder": "", "type": "output"}


def entry(outputs=None, *messages, status="success"):
    told = {"2": {"images": [PICTURE]}} if outputs is None else outputs
    return {
        "outputs": told,
        "status": {
            "status_str": status,
            "completed": status == "success",
            "messages": list(messages),
        },
    }


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): ...

    def answer(self, value=b"", code=200, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        double = self.server.double
        path = urlsplit(self.path).path
        double.asked.append((path, dict(self.headers)))
        known = double.answers.get(path)
        if callable(known):
            known(self)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if double.login not in {None, self.headers.get("Authorization")}:
            self.answer(b"Who are you?", 401)
            return
        if path == "/prompt":
            double.prompt = json.loads(body)
        elif self.command == "POST" and path != "/upload/image":
            double.told.append((path, json.loads(body)))
        if known is None:
            self.answer(b"not here", 404)
        else:
            self.answer(known)

    do_POST = do_GET  # noqa: N815


class Double:
    def __init__(self, context=None):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.double = self
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self.login, self.prompt = None, None
        self.asked, self.told = [], []
        self.answers = {
            "/object_info": INFO,
            "/object_info/FacewrightDetectFaces": INFO,
            "/upload/image": {"name": "up.png", "subfolder": "facewright"},
            "/prompt": {"prompt_id": "p", "node_errors": {}},
            "/queue": {"queue_running": [], "queue_pending": []},
            "/interrupt": {},
            "/view": b"\x89PNG a picture",
        }
        self.ends(entry())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def ends(self, history):
        """What becomes of the run; None: it goes on."""
        held = [] if history else [[0, "p", {}, {}, []]]
        self.answers["/history/p"] = {"p": history} if history else {}
        self.answers["/queue"] = {"queue_running": held, "queue_pending": []}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
