"""Faces found in photographs, and the time for it: mediapipe against skimage, in one run.

    FACEWRIGHT_PHOTOS=FOLDER FACEWRIGHT_MEDIAPIPE=FOLDER python bootstrap.py bench face_analyzers

The second folder holds face_landmarker.task, face_detection_full_range_sparse.tflite and, where it
is there, photos.json: what MediaPipe's own graphs answer to photographs of the same names. All
analyzers look at the same pictures in this process, in turns and on one thread; processor seconds
are counted, so that other programs disturb little. Where the package mediapipe is installed, its
detectors (short and full range, one after the other, without the mesh) join.

What is expected: with 15 photographs of 16 or more mediapipe finds a face in each, and takes a
tenth of skimage's time; with rotations at most five times as long as without. `turned` counts, for
the first face of each photograph, at how many of 24 angles exactly one face lies within a tenth of
its size of both eyes. Writes benchmarks/results/face_analyzers.json.
"""

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.faces.skimage import SkimageAnalyzer
from facewright.core.faces.views import sample, view
from facewright.core.images import read_picture

RESULT = Path(__file__).parent / "results" / "face_analyzers.json"
STEPS = 24


def pictures(folder):
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return {path.name: read_picture(path).pixels[:3].float() for path in paths}


def official():
    """The package's two graphs, or None where it is not installed."""
    try:
        import mediapipe
    except ImportError:
        return None
    make = mediapipe.solutions.face_detection.FaceDetection
    graphs = [make(model_selection=k, min_detection_confidence=0.5) for k in (0, 1)]

    def detect(image):
        pixels = np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).numpy())
        return max((graph.process(pixels).detections or [] for graph in graphs), key=len)

    return detect


def timed(detect, images, turns):
    """Median processor milliseconds per picture, and faces found in each."""
    detect(next(iter(images.values())))
    found = {}
    spent = {name: [] for name in images}
    for _ in range(turns):
        for name, image in images.items():
            start = time.process_time()
            found[name] = detect(image)
            spent[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(times) for name, times in spent.items()}, found


def turned(image, face, analyzer):
    """At how many of `STEPS` angles the face is found once, and its eyes where they are."""
    _, height, width = image.shape
    side = math.ceil(math.hypot(height, width))
    extent = torch.tensor([[width, height]], dtype=torch.float64)
    count = 0
    for step in range(STEPS):
        angle = torch.tensor([math.tau * step / STEPS], dtype=torch.float64)
        shown = view(extent / 2, torch.full_like(extent, side), angle)
        picture = sample(image[None], shown, side, border="zeros")[0].permute(2, 0, 1)
        linear = torch.linalg.inv(shown[0, :, :2]) * side
        eyes = (face.points5[:2].double() - shown[0, :, 2]) @ linear.T
        here = [
            other
            for other in analyzer.detect(picture)
            if ((other.points5[:2] - eyes).norm(dim=1) < 0.1 * face.size).all()
        ]
        count += len(here) == 1
    return count


def eyes_apart(found, answers):
    """Largest distance of an eye's centre from the official mesh's, in distances of the eyes."""
    from facewright.core.faces.mesh import mesh_to_5

    worst = []
    for name, answer in answers.items():
        for mesh in answer["mesh"] if found.get(name) else ():
            eyes = mesh_to_5(torch.tensor([mesh]))[0, :2]
            gaps = [(face.points5[:2] - eyes).norm(dim=1).max() for face in found[name]]
            worst.append(float(min(gaps) / (eyes[1] - eyes[0]).norm()))
    return max(worst, default=None)


def main():
    parser = argparse.ArgumentParser(description="Faces found in photographs, and the time for it.")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = pictures(Path(os.environ["FACEWRIGHT_PHOTOS"]))
    folder = Path(os.environ["FACEWRIGHT_MEDIAPIPE"])
    plain, turning = (MediapipeAnalyzer(folder, rotations=r) for r in (False, True))
    sides = {
        "skimage": SkimageAnalyzer().detect,
        "mediapipe": plain.detect,
        "mediapipe, rotations": turning.detect,
    }
    if (package := official()) is not None:
        sides["the package mediapipe, detectors alone"] = package
    result: dict[str, Any] = {"photographs": len(images)}
    faces = {}
    for name, detect in sides.items():
        ms, faces[name] = timed(detect, images, args.turns if name != "skimage" else 1)
        at_512 = [ms[k] for k, image in images.items() if max(image.shape) == 512]
        result[name] = {
            "with_a_face": sum(bool(found) for found in faces[name].values()),
            "faces": sum(map(len, faces[name].values())),
            "mean_ms": statistics.mean(ms.values()),
            "ms_at_512_px": statistics.median(at_512) if at_512 else None,
        }
    for name in sides:
        result[name]["times_skimage"] = result[name]["mean_ms"] / result["skimage"]["mean_ms"]
    answers = folder / "photos.json"
    if answers.is_file():
        known = json.loads(answers.read_text(encoding="utf-8"))
        result["mediapipe"]["largest_eye_error"] = eyes_apart(faces["mediapipe"], known)
    for name, analyzer in (("mediapipe", plain), ("mediapipe, rotations", turning)):
        first = {k: f[0] for k, f in faces["mediapipe"].items() if f}
        counts = [turned(images[k], face, analyzer) for k, face in first.items()]
        result[name]["turned"] = {
            "of": STEPS,
            "mean": statistics.mean(counts),
            "least": min(counts),
        }
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
