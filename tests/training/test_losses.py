"""Losses against independent float64 re-creations on fixed tensors."""

import math

import numpy as np
import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.modules.quantizer import VectorQuantizer
from facewright.core.modules.vgg import VGG16, VGG19
from facewright.core.people.recogniser import arcface_crop
from facewright.training.losses.adversarial import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from facewright.training.losses.association import association_loss, retrieval_rate
from facewright.training.losses.identity import IdentityLoss
from facewright.training.losses.perceptual import (
    Dists,
    EdgeAwarePerceptual,
    feature_distance,
    sobel_magnitude,
)
from facewright.training.losses.pixel import box_weights, chroma, sobel
from facewright.training.losses.vq import CodebookCare, usage, vq_loss
from safetensors.torch import save_file
from torch import nn


def images(seed, b=2, size=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, 3, size, size, generator=generator, dtype=torch.float64)


class Extractor(nn.Module):
    """Two stages of known arithmetic."""

    def features(self, x):
        return [x[:, :2] * x[:, 1:], x.mean(1, keepdim=True)[..., ::2, ::2].sqrt()]


def naive_sobel(image):
    """(3, h, w) numpy -> (h, w), by loops."""
    grey = np.pad(image.mean(0), 1)
    k = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    h, w = image.shape[1:]
    out = np.empty((h, w))
    for i in range(h):
        for j in range(w):
            patch = grey[i : i + 3, j : j + 3]
            out[i, j] = math.sqrt((patch * k).sum() ** 2 + (patch * k.T).sum() ** 2 + 1e-6)
    return out


def test_sobel_magnitude_is_the_plain_filter_on_grey():
    x = images(0)
    edges = sobel_magnitude(x)
    for n in range(len(x)):
        expected = naive_sobel(x[n].numpy())
        for c in range(3):
            np.testing.assert_allclose(edges[n, c].numpy(), expected, rtol=1e-12)


def naive_dists(x, y, alpha=None, beta=None):
    """One pair (3, h, w); weights are indexed stage by stage."""
    stages = [
        (a[0].numpy(), b[0].numpy())
        for a, b in zip(
            [x[None], *Extractor().features(x[None])],
            [y[None], *Extractor().features(y[None])],
            strict=True,
        )
    ]
    total, at = 0.0, 0
    norm = 1.0 if alpha is None else float((alpha + beta).sum())
    for fx, fy in stages:
        for j in range(len(fx)):
            a, b = fx[j].ravel(), fy[j].ravel()
            texture = (2 * a.mean() * b.mean() + 1e-6) / (a.mean() ** 2 + b.mean() ** 2 + 1e-6)
            cov = ((a - a.mean()) * (b - b.mean())).mean()
            structure = (2 * cov + 1e-6) / (a.var() + b.var() + 1e-6)
            if alpha is None:
                total += (texture + structure) / (2 * len(stages) * len(fx))
            else:
                total += float(alpha[at] * texture + beta[at] * structure) / norm
            at += 1
    return 1 - total


@pytest.mark.parametrize("learned", [False, True])
def test_dists_matches_its_definition(learned):
    x, y = images(1), images(2)
    weights = (torch.rand(6).double(), torch.rand(6).double()) if learned else (None, None)
    result = Dists(Extractor(), *weights)(x, y)
    expected = [naive_dists(x[n], y[n], *weights) for n in range(2)]
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9)


def test_dists_is_zero_on_equal_images_and_refuses_foreign_weights():
    x = images(3)
    assert EdgeAwarePerceptual(Dists(Extractor()))(x, x).abs() < 1e-9
    with pytest.raises(FacewrightError, match="7 channels"):
        Dists(Extractor(), torch.ones(7), torch.ones(7))(x, x)


def test_edge_aware_perceptual_adds_the_distance_of_the_edges():
    x, y = images(4), images(5)

    def naive_edges(z):
        stack = [np.repeat(naive_sobel(i.numpy())[None], 3, 0) for i in z]
        return torch.from_numpy(np.stack(stack))

    expected = np.mean(
        [
            naive_dists(x[n], y[n]) + naive_dists(naive_edges(x)[n], naive_edges(y)[n])
            for n in range(2)
        ]
    )
    assert float(EdgeAwarePerceptual(Dists(Extractor()))(x, y)) == pytest.approx(expected, rel=1e-9)


def test_dists_has_a_gradient_on_flat_images():
    x = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    EdgeAwarePerceptual(Dists(Extractor()))(x, images(6, b=1, size=8).float()).backward()
    assert torch.isfinite(x.grad).all()


def test_vgg16_reads_torchvision_names_and_pools_by_root_mean_square(tmp_path):
    torch.manual_seed(0)
    model = VGG16()
    tensors = {k.replace("features_.", "features."): v for k, v in model.state_dict().items()}
    save_file({**tensors, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.safetensors")
    loaded, learned = VGG16.from_file(tmp_path / "vgg.safetensors")
    assert learned is None
    maps = loaded.features(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)
    ]  # fmt: skip
    flat = loaded._pool(torch.full((1, 2, 8, 8), 3.0))
    torch.testing.assert_close(flat[..., 1:, 1:], torch.full((1, 2, 3, 3), 3.0))
    weights = {"alpha": torch.ones(1, 1475, 1, 1), "beta": torch.ones(1, 1475, 1, 1)}
    save_file({**tensors, **weights}, tmp_path / "dists.safetensors")
    loaded, learned = VGG16.from_file(tmp_path / "dists.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert Dists(loaded, *learned)(x, x).abs() < 1e-5


def test_vgg19_is_the_plain_network_with_torchvisions_names(tmp_path):
    torch.manual_seed(0)
    tensors = {k.replace("features_.", "features."): v for k, v in VGG19().state_dict().items()}
    assert len(tensors) == 2 * 16 and "features.34.weight" in tensors
    save_file(tensors, tmp_path / "vgg.safetensors")
    loaded, x = VGG19.from_file(tmp_path / "vgg.safetensors"), torch.rand(1, 3, 32, 32)
    h = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    # torchvision's "E": convolutions and poolings in a row, ReLU after each convolution.
    wanted, index = [], 0
    for step in [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]:
        if step == "M":
            wanted.append(h)
            h, index = nn.functional.max_pool2d(h, 2), index + 1
            continue
        weight, bias = (tensors[f"features.{index}.{k}"] for k in ("weight", "bias"))
        h, index = nn.functional.conv2d(h, weight, bias, padding=1).relu(), index + 2
    for ours, theirs in zip(loaded.features(x), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_feature_distance():
    x, y = Extractor().features(images(7)), Extractor().features(images(8))
    plain = [((a - b) ** 2).mean().item() for a, b in zip(x, y, strict=True)]
    scales = [b.numpy().var(ddof=1) for b in y]
    assert float(feature_distance(x, y, relative=False)) == pytest.approx(np.mean(plain))
    relative = np.mean([p / s for p, s in zip(plain, scales, strict=True)])
    assert float(feature_distance(x, y, relative=True)) == pytest.approx(relative)


def test_identity_loss_is_one_minus_cosine():
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()).double()
    x, y = images(9), images(10)
    pooled = [z.reshape(2, 3, 2, 6, 2, 6).mean((3, 5)).reshape(2, -1).numpy() for z in (x, y)]
    cosine = [
        (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())
        for a, b in zip(*pooled, strict=True)
    ]
    assert float(IdentityLoss(encoder)(x, y)) == pytest.approx(1 - np.mean(cosine), abs=1e-6)


def test_arcface_crop_moves_the_templates_onto_each_other():
    """FFHQ's five points at 512 px must land on ArcFace's at 112 px."""
    ffhq = [
        (192.98, 239.95),
        (318.90, 240.19),
        (256.63, 314.02),
        (201.26, 371.41),
        (313.09, 371.15),
    ]
    arcface = [(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)]
    for (x, y), expected in zip(ffhq, arcface, strict=True):
        picture = torch.zeros(1, 3, 512, 512, dtype=torch.float64)
        picture[..., round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 1
        crop = arcface_crop(picture)[0, 0]
        grid = torch.arange(112, dtype=torch.float64)
        at = (crop.sum(0) @ grid / crop.sum(), crop.sum(1) @ grid / crop.sum())
        # The two templates differ by up to 2.5 px after the best similarity; the rest is rounding.
        assert math.dist(at, expected) < 3.3


def test_adversarial_losses_against_logarithms():
    real, fake = images(11)[:, :1] * 6 - 3, images(12)[:, :1] * 6 - 3
    p_real, p_fake = 1 / (1 + np.exp(-real.numpy())), 1 / (1 + np.exp(-fake.numpy()))
    assert float(generator_loss(fake)) == pytest.approx(-np.log(p_fake).mean())
    bce = (-np.log(p_real).mean() - np.log(1 - p_fake).mean()) / 2
    assert float(discriminator_loss(real, fake)) == pytest.approx(bce)
    hinge = np.maximum(0, 1 - real.numpy()).mean() + np.maximum(0, 1 + fake.numpy()).mean()
    assert float(hinge_discriminator_loss(real, fake)) == pytest.approx(hinge / 2)
    assert float(hinge_generator_loss(fake)) == pytest.approx(-fake.numpy().mean())


def test_adaptive_weight_is_the_ratio_of_gradient_norms():
    w = torch.tensor([2.0, 1.0], dtype=torch.float64, requires_grad=True)
    weight = adaptive_weight((3 * w).sum(), (w**2).sum(), w)
    assert float(weight) == pytest.approx(3 * math.sqrt(2) / (math.sqrt(16 + 4) + 1e-4))
    assert not weight.requires_grad


def test_patch_discriminator_of_three_layers_sees_70_pixels():
    judge = PatchDiscriminator(ch=8, norm="group").double().eval()
    for parameter in judge.parameters():  # a constant net: every path counts
        parameter.data.fill_(0.01)
    judge.net = nn.Sequential(*[m for m in judge.net if isinstance(m, nn.Conv2d)])
    x = torch.zeros(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    (out,) = judge(x)
    out[0, 0, out.shape[2] // 2, out.shape[3] // 2].backward()
    rows = x.grad[0].abs().sum((0, 2)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_vq_loss_puts_beta_on_the_commitment():
    quantizer = VectorQuantizer(8, 4).double()
    nn.init.normal_(quantizer.embedding.weight)
    z = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    out = quantizer(z)
    entries = quantizer.embedding.weight.detach()[out.codes]
    mse = ((entries - z.detach()) ** 2).mean()
    loss = vq_loss(out, 0.25)
    assert loss.item() == pytest.approx(float(mse) * 1.25)
    loss.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z.detach() - entries) / z.numel())
    assert quantizer.embedding.weight.grad.abs().sum() > 0


def test_usage_of_a_uniform_and_of_a_collapsed_codebook():
    assert usage(torch.arange(8).repeat(3), 16) == (8, pytest.approx(8.0))
    assert usage(torch.zeros(20, dtype=torch.int64), 16) == (1, pytest.approx(1.0))


def test_codebook_care_fills_from_data_and_moves_only_unused_codes():
    quantizer = VectorQuantizer(6, 2)
    care = CodebookCare(quantizer, init_step=1, revive_every=4, revive_until=0.8)
    features = torch.arange(20.0).view(10, 2) + 100
    care.observe(features, torch.zeros(10, dtype=torch.int64))
    assert care.after_step(0, 0.0) == 0
    assert care.after_step(1, 0.1) == 6
    rows = quantizer.embedding.weight.detach().clone()
    assert all(any(torch.equal(r, f) for f in features) for r in rows)
    care.observe(features + 1000, torch.tensor([0, 1, 2] * 3 + [0]))
    assert care.after_step(4, 0.2) == 3
    now = quantizer.embedding.weight.detach()
    assert torch.equal(now[:3], rows[:3])
    assert (now[3:] > 1000).all()
    assert care.after_step(8, 0.9) == 0


@pytest.mark.parametrize("negatives", ["batch", "image"])
def test_association_loss_against_loops(negatives):
    generator = torch.Generator().manual_seed(0)
    hq = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    lq = hq + 0.5 * torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)

    def tokens(z):
        rows = [[z[b, :, i, j].numpy() for i in range(2) for j in range(3)] for b in range(2)]
        return rows if negatives == "image" else [rows[0] + rows[1]]

    losses = []
    for h, low in zip(tokens(hq), tokens(lq), strict=True):
        n = len(h)
        m = np.array(
            [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.07 for b in low] for a in h]
        )
        for matrix in (m, m.T):
            losses += [
                -matrix[i, i] + math.log(sum(math.exp(v) for v in matrix[i])) for i in range(n)
            ]
    result = association_loss(hq, lq, negatives=negatives)
    assert float(result) == pytest.approx(np.mean(losses))
    assert float(retrieval_rate(hq, hq)) == 1.0


def test_box_weights_have_mean_one_and_the_right_ratio():
    weights = box_weights(torch.tensor([[2.0, 1.0, 6.0, 8.0]]), 8, 3.0)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[0, 0, 1, 2] / weights[0, 0, 0, 0] == pytest.approx(3.0)
    assert weights[0, 0, 7, 6] == weights[0, 0, 1, 2]
    assert weights[0, 0, 4, 7] == weights[0, 0, 0, 0]


def test_sobel_of_a_ramp_and_chroma_of_grey():
    ramp = torch.arange(6.0).expand(1, 3, 6, 6)
    inner = sobel(ramp)[0, :, 1:-1, 1:-1]
    assert torch.equal(inner[::2].abs(), torch.full_like(inner[::2], 2.0))
    assert inner[1::2].abs().max() == 0
    assert chroma(torch.full((1, 3, 2, 2), 0.7)).abs().max() < 1e-6
