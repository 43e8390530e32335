"""FLIPNET's training objective on a tiny UNet, against its equations."""

import copy
import math

import pytest
import torch
from facewright.core.checkpoint import read_tensors
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.lora.merge import merge_lora
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, find_sites
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.core.schedule import alpha_bar
from facewright.training._lora import ATTENTION_TARGETS, add_lora, lora_layers
from facewright.training.loop.checkpoints import trained_state
from facewright.training.recipe import Progress
from torch import nn

START = Progress(0, 0.0)
MODES = ("restore", "degrade")


def sd21_unet():
    with torch.device("meta"):
        return diffusers_classes()[0](
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )


def test_sizes_at_the_shape_of_sd21(flip):
    """LoRA of rank 64 on 16 blocks x 2 attentions x 4 projections: 13.28 M; BoostHubs 49.6 M."""
    unet = sd21_unet()
    sites = find_sites(unet.state_dict())
    with torch.device("meta"):
        hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=64))
        add_lora(unet, 64, 64, ATTENTION_TARGETS)
        adapter = FaceEncoder().adapter
    assert len(sites) == 16 and len(lora_layers(unet)) == 128
    assert sum(p.numel() for p in flip.trainable(unet).values()) == 13_279_232
    assert round(sum(p.numel() for p in hubs.parameters()) / 1e6, 1) == 49.6
    assert [m.out_features for m in adapter.layers if isinstance(m, nn.Linear)] == [512, 1024]


def test_a_lora_on_boosthubs_is_a_third_at_the_shape_of_sd21(flip):
    sites = find_sites(sd21_unet().state_dict())
    with torch.device("meta"):
        hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=64))
        add_lora(hubs, 64, 64, ATTENTION_TARGETS[:3])
    widths = list(sites.values())
    assert len(lora_layers(hubs)) == 3 * 16
    trained = sum(p.numel() for p in flip.trainable(hubs).values())
    assert trained == sum(6 * 64 * d for d in widths)
    w_o = sum(d * d + d for d in widths)
    assert round((trained + w_o) / 1e6, 1) == 17.2 and round(4 * w_o / 1e6, 1) == 49.6


@pytest.mark.parametrize("mode", MODES)
def test_boosthubs_by_lora_train_it_and_w_o_and_leave_the_copies(flip, mode):
    recipe = flip.start(mode, boosthub_train="lora")
    flip.wake(recipe)
    hubs = recipe.nets["denoiser"].hubs
    torch.stack([*recipe.losses("main", flip.batch(), START).values()]).sum().backward()
    kinds = set()
    for name, p in hubs.named_parameters():
        moved = p.grad is not None and bool(p.grad.abs().sum() > 0)
        assert moved == ("lora_" in name or "to_out" in name), name
        kinds |= {name.split(".")[-2] if moved else "base_layer"}
        assert p.requires_grad == moved
    assert kinds >= {"to_out", "default", "base_layer"}
    state = trained_state(recipe.nets["denoiser"])
    assert not [k for k in state if "base_layer" in k]
    unet = dict(read_tensors(flip.folder / "unet.safetensors")[0])
    for site in hubs.config.sites:
        for name in ("to_q", "to_k", "to_v"):
            kept = getattr(hubs[site], name).base_layer.weight
            assert torch.equal(kept, unet[f"{site}.attn1.{name}.weight"])


@pytest.mark.parametrize("mode", MODES)
def test_exported_boosthubs_are_whole_however_they_were_trained(flip, mode):
    recipe = flip.start(mode, boosthub_train="lora", alpha=6)
    flip.wake(recipe)
    denoiser = recipe.nets["denoiser"]
    path = next(p for p in recipe.export(flip.folder, {}) if p.stem.endswith("boosthub"))
    hubs, metadata = BoostHubs.from_file(path), read_tensors(path)[1]
    assert (metadata["boosthub_train"], metadata["rank"], metadata["alpha"]) == ("lora", "2", "6.0")
    f_x, f_y = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    for site in hubs.config.sites:
        dim = hubs.config.sites[site]
        with torch.no_grad():
            trained = denoiser.hubs[site](f_x[..., :dim], f_y[..., :dim])
            read = hubs[site](f_x[..., :dim], f_y[..., :dim])
        torch.testing.assert_close(read, trained, rtol=1e-4, atol=1e-6)
        a, b = (p["default"].weight.double() for p in (
            denoiser.hubs[site].to_k.lora_A, denoiser.hubs[site].to_k.lora_B))  # fmt: skip
        delta = 6 / 2 * (b @ a)
        base = denoiser.hubs[site].to_k.base_layer.weight.double()
        torch.testing.assert_close(hubs[site].to_k.weight.double(), base + delta, atol=1e-6, rtol=0)
        assert delta.abs().max() > 1e-3
    # A training may go on from it, by either way.
    for way in ("lora", "whole"):
        again = flip.start(mode, boosthub_train=way, start={"boosthub": path})
        there = again.nets["denoiser"].hubs
        for site in hubs.config.sites:
            torch.testing.assert_close(
                there[site](f_x, f_y), hubs[site](f_x, f_y), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_only_lora_boosthubs_and_adapter_move(flip, flipnet_setup, mode, merged):
    recipe, data = flip.start(mode, merged=merged, drop_text=0), flip.batch()
    flip.wake(recipe)
    # Zeros would leave nothing for the cross-attention's projections to learn from.
    recipe.nets["text"] = flipnet_setup.Words()
    data["caption"] = ["one", "twenty", "three hundred"]
    terms = recipe.losses("main", data, START)
    pixels = {"mse", "perceptual"} if mode == "restore" else set()
    assert terms.keys() == {"eps_input", "eps_condition"} | pixels
    torch.stack([*terms.values()]).sum().backward()
    for name, net in recipe.nets.items():
        for key, p in net.named_parameters():
            moved = p.grad is not None and bool(p.grad.abs().sum() > 0)
            kind = next((k for k in ("lora_", "hubs.", "adapter.") if k in key), None)
            assert moved == (name == "denoiser" and kind is not None), (name, key)
    kinds = {"lora_", "hubs."} | ({"adapter."} if mode == "restore" else set())
    names = flip.trainable(recipe.nets["denoiser"])
    assert all(any(k in n for n in names) for k in kinds)
    assert all(any(k in n for k in kinds) for n in names)
    # A checkpoint holds these and no UNet.
    assert trained_state(recipe.nets["denoiser"]).keys() == names.keys()


@pytest.mark.parametrize("train", ["whole", "lora"])
@pytest.mark.parametrize("mode", MODES)
def test_step_0_is_the_base_network(flip, mode, train):
    recipe = flip.start(mode, boosthub_train=train)
    base = flip.unet()
    base.load_state_dict(read_tensors(flip.folder / "unet.safetensors")[0])
    z, t = torch.randn(6, 4, 8, 8), torch.tensor([3, 400, 999, 0, 20, 700])
    text = torch.randn(3, 5, 12)
    with torch.no_grad():
        eps = recipe.nets["denoiser"](z, t, text, None, None, 1.0)
        expected = base(z, t, encoder_hidden_states=text.repeat(2, 1, 1)).sample
    torch.testing.assert_close(eps, expected, rtol=0, atol=0)


def reference(flip, recipe, z, t, cond, phi):
    """Both branches by Eq. 4-5 with hooks: plain attention beside each self-attention, float64."""
    denoiser = recipe.nets["denoiser"]
    unet = flip.unet()
    base = dict(read_tensors(recipe.config.backbone.unet)[0])
    lora, metadata = recipe.lora_file
    merge_lora(base, lora, metadata=metadata)
    unet.load_state_dict(base)
    unet, half = unet.double(), len(z) // 2
    hubs = copy.deepcopy(denoiser.hubs).double()

    def beside(site):
        hub = hubs[site]
        w = {k: v.double() for k, v in hub.state_dict().items()}

        def hook(module, args, out):
            f = args[0]
            result = out.clone()
            for i in range(half):
                q = f[i] @ w["to_q.weight"].T
                k, v = (f[half + i] @ w[f"to_{x}.weight"].T for x in "kv")
                heads = []
                for h in range(hub.heads):
                    part = slice(h * q.shape[1] // hub.heads, (h + 1) * q.shape[1] // hub.heads)
                    scores = q[:, part] @ k[:, part].T / math.sqrt(q.shape[1] // hub.heads)
                    heads.append(scores.softmax(1) @ v[:, part])
                read = torch.cat(heads, 1) @ w["to_out.weight"].T + w["to_out.bias"]
                result[i] = out[i] + phi * read
            return result

        return hook

    for site in hubs.config.sites:
        unet.get_submodule(f"{site}.attn1").register_forward_hook(beside(site))

    with torch.no_grad():
        return unet(z.double(), t, encoder_hidden_states=cond.double()).sample


@pytest.mark.parametrize("merged", [False, True])
def test_the_joint_call_is_eq_4_and_5(flip, merged):
    recipe = flip.start("restore", merged=merged)
    flip.wake(recipe)
    path, *_ = recipe.export(flip.folder, {})
    recipe.lora_file = read_tensors(path)
    z, t = torch.randn(4, 4, 8, 8), torch.tensor([3, 400, 999, 20])
    text, faces = torch.randn(2, 5, 12), torch.randn(2, 16, 5)
    denoiser = recipe.nets["denoiser"]
    with torch.no_grad():
        eps = denoiser(z, t, text, faces, None, 0.7)
        cond = torch.cat([text, denoiser.adapter(faces)], 1).repeat(2, 1, 1)
    expected = reference(flip, recipe, z, t, cond, 0.7)
    torch.testing.assert_close(eps.double(), expected, rtol=1e-4, atol=1e-5)
    base = reference(flip, recipe, z, t, cond, 0.0)
    assert (expected - base)[:2].abs().max() > 1e-2, "the condition counts"
    assert (expected - base)[2:].abs().max() == 0, "and nothing flows back"


def test_dropped_faces_leave_no_token_behind(flip):
    recipe = flip.start("restore")
    flip.wake(recipe)
    denoiser = recipe.nets["denoiser"]
    z, t = torch.randn(6, 4, 8, 8), torch.randint(0, 1000, (6,))
    text, faces = torch.randn(3, 5, 12), torch.randn(3, 16, 5)
    kept = torch.tensor([True, False, False])
    with torch.no_grad():
        mixed = denoiser(z, t, text, faces, kept, 1.0)
        without = denoiser(z, t, text, None, None, 1.0)
        with_faces = denoiser(z, t, text, faces, None, 1.0)
        others = denoiser(z, t, text, torch.randn(3, 16, 5), ~kept & False, 1.0)
    dropped = [1, 2, 4, 5]  # input and condition rows alike
    torch.testing.assert_close(mixed[dropped], without[dropped], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mixed[[0, 3]], with_faces[[0, 3]], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(others, without, rtol=1e-5, atol=1e-6)
    assert (mixed[0] - without[0]).abs().max() > 1e-3


def drawn(recipe, data):
    """What one call of `losses` draws and predicts, seen from outside."""
    seen = {}
    denoiser = recipe.nets["denoiser"]
    hook = denoiser.register_forward_hook(
        lambda _, args, out: seen.update(z_t=args[0], t=args[1], text=args[2], kept=args[4],
                                         eps_hat=out)
    )  # fmt: skip
    torch.manual_seed(11)
    terms = recipe.losses("main", data, START)
    hook.remove()
    return terms, {k: v.detach() if torch.is_tensor(v) else v for k, v in seen.items()}


@pytest.mark.parametrize("pixel_weight", ["alpha_bar", "none"])
def test_terms_are_eq_7_and_8(flip, pixel_weight):
    weights = {"mse": 3, "perceptual": 0.5, "pixel_weight": pixel_weight}
    recipe = flip.start("restore", sample_latents=False, decoded=2, **weights)
    flip.wake(recipe)
    data = flip.batch()
    terms, seen = drawn(recipe, data)
    vae = recipe.backbone.codec.vae.double()
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1)
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(data[k].double() * 2 - 1) for k in ("gt", "lq")])
        eps = (seen["z_t"].double() - a.sqrt() * z_0) / (1 - a).sqrt()
        assert eps.mean().abs() < 0.1 and abs(float(eps.std()) - 1) < 0.1
        errors = (seen["eps_hat"].double() - eps) ** 2
        # The mean over both branches is the sum of these.
        assert terms["eps_input"].item() == pytest.approx(float(errors[:3].mean()) / 2, rel=1e-3)
        assert terms["eps_condition"].item() == pytest.approx(
            float(errors[3:].mean() / 2), rel=1e-3
        )

        x_0 = (seen["z_t"].double() - (1 - a).sqrt() * seen["eps_hat"].double()) / a.sqrt()
        restored = (vae.decode(x_0[:2]) + 1) / 2
        weight = a[:2] if pixel_weight == "alpha_bar" else torch.ones_like(a[:2])
        mse = (weight * (restored - data["gt"][:2].double()) ** 2).mean()
        assert terms["mse"].item() == pytest.approx(3 * float(mse), rel=1e-3)
        encoder = recipe.nets["extractor"].double()
        total = 0.0
        for i in range(2):
            x, y = (encoder.features(p[None]) for p in (restored[i], data["gt"][i].double()))
            stages = [float(((f - g) ** 2).mean()) for f, g in zip(x, y, strict=True)]
            total += float(weight[i]) * sum(stages) / len(stages) / 2
    assert terms["perceptual"].item() == pytest.approx(0.5 * total, rel=1e-3)


def test_degradation_denoises_the_lq_and_has_the_gt_as_condition(flip):
    recipe = flip.start("degrade", sample_latents=False)
    flip.wake(recipe)
    data = flip.batch()
    terms, seen = drawn(recipe, data)
    assert terms.keys() == {"eps_input", "eps_condition"} and seen["kept"] is None
    vae = recipe.backbone.codec.vae
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1).float()
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(data[k] * 2 - 1) for k in ("lq", "gt")])
    eps = (seen["z_t"] - a.sqrt() * z_0) / (1 - a).sqrt()
    total = ((seen["eps_hat"] - eps) ** 2).mean()
    ours = terms["eps_input"] + terms["eps_condition"]
    assert ours.item() == pytest.approx(total.item(), rel=1e-3)


def test_branches_draw_apart_and_dropouts_have_their_shares(flip, flipnet_setup):
    recipe = flip.start("restore", decoded=0, drop_text=0.5, drop_face=0.3)
    recipe.nets["text"] = flipnet_setup.Words()
    recipe.nets["denoiser"] = Recorder()
    data = {k: v.repeat(40, *[1] * (v.ndim - 1)) for k, v in flip.batch(b=5, size=16).items()}
    data["caption"] = ["a face"] * 200
    recipe.losses("main", data, START)
    z_t, t, text, faces, kept, phi = recipe.nets["denoiser"].args
    assert (t[:200] != t[200:]).float().mean() > 0.95 and t.min() < 60 and t.max() > 940
    assert len(z_t) == 400 and len(faces) == 200 and phi == 1
    assert 0.4 < (text[:, 0, 0] == 6).float().mean() < 0.6, "captions; the others are empty"
    assert set(text.unique().tolist()) == {0, 6}
    assert 0.6 < kept.float().mean() < 0.8
    recipe.config = recipe.config.model_copy(update={"clean_condition": 0.5})
    recipe.losses("main", data, START)
    t = recipe.nets["denoiser"].args[1]
    assert 0.4 < (t[200:] == 0).float().mean() < 0.6 and (t[:200] == 0).float().mean() < 0.05


def test_a_clean_condition_has_no_noise_and_no_error(flip):
    recipe = flip.start("degrade", sample_latents=False, clean_condition=1)
    terms, seen = drawn(recipe, flip.batch())
    vae = recipe.backbone.codec.vae
    with torch.no_grad():
        torch.testing.assert_close(seen["z_t"][3:], vae.encode(flip.batch()["gt"] * 2 - 1))
    assert terms["eps_condition"].item() == 0 and terms["eps_input"].item() > 0


def test_v_weighting_is_the_error_of_v(flip):
    recipe = flip.start("degrade", sample_latents=False, weighting="v")
    terms, seen = drawn(recipe, flip.batch())
    a = alpha_bar()[seen["t"]].view(-1, 1, 1, 1)
    vae = recipe.backbone.codec.vae.double()
    with torch.no_grad():
        z_0 = torch.cat([vae.encode(flip.batch()[k].double() * 2 - 1) for k in ("lq", "gt")])
    z_t, eps_hat = seen["z_t"].double(), seen["eps_hat"].double()
    eps = (z_t - a.sqrt() * z_0) / (1 - a).sqrt()
    x_hat = (z_t - (1 - a).sqrt() * eps_hat) / a.sqrt()
    v, v_hat = (a.sqrt() * e - (1 - a).sqrt() * x for e, x in ((eps, z_0), (eps_hat, x_hat)))
    total = terms["eps_input"] + terms["eps_condition"]
    assert total.item() == pytest.approx(((v_hat - v) ** 2).mean().item(), rel=1e-3)


class Recorder(nn.Module):
    def forward(self, *args):
        self.args = args
        return torch.zeros_like(args[0])
