"""BoostHubs on a ComfyUI MODEL, through its public hooks only.

Two attention patches read the features after the LayerNorm and add to the self-attention's result;
a wrapper around the sampler runs the condition branch first. What is patched in is plain functions:
ComfyUI's copies of a MODEL copy objects with all their weights, but share functions.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ..core.diffusion.branches import Rows, looking_at, side_by_side
from ..core.errors import FacewrightError
from ..core.methods.flipnet import (
    ALREADY_APPLIED,
    BoostHubs,
    Condition,
    Conditioning,
    check_condition,
    check_sites,
)
from ..core.modules.boosthub import check_loras
from ..core.sampling import check_prompt

KEY = "facewright_boosthub"
LORAS = "facewright_loras"
"""Attachment of a MODEL: metadata of the LoRA files that our loaders put on it."""
_FEATURES = f"{KEY}_features"
_BRANCH = f"{KEY}_branch"
_BLOCK = re.compile(
    r"(?:(input|output)_blocks\.(\d+)|middle_block)\.\d+"
    r"\.transformer_blocks\.(\d+)\.attn1\.to_q\.weight"
)


def apply_boosthub(model: Any, hubs: BoostHubs, condition: Condition, patcher: Any) -> Any:
    """See `nodes._host.Host.apply_boosthub`; `patcher` lets ComfyUI manage the BoostHubs' memory.

    Where the sampler puts a `Conditioning` into the options of a call, the patches act on it;
    without one they do nothing.
    """
    sites = _check_fits(model, hubs)
    check_loras(hubs.config.mode, model.get_attachment(LORAS) or ())
    condition.check_latent(model.get_model_object("latent_format").latent_channels)
    if model.get_additional_models_with_key(KEY):
        raise FacewrightError(ALREADY_APPLIED)
    patched = model.clone()
    if condition.phi == 0:
        return patched

    def keep_features(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple:
        if KEY in options:
            options[_FEATURES] = n  # this dict reaches the output patch of the same block
        return n, context, value

    def join(out: Tensor, options: dict) -> Tensor:
        features, state = options.pop(_FEATURES, None), options.get(KEY)
        if features is None or state is None:
            return out
        site = sites.get((*options["block"], options["block_index"]), "")
        chunks = len(options["cond_or_uncond"])
        return hubs.joined(site, features, out, state, chunks=chunks, attention=_attention(options))

    def sample(executor: Any, guider: Any, sigmas: Tensor, extra: dict, *args: Any, **kwargs: Any):
        noise = args[1] if len(args) > 1 else kwargs["noise"]
        branch = _Branch(guider, condition, noise)
        watching = branch.cached if condition.mode == "cached" else branch.joint
        with watching(extra["model_options"]):
            return executor(guider, sigmas, extra, *args, **kwargs)

    patched.set_model_attn1_patch(keep_features)
    patched.set_model_attn1_output_patch(join)
    patched.set_additional_models(KEY, [patcher])
    wrappers = comfy.patcher_extension.WrappersMP
    patched.add_wrapper_with_key(wrappers.SAMPLER_SAMPLE, KEY, sample)
    if condition.mode == "joint":
        patched.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, KEY, _both_branches)
    return patched


def _check_fits(model: Any, hubs: BoostHubs) -> dict[tuple, str]:
    """ComfyUI's id of each transformer block (kind, number, index) -> its site."""
    unet = model.model.diffusion_model
    weights = unet.state_dict()
    channels, heads, sites = {}, {}, {}
    for name, key in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        match = _BLOCK.fullmatch(key)
        # The table of names lists more blocks than a UNet without a middle block has.
        if match and key in weights:
            site = name.removesuffix(".attn1.to_q.weight")
            attention = unet.get_submodule(key.removesuffix(".to_q.weight"))
            channels[site], heads[site] = weights[key].shape[1], attention.heads
            sites[match[1] or "middle", int(match[2] or 0), int(match[3])] = site
    check_sites(hubs.config, channels, heads, model=_name(model.model))
    sampling, known = model.get_model_object("model_sampling"), comfy.model_sampling
    if not isinstance(sampling, known.EPS) or isinstance(sampling, known.V_PREDICTION):
        # SD 2.1's model of 768 pixels has the same layers as that of 512.
        raise FacewrightError(
            "The BoostHubs belong to a model that predicts the noise (epsilon), but this one "
            "predicts something else, such as v. Load Stable Diffusion 2.1-base (512 pixels), not "
            "the 768-pixel model, and take out any ModelSampling node before Apply BoostHub."
        )
    return sites


def _name(base: Any) -> str:
    return f"this {type(base).__name__}"


def _attention(options: dict) -> Any:
    """Whatever attention ComfyUI runs with, the precision and overrides of this block included."""

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        # Looked up late: other packs replace it.
        return comfy.ldm.modules.attention.optimized_attention(
            q,
            k,
            v,
            heads,
            attn_precision=options["attn_precision"],
            transformer_options=options,
        )

    return attention


class _Branch:
    """The condition branch of one run: its input, and how the sampler gets to see it."""

    def __init__(self, guider: Any, condition: Condition, noise: Tensor) -> None:
        self.base = base = guider.inner_model
        self.condition = condition
        tokens, self.prompt_options = _prompt(guider, condition)
        width = base.model_config.unet_config.get("context_dim", tokens.shape[-1])
        check_prompt(tokens, width, model=_name(base))
        z_y = base.process_latent_in(condition.latent).to(noise.device, torch.float32)
        self.z_t, self.tokens = condition.branch(z_y, tokens.to(noise.device))
        check_condition(len(self.z_t), len(noise))
        self.sigma = base.model_sampling.sigma(torch.tensor(float(condition.timestep))).to(z_y)

    @contextmanager
    def cached(self, model_options: dict) -> Iterator[None]:
        """Keys and values of one pass of the condition branch, for all calls inside."""
        state = Conditioning(self.condition.phi)
        options = model_options["transformer_options"]
        with looking_at(state, lambda: self._capture(state, model_options)):
            options[KEY] = state
            try:
                yield
            finally:
                options.pop(KEY, None)

    @contextmanager
    def joint(self, model_options: dict) -> Iterator[None]:
        """Both branches in every call inside, so whatever changes a call changes both.

        `_capture` sees no such changes: beside nodes that make them in some calls only, such as
        perturbed attention and Deep Shrink, the modes give other pictures.
        """
        options = model_options["transformer_options"]
        options[_BRANCH] = self
        try:
            yield
        finally:
            options.pop(_BRANCH, None)

    def _capture(self, state: Conditioning, model_options: dict) -> None:
        options = comfy.model_patcher.create_model_options_clone(model_options)
        # What other packs put around the model counts the sampler's steps, or cuts its latents in
        # windows; this pass is neither.
        for name in ("model_function_wrapper", "context_handler"):
            options.pop(name, None)
        options["transformer_options"].pop("wrappers", None)
        options["transformer_options"][KEY] = state
        x = self.z_t * (self.sigma**2 + 1).sqrt()  # ComfyUI divides by it again
        prompt = comfy.sampler_helpers.convert_cond([[self.tokens, self.prompt_options]])
        conds = comfy.samplers.process_conds(self.base, x, {"positive": prompt}, x.device)
        comfy.samplers.calc_cond_batch(
            self.base, [conds["positive"]], x, self.sigma.expand(len(x)), options
        )


def _prompt(guider: Any, condition: Condition) -> tuple[Tensor, dict]:
    """Tokens of the condition branch, and what else of the prompt acts on the model's weights."""
    if condition.tokens is not None:
        return condition.tokens, {}
    positive = guider.conds.get("positive")
    if positive is None:
        raise FacewrightError(
            "This guider has no prompt called positive, so Apply BoostHub cannot tell which one "
            "describes the condition. Connect a plain prompt to its `conditioning` input, or use "
            "CFGGuider or KSampler."
        )
    if len(positive) != 1 or "cross_attn" not in positive[0]:
        raise FacewrightError(
            f"The positive prompt has {len(positive)} parts, and Apply BoostHub cannot tell which "
            "one describes the condition. Connect a plain prompt to its `conditioning` input."
        )
    options = {k: positive[0][k] for k in ("hooks", "pooled_output") if k in positive[0]}
    return positive[0]["cross_attn"], options


def _both_branches(
    executor: Any,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    y: Tensor | None = None,
    control: dict | None = None,
    transformer_options: dict | None = None,
    **kwargs: Any,
) -> Tensor:
    """Wrapper around the UNet: the condition branch as further rows of each call."""
    given = transformer_options or {}
    branch = given.get(_BRANCH)
    if branch is None:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    t = branch.base.model_sampling.timestep(branch.sigma).to(timesteps)
    theirs = Rows(branch.z_t.to(x), t.reshape(1), branch.tokens.to(context))
    state = Conditioning(branch.condition.phi)
    options = {**given, KEY: state}

    def run() -> Tensor:
        alone, n = {**options, "cond_or_uncond": [0]}, len(theirs.z)
        label = None if y is None else y[:1].expand(n, -1)
        return executor(theirs.z, t.expand(n), theirs.tokens, label, None, alone, **kwargs)

    return side_by_side(
        state,
        lambda *rows: executor(*rows, y, control, options, **kwargs),
        Rows(x, timesteps, context),
        theirs,
        run=run,
        chunks=len(given["cond_or_uncond"]),
        apart=y is not None or control is not None,
    )
