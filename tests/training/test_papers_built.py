"""What `*_paper.yaml` calls [paper] is what is built: networks, pooling, taps, weights, losses.

The values here are the papers' own, written down again and not read from the configs.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from facewright.core.modules.vgg import VGG16, VGG19
from facewright.training._lora import lora_layers
from facewright.training.loop.optim import build_optimizers
from facewright.training.losses import perceptual
from facewright.training.losses.identity import IdentityEnsemble
from facewright.training.losses.masked import Lpips
from facewright.training.methods import _branches, vre
from torch import nn

_spec = importlib.util.spec_from_file_location(
    "facewright_papers", Path(__file__).with_name("papers.py")
)
papers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(papers)

STEPS = {
    "vre_hq": 219000, "vre_lq": 44000, "vre_associate": 44000, "onestep": 150000,
    "honestface": 60000, "face_autoencoder_hq": 200000, "face_autoencoder_lq": 200000,
    "face_associate": 80000, "flipnet_degrade": 90000, "flipnet_restore": 90000,
}  # fmt: skip
RATES = {"vre": 1.44e-4, "onestep": 1e-4, "honestface": 1e-4, "flipnet": 5e-5}


def stem(built):
    return built.name.split("_")[0]


def images(seed):
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


# ---- budget, data, optimisers


def budget(b):
    assert b.config.budget.max_steps == STEPS[b.name]


def total_batch(b):
    paper = {"onestep": 2, "honestface": 4, "flipnet": 16}
    assert b.config.total_batch == paper.get(stem(b), 32)


def data(b):
    """Folders, sizes, shares and captions, whichever key of the section is marked."""
    data = b.config.data
    assert data.size == 512
    if b.name == "flipnet_degrade":
        limits = {f.folder.name: f.limit for f in data.folders}
        assert limits == {"dense_haze": None, "lol": None, "sidd": 1000, "realblur_j": 1000}
        assert (data.faces.name, data.faces_limit) == ("ffhq", 4000)
    else:
        folders = data.folder if isinstance(data.folder, tuple) else (data.folder,)
        paper = {"honestface": ["reface_hq", "celebref_hq"], "osdface": ["ffhq", "ffhqr"]}
        found = [f.parent.name if b.name == "honestface" else f.name for f in folders]
        assert found == paper.get(b.recipe.method, ["ffhq"])
    if stem(b) == "flipnet":
        assert data.captions


def degradation(b):
    paper = "honestface" if b.name == "honestface" else "flipnet"
    assert b.config.degradation.presets == (paper,)


def off_shelf(b):
    assert b.config.off_shelf.share == 0.5


def optimizers(b):
    for phase, networks in b.recipe.phases().items():
        named = [item for n in networks for item in b.trained[n].named_parameters()]
        (made,) = build_optimizers(named, b.config.optimizers[phase], b.recipe.adam_only())
        assert type(made) is torch.optim.AdamW
        assert {g["lr"] for g in made.param_groups} == {RATES[stem(b)]}
        if stem(b) == "vre":  # Adam: AdamW without decay
            assert {g["weight_decay"] for g in made.param_groups} == {0}


# ---- autoencoders


class Doubles(nn.Module):
    """Stands for a perceptual network."""

    def features(self, x):
        return [2 * x, x.mean((2, 3), keepdim=True).expand_as(x)]

    def forward(self, x, y):
        return (x - y).abs().mean((1, 2, 3)) + 3


def branch(b, monkeypatch, **parts):
    """Terms of the first branch for pictures of ours, its discriminator being the mean."""
    name = next(iter(b.recipe.branches))
    monkeypatch.setattr(_branches, "adaptive_weight", lambda *args: torch.tensor(1.0))
    monkeypatch.setattr(b.recipe, "_latent_terms", lambda *args: {})
    b.nets[f"d_{name}"] = lambda *pictures: [p.mean((1, 2, 3)) for p in pictures]
    b.recipe.nets = b.nets
    out = SimpleNamespace(restored=images(0) * 2 - 1, target=images(1) * 2 - 1)
    with papers.looking_through(b, Doubles()):
        return out, b.recipe._terms(name, out, adversarial=True)


def weight_of_l_per(b, monkeypatch):
    _, terms = branch(b, monkeypatch)
    x, y = images(0), images(1)
    if stem(b) == "vre":
        maps = zip(Doubles().features(x), Doubles().features(y), strict=True)
        wanted = sum((f - g).square().mean() / g.var() for f, g in maps) / 2  # lambda_per = 1
    else:
        wanted = 0.5 * Doubles()(x, y).mean()  # lambda_ap = 0.5
    torch.testing.assert_close(terms["perceptual"], wanted)


def network_of_l_per(b):
    net = b.nets["extractor"]
    assert type(net) is VGG19 and b.read["vgg"] == ["vgg19.safetensors"]
    assert len(net.features_) == 16 and [s[-1] for s in net.stages] == [2, 7, 16, 25, 34]


def squared_distance(b, monkeypatch):
    assert "perceptual" not in b.nets and b.recipe.config.distance == "features"


def gan(b, monkeypatch):
    out, terms = branch(b, monkeypatch)
    fake = out.restored.mean((1, 2, 3))
    wanted = F.softplus(-fake).mean() if stem(b) == "vre" else -fake.mean()
    torch.testing.assert_close(terms["gan"], 0.8 * wanted)


def gan_loss(b, monkeypatch):
    gan(b, monkeypatch)
    name = next(iter(b.recipe.branches))
    real, fake = images(0), images(1)
    batch = {f"{name}_target": real, f"{name}_restored": fake}
    for other in b.recipe.branches:
        b.nets[f"d_{other}"] = b.nets[f"d_{name}"]
        batch |= {f"{other}_target": real, f"{other}_restored": fake}
    judged = b.recipe._discriminator(batch)
    r, f = real.mean((1, 2, 3)), fake.mean((1, 2, 3))
    wanted = -(r.sigmoid().log().mean() + (1 - f.sigmoid()).log().mean())
    torch.testing.assert_close(
        judged[f"{name}_log"], wanted / 2
    )  # halved, which Adam does not feel


def beta(b, monkeypatch):
    monkeypatch.setattr(vre, "vq_loss", lambda quantized, beta: beta)
    monkeypatch.setattr(b.recipe, "care", {})
    assert b.recipe._latent_terms("hq", SimpleNamespace(quantized=None)) == {"vq": 0.25}


def kl(b, monkeypatch):
    assert b.recipe._latent_terms("hq", None) == {}


def association(b, monkeypatch):
    """Eq. 9 / Eq. 6 at temperature 0.07 over the tokens of a picture, or of the batch (DAEFR)."""
    monkeypatch.setattr(_branches.BranchRecipe, "losses", lambda *args: {})
    x, y = images(2), images(3)
    terms = b.recipe.losses("autoencoder", {"hq_features": x, "lq_features": y}, None)
    tokens = [F.normalize(z.flatten(2).transpose(1, 2), dim=2) for z in (x, y)]
    if stem(b) == "vre":
        tokens = [t.reshape(1, -1, 3) for t in tokens]
    total = 0.0
    for h, z in zip(*tokens, strict=True):
        for rows in (h @ z.T, z @ h.T):
            total -= (rows / 0.07).log_softmax(1).diagonal().mean() / 2
    torch.testing.assert_close(terms["association"], total / len(tokens[0]), rtol=1e-4, atol=1e-4)


def pretrained(b):
    assert b.read["init"] == ["kl-f32.ckpt"]
    shape = next(iter(b.trained.values())).config.encoder
    assert (shape.ch_mult, shape.z_channels) == ((1, 1, 2, 2, 4, 4), 64)


# ---- generators


def backbone(b):
    assert b.config.recipe.backbone.source == "sd"


def unet(b):
    first = b.trained.get("generator") or b.trained["denoiser"]
    return getattr(first, "bare_unet", None) or first.unet


def rank(b):
    layers = lora_layers(unet(b))
    paper, count = (64, 128) if stem(b) == "flipnet" else (16, 278)
    assert len(layers) == count
    assert {layer.r["default"] for layer in layers.values()} == {paper}
    if stem(b) == "flipnet":
        assert all(".attn1." in k or ".attn2." in k for k in layers)


def alpha(b):
    assert {layer.scaling["default"] for layer in lora_layers(unet(b)).values()} == {1.0}


def boosthubs(b):
    hubs = b.trained["denoiser"].hubs
    assert round(sum(p.numel() for p in hubs.parameters() if p.requires_grad) / 1e6, 1) == 49.6


def mse(b):
    """Its weight is printed, those of the other terms are not."""
    b.recipe.nets = {}
    terms = b.recipe._compare(images(0), {"gt": images(1), "box": torch.zeros(2, 4)})
    torch.testing.assert_close(terms["mse"], (images(0) - images(1)).square().mean())


def ea_dists(b):
    term = b.nets["perceptual"]
    assert type(term) is perceptual.EdgeAwarePerceptual
    dists = term.distance
    assert type(dists) is perceptual.Dists and type(dists.extractor) is VGG16
    assert dists.extractor.pooling == "l2"
    assert [s[-1] for s in dists.extractor.stages] == [2, 7, 14, 21, 28]  # relu1_2 to relu5_3
    assert torch.equal(dists.alpha.cpu(), papers.DISTS["alpha"].flatten())
    assert torch.equal(dists.beta.cpu(), papers.DISTS["beta"].flatten())


def identity(b):
    paper = {"arcface-r50"} if b.name == "onestep" else {"arcface-r50", "adaface-ir50"}
    ensemble = b.nets["identity"]
    assert type(ensemble) is IdentityEnsemble
    assert {r.name for r in ensemble.recognisers} == paper


def discriminator(b):
    net = b.trained["discriminator"]
    assert lora_layers(net.encoder) and not any("up_blocks" in k for k in net.state_dict())
    if b.name == "honestface":
        carried = b.config.recipe.discriminator.carry_on
        assert carried.parts[-2:] == ("onestep", "checkpoints")


def start(b):
    assert b.config.recipe.start.name == "onestep_lora.safetensors"
    assert b.config.recipe.lora_layers == "from file"


# ---- HonestFace


def tokens(b):
    return b.trained["generator"].ide


def face_recogniser(b):
    assert b.nets["ide_recogniser"].name == "arcface-r50"


def eye_network(b):
    net = b.nets["ide_extractor"]
    assert type(net) is VGG16 and net.pooling == "max"


def eye_taps(b):
    config = tokens(b).config
    assert (config.colour_channels, config.structure_channels) == (64, 256)  # relu1_2, relu3_3


def queries(b):
    assert tokens(b).config.queries == 7


def identity_values(b):
    assert tokens(b).config.identity_values == "embeddings"


def fusion(b):
    parts = {tuple(p.shape) for p in tokens(b).fusion.parameters()}
    assert parts == {(77, 77), (77, 11)}  # 77 of the face, 4 + 7 of the references


def mfa(b):
    assert type(b.nets["mfa"].distance) is Lpips and b.read["lpips"] == ["alex"]


def sharpness(b):
    assert b.recipe.config.mfa_sharpness == 10


# ---- FLIPNET


def text(b):
    assert b.read["text"] == ["stable-diffusion-2-1-base"]


def conditions(b):
    c = b.recipe.config
    assert (c.phi, c.drop_text, getattr(c, "drop_face", 0.3)) == (1, 0.5, 0.3)


def sampling(b):
    negative = "low quality, blurry, poorly rendered hands" if b.name.endswith("restore") else ""
    assert (b.recipe.config.sampling.cfg, b.recipe.config.sampling.negative) == (1.5, negative)


def l_rm(b, monkeypatch):
    """L_mse + 0.01 L_p at every timestep alike."""
    x, y = images(4), images(5)
    monkeypatch.setattr(b.recipe, "_decode", lambda z: x[: len(z)])
    a = torch.tensor([0.9, 0.01])
    with papers.looking_through(b, Doubles()):
        terms = b.recipe._pixel_terms(x, x, a, {"gt": y})
    n = b.recipe.config.decoded
    x, y = x[:n], y[:n]
    torch.testing.assert_close(terms["mse"], (x - y).square().mean())
    maps = zip(Doubles().features(x), Doubles().features(y), strict=True)
    wanted = 0.01 * sum((f - g).square().mean() for f, g in maps) / 2
    torch.testing.assert_close(terms["perceptual"], wanted)


CHECKS = {
    "budget": budget, "total_batch": total_batch, "data": data, "degradation": degradation,
    "off_shelf": off_shelf, "data.size": data, "data.folders": data, "data.faces": data,
    "data.captions": data, "data.folder": data,
    **{f"optimizers.{p}": optimizers for p in ("autoencoder", "generator", "main")},
    "recipe.perceptual": weight_of_l_per, "recipe.distance": squared_distance,
    "recipe.gan": gan, "recipe.gan_loss": gan_loss, "recipe.beta": beta, "recipe.kl": kl,
    "recipe.association": association, "recipe.negatives": association,
    "recipe.init": pretrained, "recipe.backbone": backbone, "recipe.rank": rank,
    "recipe.alpha": alpha, "recipe.lora_layers": rank, "recipe.boosthub_train": boosthubs,
    "recipe.weights": mse, "recipe.recogniser": identity, "recipe.recognisers": identity,
    "recipe.discriminator": discriminator, "recipe.discriminator.carry_on": discriminator,
    "recipe.vre": start, "recipe.start": start,
    "recipe.embedder.recogniser": face_recogniser, "recipe.embedder.extractor": eye_network,
    "recipe.embedder.eye_features": eye_taps, "recipe.embedder.queries": queries,
    "recipe.embedder.identity_values": identity_values, "recipe.embedder.fusion": fusion,
    "recipe.mfa_distance": mfa, "recipe.mfa_sharpness": sharpness,
    "recipe.phi": conditions, "recipe.drop_text": conditions, "recipe.drop_face": conditions,
    "recipe.text": text, "recipe.sampling": sampling, "recipe.mse": l_rm,
    "recipe.pixel_weight": l_rm,
}  # fmt: skip
OTHERS = {
    ("onestep", "recipe.perceptual"): ea_dists, ("onestep", "recipe.extractor"): ea_dists,
    ("honestface", "recipe.perceptual"): ea_dists, ("honestface", "recipe.extractor"): ea_dists,
    ("flipnet", "recipe.perceptual"): l_rm, ("flipnet", "recipe.extractor"): network_of_l_per,
    ("vre", "recipe.extractor"): network_of_l_per,
}  # fmt: skip


@pytest.mark.parametrize("name", papers.NAMES)
def test_what_is_marked_is_what_is_built(name, monkeypatch):
    built = papers.Built(name, monkeypatch)
    keys = papers.marked(name)
    assert len(keys) > 6
    for key in keys:
        check = OTHERS.get((stem(built), key)) or CHECKS.get(key)
        assert check, f"{name}_paper.yaml marks `{key}` [paper]: add what the paper says of it"
        with monkeypatch.context() as patch:
            nets = dict(built.nets)
            needs = check.__code__.co_argcount
            check(*(built, patch)[:needs])
            built.recipe.nets = built.nets = nets
