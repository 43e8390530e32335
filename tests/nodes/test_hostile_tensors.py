"""Every node that takes pictures, latents or faces, with tensors that no node should send it.

Either a sentence comes back or finite numbers do; nothing that a node was given is changed.
"""

import contextlib
import math
from dataclasses import replace

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face, detect_faces
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.warp import warp
from facewright.nodes import (
    compare,
    degrade,
    detections,
    faces,
    flipnet,
    frames,
    guard,
    honestface,
    masks,
    one_step,
    osdface,
    people,
    recognition,
    score,
)
from facewright.nodes import landmarks as landmark_nodes
from facewright.nodes import nano as nano_nodes

SIZE = 64


class Told:
    """Finds the same faces in every picture."""

    name = "told"

    def __init__(self, *told):
        self.told = told

    def detect(self, image):
        return list(self.told)


def square(x, y, size):
    return Face((x, y, x + size, y + size), 1.0)


def everything():
    """What the nodes here are run with."""
    model, vae, vre, analyzer = nano_nodes.LoadNano.execute(weights="onestep").result[:4]
    good = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
    ide = honestface.LoadNanoHonestface.execute().result
    hubs = flipnet.LoadNanoFlipnet.execute(mode="restore").result
    crops = align_faces(good.permute(0, 3, 1, 2), [[square(10, 10, 30)]] * 2, SIZE)
    cond = osdface.VREEncode.execute(vre=vre, image=good).result[0]
    return {
        "model": model, "vae": vae, "vre": vre, "analyzer": analyzer, "good": good,
        "told": Told(square(10, 10, 30)), "crops": crops, "cond": cond, "ide": ide[3],
        "ide_vre": ide[2], "recogniser": ide[5], "hubs": hubs[2], "encoder": hubs[3],
        "hub_model": hubs[0], "latent": torch.zeros(2, 8, 16, 16),
    }  # fmt: skip


@pytest.fixture(scope="module")
def setup():
    return everything()


def _paste(s, image, restored):
    options = {"feather": 0.12, "color": "lab", "strength": 1.0}
    return faces.PasteFaces.execute(image=image, faces=s["crops"], restored=restored, **options)


def _detect(s, image, padding=0.1):
    options = {
        "crop_size": SIZE, "order": "size", "pick": "", "min_size": 0, "min_score": 0.0,
        "max_faces": 0, "padding": padding,
    }  # fmt: skip
    return faces.DetectFaces.execute(image=image, analyzer=s["told"], **options)


def _from_boxes(s, image):
    options = {
        "crop_size": SIZE, "order": "size", "pick": "", "min_size": 0, "min_score": 0.0,
        "max_faces": 0, "label": "",
    }  # fmt: skip
    boxes = {"x": 10, "y": 10, "width": 30, "height": 30}
    return detections.FacesFromDetections.execute(image=image, bounding_boxes=boxes, **options)


def _restore(s, image):
    options = {"timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 2}
    given = {"model": s["model"], "vae": s["vae"], "conditioning": s["cond"]}
    return one_step.OneStepRestore.execute(**given, image=image, **options)


def _guard(s, image, restored, references=None):
    return guard.IdentityGuard.execute(
        image=image, restored=restored, recogniser=s["recogniser"], analyzer=s["analyzer"],
        max_drift=0.5, action="lower strength", references=references,
    )  # fmt: skip


def _album(s, references):
    return people.PersonAlbum.execute(
        references=[references], name=["x"], analyzer=[s["analyzer"]],
        recogniser=[s["recogniser"]], crop_size=[SIZE],
    )  # fmt: skip


def _compare(s, before, after):
    labels = {"label_before": "a", "label_after": "b"}
    return compare.Compare.execute(before=before, after=after, mode="split", **labels)


def _smooth(s, image):
    options = {"strength": 0.5, "fill_gaps": 1, "fade": 1, "cut_threshold": 0.3}
    return frames.SmoothFaces.execute(image=image, faces=s["crops"], **options)


def _mask(s):
    options = {"mode": "oval", "parts": "skin", "grow": 0.0, "feather": 0.03}
    return masks.FaceMask.execute(faces=s["crops"], **options)


def _match(s, image):
    given = {"faces": s["crops"], "recogniser": s["recogniser"], "threshold": 0.0}
    return people.MatchPeople.execute(image=image, **given)


def _ide(s, image, references=None):
    references = None if references is None else [references]
    return honestface.IDEEncode.execute(
        ide=[s["ide"]], vre=[s["ide_vre"]], image=[image], references=references
    )


GOOD = object()
NODES = {
    "detect": (_detect, {"image"}),
    "from boxes": (_from_boxes, {"image"}),
    "paste image": (lambda s, image: _paste(s, image, s["good"]), {"image"}),
    "paste restored": (lambda s, image: _paste(s, s["good"], image), {"restored"}),
    "smooth": (_smooth, {"image"}),
    "vre": (lambda s, i: osdface.VREEncode.execute(vre=s["vre"], image=i), {"image"}),
    "restore": (_restore, {"image"}),
    "degrade": (
        lambda s, i: degrade.Degrade.execute(image=i, preset="moderate", seed=0), {"image"},
    ),
    "sheet": (
        lambda s, i: degrade.DegradationSheet.execute(image=i, seed=0, presets="mild"), {"image"},
    ),
    "compare before": (lambda s, i: _compare(s, i, s["good"]), {"before"}),
    "compare after": (lambda s, i: _compare(s, s["good"], i), {"after"}),
    "face tokens": (
        lambda s, i: flipnet.FaceTokens.execute(face_encoder=s["encoder"], image=i), {"image"},
    ),
    "guard image": (lambda s, i: _guard(s, i, s["good"]), {"image"}),
    "guard restored": (lambda s, i: _guard(s, s["good"], i), {"restored"}),
    "guard references": (lambda s, i: _guard(s, s["good"], s["good"], i), {"references"}),
    "landmarks restored": (
        lambda s, i: landmark_nodes.LandmarkScore.execute(
            restored=i, gt=s["good"], analyzer=s["analyzer"]
        ), {"restored"},
    ),
    "landmarks gt": (
        lambda s, i: landmark_nodes.LandmarkScore.execute(
            restored=s["good"], gt=i, analyzer=s["analyzer"]
        ), {"gt"},
    ),
    "score restored": (
        lambda s, i: score.ImageScore.execute(restored=i, metrics="psnr, ssim", gt=s["good"]),
        {"restored"},
    ),
    "score gt": (
        lambda s, i: score.ImageScore.execute(restored=s["good"], metrics="psnr, ssim", gt=i),
        {"gt"},
    ),
    "identity": (
        lambda s, i: recognition.IdentityScore.execute(
            image=i, other=s["good"], recogniser=s["recogniser"]
        ), {"image"},
    ),
    "identity other": (
        lambda s, i: recognition.IdentityScore.execute(
            image=s["good"], other=i, recogniser=s["recogniser"], analyzer=s["told"]
        ), {"other"},
    ),
    "album": (_album, {"references"}),
    "match": (_match, {"image"}),
    "ide": (_ide, {"image"}),
    "ide references": (lambda s, i: _ide(s, s["good"], i), {"references"}),
}  # fmt: skip
"""Node -> how it is run on one picture input, and that input's name."""


def _pictures():
    good = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(2))

    def put(value):
        spoiled = good.clone()
        spoiled[1, 5, 5, 1] = value
        return spoiled

    return {
        "as it should be": good,
        "one NaN": put(math.nan),
        "one infinity": put(math.inf),
        "all NaN": torch.full_like(good, math.nan),
        "1e30": put(1e30),
        "all -1e30": torch.full_like(good, -1e30),
        "no picture": good[:0],
        "one picture": good[:1],
        "one pixel": good[:, :1, :1],
        "one row": good[:, :1],
        "one column": good[:, :, :1],
        "no height": good[:, :0],
        "no width": good[:, :, :0],
        "no channel": good[..., :0],
        "grey": good[..., :1],
        "two channels": good[..., :2],
        "alpha": torch.cat([good, good[..., :1]], -1),
        "five channels": torch.cat([good, good[..., :2]], -1),
        "channels first": good.permute(0, 3, 1, 2),
        "a mask": good[..., 0],
        "one axis more": good[None],
        "a number": torch.tensor(0.5),
        "nothing": None,
        "a list": [0.5],
        "half": good.half(),
        "bfloat16": good.bfloat16(),
        "double": good.double(),
        "bytes": (good * 255).byte(),
        "whole numbers": good.round().long(),
        "truth": good > 0.5,
        "complex": good.to(torch.complex64),
        "turned": good.flip(1).transpose(1, 2),
        "strided": good.repeat(1, 2, 2, 1)[:, ::2, ::2],
        "repeated": good[:1].expand(2, -1, -1, -1),
        "other size": torch.nn.functional.pad(good, (0, 0, 3, 4, 0, 10), value=0.3),
        "above one": good * 3 - 1,
        "black": torch.zeros_like(good),
        "with gradient": good.clone().requires_grad_(),
    }


PICTURES = _pictures()
REFUSED = {
    "one NaN", "one infinity", "all NaN", "1e30", "all -1e30", "no height", "no width",
    "no channel", "two channels", "five channels", "channels first", "a mask", "one axis more",
    "a number", "nothing", "a list", "bytes", "whole numbers", "truth", "complex",
}  # fmt: skip
"""By every node, with the name of the input; the others may fit or not."""
FINE = {
    "as it should be", "grey", "alpha", "half", "bfloat16", "double", "turned", "strided",
    "repeated", "above one", "with gradient",
}  # fmt: skip
"""By no node."""
OPTIONAL = {"guard references", "ide references", "score gt"}
"""Inputs where nothing is no error."""


def finite(value, seen=()):
    """Whether all tensors inside a node's results are."""
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    if hasattr(value, "pixels"):
        return finite([value.pixels, value.matrix, value.boxes, value.landmarks])
    return True


def _table():
    """All of it slowly; what costs nothing, and a part of the rest, always."""
    for i, kind in enumerate(PICTURES):
        for j, node in enumerate(NODES):
            often = kind == "as it should be" or (i + j) % (4 if kind in REFUSED else 16) == 0
            yield pytest.param(node, kind, marks=() if often else pytest.mark.slow)


@pytest.mark.parametrize(("node", "kind"), list(_table()))
def test_pictures_of_every_kind(node, kind, setup):
    run, (name,) = NODES[node]
    image = PICTURES[kind]
    before = image.clone() if isinstance(image, torch.Tensor) else None
    try:
        result = run(setup, image).result
    except FacewrightError as error:
        text = str(error)
        assert text.endswith((".", "?")) and len(text) < 1200, text
        # There is no face in any of them, which an album needs.
        assert kind not in FINE or "no face was found" in text
        if kind in REFUSED:
            assert f"`{name}`" in text, text
    else:
        assert kind not in REFUSED or (kind == "nothing" and node in OPTIONAL)
        assert finite(result)
    if before is not None:
        assert image.dtype == before.dtype
        assert torch.equal(image.nan_to_num(7), before.nan_to_num(7)) or image.is_complex()


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double", "turned", "strided", "alpha"])
def test_pixels_outside_the_faces_keep_their_values(kind, setup):
    image = PICTURES[kind]
    pasted, mask, _ = _paste(setup, image, setup["good"].half()).result
    assert pasted.shape == image.shape and (mask > 0).any() and (mask == 0).any()
    assert torch.equal(pasted[mask == 0], image.float()[mask == 0])
    assert torch.equal(pasted[..., 3:], image[..., 3:].float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [16, 48, 200])
def test_restored_faces_of_another_size_and_kind(dtype, size, setup):
    restored = torch.rand(2, size, size, 3).to(dtype)
    for color in ("none", "adain", "wavelet", "lab"):
        pasted, *_ = faces.PasteFaces.execute(
            image=setup["good"].to(dtype), faces=setup["crops"], restored=restored,
            feather=0.12, color=color, strength=1.0,
        ).result  # fmt: skip
        assert finite(pasted)


FAR = {
    "a million pixels away": square(1e6, 1e6, 30),
    "a million pixels large": square(-5e5, -5e5, 1e6),
    "1e30 away": square(1e30, -1e30, 30),
    "NaN": square(math.nan, 0, 30),
    "infinite": square(0, 0, math.inf),
    "of no size": square(10, 10, 0),
    "of a millionth pixel": square(10, 10, 1e-6),
    "inside out": Face((40, 40, 10, 10), 1.0),
    "with NaN for a point": replace(square(10, 10, 30), points5=torch.full((5, 2), math.nan)),
    "with points in one place": replace(square(10, 10, 30), points5=torch.zeros(5, 2)),
    "with far points": replace(square(10, 10, 30), points5=torch.rand(5, 2) * 1e9),
    "with far landmarks": replace(square(10, 10, 30), landmarks=torch.rand(68, 2) * 1e9),
    "turned without end": replace(square(10, 10, 30), angle=1e300),
    "of NaN score": replace(square(10, 10, 30), score=math.nan),
}


@pytest.mark.parametrize("kind", FAR)
@pytest.mark.parametrize("shape", [(64, 64), (1, 64), (64, 1), (3, 3), (200, 10)])
def test_faces_that_cannot_be_cost_no_more_than_themselves(kind, shape, setup):
    """The whole way from an analyzer to the paste; a good face beside it is restored as well."""
    image = torch.rand(2, *shape, 4)
    good = square(0, 0, max(2, min(shape) - 1))
    s = {**setup, "told": Told(FAR[kind], good)}
    try:
        found, crops, preview, count, _ = _detect(s, image, 0.0).result
    except FacewrightError as error:
        assert min(shape) < 10, str(error)
        return
    assert 1 <= count // 2 <= 2 and finite([found, crops, preview])
    assert preview.shape[1:3] == image.shape[1:3]
    pasted, mask, _ = faces.PasteFaces.execute(
        image=image, faces=found, restored=1 - crops, feather=0.12, color="none", strength=1.0
    ).result
    assert finite([pasted, mask])
    assert torch.equal(pasted[mask == 0], image[mask == 0])


@pytest.mark.parametrize("kind", FAR)
def test_faces_that_are_aligned_without_an_analyzer(kind):
    pictures = torch.rand(1, 3, 40, 60)
    try:
        crops = align_faces(pictures, [[FAR[kind]]], 64)
    except FacewrightError:
        return
    assert finite(crops)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(2, 3),
        torch.full((2, 3), math.nan),
        torch.tensor([[math.inf, 0, 0], [0, math.inf, 0]]),
        torch.tensor([[1e-9, 0, 0], [0, 1e-9, 0]]),
        torch.tensor([[1e-30, 0, 1e30], [0, 1e-30, 1e30]]),
        torch.tensor([[1e30, 0, 0], [0, 1e30, 0]]),
        torch.tensor([[1.0, 0, 1e30], [0, 1, -1e30]]),
    ],
)
def test_maps_that_lead_nowhere(matrix):
    with contextlib.suppress(FacewrightError):
        assert finite(warp(torch.rand(3, 20, 30), matrix.double(), (0, 0, 16, 16)))


def _crops(setup):
    c = setup["crops"]
    nan = torch.full_like(c.matrix, math.nan)
    return {
        "places of NaN": replace(c, matrix=nan),
        "places that are none": replace(c, matrix=torch.zeros_like(c.matrix)),
        "places a million pixels away": replace(c, matrix=c.matrix + 1e6),
        "enormous": replace(c, matrix=c.matrix * 1e-9),
        "tiny": replace(c, matrix=c.matrix * 1e9),
        "another picture's": replace(c, image_index=torch.tensor([0, 9])),
        "negative": replace(c, image_index=torch.tensor([0, -1])),
        "fewer places": replace(c, matrix=c.matrix[:1]),
        "pixels of NaN": replace(c, pixels=torch.full_like(c.pixels, math.nan)),
        "other sizes": replace(c, image_sizes=[(9, 9), (9, 9)]),
        "none": replace(
            c, pixels=c.pixels[:0], matrix=c.matrix[:0], image_index=c.image_index[:0],
            boxes=c.boxes[:0], scores=c.scores[:0], landmarks=None,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [
    "places of NaN", "places that are none", "places a million pixels away", "enormous", "tiny",
    "another picture's", "negative", "fewer places", "pixels of NaN", "other sizes", "none",
])  # fmt: skip
@pytest.mark.parametrize("node", ["paste", "smooth", "match", "mask"])
def test_faces_of_every_kind(node, kind, setup):
    crops = _crops(setup)[kind]
    s = {**setup, "crops": crops}
    restored = setup["good"][: len(crops)]
    runs = {
        "paste": lambda: _paste(s, s["good"], restored),
        "smooth": lambda: _smooth(s, s["good"]),
        "match": lambda: _match(s, s["good"]),
        "mask": lambda: _mask(s),
    }
    try:
        assert finite(runs[node]().result)
    except FacewrightError as error:
        assert str(error).endswith(".")


LATENTS = {
    "NaN": lambda z: z * math.nan, "infinity": lambda z: z + math.inf, "none": lambda z: z[:0],
    "nothing": lambda z: None, "whole numbers": lambda z: z.long(),
    "one axis": lambda z: z.flatten(),
    "five axes": lambda z: z[None], "three axes": lambda z: z[0], "a number": lambda z: z.sum(),
    "another model's": lambda z: z[:, :4], "one cell": lambda z: z[..., :1, :1],
    "half": lambda z: z.half(), "three for two": lambda z: z[[0, 0, 1]],
}  # fmt: skip


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("kind", LATENTS)
def test_latents_of_every_kind(kind, wrapped, setup):
    latent = LATENTS[kind](setup["latent"])
    options = {"phi": 1.0, "mode": "cached", "lq_timestep": 0, "lq_seed": 0}
    try:
        result = flipnet.ApplyBoostHub.execute(
            model=setup["hub_model"], boosthub=setup["hubs"],
            condition={"samples": latent} if wrapped else latent, **options,
        ).result  # fmt: skip
    except FacewrightError as error:
        assert "`condition`" in str(error), str(error)
        return
    assert result[1] is None or finite(result[1]) or kind == "nothing"


CONDITIONINGS = {
    "none": [], "nothing": None, "text": "a face", "no tensor": [["a face", {}]],
    "NaN": [[torch.full((2, 77, 128), math.nan), {}]], "two": [[torch.zeros(1, 77, 128), {}]] * 2,
    "two axes": [[torch.zeros(77, 128), {}]],
    "whole numbers": [[torch.ones(1, 77, 128).long(), {}]],
    "three faces": [[torch.zeros(3, 77, 128), {}]], "no face": [[torch.zeros(0, 77, 128), {}]],
}  # fmt: skip


@pytest.mark.parametrize("kind", CONDITIONINGS)
def test_conditionings_of_every_kind(kind, setup):
    with pytest.raises(FacewrightError, match="`conditioning`"):
        _restore({**setup, "cond": CONDITIONINGS[kind]}, setup["good"])


def test_recipes_that_end_at_another_size():
    recipe = (
        '[{"seed": 1, "size": [64, 64], "steps": [{"op": "resize", "size": [20, 30], '
        '"mode": "area"}]}]'
    )
    result = degrade.Degrade.execute(
        image=PICTURES["one picture"], preset="mild", seed=0, recipe=recipe
    ).result
    assert result[0].shape == (1, 20, 30, 3)
    with pytest.raises(FacewrightError, match="ends at 30 x 20 pixels"):
        degrade.Degrade.execute(image=PICTURES["alpha"][:1], preset="mild", seed=0, recipe=recipe)


def test_an_analyzer_may_find_nonsense_beside_faces(caplog):
    image = torch.rand(3, 50, 50)
    good = square(5, 5, 20)
    assert detect_faces(Told(FAR["NaN"], good, FAR["1e30 away"]), image) == [good]
    assert "2 of 3 faces" in caplog.text
