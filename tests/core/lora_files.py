"""LoRA files as programs write them, and what they do, worked out here by hand in float64."""

import torch

LDM = {
    # diffusers' module of SD 2.1-base -> the original layout's, copied from released files
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.attentions.0.proj_in": "input_blocks.1.1.proj_in",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
    "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q": (
        "input_blocks.5.1.transformer_blocks.0.attn1.to_q"
    ),
    "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_out.0": (
        "input_blocks.7.1.transformer_blocks.0.attn2.to_out.0"
    ),
    "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": (
        "middle_block.1.transformer_blocks.0.ff.net.0.proj"
    ),
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.1.conv",
    "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
    "up_blocks.2.resnets.2.conv2": "output_blocks.8.0.out_layers.3",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k": (
        "output_blocks.11.1.transformer_blocks.0.attn2.to_k"
    ),
    "conv_out": "out.2",
}
RANK = 2


def _processor(module):
    if ".attn" not in module:
        return f"unet.{module}.lora.down.weight", f"unet.{module}.lora.up.weight"
    parent, _, leaf = module.removesuffix(".0").rpartition(".")
    return tuple(f"unet.{parent}.processor.{leaf}_lora.{p}.weight" for p in ("down", "up"))


def _pair(stem, down, up):
    return f"{stem}{down}", f"{stem}{up}"


def _flat(name):
    return name.replace(".", "_")


_PEFT = (".lora_A.weight", ".lora_B.weight")
_KOHYA = (".lora_down.weight", ".lora_up.weight")
STYLES = {
    "peft": lambda m: _pair(m, *_PEFT),
    "peft wrapped": lambda m: _pair(f"base_model.model.{m}", *_PEFT),
    "peft wrapped unet": lambda m: _pair(f"base_model.model.unet.{m}", *_PEFT),
    "peft named": lambda m: _pair(f"{m}.", "lora_A.face.weight", "lora_B.face.weight"),
    "diffusers": lambda m: _pair(f"unet.{m}", *_PEFT),
    "diffusers old": lambda m: _pair(f"unet.{m}.lora.", "down.weight", "up.weight"),
    "processor": _processor,
    "kohya": lambda m: _pair(f"lora_unet_{_flat(m)}", *_KOHYA),
    "kohya original": lambda m: _pair(f"lora_unet_{_flat(LDM[m])}", *_KOHYA),
    "ComfyUI": lambda m: _pair(f"diffusion_model.{LDM[m]}", *_KOHYA),
    "ComfyUI diffusers": lambda m: _pair(f"diffusion_model.{m}", *_PEFT),
    "lycoris": lambda m: _pair(f"lycoris_{_flat(m)}", *_KOHYA),
    "original wrapped": lambda m: _pair(f"base_model.model.{LDM[m]}", *_PEFT),
}


def kind_of(module):
    """Kernel of a module: 3x3, 1x1, or none."""
    last = module.rpartition(".")[2]
    if last in ("conv", "conv1", "conv2", "conv_in", "conv_out"):
        return (3, 3)
    return (1, 1) if last == "conv_shortcut" else ()


def small_base(dtype=torch.float32, seed=1):
    """Thin weights for every module here."""
    draw = torch.Generator().manual_seed(seed)
    return {
        f"{m}.weight": (torch.randn(6, 5, *kind_of(m), generator=draw) * 0.3).to(dtype) for m in LDM
    } | {f"{m}.bias": torch.randn(6, generator=draw).to(dtype) for m in LDM}


def matrices(base, seed=2):
    """down and up by module."""
    draw = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, weight in base.items():
        if weight.ndim > 1:
            ones = (1,) * (weight.ndim - 2)
            down = torch.randn(RANK, *weight.shape[1:], generator=draw)
            up = torch.randn(weight.shape[0], RANK, *ones, generator=draw)
            pairs[name.removesuffix(".weight")] = down, up
    return pairs


def by_hand(weight, down, up, factor):
    """W + factor * B A, in float64, written out over the rank."""
    total = weight.double().clone()
    for r in range(down.shape[0]):
        column = up.double().reshape(up.shape[0], -1)[:, r]
        row = down.double()[r].reshape(weight.shape[1:])
        total += factor * column.reshape(-1, *[1] * row.ndim) * row
    return total
