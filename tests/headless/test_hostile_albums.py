"""Albums of strangers through every command that changes albums: a result or a sentence."""

import json
import random

import pytest
import torch
from facewright.core.checkpoint import CONFIG_KEY, read_metadata
from facewright.core.people.person import Person
from facewright.headless.cli import app
from torch.nn.functional import normalize
from typer.testing import CliRunner

from ..core.hostile_files import mutated, no_hang, with_header

COMMANDS = {
    "show": ("{album}",),
    "remove": ("{album}", "0"),
    "rename": ("{album}", "Bo"),
    "merge": ("{album}", "{good}"),
    "merge into": ("{good}", "{album}"),
    "best": ("2", "{album}"),
    "add": ("{album}", "{photo}"),
}


def made(n=3, dim=8, side=16, points=68, **changes):
    draw = torch.Generator().manual_seed(n)
    return Person(
        **{
            "name": "someone",
            "crops": torch.rand(n, 3, side, side, generator=draw),
            "embeddings": normalize(torch.randn(n, dim, generator=draw), dim=1),
            "landmarks": torch.rand(n, points, 2, generator=draw),
            "quality": torch.rand(n, generator=draw),
            "recogniser": "nano-identity:0",
            "sources": tuple(f"{i}.png" for i in range(n)),
            **changes,
        }
    )


def tried(command, album, folder):
    """Runs a command; a file that was refused stays as it was, and nothing is left half."""
    good, photo = folder / "good.person", folder / "photo.png"
    if not photo.exists():
        made(2).save(good)
        from PIL import Image

        Image.new("RGB", (64, 64)).save(photo)
    before = {path: path.read_bytes() for path in (album, good)}
    words = (word.format(album=album, good=good, photo=photo) for word in COMMANDS[command])
    result = CliRunner().invoke(app, ["person", command.split()[0], *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1, 2) and (result.stderr or result.stdout)
    assert all(c.isprintable() or c == "\n" for c in result.stderr), result.stderr
    for path, content in before.items():
        if result.exit_code:
            assert path.read_bytes() == content
        path.write_bytes(content)
    assert sorted(p.name for p in folder.iterdir()) == [
        "album.person", "good.person", "photo.png",
    ]  # fmt: skip
    return result


@pytest.mark.parametrize("command", COMMANDS)
def test_mutated_descriptions(command, tmp_path):
    album = tmp_path / "album.person"
    made().save(album)
    content, rng = album.read_bytes(), random.Random(command)
    config = json.loads(read_metadata(album)[CONFIG_KEY])
    refused = 0
    with no_hang():
        for _ in range(12):
            text = json.dumps(mutated(config, rng))

            def change(header, text=text):
                header["__metadata__"][CONFIG_KEY] = text
                return header

            album.write_bytes(with_header(content, change))
            refused += tried(command, album, tmp_path).exit_code != 0
    assert refused > 3


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_read_and_makes_no_sense(command, tmp_path):
    """Names that write on the terminal, numbers at the ends of their range, thousands of photos."""
    names = ("\x1b[31m", "x" * 5000, "a.png", "a.png", "\u202egnp", "\ud800", "", "#1", "1", "-o")
    album, far = tmp_path / "album.person", torch.full((3, 68, 2), 3e38)
    far[0] *= -1
    with no_hang():
        for person in (
            made(10, sources=names),
            made(name="\x1b[31m\n" + "x" * 900),
            made(landmarks=far, quality=torch.zeros(3)),
            made(1, dim=1, side=1),
            made(dim=1, embeddings=torch.tensor([[1.0], [-1.0], [1.0]])),
            made(points=98),
            made(2000, dim=2, side=1),
        ):
            person.save(album)
            tried(command, album, tmp_path)
