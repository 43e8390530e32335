"""Random weight files in the real formats, small enough to write in a test."""

import importlib.util
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from facewright.core.checkpoint import make_metadata, save_safetensors
from facewright.core.faces.mesh import IBUG_OF_MESH
from facewright.core.geometry.templates import template
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


def upright_mesh():
    """(478, 3) points in the 192 px of ComfyUI's mesh, the five as the template has them."""
    points = torch.rand(478, 3, generator=torch.Generator().manual_seed(8)) * 64 + 64
    five = (template(512).float() + 0.5) / 512 * 160 + 16
    for index, place in ((IBUG_OF_MESH[36:42], 0), (IBUG_OF_MESH[42:48], 1)):
        points[list(index), :2] = five[place]
    for point, place in ((30, 2), (48, 3), (54, 4)):
        points[IBUG_OF_MESH[point], :2] = five[place]
    return points


def mediapipe_landmarker(path):
    """The layout of mediapipe_face_fp32.safetensors of Comfy-Org, as ComfyUI 0.33 reads it.

    Its detectors take white for a face: blocks of zeros pass on what comes in, so all they do is
    look for the brightest pixel of a cell. Faces are upright squares, of 40 of the short range's
    128 px and 50 of the full range's 192. The mesh sees `upright_mesh` in each.
    """
    tensors = {}

    def conv(name, c_in, c_out, kernel=1, groups=1):
        tensors[f"{name}.weight"] = torch.zeros(c_out, c_in // groups, kernel, kernel)
        tensors[f"{name}.bias"] = torch.zeros(c_out)

    def passes(*names):
        """The first channel, as it is."""
        for name in names:
            weight = tensors[f"{name}.weight"]
            weight[0, 0, weight.shape[2] // 2, weight.shape[3] // 2] = 1

    def linear(name, c_in, c_out):
        tensors[f"{name}.weight"] = torch.zeros(c_out, c_in)
        tensors[f"{name}.bias"] = torch.zeros(c_out)

    def box(side):
        """About the anchor: centre, size and six keypoints, of which the first two are the eyes."""
        points = [-0.2, -0.1, 0.2, -0.1, 0, 0.1, 0, 0.2, -0.4, 0, 0.4, 0]
        return torch.tensor([0, 0, side, side, *(side * p for p in points)])

    d = "detector_short"
    conv(f"{d}.stem", 3, 24, 5)
    tensors[f"{d}.stem.weight"][0, :, 2, 2] = 1 / 3
    widths = (24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88, 96, 96, 96, 96, 96)
    for i, (a, b) in enumerate(pairwise(widths)):
        conv(f"{d}.blocks.{i}.depthwise", a, a, 3, groups=a)
        conv(f"{d}.blocks.{i}.pointwise", a, b)
    for cells, channels, anchors in ((16, 88, 2), (8, 96, 6)):
        conv(f"{d}.cls_{cells}", channels, anchors)
        conv(f"{d}.reg_{cells}", channels, 16 * anchors)
        tensors[f"{d}.reg_{cells}.bias"] = box(40.0).repeat(anchors)
        tensors[f"{d}.cls_{cells}.bias"].fill_(-20)
    tensors[f"{d}.cls_8.weight"][0, 0] = 6
    tensors[f"{d}.cls_8.bias"][0] = -3

    def block(name, c_in, middle, c_out):
        conv(f"{name}.dw1", c_in, c_in, 3, groups=c_in)
        conv(f"{name}.pw1", c_in, middle)
        conv(f"{name}.dw2", middle, middle, 3, groups=middle)
        conv(f"{name}.pw2", middle, c_out)

    d = "detector_full"
    conv(f"{d}.stem", 3, 32, 3)
    tensors[f"{d}.stem.weight"][0, :, 1, 1] = 1 / 3
    stages = ((32, 8, 2), (64, 16, 3), (128, 32, 3), (192, 48, 3), (384, 96, 4))
    width, i = 32, 0
    for channels, middle, blocks in stages:
        for _ in range(blocks):
            block(f"{d}.backbone.{i}", width, middle, channels)
            width, i = channels, i + 1
    passes(*(f"{d}.backbone.2.{part}" for part in ("dw1", "pw1", "dw2", "pw2")))
    for i, (a, b) in enumerate(((64, 48), (128, 64), (192, 96))):
        conv(f"{d}.lateral_convs.{i}", a, b)
    passes(f"{d}.lateral_convs.0")
    conv(f"{d}.top_conv", 384, 96)
    for level, (channels, blocks) in enumerate(((96, 2), (64, 2), (48, 1))):
        for i in range(blocks):
            block(f"{d}.decoder_levels.{level}.{i}", channels, channels // 2, channels)
    conv(f"{d}.decoder_reduce_convs.0", 96, 64)
    conv(f"{d}.decoder_reduce_convs.1", 64, 48)
    conv(f"{d}.cls_conv", 48, 4)
    tensors[f"{d}.cls_conv.weight"][:, 0] = 1
    conv(f"{d}.cls_dw", 4, 4, 3, groups=4)
    for k in range(4):  # each of the 2 x 2 cells that a step of 2 covers
        tensors[f"{d}.cls_dw.weight"][k, 0, 1 + k // 2, 1 + k % 2] = 6
    tensors[f"{d}.cls_dw.bias"].fill_(-3)
    conv(f"{d}.reg_conv", 48, 64)
    conv(f"{d}.reg_dw", 64, 64, 3, groups=64)
    tensors[f"{d}.reg_dw.bias"] = box(50.0).repeat(4)

    def mesh_block(name, a, b):
        conv(f"{name}.depthwise", a, a, 3, groups=a)
        conv(f"{name}.pointwise", a, b)
        tensors[f"{name}.prelu_dwise.weight"] = torch.ones(a)
        tensors[f"{name}.prelu_out.weight"] = torch.ones(b)

    conv("mesh.stem", 3, 16, 3)
    tensors["mesh.prelu_stem.weight"] = torch.ones(16)
    widths = (16, 16, 16, 32, 32, 32, 64, 64, 64, *([128] * 9))
    for i, (a, b) in enumerate(pairwise(widths)):
        mesh_block(f"mesh.blocks.{i}", a, b)
    conv("mesh.head_reduce", 128, 8)
    tensors["mesh.prelu_head_reduce.weight"] = torch.ones(8)
    mesh_block("mesh.head_block", 8, 8)
    conv("mesh.head_presence", 8, 1, 3)
    tensors["mesh.head_presence.bias"].fill_(4)
    conv("mesh.head_landmarks", 8, 478 * 3, 3)
    tensors["mesh.head_landmarks.bias"] = upright_mesh().flatten()

    for name, sizes in (("token_reduce", (146, 96)), ("token_embed", (2, 64)), ("head", (64, 52))):
        linear(f"blendshapes.{name}", *sizes)
    tensors["blendshapes.cls_token"] = torch.zeros(1, 1, 64)
    for i in range(4):
        name = f"blendshapes.blocks.{i}"
        for norm in ("ln1", "ln2"):
            tensors[f"{name}.{norm}.weight"] = torch.ones(64)
        for mlp, width, hidden in (("token_mlp", 97, 384), ("channel_mlp", 64, 256)):
            linear(f"{name}.{mlp}1", width, hidden)
            linear(f"{name}.{mlp}2", hidden, width)

    tensors["canonical_vertices"] = upright_mesh() - 96
    tensors["procrustes_indices"] = torch.arange(0, 468, 30, dtype=torch.int32)
    tensors["procrustes_weights"] = torch.ones(16)
    parts = "face_oval left_eye right_eye left_eyebrow right_eyebrow lips irises nose tesselation"
    for i, part in enumerate(parts.split()):
        tensors[f"topology.{part}"] = torch.tensor([[i, i + 1]], dtype=torch.int32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(path, tensors, {})
