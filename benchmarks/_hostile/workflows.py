"""Workflow files of both forms, changed at random; and small ones that are run."""

import json

import numpy as np
from facewright.core.doctor.needs import needs_of
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.host.catalogue import plain_process
from facewright.headless.runner import check, input_specs, run_workflow
from facewright.headless.workflows.workflow import read_workflow, to_api
from PIL import Image

from ...tests.headless.test_fuzzed_workflows import SHIPPED, changed
from ...tests.headless.test_malformed_workflows import SHAPES, api, ui
from .watch import Told, Wrong


def shapes(room):
    """Shipped workflows and hand-made ones: runnable, or a sentence says why not."""
    around = plain_process(ModelFolders([room.given]))
    shipped = [json.loads(path.read_text(encoding="utf-8")) for path in SHIPPED]
    small = [api(), ui()]

    def read(text):
        workflow = read_workflow(text)
        report = needs_of(workflow, around)
        json.dumps(report, allow_nan=False)
        return report, check(to_api(workflow, input_specs))

    def case(rng):
        draw = rng.random()
        if draw < 0.1:
            text = rng.choice(list(SHAPES.values()))
        else:
            text = json.dumps(changed(rng.choice(small if draw < 0.4 else shipped), rng))
        if isinstance(text, str) and rng.random() < 0.05:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(("\0", "[" * 50_000, "}", '"', "\ufeff")) + text[at:]
        path = room.given / "x.json"
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        found = room.watch(read, path)
        if not isinstance(found, Told) and found[0]["ok"] != (not found[0]["lacks"]):
            raise Wrong(f"told ready although it lacks {found[0]['lacks']!r:.300}")
        return found

    return case


_PLACES = [
    "in.png", "sub/in.png", "./in.png", "sub/../in.png", "../secret/secret.png", "link.png",
    "{secret}/secret.png", "{given}/in.png", "~/secret.png", "..\\secret\\secret.png", "", ".",
    "..", "/dev/zero", "/etc/passwd", "x.yaml", "in.png [input]",
    "../secret/secret.png [output]", "\0",
    "x" * 5000, "in.png\0.png", "$SECRET/secret.png", "file://{secret}/secret.png", "%2e%2e/x.png",
    "linked/secret.png", "IN.PNG", "in.png/", "*.png", "in.{{png,jpg}}", "\ud800.png",
]  # fmt: skip
_PREFIXES = [
    "x", "a/b", "../x", "{secret}/x", "/etc/x", "a/../../x", "linked/x", "", ".", "..", "x" * 400,
    "%date:yyyy%", "face [v2]", "a\0b", "\ud800", "con", "a\\..\\..\\x", "~", "$HOME/x",
]  # fmt: skip


def runs(room):
    """Load Image to Save Image: the picture named, in a new file, and nothing else is touched."""
    pictures = {"in.png": (10, 20, 30), "sub/in.png": (40, 50, 60)}
    (room.given / "sub").mkdir(exist_ok=True)
    for name, color in pictures.items():
        Image.new("RGB", (6, 5), color).save(room.given / name)
    Image.new("RGB", (6, 5), "red").save(room.secret / "secret.png")
    for name, target in (("link.png", "secret.png"), ("linked", "")):
        if not (room.given / name).is_symlink():
            (room.given / name).symlink_to(room.secret / target)

    def case(rng):
        def filled(text):
            return text.format(secret=room.secret, given=room.given)

        picture, prefix = filled(rng.choice(_PLACES)), filled(rng.choice([*_PREFIXES, *["x"] * 20]))
        (room.out / "linked").symlink_to(room.secret)
        workflow = {
            "1": {"class_type": "LoadImage", "inputs": {"image": picture}},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": prefix},
            },
        }
        folders = {"input_dir": room.given, "output_dir": room.out}
        done = room.watch(run_workflow, workflow, **folders)
        made = [p for p in room.out.rglob("*") if p.is_file() and not p.is_symlink()]
        if isinstance(done, Told):
            if made:
                raise Wrong(f"{picture!r}, {prefix!r} was refused and wrote {made}")
            return done
        colors = [tuple(np.asarray(Image.open(p))[0, 0].tolist()) for p in made]
        if len(colors) != 1 or colors[0] not in pictures.values():
            raise Wrong(f"{picture!r}, {prefix!r} wrote {made} of {colors}")
        return done

    return case
