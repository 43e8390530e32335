"""Frames and videos in a real ComfyUI, against the same workflow in this process."""

from pathlib import Path

import pytest
import torch
from facewright.core.weights import nano
from facewright.headless.runner import run_workflow
from facewright.headless.workflows.workflow import read_workflow

pytestmark = pytest.mark.comfyui
FOLDER = Path(nano.__file__).parents[2] / "workflows"


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("nano_smooth_frames", ["5 faces followed"]),
        ("nano_restore_video", ["5 faces followed"]),
        ("nano_people_frames", ["3 faces followed", "face 1, frames 0 to 15: Bo (0."]),
    ],
)
def test_a_video_comes_out_as_it_does_here(server, home, tmp_path, name, people):
    pytest.importorskip("av")
    from facewright.core.video.files import read_frames

    entry = server.run(read_workflow(FOLDER / f"api/{name}.api.json"))
    assert entry["status"]["status_str"] == "success", entry["status"]
    (there,) = (home / "output" / "facewright").glob(f"{name}_*.mp4")
    run_workflow(FOLDER / f"{name}.json", output_dir=tmp_path)
    (here,) = tmp_path.rglob("*.mp4")
    pairs = list(zip(read_frames(there), read_frames(here), strict=True))
    assert len(pairs) == 16
    # Encoded twice, by different versions of H.264 perhaps.
    assert all((a - b).abs().mean() < 0.01 for a, b in pairs)
    said = [text for output in entry["outputs"].values() for text in output.get("text", ())]
    for words in ("16 frames", *people):
        assert any(words in text for text in said)


def test_the_sound_of_a_loaded_video_is_kept(server, home):
    """Load Video and Save Video around ours, on a file with sound."""
    av = pytest.importorskip("av")
    import numpy as np

    path = home / "input" / "clip.mp4"
    with av.open(str(path), "w") as out:
        picture = out.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("aac", rate=8000, layout="mono")
        for t in range(10):
            grey = np.full((48, 64, 3), 20 * t, np.uint8)
            out.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(picture.encode(None))
        tone = np.sin(np.arange(3200) / 4).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    prompt = read_workflow(FOLDER / "api/nano_restore_video.api.json")
    (made,) = (k for k, n in prompt.items() if n["class_type"] == "CreateVideo")
    prompt[made] = {"class_type": "LoadVideo", "inputs": {"file": "clip.mp4"}}
    (saved,) = (n for n in prompt.values() if n["class_type"] == "SaveVideo")
    saved["inputs"]["filename_prefix"] = "sounding"
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    (result,) = (home / "output").glob("sounding_*.mp4")

    def packets(file):
        with av.open(str(file)) as container:
            audio = container.streams.audio[0]
            return [bytes(p) for p in container.demux(audio) if p.dts is not None]

    assert packets(result) == packets(path) and packets(path)
    with av.open(str(result)) as container:
        assert len(list(container.decode(video=0))) == 10


def test_frames_that_are_left_alone_come_out_bit_by_bit(server, home):
    """Create Video -> Restore Video at strength 0: no codec before, none that loses behind."""
    pytest.importorskip("av")
    from facewright.core.demo import picture
    from facewright.core.video.files import read_frames

    prompt = read_workflow(FOLDER / "api/nano_restore_video.api.json")
    for node in prompt.values():
        if node["class_type"] == "FacewrightRestoreVideo":
            node["inputs"] |= {"strength": 0.0, "crf": 0}
        elif node["class_type"] == "SaveVideo":
            node["inputs"]["filename_prefix"] = "untouched"
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    (result,) = (home / "output").glob("untouched_*.mp4")
    pairs = list(zip(read_frames(result), picture("moving group")[0], strict=True))
    assert len(pairs) == 16 and all((a - b).abs().max() < 1e-6 for a, b in pairs)


def test_what_is_cut_out_of_a_file_is_as_good_as_the_file(server, home):
    """Trim Video makes a new file of it, which costs quality unless it is told not to."""
    av = pytest.importorskip("av")
    import numpy as np
    from facewright.core.video.files import read_frames

    if "Video Slice" not in server.get("/object_info"):
        pytest.skip("this ComfyUI cuts no videos")
    path = home / "input" / "noise.mp4"
    noise = np.random.default_rng(5)
    with av.open(str(path), "w") as out:
        picture = out.add_stream("libx264", rate=25, options={"crf": "10"})
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        for _ in range(20):
            grain = noise.integers(0, 256, (64, 96, 3), np.uint8)
            out.mux(picture.encode(av.VideoFrame.from_ndarray(grain, format="rgb24")))
        out.mux(picture.encode(None))
    prompt = read_workflow(FOLDER / "api/nano_restore_video.api.json")
    (made,) = (k for k, n in prompt.items() if n["class_type"] == "CreateVideo")
    prompt["whole"] = {"class_type": "LoadVideo", "inputs": {"file": "noise.mp4"}}
    cut = {"video": ["whole", 0], "start_time": 0.2, "duration": 0.4, "strict_duration": False}
    prompt[made] = {"class_type": "Video Slice", "inputs": cut}
    for node in prompt.values():
        if node["class_type"] == "FacewrightRestoreVideo":
            node["inputs"] |= {"strength": 0.0, "crf": 0}
        elif node["class_type"] == "SaveVideo":
            node["inputs"]["filename_prefix"] = "cut"
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    (result,) = (home / "output").glob("cut_*.mp4")
    whole, part = list(read_frames(path)), list(read_frames(result))
    assert 9 <= len(part) <= 11
    # Whichever frame it begins with, it is one of the file's, and so are those that follow.
    first = min(range(4, 7), key=lambda i: float((whole[i] - part[0]).abs().mean()))
    assert all(torch.equal(a, b) for a, b in zip(whole[first:], part, strict=False))


def test_frames_of_odd_size_and_their_sound_go_through(server, home):
    """Create Video of frames that ComfyUI itself cannot write, with an empty sound."""
    av = pytest.importorskip("av")
    prompt = read_workflow(FOLDER / "api/nano_restore_video.api.json")
    (made,) = (k for k, n in prompt.items() if n["class_type"] == "CreateVideo")
    prompt["odd"] = {
        "class_type": "ImageScale",
        "inputs": {
            "image": prompt[made]["inputs"]["images"],
            "upscale_method": "bilinear",
            "width": 321,
            "height": 241,
            "crop": "disabled",
        },
    }
    prompt["quiet"] = {
        "class_type": "EmptyAudio",
        "inputs": {"duration": 0.6, "sample_rate": 44100, "channels": 2},
    }
    prompt[made]["inputs"] |= {"images": ["odd", 0], "audio": ["quiet", 0]}
    (saved,) = (n for n in prompt.values() if n["class_type"] == "SaveVideo")
    saved["inputs"]["filename_prefix"] = "odd"
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    (result,) = (home / "output").glob("odd_*.mp4")
    with av.open(str(result)) as container:
        assert len(container.streams.audio) == 1
        frames = list(container.decode(video=0))
    assert len(frames) == 16 and {(f.height, f.width) for f in frames} == {(241, 321)}
    said = [text for output in entry["outputs"].values() for text in output.get("text", ())]
    assert any("4:4:4" in text for text in said)
