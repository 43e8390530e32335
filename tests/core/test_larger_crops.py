"""Crops larger than the models' own: who only looks at faces sees its own size, in every method."""

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.eyes import eye_crops
from facewright.core.geometry.warp import shrunk
from facewright.core.methods.classic import ClassicFaces
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.pipeline.options import RestoreOptions

from .test_osdface import SMALL


def grain(count, side, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def block_means(x, k):
    n, c, h, w = x.shape
    return x.double().reshape(n, c, h // k, k, w // k, k).mean((3, 5)).float()


def embedder():
    torch.manual_seed(3)
    vre = VisualRepresentationEmbedder(SMALL).eval()
    torch.nn.init.normal_(vre.quantize.embedding.weight)
    return vre


def encoder():
    torch.manual_seed(3)
    config = FaceEncoderConfig(encoder=SMALL.encoder, input_size=32, hidden=8, width=12)
    return FaceEncoder(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("make", [embedder, encoder])
def test_an_embedder_sees_crops_of_any_size_at_its_own(make):
    network, shapes = make(), []
    network.encoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[-2:]))
    for side in (32, 48, 64):
        network(grain(1, side))
    assert set(shapes) == {(32, 32)}


def test_shrinking_a_crop_is_cutting_it_out_smaller():
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(coarse, (500, 500), mode="bicubic").clamp(0, 1)
    faces = [[Face((150, 140, 350, 340), 1.0, angle=0.2)]]
    own = align_faces(picture, faces, 64).pixels
    for size in (96, 128):
        larger = align_faces(picture, faces, size).pixels
        assert (shrunk(larger, 64) - own).abs().max() < 0.01
    assert shrunk(own, 64) is own and shrunk(own, 128) is own


def test_eyes_of_large_faces_are_not_sampled_with_gaps():
    faces = grain(2, 1024)
    landmarks = 300 + 400 * torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(5))
    half = (landmarks + 0.5) / 2 - 0.5
    expected = eye_crops(block_means(faces, 2), half, 24)
    assert torch.allclose(eye_crops(faces, landmarks, 24), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["nano", "nano-honestface", "nano-flipnet"])
def test_the_diffusion_model_sees_the_larger_crop(weights):
    from facewright.core.demo import picture
    from facewright.headless.make.restore import load_restorer

    restorer, seen = load_restorer(weights), []
    encode = type(restorer.method.backbone).encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(restorer.method.backbone),
            "encode",
            lambda self, pixels, *more: (
                seen.append(pixels.shape[-1]) or encode(self, pixels, *more)
            ),
        )
        method = None
        if weights == "nano-flipnet":
            method = type(restorer.method.options)(steps=1)
        lq = picture("face")[0][0]
        done = restorer.restore(lq, RestoreOptions(size=192, max_faces=1, method=method))
    assert seen == [192] and done.faces == 1


def test_what_sees_512_pixels_only_refuses_more():
    class Network:
        class architecture:  # noqa: N801
            name, id = "GFPGAN", "GFPGAN"

        purpose = "FaceSR"

    with pytest.raises(FacewrightError, match="GFPGAN sees faces of 512 pixels and no larger"):
        ClassicFaces(model=Network()).restore(torch.rand(1, 3, 768, 768), [None])
