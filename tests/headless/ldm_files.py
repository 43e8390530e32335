"""Random checkpoints in Stable Diffusion's single-file layout, written from its block structure."""

import torch


def _norm(out, name, channels):
    out[f"{name}.weight"], out[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels)


def _layer(out, name, shape, bias=True):
    fan_in = torch.Size(shape[1:]).numel()
    out[f"{name}.weight"] = torch.randn(shape) * fan_in**-0.5
    if bias:
        out[f"{name}.bias"] = torch.randn(shape[0]) * 0.1


def _unet_res(out, name, c_in, c_out, emb):
    _norm(out, f"{name}.in_layers.0", c_in)
    _layer(out, f"{name}.in_layers.2", (c_out, c_in, 3, 3))
    _layer(out, f"{name}.emb_layers.1", (c_out, emb))
    _norm(out, f"{name}.out_layers.0", c_out)
    _layer(out, f"{name}.out_layers.3", (c_out, c_out, 3, 3))
    if c_in != c_out:
        _layer(out, f"{name}.skip_connection", (c_out, c_in, 1, 1))


def _unet_attention(out, name, c, context):
    _norm(out, f"{name}.norm", c)
    _layer(out, f"{name}.proj_in", (c, c))
    block = f"{name}.transformer_blocks.0"
    for attn, width in (("attn1", c), ("attn2", context)):
        _layer(out, f"{block}.{attn}.to_q", (c, c), bias=False)
        _layer(out, f"{block}.{attn}.to_k", (c, width), bias=False)
        _layer(out, f"{block}.{attn}.to_v", (c, width), bias=False)
        _layer(out, f"{block}.{attn}.to_out.0", (c, c))
    _layer(out, f"{block}.ff.net.0.proj", (8 * c, c))
    _layer(out, f"{block}.ff.net.2", (c, 4 * c))
    for norm in ("norm1", "norm2", "norm3"):
        _norm(out, f"{block}.{norm}", c)
    _layer(out, f"{name}.proj_out", (c, c))


def unet(widths=(64, 128), attention=(True, False), per_level=1, context=1024, channels=4):
    """UNet tensors, without prefix."""
    out, emb, c = {}, 4 * widths[0], widths[0]
    _layer(out, "time_embed.0", (emb, widths[0]))
    _layer(out, "time_embed.2", (emb, emb))
    _layer(out, "input_blocks.0.0", (c, channels, 3, 3))
    skips, i = [c], 1
    for level, width in enumerate(widths):
        for _ in range(per_level):
            _unet_res(out, f"input_blocks.{i}.0", c, width, emb)
            c = width
            if attention[level]:
                _unet_attention(out, f"input_blocks.{i}.1", c, context)
            skips.append(c)
            i += 1
        if level < len(widths) - 1:
            _layer(out, f"input_blocks.{i}.0.op", (c, c, 3, 3))
            skips.append(c)
            i += 1
    _unet_res(out, "middle_block.0", c, c, emb)
    _unet_attention(out, "middle_block.1", c, context)
    _unet_res(out, "middle_block.2", c, c, emb)
    i = 0
    for level in reversed(range(len(widths))):
        for j in range(per_level + 1):
            _unet_res(out, f"output_blocks.{i}.0", c + skips.pop(), widths[level], emb)
            c, place = widths[level], 1
            if attention[level]:
                _unet_attention(out, f"output_blocks.{i}.1", c, context)
                place = 2
            if level and j == per_level:
                _layer(out, f"output_blocks.{i}.{place}.conv", (c, c, 3, 3))
            i += 1
    _norm(out, "out.0", c)
    _layer(out, "out.2", (4, c, 3, 3))
    return out


def _vae_res(out, name, c_in, c_out):
    _norm(out, f"{name}.norm1", c_in)
    _layer(out, f"{name}.conv1", (c_out, c_in, 3, 3))
    _norm(out, f"{name}.norm2", c_out)
    _layer(out, f"{name}.conv2", (c_out, c_out, 3, 3))
    if c_in != c_out:
        _layer(out, f"{name}.nin_shortcut", (c_out, c_in, 1, 1))


def _vae_mid(out, name, c):
    _vae_res(out, f"{name}.block_1", c, c)
    _norm(out, f"{name}.attn_1.norm", c)
    for part in ("q", "k", "v", "proj_out"):
        _layer(out, f"{name}.attn_1.{part}", (c, c, 1, 1))
    _vae_res(out, f"{name}.block_2", c, c)


def vae(widths=(32, 64), per_level=1, z=4):
    """VAE tensors, without prefix."""
    out, c = {}, widths[0]
    _layer(out, "encoder.conv_in", (c, 3, 3, 3))
    for level, width in enumerate(widths):
        for j in range(per_level):
            _vae_res(out, f"encoder.down.{level}.block.{j}", c, width)
            c = width
        if level < len(widths) - 1:
            _layer(out, f"encoder.down.{level}.downsample.conv", (c, c, 3, 3))
    _vae_mid(out, "encoder.mid", c)
    _norm(out, "encoder.norm_out", c)
    _layer(out, "encoder.conv_out", (2 * z, c, 3, 3))
    _layer(out, "quant_conv", (2 * z, 2 * z, 1, 1))
    _layer(out, "post_quant_conv", (z, z, 1, 1))
    _layer(out, "decoder.conv_in", (c, z, 3, 3))
    _vae_mid(out, "decoder.mid", c)
    for level in reversed(range(len(widths))):
        for j in range(per_level + 1):
            _vae_res(out, f"decoder.up.{level}.block.{j}", c, widths[level])
            c = widths[level]
        if level:
            _layer(out, f"decoder.up.{level}.upsample.conv", (c, c, 3, 3))
    _norm(out, "decoder.norm_out", c)
    _layer(out, "decoder.conv_out", (3, c, 3, 3))
    return out


def checkpoint(**unet_options):
    """A whole checkpoint: UNet and VAE under their prefixes, and a text encoder's leftovers."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet(**unet_options).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae().items()}
    tensors["cond_stage_model.model.positional_embedding"] = torch.randn(77, 8)
    return tensors
