"""A workflow from anybody reads the input and model folders, writes below OUT, and nothing else."""

import json
import os
import sys
from fractions import Fraction

import av
import pytest
import torch
from facewright.core.doctor.needs import needs_of
from facewright.core.errors import FacewrightError
from facewright.core.files.confined import inside, is_plain
from facewright.core.host import host
from facewright.core.video.files import write_video
from facewright.headless.cli import app
from facewright.headless.host.catalogue import plain_process
from facewright.headless.runner import node_classes, run_workflow
from facewright.headless.workflows.input_files import input_file
from facewright.headless.workflows.media import is_picture, is_sound, is_video
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

_watching: list[tuple[str, str]] | None = None


def _hook(event, arguments):
    if _watching is not None and event in {"open", "os.remove", "os.rename", "os.mkdir"}:
        _watching.append((event, os.fsdecode(arguments[0]) if arguments[0] else ""))


sys.addaudithook(_hook)


@pytest.fixture
def opened():
    """Every file that is opened, made, renamed or deleted in this process meanwhile."""
    global _watching
    _watching = []
    yield _watching
    _watching = None


@pytest.fixture
def rooms(tmp_path, monkeypatch, models_in):
    """An input folder, a models folder and, beside them, what nobody may touch."""
    for name in ("input/sub", "models/facewright", "models/checkpoints", "secret", "home"):
        (tmp_path / name).mkdir(parents=True)
    secret = tmp_path / "secret"
    Image.new("RGB", (16, 16), "red").save(secret / "secret.png")
    (secret / "secret.txt").write_text("the canary")
    save_file({"x": torch.zeros(1)}, secret / "secret.safetensors")
    (secret / "secret.person").write_bytes((secret / "secret.safetensors").read_bytes())
    video = secret / "secret.mp4"
    write_video(video, torch.zeros(3, 3, 32, 32), Fraction(5))
    for file in secret.iterdir():
        (tmp_path / "home" / file.name).write_bytes(file.read_bytes())
    room = tmp_path / "input"
    Image.new("RGB", (16, 16), "blue").save(room / "good.png")
    Image.new("RGB", (16, 16), "blue").save(room / "sub/good.png")
    (room / "good.mp4").write_bytes(video.read_bytes())
    (room / "text.png").write_text("password = secret")
    (room / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{secret}/secret.mp4\n")
    (room / "link.png").symlink_to(secret / "secret.png")
    (room / "link.mp4").symlink_to(secret / "secret.mp4")
    (room / "linked").symlink_to(secret)
    (room / "round.png").symlink_to(room / "round.png")
    os.mkfifo(room / "pipe.png")
    models_in(tmp_path / "models")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SECRET", str(secret))
    monkeypatch.chdir(room)
    return tmp_path


ENDINGS = ("png", "mp4", "txt", "safetensors", "person")
NAMES = [
    "{secret}/secret.{end}",
    "../secret/secret.{end}",
    "sub/../../secret/secret.{end}",
    "./../secret/secret.{end}",
    "link.{end}",
    "linked/secret.{end}",
    "~/secret.{end}",
    "$SECRET/secret.{end}",
    "..\\secret\\secret.{end}",
    "sub\\..\\..\\secret\\secret.{end}",
    "{secret}/secret.{end} [input]",
    "../secret/secret.{end} [input]",
    "../secret/secret.{end} [output]",
    "../secret/secret.{end} [temp]",
    "file://{secret}/secret.{end}",
    "//{secret}/secret.{end}",
    "{secret}/secret.{end}\0.png",
    "C:\\secret.{end}",
    "\\\\host\\share\\secret.{end}",
    "/dev/zero",
    "/etc/passwd",
    "",
    ".",
    "..",
    "x" * 5000,
    "text.png",
    "list.mp4",
    "pipe.png",
    "round.png",
    "sub",
]


def hostile(rooms, endings=ENDINGS):
    for name in NAMES:
        for end in endings if "{end}" in name else ("",):
            yield name.format(secret=rooms / "secret", end=end)


def graph(kind, **inputs):
    """A node of a class, whose outputs are looked at."""
    node = {"class_type": kind, "inputs": inputs}
    api = {"1": {"class_type": "LoadImage", "inputs": {"image": "good.png"}}, "2": node}
    for number in range(len(node_classes()[kind].GET_SCHEMA().outputs)):
        source = {"source": ["2", number]}
        api[f"look {number}"] = {"class_type": "PreviewAny", "inputs": source}
    return api


def named_files():
    """Every input of every node that could be a name, of nodes that need no links."""
    for kind, node in node_classes().items():
        schema = node.GET_SCHEMA()
        links = [i for i in schema.inputs if not i.has_widget and not i.optional]
        widgets = {i.id: getattr(i, "default", None) for i in schema.inputs if i.has_widget}
        linked = {i.id: ["1", 0] for i in links if i.io_type == "IMAGE"}
        if len(linked) == len(links):
            for i in schema.inputs:
                if i.has_widget and i.io_type in {"STRING", "COMBO"}:
                    yield kind, i.id, {**linked, **widgets}


def canaries(rooms, opened):
    return [path for _, path in opened if os.path.basename(path).startswith("secret.")]


def test_the_canary_is_seen_by_this_test(rooms, opened):
    (rooms / "input/linked/secret.txt").resolve().read_text()
    assert canaries(rooms, opened)


@pytest.mark.parametrize(
    ("kind", "name", "inputs"), [pytest.param(*c, id=".".join(c[:2])) for c in named_files()]
)
def test_no_node_reads_or_writes_elsewhere(kind, name, inputs, rooms, opened):
    """Whatever a workflow says, every input of every node that takes text or a choice."""
    before = sorted(p for p in rooms.rglob("*"))
    out = rooms / "out"
    reads = "Load" in kind or name in {"ckpt_name", "vae_name", "filename_prefix"}
    for value in hostile(rooms, ENDINGS if reads else ENDINGS[:1]):
        del opened[:]
        try:
            run_workflow(
                graph(kind, **{**inputs, name: value}),
                input_dir=rooms / "input",
                output_dir=out,
            )
        except FacewrightError as error:
            assert str(error).replace("\n", " ").isprintable()
        else:
            assert kind not in {"LoadImage", "LoadVideo"}, value
        assert not canaries(rooms, opened), value
    after = sorted(p for p in rooms.rglob("*") if not p.is_relative_to(out))
    assert after == before


def test_the_table_holds_what_reads_and_what_writes():
    kinds = {kind for kind, _, _ in named_files()}
    assert {"LoadImage", "LoadVideo", "SaveImage", "CheckpointLoaderSimple", "VAELoader"} <= kinds
    assert {"FacewrightLoadPerson", "FacewrightLoadVRE", "FacewrightSaveWithReceipts"} <= kinds


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../secret/secret.png", "which is not in the input folder .*--set"),
        ("link.png", "which is not in the input folder"),
        ("text.png", "text.png is no picture"),
        ("pipe.png", "pipe.png is no picture"),
        ("none.png", "There is no file none.png"),
    ],
)
def test_why_a_picture_is_not_read(name, words, rooms):
    with pytest.raises(FacewrightError, match=words):
        run_workflow(graph("LoadImage", image=name), input_dir=rooms / "input")


@pytest.mark.parametrize("name", ["good.png", "sub/good.png", "./good.png", "good.png [input]"])
def test_what_lies_in_the_input_folder_is_read(name, rooms):
    results = run_workflow(graph("LoadImage", image=name), input_dir=rooms / "input")
    assert results["2"][0].shape == (1, 16, 16, 3)
    assert run_workflow(graph("LoadVideo", file="good.mp4"), input_dir=rooms / "input")


def test_what_is_named_by_hand_is_read_wherever_it_lies(rooms):
    secret = rooms / "secret/secret.png"
    for name in (
        secret,
        str(secret),
        "../secret/secret.png",
        "~/secret.png",
        "$SECRET/secret.png",
        "link.png",
    ):
        results = run_workflow(graph("LoadImage", image="good.png"), {"2.image": name})
        assert results["2"][0][0, 0, 0].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(FacewrightError, match="is no picture"):
        run_workflow(graph("LoadImage", image="x"), {"2.image": rooms / "secret/secret.txt"})


def test_naming_one_file_opens_no_other(rooms):
    api = graph("LoadImage", image="good.png")
    api["3"] = {"class_type": "LoadVideo", "inputs": {"file": str(rooms / "secret/secret.mp4")}}
    api["4"] = {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}}
    with pytest.raises(FacewrightError, match="not in the input folder"):
        run_workflow(api, {"2.image": rooms / "secret/secret.png"})


def test_on_the_command_line(rooms, opened):
    path = rooms / "w.json"
    path.write_text(json.dumps(graph("LoadImage", image="../secret/secret.png")))
    run = ["run", str(path), "--embedded", "-o", str(rooms / "out")]
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 1 and "not in the input folder" in " ".join(result.output.split())
    assert not canaries(rooms, opened)
    again = CliRunner().invoke(app, [*run, "--set", "2.image=../secret/secret.png"])
    assert again.exit_code == 0, again.output


def test_weights_named_by_hand_may_lie_elsewhere(rooms):
    """They are taken for what they are, here for no base model; the workflow could not say so."""
    file = str(rooms / "secret/secret.safetensors")
    with pytest.raises(FacewrightError, match=r"names .* which is no file in a models folder"):
        run_workflow(graph("CheckpointLoaderSimple", ckpt_name=file))
    with pytest.raises(FacewrightError) as caught:
        run_workflow(graph("CheckpointLoaderSimple", ckpt_name="x"), {"2.ckpt_name": file})
    assert "models folder" not in str(caught.value)


def test_the_doctor_looks_at_no_file_outside_the_models_folders(rooms, opened):
    around = plain_process(host.folders)
    for value in hostile(rooms):
        for kind, name in (
            ("CheckpointLoaderSimple", "ckpt_name"),
            ("FacewrightLoadPerson", "album"),
        ):
            report = needs_of({"1": {"class_type": kind, "inputs": {name: value}}}, around)
            assert not report["ok"] and report["files"][0]["path"] is None, value
    assert not canaries(rooms, opened)


SOUNDS = {
    "a.mp3": "mp3", "b.flac": "flac", "c.ogg": "libopus", "d.m4a": "aac", "e.aac": "aac",
    "f.wav": "pcm_s16le", "g.aiff": "pcm_s16be", "h.opus": "libopus", "i.webm": "libopus",
}  # fmt: skip


def test_files_are_known_by_their_bytes(rooms, tmp_path):
    for name, options in {
        "a.png": {}, "a.jpg": {}, "a.gif": {}, "a.webp": {}, "a.bmp": {}, "a.tif": {}, "a.ppm": {},
        "a.tga": {}, "a.jp2": {}, "b.tif": {"compression": "tiff_lzw"},
    }.items():  # fmt: skip
        Image.new("RGB", (9, 7), "red").save(tmp_path / name, **options)
        assert is_picture(tmp_path / name), name
    for mode in ("1", "L", "RGBA", "I;16"):
        for end in ("png", "tif", "tga", "bmp", "ppm"):
            try:
                Image.new(mode, (300, 200)).save(tmp_path / f"m.{end}")
            except (OSError, KeyError):
                continue
            assert is_picture(tmp_path / f"m.{end}"), (mode, end)
    assert is_video(rooms / "input/good.mp4") and not is_picture(rooms / "input/good.mp4")
    assert not is_video(rooms / "input/list.mp4")
    for name, codec in SOUNDS.items():
        with av.open(tmp_path / name, "w") as file:
            stream = file.add_stream(codec, rate=48000)
            frame = av.AudioFrame("s16", "mono", 4800)
            frame.sample_rate = 48000
            file.mux([*stream.encode(frame), *stream.encode(None)])
        assert is_sound(tmp_path / name) and not is_picture(tmp_path / name), name
    texts = [
        b"",
        b"BM",
        b"root:x:0:0",
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"#EXTM3U",
        b"P1",
        b"{}",
    ]
    texts += ["Password: x".encode("utf-16"), "Password: x".encode("utf-16-be")]
    texts += [b"<svg/>", b"%!PS-Adobe", b"ffconcat version 1.0", b"Password: x", b"P@ssword 1"]
    for text in texts:
        (tmp_path / "t").write_bytes(text * 3)
        assert not is_picture(tmp_path / "t") and not is_sound(tmp_path / "t"), text


def test_names_that_stay_inside(tmp_path):
    for name in ("a", "a/b.png", "a\\b.png", "./a", "~a/b", "ä.png", "a b", "...", "a..b"):
        assert is_plain(name) and inside(tmp_path, name), name
    for name in (
        "",
        ".",
        "..",
        "a/..",
        "a/../..",
        "/a",
        "\\a",
        "C:a",
        "c:/a",
        "a\\..\\b",
        "a\0",
        "//h/s",
    ):
        assert not is_plain(name) and inside(tmp_path, name) is None, name
    (tmp_path / "out").symlink_to(tmp_path.parent)
    assert is_plain("out/x") and inside(tmp_path, "out/x") is None
    assert input_file("LoadImage", "none.png", tmp_path, ()) is None
