"""`facewright restore` with a method that needs no weights, and files to restore."""

import json
import math
from fractions import Fraction

import pytest
import torch
from facewright.core.faces import Face
from facewright.core.images import Picture, write_picture
from facewright.core.methods._onestep import OneStepFaces
from facewright.headless.cli import app
from facewright.headless.make import restore_files
from facewright.headless.make.restore import Restorer
from typer.testing import CliRunner

runner = CliRunner()


class OneFace:
    name, points = "fake", 68

    def detect(self, image):
        h, w = image.shape[-2:]
        return [Face((w * 0.3, h * 0.3, w * 0.7, h * 0.7), 1.0)]

    def landmarks(self, crops):
        points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
        return (points * crops.shape[-1]).expand(len(crops), -1, -1)


class Remembers(OneStepFaces):
    given: list = []  # noqa: RUF012

    def restore(self, lq, people, *, options=None, **how):
        self.given.append(options)
        return super().restore(lq, people, options=options, **how)


@pytest.fixture(autouse=True)
def doubles(monkeypatch, backbone):
    from facewright.core.people.recogniser import nano_recogniser
    from facewright.core.weights import nano

    def load(name, *, analyzer=None, measured=False, points=None, rotations=False):
        method = Remembers(
            backbone=backbone, embed=lambda lq, people: torch.zeros(len(lq), 77, 4), size=32
        )
        judge = nano_recogniser(nano.load_identity("loss")) if measured else None
        return Restorer(method, OneFace(), judge)

    Remembers.given.clear()
    monkeypatch.setattr(restore_files, "load_restorer", load)
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    monkeypatch.setenv("COMFYUI_PATH", "/nowhere")


def picture(path, seed=0):
    pixels = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(seed))
    write_picture(path, pixels, Picture(pixels))
    return path


def video(path, frames=4, size=(40, 48)):
    pytest.importorskip("av")
    from facewright.core.video.files import write_video

    tone = torch.sin(2 * math.pi * 440 * torch.arange(4000) / 16000)[None] * 0.3
    noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    write_video(path, [noise] * frames, Fraction(16), crf=0, sound=(tone, 16000))
    return path


def cli(*args):
    return runner.invoke(app, ["restore", *map(str, args), "--weights", "nano"])


def done(*args):
    result = cli(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
