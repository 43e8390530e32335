# ruff: noqa: E402 (the order of imports is the point here)
"""BoostHubs inside ComfyUI, without a server; run by ComfyUI's Python.

`python inside_boosthub.py COMFYUI_FOLDER PACK HOME`: reads HOME/inputs.safetensors, writes
HOME/outputs.safetensors and HOME/facts.json.
"""

import asyncio
import importlib.util
import json
import math
import os
import sys
from pathlib import Path

comfyui, pack, home = (Path(p).resolve() for p in sys.argv[1:])
sys.argv = sys.argv[:1]
sys.path[0] = str(comfyui)
sys.path.append(str(Path(__file__).parent))
os.chdir(comfyui)

from launch import define_missing_torchvision_ops

keep = define_missing_torchvision_ops()

import comfy.options
from comfy.cli_args import args

args.cpu = True
args.base_directory = str(home)

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy_api.latest  # noqa: F401 (ComfyUI has loaded it before any pack)
import torch
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_tomesd import TomePatchModel
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
facts, outputs = {}, {}
inputs = load_file(home / "inputs.safetensors")

spec = importlib.util.spec_from_file_location(
    "facewright", pack / "__init__.py", submodule_search_locations=[str(pack)]
)
module = importlib.util.module_from_spec(spec)
sys.modules["facewright"] = module
spec.loader.exec_module(module)
extension = asyncio.run(module.comfy_entrypoint())
pack_nodes = {n.GET_SCHEMA().node_id: n for n in asyncio.run(extension.get_node_list())}

from facewright.core.errors import FacewrightError
from facewright.core.files import known
from facewright.core.weights import nano
from facewright.nodes._host import host


def execute(node_id, **values):
    return pack_nodes[node_id].execute(**values).result


def refusal(function, *values, **named):
    try:
        function(*values, **named)
    except FacewrightError as error:
        return str(error)
    return None


def apply(model, hubs, condition, **options):
    values = {"phi": 1.0, "mode": "cached", "lq_timestep": 0, "lq_seed": 0} | options
    patched, empty = execute(
        "FacewrightApplyBoostHub",
        model=model,
        boosthub=hubs,
        condition={"samples": condition},
        **values,
    )
    assert empty["samples"].shape == condition.shape and not empty["samples"].any()
    return patched


def sample(model, latent, positive, negative, *, steps=4, cfg=1.5, callback=None, **options):
    """What the KSampler node does."""
    names = {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0} | options
    noise = comfy.sample.prepare_noise(latent, 7)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        positive=[[positive, {}]],
        negative=[[negative, {}]],
        latent_image=latent,
        callback=callback,
        disable_pbar=True,
        seed=7,
        **names,
    )


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


class Rows:
    """Counts the rows that the UNet sees."""

    def __init__(self, model):
        self.unet = model.model.diffusion_model

    def __enter__(self):
        self.calls = []
        self.handle = self.unet.time_embed.register_forward_hook(
            lambda m, args, out: self.calls.append(len(out))
        )
        return self

    def __exit__(self, *_):
        self.handle.remove()


def by_hooks(model, hubs, noise, steps, cfg, positive, negative, z_y, phi):
    """Eq. 4-5 with forward hooks, plain softmax and hand-written Euler and guidance.

    z_y: what the UNet sees of the condition, at timestep 0, with the positive prompt.
    """
    unet = model.model.diffusion_model
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    recorded = {}

    def read(hub, f_x, f_y):
        q, k, v = f_x @ hub.to_q.weight.T, f_y @ hub.to_k.weight.T, f_y @ hub.to_v.weight.T
        d, parts = f_x.shape[-1] // hub.heads, []
        for h in range(hub.heads):
            s = slice(h * d, (h + 1) * d)
            weights = (q[..., s] @ k[..., s].transpose(1, 2) / math.sqrt(d)).softmax(-1)
            parts.append(weights @ v[..., s])
        return torch.cat(parts, -1) @ hub.to_out.weight.T + hub.to_out.bias

    def call(hook, *values, context):
        handles = []
        for site in hubs.config.sites:
            path = names[f"{site}.attn1.to_q.weight"].removesuffix(".to_q.weight")
            handles.append(
                unet.get_submodule(path).register_forward_hook(
                    lambda m, a, out, site=site: hook(site, a[0], out)
                )
            )
        out = unet(*values, context=context)
        for handle in handles:
            handle.remove()
        return out

    def add(site, f_x, out):
        return out + phi * read(hubs[site], f_x, recorded[site].expand(len(f_x), -1, -1))

    def record(site, f, out):
        recorded[site] = f

    call(record, z_y, torch.zeros(len(z_y)), context=positive.expand(len(z_y), -1, -1))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - betas).cumprod(0)
    known = ((1 - a) / a).sqrt()
    times = [999 - int(i * 1000 / steps) for i in range(steps)]  # "simple"
    levels = [float(known[t]) for t in times] + [0.0]
    x = noise.double() * math.sqrt(1 + levels[0] ** 2)
    for t, sigma, following in zip(times, levels, levels[1:], strict=False):
        z = (x / math.sqrt(1 + sigma**2)).float()
        at = torch.full((len(z),), float(t))
        eps_p = call(add, z, at, context=positive.expand(len(z), -1, -1)).double()
        eps_n = call(add, z, at, context=negative.expand(len(z), -1, -1)).double()
        x = x + (following - sigma) * (eps_n + cfg * (eps_p - eps_n))
    return x.float()


known.NANO_DIR = home / "nano"
hubs, info = execute("FacewrightLoadBoostHub", boosthub="hubs.safetensors", mode="restore")
fresh, _ = execute("FacewrightLoadBoostHub", boosthub="fresh.safetensors", mode="restore")
facts["info"] = info
facts["other_mode"] = refusal(
    execute, "FacewrightLoadBoostHub", boosthub="hubs.safetensors", mode="degrade"
)
model, vae = host.load_nano(lora=False)
y, other_y = inputs["y"], inputs["other_y"]
positive, negative = inputs["positive"], inputs["negative"]
empty = torch.zeros(2, 8, 16, 16)

# Twenty steps with guidance.
run = {"steps": 20, "scheduler": "simple"}
with Rows(model) as rows:
    base = sample(model, empty, positive, negative, **run)
facts["rows_stock"] = sum(rows.calls)
facts["fresh_is_base"] = {}
cached = {}
for mode in ("cached", "joint"):
    with Rows(model) as rows:
        cached[mode] = sample(apply(model, hubs, y, mode=mode), empty, positive, negative, **run)
    facts[f"rows_{mode}"] = sum(rows.calls)
    at_once = sample(apply(model, fresh, y, mode=mode), empty, positive, negative, **run)
    facts["fresh_is_base"][mode] = [torch.equal(at_once, base), relative(at_once, base)]
noise = comfy.sample.prepare_noise(empty, 7)
expected = by_hooks(model, hubs, noise, 20, 1.5, positive, negative, y, 1.0)
facts["effect"] = relative(cached["cached"], base)
facts["cached_joint"] = relative(cached["cached"], cached["joint"])
facts["cached_reference"] = relative(cached["cached"], expected)
facts["joint_reference"] = relative(cached["joint"], expected)
base_of_4 = sample(model, empty, positive, negative)
facts["phi_0"] = [
    torch.equal(
        sample(apply(model, hubs, c, phi=0.0, mode=m), empty, positive, negative), base_of_4
    )
    for c in (y, other_y, torch.full_like(y, torch.nan))
    for m in ("cached", "joint")
]
facts["phi_half"] = relative(
    sample(apply(model, hubs, y, phi=0.5), empty, positive, negative, **run),
    by_hooks(model, hubs, noise, 20, 1.5, positive, negative, y, 0.5),
)


def both(latent, c, p=positive, n=negative, **options):
    """Largest difference between the two modes, and between them and the model without."""
    how = {k: options.pop(k) for k in ("lq_timestep", "lq_seed", "conditioning") if k in options}
    one, two = (
        sample(apply(model, hubs, c, mode=m, **how), latent, p, n, **options)
        for m in ("cached", "joint")
    )
    return [relative(one, two), relative(one, sample(model, latent, p, n, **options))]


three = torch.zeros(3, 8, 16, 16)
facts["same_either_way"] = {
    "one condition for three": both(three, y[:1]),
    "one condition, three prompts": both(three, y[:1], torch.randn(3, 5, 128)),
    "larger condition": both(empty, torch.randn(2, 8, 24, 16)),
    "smaller condition": both(torch.zeros(2, 8, 24, 24), y),
    "longer negative": both(empty, y, n=torch.randn(1, 10, 128)),
    "much longer negative": both(empty, y, n=torch.randn(1, 37, 128)),
    "no guidance": both(empty, y, cfg=1.0),
    "noisy condition": both(empty, y, lq_timestep=200, lq_seed=5),
    "prompt of its own": both(empty, y, conditioning=[[torch.randn(1, 7, 128), {}]]),
    "dpmpp_2m karras": both(empty, y, sampler_name="dpmpp_2m", scheduler="karras"),
    "euler_ancestral": both(empty, y, sampler_name="euler_ancestral"),
    "heun": both(empty, y, sampler_name="heun"),
    "uni_pc": both(empty, y, sampler_name="uni_pc", steps=6),
    "picture to picture": both(y, y, denoise=0.5),
}
short = {"steps": 4}
first = apply(model, hubs, y)
result = sample(first, empty, positive, negative, **short)
per_image = [
    sample(apply(model, hubs, y[i : i + 1]), empty, positive, negative, **short)[i : i + 1]
    for i in range(2)
]
facts["each_its_own_condition"] = relative(torch.cat(per_image), result)
facts["loaded_by_comfyui"] = any(
    m.model is not None and m.model.model is hubs
    for m in comfy.model_management.current_loaded_models
)

# Prompts that run one after the other: too little memory, so one chunk per call.
original = model.model.memory_required
model.model.memory_required = lambda *a, **k: 1e18
with Rows(model) as rows:
    facts["separate_calls"] = relative(sample(first, empty, positive, negative, **short), result)
facts["separate_rows"] = sorted(set(rows.calls))
model.model.memory_required = original

# Copies, two at once, and a LoRA on top.
facts["clone"] = torch.equal(
    sample(first.clone().clone(), empty, positive, negative, **short), result
)
second = apply(model, hubs, other_y, mode="joint")
results = [sample(m, empty, positive, negative, **short) for m in (second, first, model, second)]
facts["two_alive"] = [
    torch.equal(results[0], results[3]),
    torch.equal(results[1], result),
    relative(results[0], result) > 1e-2,
    torch.equal(results[2], sample(model, empty, positive, negative, **short)),
]
lora = nano.lora_tensors()
above, _ = host.apply_lora(first, *lora, 1.0)
below = apply(host.apply_lora(model, *lora, 1.0)[0], hubs, y)
with_lora = sample(above, empty, positive, negative, **short)
facts["lora"] = [
    relative(with_lora, sample(below, empty, positive, negative, **short)),
    relative(with_lora, result),
    torch.equal(sample(first, empty, positive, negative, **short), result),
]

# Stopped in the middle.
states = []
joined = hubs.joined


def watched(site, f, out, state, **more):
    states.append((state, len(state.kept)))
    return joined(site, f, out, state, **more)


def stop(step, denoised, x, total):
    if step == 1:
        raise comfy.model_management.InterruptProcessingException


hubs.joined = watched
try:
    sample(first, empty, positive, negative, callback=stop, **short)
except comfy.model_management.InterruptProcessingException:
    facts["interrupted"] = [states[-1][1], len(states[-1][0].kept)]
sample(first, empty, positive, negative, **short)
facts["kept_after"] = max(len(state.kept) for state, _ in states)
del hubs.joined
facts["again_after_stop"] = torch.equal(sample(first, empty, positive, negative, **short), result)
facts["options_after"] = sorted(
    k for k in first.model_options["transformer_options"] if "facewright" in str(k)
)


# Beside other packs on the same hooks.
def scaled(n, context, value, options):
    return n * 1.1, context, value


def shifted(out, options):
    return out + 0.05


def replaced(q, k, v, options):
    return v


def beside(ours_first, mode):
    patched = apply(model, hubs, y, mode=mode) if ours_first else model.clone()
    patched.set_model_attn1_patch(scaled)
    patched.set_model_attn1_output_patch(shifted)
    patched.set_model_attn1_replace(replaced, "middle", 0)
    if not ours_first:
        patched = apply(patched, hubs, y, mode=mode)
    return sample(patched, empty, positive, negative, **short)


facts["beside_others"] = [
    [relative(beside(o, "cached"), beside(o, "joint")), relative(beside(o, "cached"), result)]
    for o in (True, False)
]


# Beside nodes that change the model in some passes only.
def answer(node, patched, **options):
    """What a node of either of ComfyUI's two kinds returns."""
    function = getattr(node, "execute", None) or getattr(node(), getattr(node, "FUNCTION", ""))
    made = function(patched, **options)
    return made[0] if isinstance(made, tuple) else made.result[0]


def read_keys(patched):
    """What is sampled, and the condition's mean key in each call of a run, at the last site."""
    seen = []
    site = list(hubs.config.sites)[-1]
    original = type(hubs[site]).read

    def read(hub, f_x, k, v, attention):
        if hub is hubs[site]:
            seen.append(k[: len(y)].mean(1))  # Deep Shrink leaves fewer tokens
        return original(hub, f_x, k, v, attention)

    type(hubs[site]).read = read
    try:
        return sample(patched, empty, positive, negative, **short), seen
    finally:
        type(hubs[site]).read = original


shrink = {
    "block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.35,
    "downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic",
}  # fmt: skip
facts["in_some_passes"] = {}
for name, node, options in (
    ("PAG", PerturbedAttentionGuidance, {"scale": 3.0}),
    ("Deep Shrink", PatchModelAddDownscale, shrink),
):
    made, keys = {}, {}
    for mode in ("cached", "joint"):
        alone = apply(model, hubs, y, mode=mode)
        made[mode], _ = read_keys(alone)
        made[mode, name], keys[mode] = read_keys(answer(node, alone, **options))
    own = read_keys(first)[1][0]
    facts["in_some_passes"][name] = {
        "cached": max(relative(k, own) for k in keys["cached"]),
        "joint": max(relative(k, own) for k in keys["joint"]),
        "without": relative(made["cached"], made["joint"]),
        "beside": relative(made["cached", name], made["joint", name]),
        "effect": relative(made["cached", name], made["cached"]),
    }


path = str(home / "models" / "checkpoints" / "thin.safetensors")
thin = comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]
sd_hubs, _ = execute("FacewrightLoadBoostHub", boosthub="sd_hubs.safetensors", mode="restore")
sd_y, text = inputs["sd_y"], inputs["text"]


def merging(node, options, ours_first):
    patched = apply(thin, sd_hubs, sd_y) if ours_first else thin
    patched = answer(node, patched, **options)
    if not ours_first:
        patched = apply(patched, sd_hubs, sd_y)
    sample(patched, torch.zeros(1, 4, 16, 16), text, text, steps=1)


tile = {"tile_size": 32, "swap_size": 2, "max_depth": 0, "scale_depth": False}
facts["token_merging"] = [
    refusal(merging, node, options, ours_first)
    for node, options in ((TomePatchModel, {"ratio": 0.5}), (HyperTile, tile))
    for ours_first in (True, False)
]

# Half precision: the weights follow the model.
half, _ = host.load_nano(lora=False)
half.model.diffusion_model.to(torch.bfloat16).dtype = torch.bfloat16
facts["half"] = relative(
    sample(apply(half, hubs, y), empty, positive, negative, steps=1),
    sample(apply(model, hubs, y), empty, positive, negative, steps=1),
)

# Refusals.
v_model = model.clone()
known = comfy.model_sampling
v_sampling = type("V", (known.ModelSamplingDiscrete, known.V_PREDICTION), {})
v_model.add_object_patch("model_sampling", v_sampling(model.model.model_config))
other_lora, _ = host.apply_lora(model, lora[0], {"method": "flipnet", "mode": "degrade"}, 1.0)
nameless = comfy.samplers.CFGGuider(apply(model, hubs, y))
nameless.inner_set_conds({"prompt": [[positive, {}]]})
noise = comfy.sample.prepare_noise(empty, 7)
facts["without_a_face"] = [
    type(value).__name__
    for samples in (None, y[:0])
    for value in execute(
        "FacewrightApplyBoostHub",
        model=model,
        boosthub=hubs,
        condition={"samples": samples},
        phi=1.0,
        mode="cached",
        lq_timestep=0,
        lq_seed=0,
    )
]
facts["refused"] = {
    "prediction": refusal(apply, v_model, hubs, y),
    "lora": refusal(apply, other_lora.clone(), hubs, y),
    "lora above": refusal(host.apply_lora, first, lora[0], {"mode": "degrade"}, 1.0),
    "guider": refusal(
        nameless.sample,
        noise,
        empty,
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.calculate_sigmas(
            model.get_model_object("model_sampling"), "normal", short.get("steps", 4)
        ),
    ),
    "channels": refusal(apply, model, hubs, torch.zeros(1, 4, 16, 16)),
    "video": refusal(apply, model, hubs, y[:1, :, None]),
    "not finite": refusal(apply, model, hubs, torch.full_like(y, torch.nan), phi=0.01),
    "twice": refusal(apply, first, hubs, y),
    "twice in a copy": refusal(apply, first.clone(), hubs, y),
    "architecture": refusal(apply, thin, hubs, torch.zeros(1, 4, 16, 16)),
    **{
        f"width, {mode}": refusal(
            sample,
            apply(model, hubs, y, mode=mode, conditioning=[[torch.randn(1, 7, 64), {}]]),
            empty,
            positive,
            negative,
        )
        for mode in ("cached", "joint")
    },
    "batch": refusal(sample, apply(model, hubs, y), torch.zeros(3, 8, 16, 16), positive, negative),
    "parts": refusal(
        comfy.sample.sample,
        first,
        noise,
        2,
        1.5,
        "euler",
        "normal",
        [[positive, {}], [positive, {}]],
        [[negative, {}]],
        empty,
        seed=7,
    ),
}

# For the comparison with diffusers.
encoded = inputs["encoded"]
for name, latent, options in (
    ("ddim", empty, {"sampler_name": "ddim", "scheduler": "ddim_uniform", "steps": 20}),
    ("euler", empty, {"steps": 20}),
    ("karras", empty, {"scheduler": "karras", "steps": 6}),
    ("simple", empty, {"scheduler": "simple", "steps": 6}),
    ("sgm_uniform", empty, {"scheduler": "sgm_uniform", "steps": 6}),
    ("denoise", encoded, {"denoise": 0.6, "steps": 6}),
    ("all of it over a picture", encoded, {"steps": 6}),
):
    for mode in ("cached", "joint"):
        patched = apply(model, hubs, y, mode=mode, lq_timestep=30, lq_seed=2)
        outputs[f"{name}.{mode}"] = sample(patched, latent, positive, negative, **options)
patched = apply(thin, sd_hubs, sd_y)
outputs["sd"] = sample(patched, torch.zeros(1, 4, 16, 16), text, text * 0.5)
for scheduler in ("normal", "karras", "simple", "sgm_uniform", "ddim_uniform"):
    for steps in (1, 3, 20, 33, 50):
        sigmas = comfy.samplers.calculate_sigmas(model.model.model_sampling, scheduler, steps)
        outputs[f"sigmas.{scheduler}.{steps}"] = sigmas

# The bundled models in one node, and face tokens.
faces = torch.rand(2, 40, 40, 3)
loaded = execute("FacewrightLoadNanoFlipnet", mode="restore")
facts["nano_flipnet"] = [type(x).__name__ for x in loaded]
with_faces, without = execute("FacewrightFaceTokens", face_encoder=loaded[3], image=faces)
facts["tokens"] = [list(with_faces[0][0].shape), list(without[0][0].shape)]
looking = apply(loaded[0], loaded[2], y)
outputs["tokens"] = with_faces[0][0]
made = sample(looking, empty, with_faces[0][0], without[0][0])
facts["with_face_tokens"] = bool(torch.isfinite(made).all())

save_file({k: v.contiguous().float() for k, v in outputs.items()}, home / "outputs.safetensors")
(home / "facts.json").write_text(json.dumps(facts, indent=1))
