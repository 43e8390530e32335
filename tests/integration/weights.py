"""Random weight files in the real formats, small enough to write in a test."""

import importlib.util
from dataclasses import asdict
from pathlib import Path

import torch
from facewright.core.checkpoint import make_metadata, save_safetensors
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig


def _ldm_files():
    path = Path(__file__).parents[1] / "headless" / "ldm_files.py"
    spec = importlib.util.spec_from_file_location("facewright_integration_ldm_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def thin_checkpoint(path, *, full_vae=False, text_encoder=False):
    """SD 2.1's layout with a single level of blocks.

    ComfyUI knows SD 2.1 by 320 channels, a context of 1024 and linear projections, and counts the
    rest. It builds a KL autoencoder at full size only (335 MB in float32); the small one it accepts
    besides is TAESD. With the text encoder it is a pickle, the one format in which tensors can
    share their numbers: ComfyUI builds that encoder at full size too (680 MB in float16).
    """
    ldm = _ldm_files()
    torch.manual_seed(1)
    tensors = {f"model.diffusion_model.{k}": v for k, v in ldm.unet((320,), (True,)).items()}
    vae = ldm.vae((128, 256, 512, 512), per_level=2) if full_vae else _taesd()
    tensors |= {f"first_stage_model.{k}": v for k, v in vae.items()}
    tensors = {k: v.half() for k, v in tensors.items()}
    if text_encoder:
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in _text_encoder().items()}
        torch.save({"state_dict": tensors}, path)
    else:
        save_safetensors(path, tensors, {})


def _text_encoder(width=1024, layers=24, words=49408):
    """OpenCLIP's ViT-H text tower; each row of a matrix is the one above, shifted by a number."""
    numbers = torch.randn(words + 4 * width).half()

    def matrix(rows, columns, scale=None):
        scaled = numbers * (columns**-0.5 if scale is None else scale)
        return scaled.as_strided((rows, columns), (1, 1))

    ones, zeros = torch.ones(4 * width).half(), torch.zeros(4 * width).half()
    tensors = {
        "token_embedding.weight": matrix(words, width, 1.0),
        "positional_embedding": matrix(77, width, 0.1),
        "ln_final.weight": ones[:width],
        "ln_final.bias": zeros[:width],
        "text_projection": matrix(width, width),
    }
    shared = {
        "ln_1.weight": ones[:width],
        "ln_1.bias": zeros[:width],
        "ln_2.weight": ones[:width],
        "ln_2.bias": zeros[:width],
        "attn.in_proj_weight": matrix(3 * width, width),
        "attn.in_proj_bias": zeros[: 3 * width],
        "attn.out_proj.weight": matrix(width, width),
        "attn.out_proj.bias": zeros[:width],
        "mlp.c_fc.weight": matrix(4 * width, width),
        "mlp.c_fc.bias": zeros,
        "mlp.c_proj.weight": matrix(width, 4 * width),
        "mlp.c_proj.bias": zeros[:width],
    }
    for i in range(layers):
        tensors |= {f"transformer.resblocks.{i}.{k}": v for k, v in shared.items()}
    return tensors


def _taesd():
    """Names and shapes of the tiny autoencoder for Stable Diffusion 1 and 2."""
    tensors = {}

    def conv(name, c_in, c_out, bias=True):
        tensors[f"{name}.weight"] = torch.randn(c_out, c_in, 3, 3) * (c_in * 9) ** -0.5
        if bias:
            tensors[f"{name}.bias"] = torch.zeros(c_out)

    def block(name):
        for i in (0, 2, 4):
            conv(f"{name}.conv.{i}", 64, 64)

    conv("taesd_encoder.0", 3, 64)
    block("taesd_encoder.1")
    for i in (2, 6, 10):
        conv(f"taesd_encoder.{i}", 64, 64, bias=False)
        for j in (1, 2, 3):
            block(f"taesd_encoder.{i + j}")
    conv("taesd_encoder.14", 64, 4)
    conv("taesd_decoder.1", 4, 64)
    for i in (3, 8, 13):
        for j in (0, 1, 2):
            block(f"taesd_decoder.{i + j}")
        conv(f"taesd_decoder.{i + 4}", 64, 64, bias=False)
    block("taesd_decoder.18")
    conv("taesd_decoder.19", 64, 3)
    tensors["vae_scale"], tensors["vae_shift"] = torch.tensor(1.0), torch.tensor(0.0)
    return tensors


def osdface_lora(path, *, rank=4, **metadata):
    """Every kind of module OSDFace's training can touch, in the two styles of its release mixed."""
    torch.manual_seed(2)
    c, tensors = 320, {}

    def add(module, c_in, c_out, kernel=None):
        down = torch.randn(rank, c_in, *([kernel] * 2 if kernel else [])) * (c_in**-0.5)
        up = torch.randn(c_out, rank, *([1, 1] if kernel else [])) * 0.1
        attention = ".to_" in module
        names = ("lora.down", "lora.up") if attention else ("lora_A", "lora_B")
        for name, matrix in zip(names, (down, up), strict=True):
            tensors[f"unet.{module}.{name}.weight"] = matrix

    def resnet(name, c_in):
        add(f"{name}.conv1", c_in, c, 3)
        add(f"{name}.conv2", c, c, 3)
        add(f"{name}.time_emb_proj", 4 * c, c)
        if c_in != c:
            add(f"{name}.conv_shortcut", c_in, c, 1)

    def attention(name):
        add(f"{name}.proj_in", c, c)
        add(f"{name}.proj_out", c, c)
        block = f"{name}.transformer_blocks.0"
        for kind, width in (("attn1", c), ("attn2", 1024)):
            add(f"{block}.{kind}.to_q", c, c)
            add(f"{block}.{kind}.to_k", width, c)
            add(f"{block}.{kind}.to_v", width, c)
            add(f"{block}.{kind}.to_out.0", c, c)
        add(f"{block}.ff.net.0.proj", c, 8 * c)
        add(f"{block}.ff.net.2", 4 * c, c)

    add("conv_in", 4, c, 3)
    add("conv_out", c, 4, 3)
    for place, widths in (("down_blocks.0", (c,)), ("up_blocks.0", (2 * c, 2 * c))):
        for i, width in enumerate(widths):
            resnet(f"{place}.resnets.{i}", width)
            attention(f"{place}.attentions.{i}")
    resnet("mid_block.resnets.0", c)
    attention("mid_block.attentions.0")
    resnet("mid_block.resnets.1", c)
    save_safetensors(path, tensors, metadata)
    return len(tensors) // 2


def osdface_vre(folder):
    """The released pair of files."""
    torch.manual_seed(3)
    tensors = VisualRepresentationEmbedder(VREConfig()).state_dict()
    projection = {
        k.removeprefix("embedding_change."): v for k, v in tensors.items() if "embedding_ch" in k
    }
    encoder = {f"vqvae_LQ.{k}": v for k, v in tensors.items() if "embedding_ch" not in k}
    torch.save({"state_dict": encoder, "epoch": 3}, folder / "associate_2.ckpt")
    torch.save(projection, folder / "embedding_change_weights.pth")


def flipnet(models, mode):
    """What FLIPNET's training writes, for the thin model: BoostHubs, LoRA and face encoder."""
    osdface_lora(models / "loras" / f"flipnet_{mode}_lora.safetensors", method="flipnet", mode=mode)
    torch.manual_seed(6)
    places = ("down_blocks.0.attentions.0", "mid_block.attentions.0",
              "up_blocks.0.attentions.0", "up_blocks.0.attentions.1")  # fmt: skip
    sites = {f"{place}.transformer_blocks.0": 320 for place in places}
    hubs = BoostHubs(BoostHubConfig(sites=sites, dim_head=64, mode=mode))
    for site in sites:
        torch.nn.init.normal_(hubs[site].to_out.weight, std=320**-0.5)
    hubs.save(models / "facewright" / f"flipnet_{mode}_boosthub.safetensors")
    shape = AutoencoderConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    encoder = FaceEncoderConfig(encoder=shape, input_size=32, hidden=16, width=1024)
    FaceEncoder(encoder).save(models / "facewright" / f"flipnet_{mode}_face_encoder.safetensors")


NANO_UNET = {
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [64, 96, 128],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 3, 4],
    "cross_attention_dim": 128,
    "use_linear_projection": True,
    "norm_num_groups": 8,
}


def nano_bundle(folder, unet_class):
    """Random models with the architecture of the bundled ones. `unet_class`: diffusers' UNet."""
    torch.manual_seed(4)
    folder.mkdir(parents=True, exist_ok=True)
    shape = AutoencoderConfig(
        ch=16, ch_mult=(1, 2, 4), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=8,
        groups=1,
    )  # fmt: skip
    vae = AutoencoderKL(shape).state_dict()
    save_safetensors(folder / "nano_vae.safetensors", vae, make_metadata("nano-vae", asdict(shape)))
    unet, lora = {}, {}
    for key, value in unet_class.from_config(NANO_UNET).state_dict().items():
        if value.ndim == 1:
            unet[key] = torch.rand_like(value) + 0.2
            continue
        unet[key] = torch.randn_like(value) * value[0].numel() ** -0.5
        module = f"unet.{key.removesuffix('.weight')}"
        ones = [1, 1] if value.ndim == 4 else []
        lora[f"{module}.lora_A.weight"] = torch.randn(4, *value.shape[1:]) * 0.05
        lora[f"{module}.lora_B.weight"] = torch.randn(len(value), 4, *ones) * 0.05
    save_safetensors(folder / "nano_unet.safetensors", unet, make_metadata("nano-unet", NANO_UNET))
    save_safetensors(folder / "nano_onestep_lora.safetensors", lora, {})
    encoder = AutoencoderConfig(
        ch=16, ch_mult=(1, 2, 4), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=32,
        groups=4,
    )  # fmt: skip
    VisualRepresentationEmbedder(
        VREConfig(
            encoder=encoder,
            num_codes=128,
            input_size=64,
            proj_hidden=64,
            proj_out=128,
            double_norm=False,
        )
    ).save(folder / "nano_vre.safetensors")
