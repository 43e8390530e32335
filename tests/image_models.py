"""Small networks in the layouts of face restorers and upscalers, with drawn weights."""

import torch


def _drawn(module, seed, gain=1.0):
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            fan = tensor[0].numel() if tensor.ndim > 1 else 1
            drawn = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(gain * drawn / fan**0.5 if tensor.ndim > 1 else 1 + 0.1 * drawn)
    return module.state_dict()


def restoreformer(path, seed=0, **settings):
    """As small as the architecture allows: norms of 32 groups, attention with 8 heads."""
    from spandrel.architectures.RestoreFormer import RestoreFormer

    small = {"ch": 32, "ch_mult": (1, 1, 1, 1, 1, 1), "n_embed": 16, "embed_dim": 32}
    network = RestoreFormer(**{**small, "num_res_blocks": 1, "z_channels": 32, **settings})
    torch.save({"params": _drawn(network, seed)}, path)
    return path


def gfpgan(path, seed=0):
    """350 MB: spandrel knows one size."""
    from spandrel.architectures.GFPGAN import GFPGAN

    network = GFPGAN(
        out_size=512, num_style_feat=512, channel_multiplier=2, different_w=True,
        input_is_latent=True, sft_half=True,
    )  # fmt: skip
    torch.save({"params_ema": network.state_dict() | {}}, path)
    return path


def esrgan(path, seed=0, scale=4, channels=3):
    """Draws a texture around gray, of which nothing is cut off at 0 and 1."""
    from spandrel.architectures.ESRGAN import ESRGAN

    network = ESRGAN(in_nc=channels, out_nc=channels, num_filters=8, num_blocks=1, scale=scale)
    weights = _drawn(network, seed, gain=0.7)
    for tensor in weights.values():
        if tensor.ndim == 1:
            tensor.zero_()
    *_, weight, bias = weights.values()
    weight *= 3
    bias += 0.5
    torch.save(weights, path)
    return path
