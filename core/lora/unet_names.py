"""Names of the modules of a Stable Diffusion UNet, as each program writes them.

A name is looked up in a table of what the model has, never taken apart, so that what comes out is
a module of the model; no library's table has every program's spelling. Layout facts: diffusers'
`UNet2DConditionModel`, and CompVis latent-diffusion's `openaimodel.py` for the original names.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cache

ORIGINAL = ("input_blocks", "middle_block", "output_blocks")
"""How most names of the original layout begin."""
_LEVELS, _LAYERS = 4, 2
"""Of Stable Diffusion 1.x and 2.x: levels, and residual blocks of each on the way down."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = "transformer_blocks.0"
_ATTENTION = (
    *("norm", "proj_in", "proj_out", f"{_BLOCK}.ff.net.0.proj", f"{_BLOCK}.ff.net.2"),
    *(f"{_BLOCK}.norm{n}" for n in (1, 2, 3)),
    *(f"{_BLOCK}.attn{n}.to_{x}" for n in (1, 2) for x in ("q", "k", "v", "out.0")),
)


@cache
def sd_modules() -> frozenset[str]:
    """Every module with weights of the UNet of SD 2.1-base (and of 1.x), as diffusers names it."""
    modules = unet_modules((True, True, True, False), _LAYERS)
    # Between blocks of one width no convolution bridges what is skipped.
    plain = {"down_blocks.0.resnets.0", "down_blocks.3.resnets.0"}
    plain |= {f"down_blocks.{b}.resnets.1" for b in range(_LEVELS)}
    plain |= {f"mid_block.resnets.{n}" for n in (0, 1)}
    bridges = {f"{block}.conv_shortcut" for block in plain}
    return frozenset(modules - bridges)


@cache
def nano_table() -> Mapping[str, str]:
    """`table` of the bundled nano UNet."""
    return table(unet_modules((False, True, True), 1))


@cache
def _any_modules() -> frozenset[str]:
    """Every module that a UNet of at most this size can have."""
    return frozenset(unet_modules((True,) * _LEVELS, _LAYERS))


def unet_modules(attention: tuple[bool, ...], per_level: int) -> set[str]:
    """Of a UNet with attention on these levels, a bridge around every residual block."""
    names = {*_ENDS, *(f"mid_block.attentions.0.{part}" for part in _ATTENTION)}
    names |= {f"mid_block.resnets.{n}.{part}" for n in (0, 1) for part in _RESNET}
    for block in range(len(attention)):
        for side, layers, crossed, scale in (
            ("down", per_level, attention[block], "downsamplers"),
            ("up", per_level + 1, attention[-1 - block], "upsamplers"),
        ):
            here = f"{side}_blocks.{block}"
            for layer in range(layers):
                names |= {f"{here}.resnets.{layer}.{part}" for part in _RESNET}
                if crossed:
                    names |= {f"{here}.attentions.{layer}.{part}" for part in _ATTENTION}
            if block < len(attention) - 1:
                names.add(f"{here}.{scale}.0.conv")
    return names


def is_some_unet(modules: Collection[str]) -> bool:
    """Whether modules can be those of one UNet as diffusers builds it: a mirror of itself."""
    down, up = (
        {
            m.split(".")[1]
            for m in modules
            if m.startswith(f"{side}_blocks.") and ".attentions." in m
        }
        for side in ("down", "up")
    )
    mirrored = any(
        down == {str(levels - 1 - int(b)) for b in up} for levels in range(1, _LEVELS + 1)
    )
    return set(modules) <= _any_modules() and mirrored


def table(modules: Iterable[str], *, original: bool = True) -> dict[str, str]:
    """Module by each of its names: diffusers' and the original layout's, with dots or underscores.

    Args:
        modules: all of the model's, as diffusers names them.
        original: with the names of the original layout, which depend on all of the model.
    """
    modules = list(modules)
    parts = [m.split(".") for m in modules]
    layers = {p[3] for p in parts if p[:3] == ["down_blocks", "0", "resnets"]}
    crossed = {p[1] for p in parts if p[0] == "up_blocks" and p[2:3] == ["attentions"]}
    dotted = {}
    for module in modules:
        name = original_name(module, len(layers) + 1, crossed) if layers and original else None
        dotted |= {name: module} if name else {}
        if module.endswith(".to_out.0"):  # some writers leave the place in the list out
            dotted[module.removesuffix(".0")] = module
    dotted |= {module: module for module in modules}
    return {name.replace(".", "_"): module for name, module in dotted.items()} | dotted


def original_name(module: str, per_level: int, crossed: Collection[str]) -> str | None:
    """A module's name in the original layout; None if it has none.

    Args:
        per_level: input blocks of a level: its layers, and one that scales down.
        crossed: indices of the up blocks that have attention.
    """
    if module in _ENDS:
        return _ENDS[module]
    side, _, rest = module.partition(".")
    if side == "mid_block":
        index, place = 0, "middle_block"
    else:
        index, _, rest = rest.partition(".")
        place = {"down_blocks": "input_blocks", "up_blocks": "output_blocks"}.get(side)
    kind, _, rest = rest.partition(".")
    layer, _, rest = rest.partition(".")
    if place is None or not str(index).isdecimal() or not layer.isdecimal():
        return None
    if place == "middle_block":
        number = 2 * int(layer) if kind == "resnets" else 1
        slot = ""
    elif kind == "downsamplers":
        return f"{place}.{(int(index) + 1) * per_level}.0.op"
    elif kind == "upsamplers":
        last = (int(index) + 1) * per_level - 1
        return f"{place}.{last}.{2 if index in crossed else 1}.conv"
    else:
        number = int(index) * per_level + int(layer) + (side == "down_blocks")
        slot = ".0" if kind == "resnets" else ".1"
    inner = _RESNET.get(rest) if kind == "resnets" else rest
    return f"{place}.{number}{slot}.{inner}" if inner else None


@cache
def sd_table() -> Mapping[str, str]:
    """`table` of SD 2.1-base."""
    return table(sd_modules())


@cache
def any_table() -> Mapping[str, str]:
    """`table` of every module in some UNet, without original names: they differ between UNets."""
    return table(_any_modules(), original=False)
