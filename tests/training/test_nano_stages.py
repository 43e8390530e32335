import numpy as np
import pytest
import torch
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.core.schedule import add_noise
from facewright.core.weights import nano
from facewright.training.data.world import world_folder
from facewright.training.methods import base
from facewright.training.methods.base import BaseConfig, BaseRecipe, UNetShape, standardise
from facewright.training.methods.identity import retrieval
from facewright.training.methods.nano_vae import fold_colour, fold_latent_scale, weighted_ycbcr
from facewright.training.settings.config import ConfigError, WorldData
from facewright.training.train import stages, train

SMALL = AutoencoderConfig(
    ch=8, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=4, groups=1
)


def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(SMALL).double().eval().requires_grad_(False)


def test_folding_the_colour_space_is_exact():
    x, colour = torch.rand(2, 3, 16, 16).double() * 2 - 1, weighted_ycbcr(3.0).double()
    inner, folded = vae(), vae()
    fold_colour(folded, colour)

    def through(m, images):
        return torch.einsum("ij,bjhw->bihw", m, images)

    z = inner.encode(through(colour, x))
    torch.testing.assert_close(folded.encode(x), z)
    expected = through(torch.linalg.inv(colour), inner.decode(z))
    torch.testing.assert_close(folded.decode(z), expected)


def test_folding_the_latent_scale_normalises_and_changes_no_pixel():
    x, inner, folded = torch.rand(4, 3, 16, 16).double(), vae(), vae()
    mean, logvar = inner.moments(x)
    centre, std = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
    fold_latent_scale(folded, centre, std)
    new_mean, new_logvar = folded.moments(x)
    torch.testing.assert_close(new_mean.mean((0, 2, 3)), torch.zeros(4).double())
    torch.testing.assert_close(new_mean.std((0, 2, 3)), torch.ones(4).double())
    torch.testing.assert_close((new_logvar - logvar)[0, :, 0, 0], -2 * std.log())
    torch.testing.assert_close(folded.decode(new_mean), inner.decode(mean))


def test_retrieval_against_a_loop():
    torch.manual_seed(0)
    e = torch.nn.functional.normalize(torch.randn(12, 5), dim=1)
    people = torch.arange(12) // 3
    hits, same, different = 0, [], []
    for i in range(12):
        others = [(float(e[i] @ e[j]), int(people[j])) for j in range(12) if j != i]
        hits += max(others)[1] == people[i]
        same += [c for c, who in others if who == people[i]]
        different += [c for c, who in others if who != people[i]]
    found = retrieval(e, e, people)
    assert found["rank1"] == pytest.approx(hits / 12)
    assert found["same"] == pytest.approx(np.mean(same), abs=1e-6)
    assert found["different"] == pytest.approx(np.mean(different), abs=1e-6)


def test_identity_encoder_files_round_trip(tmp_path):
    torch.manual_seed(0)
    encoder = IdentityEncoder(IdentityConfig(ch=(8, 16), dim=12, input_size=16))
    encoder.save(tmp_path / "id.safetensors")
    loaded = IdentityEncoder.from_file(tmp_path / "id.safetensors")
    assert loaded.config == encoder.config
    faces = torch.rand(3, 3, 32, 32)
    embedding = loaded(faces)
    torch.testing.assert_close(embedding, encoder(faces), atol=2e-3, rtol=0)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    # Pictures of any size are seen alike.
    enlarged = torch.nn.functional.interpolate(faces, scale_factor=2.0)
    torch.testing.assert_close(loaded(enlarged), embedding)


def test_every_stage_is_found_and_unknown_ones_name_neighbours(tmp_path):
    assert {"nano_vae", "nano_base", "nano_identity"} <= set(stages())
    with pytest.raises(ConfigError, match="nano_vae"):
        train("nano_vea", tmp_path / "none.yaml")


def write_world(cache, people=4, size=32):
    """A rendered world's cache, filled with blobs instead of faces."""
    rng = np.random.default_rng(0)
    folder = world_folder(
        WorldData(source="world", cache=cache, size=size, identities=people, photos=2, held_out=2)
    )
    folder.mkdir(parents=True)
    for split, n in (("train", people), ("held_out", 2)):
        coarse = rng.integers(0, 256, (2 * n, 3, 4, 4), dtype=np.uint8)
        images = coarse.repeat(size // 4, 2).repeat(size // 4, 3)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_boxes.npy", np.tile([4.0, 4, 27, 27], (2 * n, 1)))
        np.save(folder / f"{split}_identities.npy", np.arange(2 * n) // 2)


COMMON = """
budget: {{max_steps: {steps}}}
batch_size: 4
cpu: true
ema: 0
validate_images: 4
data:
  {{source: world, cache: {cache}, size: 32, identities: 4, photos: 2, held_out: 2, views: {views}}}
degradation: {{presets: [mild]}}
optimizers: {{main: {{kind: muon, muon_lr: 4.0e-3, lr: 2.0e-3}}}}
"""


def run(tmp_path, stage, recipe, *, views=1, steps=3):
    path = tmp_path / f"{stage}.yaml"
    common = COMMON.format(cache=tmp_path / "world", views=views, steps=steps)
    path.write_text(f"output: {tmp_path / stage}\n{common}\nrecipe: {recipe}\n")
    return train(stage, path)


def test_stages_feed_each_other(tmp_path):
    write_world(tmp_path / "world")
    identity = run(tmp_path, "nano_identity", "{ch: [8, 16], input_size: 32}", views=2)["files"][0]
    shape = "ch: 8, ch_mult: [1, 2], z_channels: 4"
    facts = run(
        tmp_path,
        "nano_vae",
        f"{{{shape}, identity: {identity}, features_from: 0.5, crop_until: 0.3}}",
    )
    exported = nano.load_vae(facts["files"][0])
    # Held-out latents leave the exported file normalised.
    folder = next((tmp_path / "world").iterdir())
    pictures = torch.from_numpy(np.load(folder / "held_out_images.npy")).float() / 127.5 - 1
    z = exported.encode(pictures)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=2e-2, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), atol=2e-2, rtol=0)
    psnr = -10 * ((exported.decode(z) - pictures) / 2).clamp(-1, 1).square().mean().log10()
    assert psnr > 3 and facts["metrics"]["psnr"] == pytest.approx(float(psnr), abs=1.5)

    pytest.importorskip("diffusers")
    unet = (
        "{channels: 4, sample_size: 16, block_out_channels: [32, 32], attention_head_dim: [1, 1],"
        " cross_attention_dim: 16}"
    )
    base = run(tmp_path, "nano_base", f"{{vae: {facts['files'][0]}, unet: {unet}, tokens: 5}}")
    path = base["files"][0]
    from diffusers import UNet2DConditionModel

    rebuilt = UNet2DConditionModel(**nano.unet_config(path))
    rebuilt.load_state_dict(nano.unet_tensors(path))
    assert rebuilt.config.cross_attention_dim == 16

    # It goes on from its own file, together with the projection of an embedder's tokens.
    vre = embedder()
    vre.save(tmp_path / "vre.safetensors")
    (tmp_path / "nano_base").rename(tmp_path / "first")
    first = nano.unet_tensors(path := path.replace("nano_base", "first", 1))
    recipe = (
        f"{{vae: {facts['files'][0]}, unet: {unet}, start: {path},"
        f" vre: {tmp_path / 'vre.safetensors'}, projection: trained, weighting: v}}"
    )
    second = run(tmp_path, "nano_base", recipe)
    learned = VisualRepresentationEmbedder.from_files(second["files"][1])
    before, after = (x.embedding_change.conv1.weight for x in (vre, learned))
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(learned.quantize.embedding.weight, vre.quantize.embedding.weight)
    moved = max(
        (v - first[k]).abs().max() for k, v in nano.unet_tensors(second["files"][0]).items()
    )
    assert 1e-4 < moved < 0.2


def embedder() -> VisualRepresentationEmbedder:
    torch.manual_seed(2)
    encoder = AutoencoderConfig(
        ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    config = VREConfig(
        encoder=encoder, num_codes=16, num_tokens=5, input_size=16, proj_hidden=32, proj_out=16,
        double_norm=False,
    )  # fmt: skip
    vre = VisualRepresentationEmbedder(config)
    vre.quantize.embedding.weight.data.normal_(0.3, 0.05)
    # The file holds half precision.
    return vre.half().float()


def test_standardised_tokens_have_rms_one_and_tell_codes_apart():
    vre = embedder()
    before = vre.embed(torch.arange(16)[None])[0].detach()
    standardise(vre.embedding_change, vre.quantize.embedding.weight)
    tokens = vre.embed(torch.arange(16)[None])[0].detach()
    rms = sum(v**2 for row in tokens.tolist() for v in row) / tokens.numel()
    assert rms == pytest.approx(1, abs=1e-3)

    def share_of_differences(x):
        return float((x - x.mean(0)).square().sum() / x.square().sum())

    assert share_of_differences(tokens) > 0.3
    assert share_of_differences(before) < 0.05


def test_prompts_are_read_from_the_face_that_is_asked_for(tmp_path):
    vre = embedder()
    vre.save(tmp_path / "vre.safetensors")
    AutoencoderKL(SMALL).save(tmp_path / "vae.safetensors")
    config = BaseConfig(vae=tmp_path / "vae.safetensors", vre=tmp_path / "vre.safetensors")
    recipe = BaseRecipe(config)
    recipe.vre = VisualRepresentationEmbedder.from_files(tmp_path / "vre.safetensors")
    recipe.nets, recipe.cache = {"vre": recipe.vre}, None
    torch.manual_seed(0)
    batch = {"gt": torch.rand(64, 3, 16, 16), "lq": torch.rand(64, 3, 16, 16)}
    good, degraded = (recipe.vre(batch[key]) for key in ("gt", "lq"))
    assert torch.equal(recipe._rows(batch, clean=1.0), good)
    assert torch.equal(recipe._rows(batch, clean=0.0), degraded)
    mixed = recipe._rows(batch, clean=0.75)
    from_good = (mixed == good).all(2).all(1)
    assert (from_good | (mixed == degraded).all(2).all(1)).all()
    assert 0.55 < from_good.float().mean() < 0.95


def test_late_timesteps_and_weights_of_v(tmp_path, monkeypatch):
    """The loss of one batch, against Eq. 14 by hand with every error divided by alpha_bar."""
    pytest.importorskip("diffusers")
    AutoencoderKL(SMALL).save(tmp_path / "vae.safetensors")
    shape = UNetShape(
        channels=4, sample_size=16, block_out_channels=(32, 32), attention_head_dim=(1, 1),
        cross_attention_dim=16,
    )  # fmt: skip
    batch = {"gt": torch.rand(8, 3, 32, 32)}
    drawn, seen = [], []
    monkeypatch.setattr(
        base, "add_noise", lambda z, e, a: drawn.append((e, a)) or add_noise(z, e, a)
    )
    for weighting in ("eps", "v"):
        torch.manual_seed(0)
        config = BaseConfig(
            vae=tmp_path / "vae.safetensors",
            unet=shape,
            tokens=5,
            lateness=0.1,
            weighting=weighting,
        )
        recipe = BaseRecipe(config)
        recipe.nets, recipe.device = {**recipe.frozen(), **recipe.build()}, torch.device("cpu")
        recipe.nets["denoiser"].register_forward_hook(lambda m, i, out: seen.append((i[1], out)))
        with torch.no_grad():
            loss = float(recipe.losses("main", batch, None)["eps"])
        (t, eps_hat), (eps, level) = seen[-1], drawn[-1]
        errors = [float((eps_hat[i] - eps[i]).square().mean()) for i in range(8)]
        weights = [1 / float(level[i]) if weighting == "v" else 1.0 for i in range(8)]
        assert loss == pytest.approx(
            np.mean([e * w for e, w in zip(errors, weights, strict=True)]), rel=1e-4
        )
        assert (t > 700).float().mean() > 0.7  # u^0.1 lies above 0.7 in 97 of 100


def test_decoder_only_keeps_the_latents(tmp_path):
    write_world(tmp_path / "world")
    shape = "ch: 8, ch_mult: [1, 2], z_channels: 4, crop_until: 0"
    first = run(tmp_path, "nano_vae", f"{{{shape}}}")["files"][0]
    before = nano.load_vae(first)
    (tmp_path / "nano_vae").rename(tmp_path / "first")
    first = first.replace("/nano_vae/", "/first/", 1)
    second = run(tmp_path, "nano_vae", f"{{{shape}, start_from: {first}, decoder_only: true}}")
    after = nano.load_vae(second["files"][0])
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(after.encode(x), before.encode(x), atol=0.05, rtol=0.02)
    assert (after.decode(before.encode(x)) - before.decode(before.encode(x))).abs().max() > 1e-3
