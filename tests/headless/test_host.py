"""diffusers models as MODEL, VAE and Backbone: files, LoRA, and the formula."""

import json

import pytest
import torch
from facewright.core.diffusion.backbone import DiffusersBackbone
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.loading import load_checkpoint, load_vae
from facewright.core.diffusion.vae import Vae
from facewright.core.errors import CheckpointError, FacewrightError, LoraError
from facewright.core.restorer import restore_one_step
from facewright.headless.host.host import HeadlessHost
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def single_file(ldm_files, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("ldm") / "thin.safetensors"
    save_file(ldm_files.checkpoint(), path)
    return path


@pytest.fixture(scope="module")
def loaded(single_file):
    return load_checkpoint(single_file)


def save_folder(root, unet, vae, prediction="epsilon"):
    """A diffusers folder written by diffusers itself."""
    unet.save_pretrained(root / "unet")
    vae.save_pretrained(root / "vae")
    (root / "scheduler").mkdir(exist_ok=True)
    config = {"prediction_type": prediction}
    (root / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    return root


def test_folder_and_single_file_are_the_same_model(loaded, tmp_path):
    model, vae = loaded
    folder = save_folder(tmp_path / "sd", model.unet, vae.module)
    model2, vae2 = load_checkpoint(folder)
    a, b = model.tensors(), model2.tensors()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    lq, cond = torch.rand(2, 3, 16, 16), torch.randn(2, 77, 1024)
    one = restore_one_step(lq, cond, DiffusersBackbone(model, vae))[0]
    two = restore_one_step(lq, cond, DiffusersBackbone(model2, vae2))[0]
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_old_attention_names_of_vae_folders(loaded, tmp_path):
    model, vae = loaded
    folder = save_folder(tmp_path / "sd", model.unet, vae.module)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, value in vae.module.state_dict().items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        tensors[key] = value.contiguous()
    save_file(tensors, folder / "vae/diffusion_pytorch_model.safetensors")
    again = load_vae(folder / "vae")
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(again.decode(z), vae.decode(z))


def test_v_prediction_folder_and_incomplete_folder(loaded, tmp_path):
    model, vae = loaded
    folder = save_folder(tmp_path / "sd", model.unet, vae.module, prediction="v_prediction")
    with pytest.raises(CheckpointError, match="v-prediction"):
        load_checkpoint(folder)
    (folder / "unet/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(folder)


def test_one_step_equals_the_formula_with_plain_diffusers_calls(loaded):
    model, vae = loaded
    lq, cond = torch.rand(1, 3, 16, 16), torch.randn(1, 77, 1024)
    restored, z_0 = restore_one_step(lq, cond, DiffusersBackbone(model, vae), timestep=399)
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - beta).cumprod(0)[399]
    with torch.no_grad():
        z = vae.module.encode(lq * 2 - 1).latent_dist.mode() * 0.18215
        eps = model.unet(z, 399, encoder_hidden_states=cond).sample
        x_0 = ((z.double() - (1 - a).sqrt() * eps.double()) / a.sqrt()).float()
        expected = vae.module.decode(x_0 / 0.18215).sample / 2 + 0.5
    torch.testing.assert_close(z_0, x_0, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(restored, expected.clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.02), (torch.float16, 0.004)])
def test_half_the_bits_give_nearly_the_same_picture(loaded, single_file, monkeypatch, dtype, apart):
    from facewright.core.diffusion import loading

    monkeypatch.setattr(loading, "fast_dtype", lambda device: dtype)
    half = load_checkpoint(single_file)
    assert all(v.dtype == dtype for v in half[0].tensors().values())
    lq, cond = torch.rand(1, 3, 16, 16), torch.randn(1, 77, 1024)
    full, _ = restore_one_step(lq, cond, DiffusersBackbone(*loaded))
    found, _ = restore_one_step(lq, cond, DiffusersBackbone(*half))
    assert found.dtype == torch.float32
    assert 0 < (found - full).square().mean().sqrt() < apart


def test_a_trainer_gets_the_weights_as_they_are_stored(loaded, single_file, monkeypatch):
    from facewright.core.diffusion import loading
    from facewright.training._backbone import BackboneConfig, load_backbone

    monkeypatch.setattr(loading, "fast_dtype", lambda device: torch.bfloat16)
    found = load_backbone(BackboneConfig(source="sd", path=single_file))
    model, vae = loaded
    for net, stored in ((found.unet, model.unet), (found.codec.vae, vae.module)):
        assert all(torch.equal(v, stored.state_dict()[k]) for k, v in net.state_dict().items())


def test_sampling_is_seeded(loaded):
    backbone = DiffusersBackbone(*loaded)
    pixels = torch.rand(1, 3, 16, 16)

    def encode(seed):
        return backbone.encode(pixels, torch.Generator().manual_seed(seed))

    assert torch.equal(encode(1), encode(1))
    assert not torch.equal(encode(1), encode(2))


def test_another_embedder_is_refused(loaded):
    with pytest.raises(FacewrightError, match="128 channels"):
        DiffusersBackbone(*loaded).denoise(torch.zeros(1, 4, 8, 8), 399, torch.zeros(1, 77, 128))


def lora_for(model, rank=2):
    tensors = {}
    for key, weight in model.tensors().items():
        if key.endswith(("attn1.to_q.weight", "conv1.weight")):
            name = f"unet.{key.removesuffix('.weight')}"
            out, features, *kernel = weight.shape
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, features, *kernel)
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, rank, *[1] * len(kernel))
    return tensors


def test_lora_leaves_the_model_alone_and_shares_the_rest(loaded):
    model, _ = loaded
    before = {k: v.clone() for k, v in model.tensors().items()}
    lora = lora_for(model)
    patched, report = HeadlessHost().apply_lora(model, lora, {}, 0.5)
    assert len(report.applied) == len(lora) // 2
    assert all(torch.equal(before[k], v) for k, v in model.tensors().items())
    after = patched.tensors()
    for key, weight in before.items():
        name = f"unet.{key.removesuffix('.weight')}.lora_A.weight"
        if name in lora:
            up, down = lora[name.replace("lora_A", "lora_B")], lora[name]
            delta = torch.einsum("or...,ri...->oi...", up.flatten(1), down.flatten(1))
            expected = weight + 0.5 * delta.reshape(weight.shape)
            torch.testing.assert_close(after[key], expected)
        else:
            assert after[key].data_ptr() == model.tensors()[key].data_ptr()


def test_lora_of_another_architecture_is_refused(loaded):
    lora = {"unet.mid_block.nothing.lora_A.weight": torch.zeros(2, 4)}
    lora["unet.mid_block.nothing.lora_B.weight"] = torch.zeros(4, 2)
    with pytest.raises(LoraError):
        HeadlessHost().apply_lora(loaded[0], lora, {}, 1.0)


def test_half_precision_decoder_that_overflows_is_run_again_in_float32(loaded):
    """Weights that overflow in half precision but not in full."""
    import copy

    _, vae = loaded
    module = copy.deepcopy(vae.module)
    module.post_quant_conv.weight.mul_(3e5)
    module.decoder.conv_in.weight.mul_(1e-5)
    half = type(vae)(module.to(torch.float16))
    z = torch.randn(1, 4, 4, 4)
    assert not torch.isfinite(half.decode(z)).all()
    # fp16 has already rounded the large weight to infinity, so a finite copy stands in for it.
    module.post_quant_conv.weight.clamp_(-6e4, 6e4)
    assert not torch.isfinite(half.decode(z * 100)).all()
    assert torch.isfinite(half.decode(z * 100, full_precision=True)).all()
    assert next(half.module.parameters()).dtype == torch.float16


def test_nano_vae_has_the_factor_of_its_levels():
    from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL

    config = AutoencoderConfig(
        ch=8, ch_mult=(1, 2, 2), num_res_blocks=1, attn_levels=(), z_channels=4, groups=1
    )
    vae = Vae(AutoencoderKL(config))
    assert vae.encode(torch.rand(1, 3, 16, 16)).shape == (1, 4, 4, 4) and vae.factor == 4


def test_a_vae_file_of_its_own_with_and_without_prefix(ldm_files, tmp_path):
    tensors = ldm_files.vae()
    save_file(tensors, tmp_path / "a.safetensors")
    save_file({f"first_stage_model.{k}": v for k, v in tensors.items()}, tmp_path / "b.safetensors")
    z = torch.randn(1, 4, 4, 4)
    a, b = load_vae(tmp_path / "a.safetensors"), load_vae(tmp_path / "b.safetensors")
    assert torch.equal(a.decode(z), b.decode(z))


def test_importing_diffusers_models_is_cached():
    assert diffusers_classes() is diffusers_classes()
