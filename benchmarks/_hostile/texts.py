"""Texts that people and programs write: training configs, records, recipes, names of results."""

import json
import os

import torch
import yaml
from facewright.core.degradation import Degradation
from facewright.core.degradation.recipe import describe
from facewright.core.files.names import LONGEST
from facewright.core.people import receipts
from facewright.headless.jobs.manifest import Manifest, read_records
from facewright.headless.make.degrade import _Degraded, _only_recipe
from facewright.training.settings.config import load_config
from facewright.training.settings.shipped import shipped_configs
from facewright.training.train import stages

from ...tests.core.hostile_files import mutated
from ...tests.core.test_hostile_weights import _damaged
from ...tests.core.test_names import _PIECES, tree, write_next
from ...tests.training.test_yaml_text import WHOLE, Section, drawn_config
from .watch import Told, Wrong


def configs(room):
    """Training configs; whole numbers are those that a plain YAML reader finds."""
    files = [f.read_text(encoding="utf-8") for f in shipped_configs().values()]
    models = [stage.Config for stage in stages().values()]
    path = room.given / "run.yaml"

    def whole(rng):
        """A config with nothing wrong, written in one of several ways."""
        wanted = {"seed": rng.randrange(10**6), "batch_size": rng.randint(1, 64)}
        lines = [line for line in WHOLE.splitlines() if not line.startswith("batch_size")]
        for key, value in wanted.items():
            way = rng.choice(("{}: {}", "{}: {:04}", "{}:   {}  # a comment", '"{}": {}'))
            lines.append(way.format(key, value))
        text = rng.choice(("\n", "\r\n")).join([*lines, ""])
        path.write_bytes(text.encode(rng.choice(("utf-8", "utf-8-sig"))))
        config = room.watch(load_config, path, Section, [])
        if isinstance(config, Told) or any(getattr(config, k) != v for k, v in wanted.items()):
            raise Wrong(f"{text!r} was read as {config!r:.300}")
        return config

    def case(rng):
        if rng.random() < 0.2:
            return whole(rng)
        data, overrides = drawn_config(rng, files)
        path.write_bytes(data)
        config = room.watch(load_config, path, rng.choice(models), overrides)
        if not isinstance(config, Told) and not overrides:
            plain = yaml.safe_load(data)
            for key in ("seed", "batch_size", "threads"):
                value = plain.get(key)
                if type(value) is int and getattr(config, key) != value:
                    raise Wrong(f"{key} is {getattr(config, key)}, not {value}")
        return config

    return case


def records(room):
    """Manifests of `degrade`, receipts in PNGs and recipes that are played back."""
    degradation = Degradation.preset("moderate")
    good = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    record = {
        "output": "a/x.png", "input": "x.png", "input_sha256": "0" * 64, "copy": 1,
        "preset": "mild", "overrides": {"noise": [0.1, 0.2]}, "seed": 3,
        "recipe": degradation.draw(1, 16, 16),
    }  # fmt: skip
    receipt = {
        "format": receipts.FORMAT, "version": 1, "recogniser": "nano", "action": "keep",
        "faces": [{"face": 1, "drift": 0.1}, {"face": 2, "drift": None}],
    }  # fmt: skip

    def manifest(rng):
        path = room.given / rng.choice(("manifest.jsonl", "x.json"))
        lines = [
            json.dumps(mutated(record, rng) if rng.random() < 0.7 else record) for _ in range(3)
        ]
        data = (
            "".join(f"{x}\n" for x in lines).encode()
            if path.suffix == ".jsonl"
            else lines[0].encode()
        )
        path.write_bytes(_damaged(data, rng) if rng.random() < 0.4 else data)
        read = room.watch(lambda: list(Manifest(path, _Degraded)))
        other = room.watch(read_records, path)
        if not isinstance(read, Told):
            for found in read:
                place = os.path.normpath(room.out / found["output"])
                if not place.startswith(f"{room.out}{os.sep}"):
                    raise Wrong(f"a record names {found['output']!r}")
            plain = {json.loads(x)["output"] for x in path.read_bytes().splitlines() if _whole(x)}
            if isinstance(other, Told) or plain != {found["output"] for found in read}:
                raise Wrong(f"records {plain} were read as {read!r:.200}")
        path.unlink()
        return read

    def receipt_text(rng):
        text = json.dumps(mutated(receipt, rng))
        if rng.random() < 0.3:
            text = _damaged(text.encode(), rng).decode("utf-8", "replace")
        pictures = rng.choice((0, 1, 2))
        index = rng.choice((None, torch.tensor([0, 1]), torch.tensor([0])))
        made = room.watch(receipts.png_texts, text, pictures, index)
        if not isinstance(made, Told) and (
            len(made) != pictures or not all(v.isascii() for t in made for v in t.values())
        ):
            raise Wrong(f"texts of {pictures} pictures: {made!r:.300}")
        return made

    def recipe(rng):
        path = room.given / "recipe.json"
        path.write_text(json.dumps(mutated(degradation.draw(rng.getrandbits(40), 16, 16), rng)))
        found = room.watch(_only_recipe, path)
        if isinstance(found, Told):
            return found
        said = room.watch(describe, found["recipe"])
        made = room.watch(Degradation.replay, good, [found["recipe"]])
        if isinstance(made, Told):
            return made
        if isinstance(said, Told) or not made.isfinite().all():
            raise Wrong(f"{found!r:.400}: {said}")
        return made

    return lambda rng: rng.choice((manifest, manifest, receipt_text, recipe))(rng)


def _whole(line):
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def names(room):
    """Prefixes of results: new files, below the folder, of names that the system takes."""

    def case(rng):
        prefix = "".join(rng.choices(_PIECES, k=rng.randrange(6)))
        for number in range(rng.randrange(3)):
            write_next(room.out, f"face{number}", 1)
        before = tree(room.out)
        suffix, windows = rng.choice([".png", ".mp4"]), rng.random() < 0.5
        paths = room.watch(write_next, room.out, prefix, 2, suffix, windows=windows)
        made = tree(room.out) - before
        if isinstance(paths, Told):
            if made:
                raise Wrong(f"{prefix!r} was refused and left {made}")
            return paths
        if made != {str(p) for p in paths} or len(made) != 2:
            raise Wrong(f"{prefix!r} made {made}")
        for path in paths:
            inside = path.relative_to(room.out)
            if max(len(os.fsencode(part)) for part in inside.parts) > LONGEST:
                raise Wrong(f"{prefix!r} made a name that is too long")
        return paths

    return case
