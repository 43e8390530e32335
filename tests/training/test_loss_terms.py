"""Every term of the stages' losses, and the networks in them, against float64 re-creations.

Complements test_losses.py, which has the loss functions on their own.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facewright.core.modules.quantizer import VectorQuantizer
from facewright.core.people.recogniser import arcface_crop
from facewright.core.schedule import alpha_bar
from facewright.training.losses.adversarial import PatchDiscriminator
from facewright.training.losses.identity import IdentityLoss
from facewright.training.losses.latent_discriminator import LatentDiscriminator
from facewright.training.losses.masked import MaskedFaceAlignment, attention_mask
from facewright.training.losses.perceptual import Dists, FeatureLpips, sobel_magnitude
from facewright.training.losses.pixel import box_weights, chroma, sobel
from facewright.training.losses.vq import usage, vq_loss
from facewright.training.recipe import Progress
from torch import nn

LATE = Progress(9, 0.6)


@pytest.fixture(scope="session")
def exact(tiny_recipes):
    """The loops of test_losses.py."""
    return tiny_recipes.neighbour("test_losses")


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolve(x, layer, stride=1, padding=1):
    """(c, h, w) numpy through a Conv2d's weights, one output pixel at a time."""
    weight = layer.weight.detach().double().numpy()
    bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()
    x, k = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2)), weight.shape[-1]
    h, w = ((n - k) // stride + 1 for n in x.shape[1:])
    out = np.empty((len(weight), h, w))
    for i in range(h):
        for j in range(w):
            patch = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = (weight * patch).sum((1, 2, 3)) + bias
    return out


def group_norm(x, layer):
    groups = np.split(x, layer.num_groups)
    normed = [(g - g.mean()) / math.sqrt(g.var() + layer.eps) for g in groups]
    weight, bias = (p.detach().double().numpy()[:, None, None] for p in (layer.weight, layer.bias))
    return np.concatenate(normed) * weight + bias


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


# ---- networks of losses


def test_the_patch_discriminator_is_its_layers():
    torch.manual_seed(0)
    judge = PatchDiscriminator(ch=8, layers=2, norm="group")
    x = numbers(1, 3, 16, 16)
    first, _, second, norm2, _, third, norm3, _, last = judge.net
    assert [m.stride[0] for m in (first, second, third, last)] == [2, 2, 1, 1]

    def leaky(v):
        return np.where(v > 0, v, 0.2 * v)

    h = leaky(convolve(x[0].numpy(), first, 2))
    h = leaky(group_norm(convolve(h, second, 2), norm2))
    h = leaky(group_norm(convolve(h, third), norm3))
    expected = convolve(h, last)
    (logits,) = judge(x.float())
    np.testing.assert_allclose(logits[0].detach(), expected, rtol=1e-4, atol=1e-6)
    one, two = judge(x.float(), x.float())
    assert torch.equal(one, logits) and torch.equal(two, logits)


def test_the_latent_discriminator_noises_every_latent_for_itself(tiny_recipes):
    """softplus(-D) and the like see head(encoder(sqrt(a) z + sqrt(1 - a) eps, t, p))."""
    unet = tiny_recipes.neighbour("test_onestep").random_unet()
    judge = LatentDiscriminator(copy.deepcopy(unet), rank=2, hidden=32)
    z, cond = numbers(2, 4, 32, 32), numbers(2, 5, 12, seed=1)
    torch.manual_seed(3)
    logits = judge(z.float(), cond.float())
    torch.manual_seed(3)
    t, eps = torch.randint(0, 1000, (2,)), torch.randn(2, 4, 32, 32)
    assert t[0] != t[1]

    beta = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    a = np.cumprod(1 - beta)[t.numpy()][:, None, None, None]
    z_t = np.sqrt(a) * z.numpy() + np.sqrt(1 - a) * eps.double().numpy()
    seen = []
    unet.mid_block.register_forward_hook(lambda *args: seen.append(args[-1].double().numpy()))
    with torch.no_grad():
        unet(torch.from_numpy(z_t).float(), t, encoder_hidden_states=cond.float())
    conv1, norm, _, conv2 = judge.head
    for bottleneck, ours in zip(seen[0], logits, strict=True):
        h = group_norm(convolve(bottleneck, conv1), norm)
        expected = convolve(h / (1 + np.exp(-h)), conv2)
        np.testing.assert_allclose(ours.detach(), expected, rtol=1e-3, atol=1e-5)


# ---- loss functions that test_losses.py sees on special pictures alone


def test_pixel_weights_against_loops():
    box = torch.tensor([[2.0, 1.0, 6.5, 8.0], [-3.0, 0.5, 4.0, 30.0]])
    weights = box_weights(box, 10, 3.5).double().numpy()
    for b, (x0, y0, x1, y1) in enumerate(box.tolist()):
        raw = np.array(
            [
                [3.5 if x0 <= x <= x1 and y0 <= y <= y1 else 1.0 for x in range(10)]
                for y in range(10)
            ]
        )
        np.testing.assert_allclose(weights[b, 0], raw / raw.mean(), rtol=1e-6)


def test_sobel_and_chroma_against_loops(exact):
    x = exact.images(20, b=1)
    horizontal = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    expected = np.empty((6, 12, 12))
    for c in range(3):
        for i in range(12):
            for j in range(12):
                patch = padded[c, i : i + 3, j : j + 3]
                expected[2 * c, i, j] = (patch * horizontal).sum()
                expected[2 * c + 1, i, j] = (patch * horizontal.T).sum()
    np.testing.assert_allclose(sobel(x)[0], expected, rtol=1e-9, atol=1e-12)
    r, g, b = x[0].numpy()
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    np.testing.assert_allclose(chroma(x)[0], [r - luma, g - luma, b - luma], rtol=1e-6, atol=1e-7)


def test_masked_alignment_lays_both_pictures_on_mid_grey(exact):
    """With a distance that is not one of differences, so that the background counts."""
    x, y = exact.images(21), exact.images(22)
    mask = exact.images(23)[:, :1]
    expected = []
    for a, b, m in zip(x, y, mask, strict=True):
        laid = [m * p + (1 - m) * 0.5 for p in (a, b)]
        stages = []
        pairs = zip(*(exact.Extractor().features(p[None]) for p in laid), strict=True)
        for f, g in pairs:
            f, g = (v[0].flatten(1).T.numpy() for v in (f, g))
            f, g = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (f, g))
            stages.append(((f - g) ** 2).sum(1).mean())
        expected.append(np.mean(stages))
    loss = MaskedFaceAlignment(FeatureLpips(exact.Extractor()))
    assert float(loss(x, y, mask)) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("crop", ["full", "arcface"])
def test_the_identity_loss_looks_at_its_crop(crop):
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()).double()
    x, y = (numbers(2, 3, 64, 64, seed=s).abs() for s in (1, 2))
    cosines = []
    for a, b in zip(x, y, strict=True):
        if crop == "arcface":
            a, b = arcface_crop(a[None])[0], arcface_crop(b[None])[0]
        u, v = (F.adaptive_avg_pool2d(p, 3).flatten().numpy() for p in (a, b))
        cosines.append(u @ v / math.sqrt((u @ u) * (v @ v)))
    loss = IdentityLoss(encoder, crop)(x, y)
    assert float(loss) == pytest.approx(1 - np.mean(cosines), abs=1e-6)  # the pictures are float32


def test_the_codebook_feels_the_codebook_term_alone():
    quantizer = VectorQuantizer(8, 4).double()
    nn.init.normal_(quantizer.embedding.weight)
    z = numbers(3, 5, 4).requires_grad_()
    out = quantizer(z)
    vq_loss(out, 0.3).backward()
    rows, found = quantizer.embedding.weight.detach().numpy(), z.detach().numpy()
    expected, commitment = np.zeros_like(rows), 0.0
    for i in range(3):
        for j in range(5):
            nearest = min(range(8), key=lambda k, v=found[i, j]: ((v - rows[k]) ** 2).sum())
            assert int(out.codes[i, j]) == nearest
            expected[nearest] += 2 * (rows[nearest] - found[i, j]) / found.size
            commitment += ((found[i, j] - rows[nearest]) ** 2).sum() / found.size
    np.testing.assert_allclose(quantizer.embedding.weight.grad, expected, atol=1e-12)
    assert vq_loss(out, 0.3).item() == pytest.approx(1.3 * commitment)


def test_perplexity_is_two_to_the_entropy_in_bits():
    codes = torch.tensor([0, 0, 0, 1, 1, 5, 5, 5, 5, 7])
    shares = np.array([3, 2, 4, 1]) / 10
    entropy = -(shares * np.log2(shares)).sum()
    assert usage(codes, 16) == (4, pytest.approx(2**entropy))


# ---- the stages' terms


def features_apart(f, g, relative):
    """Mean over stages of the mean squared difference, in units of g's variance if relative."""
    stages = [
        ((a - b) ** 2).mean() / (b.var(ddof=1) if relative else 1.0)
        for a, b in zip(f, g, strict=True)
    ]
    return np.mean(stages)


def test_onestep_is_eq_12_and_16(tiny, exact):
    w = tiny.values("onestep")["weights"]
    recipe, data = tiny.start("onestep", sample_latents=False), tiny.batch("onestep", size=64)
    given = dict(data)
    torch.manual_seed(7)
    terms = recipe.losses("generator", given, LATE)
    judged = recipe.losses("discriminator", given, LATE)

    nets, vae = recipe.nets, recipe.backbone.codec.vae
    with torch.no_grad():
        inputs = recipe._inputs(data, sample=False)
        z_0, cond = nets["generator"](*inputs)
        rows = inputs[1]
        torch.testing.assert_close(cond, nets["generator"].embedding_change(rows))
        a = float(alpha_bar()[399])
        eps = nets["generator"].unet(inputs[0], 399, encoder_hidden_states=cond).sample
        by_hand = (inputs[0].double() - math.sqrt(1 - a) * eps.double()) / math.sqrt(a)
        torch.testing.assert_close(z_0.double(), by_hand, rtol=1e-5, atol=1e-6)
        z_gt = vae.encode(data["gt"] * 2 - 1)
        restored = (vae.decode(z_0).double() + 1) / 2
        torch.manual_seed(7)  # the first draws are those of the generator's turn
        fooled = nets["discriminator"](z_0, cond).double().numpy()
        logits = nets["discriminator"](torch.cat([z_gt, z_0]), torch.cat([cond, cond]))
        real, fake = logits.double().numpy().reshape(2, -1)
        encoder = copy.deepcopy(nets["extractor"]).double()
        gt = data["gt"].double()
        maps = [[m.numpy() for m in encoder.features(p)] for p in (restored, gt)]
        who = [encoder(p).numpy() for p in (restored, gt)]
        dists = nets["perceptual"].double()(restored, gt)
    error = restored.numpy() - gt.numpy()
    face = box_weights(data["box"], 64, w["face"]).double().numpy()
    edges = sobel(torch.from_numpy(error)).abs().mean()
    expected = {
        "mse": (face * error**2).mean(),
        "l1": (face * np.abs(error)).mean(),
        "edges": float(edges),
        "chroma": float(chroma(torch.from_numpy(error)).abs().mean()),
        "perceptual": float(dists),
        "features": features_apart(*maps, relative=True),
        "identity": 1 - np.mean([u @ v for u, v in zip(*who, strict=True)]),
        "latent": ((z_0 - z_gt).double() ** 2).mean().item(),
        "gan": softplus(-fooled).mean(),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(w[name] * value, rel=1e-3), name
    bce = (softplus(-real).mean() + softplus(fake).mean()) / 2
    assert judged.keys() == {"bce"} and judged["bce"].item() == pytest.approx(bce, rel=1e-4)


@pytest.mark.parametrize("arm", ["ea-dists", "dists", "ea-lpips", "lpips", "none"])
def test_the_global_perceptual_term_is_the_one_that_is_named(tiny, arm):
    recipe = tiny.start("onestep", perceptual=arm, weights={"gan": 0, "identity": 0})
    data = tiny.batch("onestep")
    x = data["gt"]
    terms = recipe._compare(x, {**data, "gt": x.flip(3)})
    if arm == "none":
        assert "perceptual" not in terms and "perceptual" not in recipe.nets
        return
    term = recipe.nets["perceptual"]
    plain = term.distance if arm.startswith("ea-") else term
    assert type(plain) is (Dists if arm.endswith("dists") else FeatureLpips)
    expected = plain(x, x.flip(3)).mean()
    if arm.startswith("ea-"):
        expected += plain(sobel_magnitude(x), sobel_magnitude(x.flip(3))).mean()
    assert terms["perceptual"].item() == pytest.approx(0.7 * expected.item(), rel=1e-5)


def test_honestface_adds_eq_13(tiny, exact):
    recipe, data = tiny.start("honestface"), tiny.batch("honestface", size=64)
    seen = []
    recipe.nets["mfa"].register_forward_hook(lambda _, args, out: seen.append(args))
    terms = recipe.losses("generator", dict(data), LATE)
    restored, gt, mask = (v.detach() for v in seen[0])
    assert torch.equal(gt, data["gt"])
    heat = recipe.landmarker.heatmaps(data["lq"])
    assert torch.equal(mask, attention_mask(heat, 64)) and mask.any()
    encoder = copy.deepcopy(recipe.nets["mfa"].distance.extractor).double()
    laid = [mask.double() * p.double() + (1 - mask.double()) * 0.5 for p in (restored, gt)]
    total = []
    for f, g in zip(*(encoder.features(p) for p in laid), strict=True):
        f, g = (v / v.norm(dim=1, keepdim=True) for v in (f, g))
        total.append(((f - g) ** 2).sum(1).mean().item())
    assert terms["mfa"].item() == pytest.approx(0.9 * np.mean(total), rel=1e-3)


def log_sigmoid(logits):
    return -(1 + (-logits).exp()).log()


GENERATOR = {
    "hinge": lambda fake: -fake.mean(),
    "log": lambda fake: -log_sigmoid(fake).mean(),
    "log-saturating": lambda fake: (1 - 1 / (1 + (-fake).exp())).log().mean(),
}


ARMS = {
    "features": {},
    "relative": {"relative_features": True},
    "lpips": {"distance": "lpips"},
}


@pytest.mark.parametrize(
    ("stage", "arm", "gan_loss"),
    [
        *itertools.product(["vre-hq", "face-autoencoder"], ARMS, ["hinge"]),
        ("vre-hq", "features", "log"),
        ("face-autoencoder", "features", "log-saturating"),
    ],
)
def test_a_branch_is_l1_features_and_a_balanced_gan(tiny, stage, arm, gan_loss):
    recipe = tiny.start(stage, **ARMS[arm], gan_loss=gan_loss)
    data = tiny.batch(stage)
    branch = "hq" if stage == "vre-hq" else "lq"
    given = dict(data)
    terms = recipe.losses("autoencoder", given, LATE)
    judged = recipe.losses("discriminator", given, LATE)

    net, judge = (recipe.nets[n].double() for n in (branch, f"d_{branch}"))
    nets = recipe.nets
    encoder = (nets["perceptual"].extractor if arm == "lpips" else nets["extractor"]).double()
    picture = data["gt" if branch == "hq" else "lq"]
    out = net(picture.double())
    # Resized in float32 or float64, a picture differs in the last digits.
    torch.testing.assert_close(out.target, given[f"{branch}_target"].double(), rtol=0, atol=1e-5)
    restored, target = out.restored, out.target
    maps = [encoder.features((p + 1) / 2) for p in (restored, target)]
    if arm == "lpips":
        maps = [[f / f.norm(dim=1, keepdim=True) for f in stages] for stages in maps]
        stages = [((f - g) ** 2).sum(1).mean() for f, g in zip(*maps, strict=True)]
    else:
        stages = [
            ((f - g) ** 2).mean() / (g.detach().var() if arm == "relative" else 1)
            for f, g in zip(*maps, strict=True)
        ]
    parts = {"l1": (restored - target).abs().mean(), "perceptual": 0.7 * sum(stages) / len(stages)}
    last = net.decoder.conv_out.weight
    fool = GENERATOR[gan_loss](judge(restored)[0])
    pulls = [
        torch.autograd.grad(v, last, retain_graph=True)[0].square().sum().sqrt().item()
        for v in (sum(parts.values()), fool)
    ]
    parts["gan"] = 0.8 * min(1e4, pulls[0] / (pulls[1] + 1e-4)) * fool
    if stage == "vre-hq":
        z = out.features.permute(0, 2, 3, 1)
        rows = net.quantize.embedding.weight[out.quantized.codes]
        parts["vq"] = 1.25 * ((z - rows) ** 2).mean()
    for name, value in parts.items():
        assert terms[f"{branch}_{name}"].item() == pytest.approx(value.item(), rel=2e-3), name
    real, fake = (judge(v.double())[0].detach().numpy() for v in (target, restored))
    if gan_loss == "hinge":
        loss = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    else:
        p_real, p_fake = (1 / (1 + np.exp(-v)) for v in (real, fake))
        loss = -np.log(p_real).mean() - np.log(1 - p_fake).mean()
    assert judged[f"{branch}_{gan_loss}"].item() == pytest.approx(loss / 2, rel=1e-4)


def test_clean_conditions_leave_the_mean_and_v_weighs_by_alpha_bar(tiny):
    """FLIPNET's Eq. 7 with both options: errors over alpha_bar, over the noisy samples alone."""
    recipe = tiny.start("flipnet-degrade", sample_latents=False, weighting="v", clean_condition=0.5)
    data, seen = tiny.batch("flipnet-degrade", b=6), {}
    recipe.nets["denoiser"].register_forward_hook(
        lambda _, args, out: seen.update(z_t=args[0], t=args[1], eps_hat=out)
    )
    torch.manual_seed(2)
    terms = recipe.losses("main", data, LATE)
    vae = recipe.backbone.codec.vae.double()
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(data[k].double() * 2 - 1) for k in ("lq", "gt")]).numpy()
    z_t, eps_hat = (seen[k].detach().double().numpy() for k in ("z_t", "eps_hat"))
    a = alpha_bar().numpy()[seen["t"].numpy()]
    errors = []
    for i in range(12):
        if np.abs(z_t[i] - z_0[i]).max() < 1e-5:
            assert i >= 6 and seen["t"][i] == 0  # as in use: the condition alone, without noise
            continue
        eps = (z_t[i] - math.sqrt(a[i]) * z_0[i]) / math.sqrt(1 - a[i])
        errors.append((i, ((eps_hat[i] - eps) ** 2).mean() / a[i]))
    own, looked_at = ([e for i, e in errors if (i < 6) == first] for first in (True, False))
    assert len(own) == 6 and 0 < len(looked_at) < 6
    assert terms["eps_input"].item() == pytest.approx(np.mean(own) / 2, rel=1e-3)
    assert terms["eps_condition"].item() == pytest.approx(np.mean(looked_at) / 2, rel=1e-3)
