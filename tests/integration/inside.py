# ruff: noqa: E402, I001 (the order of imports is the point here)
"""What the tests want to know from inside ComfyUI, without a server; run by ComfyUI's Python.

`python inside.py COMFYUI_FOLDER PACK HOME`: reads HOME/inputs.safetensors, writes
HOME/outputs.safetensors and HOME/facts.json.
"""

import asyncio
import importlib.util
import json
import os
import sys
import time
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

import comfy.lora
import comfy.model_management
import comfy.model_sampling
import comfy.sd
import comfy.utils
import comfy_api.latest  # noqa: F401 (ComfyUI has loaded it before any pack)
import folder_paths
import nodes as comfy_nodes
import torch
from comfy_extras import nodes_custom_sampler
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
facts, outputs = {}, {}
inputs = load_file(home / "inputs.safetensors")
models = home / "models"


def load_pack():
    """As ComfyUI's nodes.load_custom_node does; returns the node classes by id."""
    spec = importlib.util.spec_from_file_location(
        "facewright", pack / "__init__.py", submodule_search_locations=[str(pack)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["facewright"] = module
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    return {n.GET_SCHEMA().node_id: n for n in asyncio.run(extension.get_node_list())}


before = set(sys.modules)
# As ComfyUI usually runs: the first start compiles, the others read what it wrote.
sys.dont_write_bytecode, sys.pycache_prefix = False, str(home / "bytecode")
seconds = []
for _ in range(3):
    for name in [m for m in sys.modules if m.partition(".")[0] == "facewright"]:
        del sys.modules[name]
    start = time.process_time()
    pack_nodes = load_pack()
    seconds.append(time.process_time() - start)
facts["import_seconds"] = seconds
facts["modules"] = sorted({m.partition(".")[0] for m in set(sys.modules) - before})

from facewright.core.files import known
from facewright.core.weights import nano
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.errors import FacewrightError
from facewright.core.faces import Face
from facewright.core.lora.merge import parse_lora, to_kohya
from facewright.core.lora.files import read_lora
from facewright.nodes._host import host


def execute(node_id, **values):
    return pack_nodes[node_id].execute(**values).result


def refusal(function, *values, **named):
    try:
        function(*values, **named)
    except FacewrightError as error:
        return str(error)
    return None


def restore(model, vae, cond, images, **options):
    values = {"timestep": 399, "posterior": "mean", "seed": 0, "faces_at_once": 4} | options
    return execute(
        "FacewrightOneStepRestore",
        model=model,
        vae=vae,
        conditioning=[[cond, {}]],
        image=images.movedim(1, -1),
        **values,
    )


# Nano models of the bundled architecture, random weights.
known.NANO_DIR = home / "nano"
x, cond = inputs["nano_x"], inputs["nano_cond"]
for name in ("base", "onestep"):
    model, vae = host.load_nano(lora=name == "onestep")
    image, latent = restore(model, vae, cond, x)
    outputs[f"nano_{name}"] = image
    outputs[f"nano_{name}_latent"] = latent["samples"]
encoded = comfy_nodes.VAEEncode().encode(vae, x.movedim(1, -1))[0]
outputs["nano_vae_encode"] = encoded["samples"]
outputs["nano_vae_decode"] = comfy_nodes.VAEDecode().decode(vae, encoded)[0]
outputs["nano_vae_tiled"] = comfy_nodes.VAEDecodeTiled().decode(vae, encoded, 64, 16)[0]
sampler, sigmas = execute("FacewrightOneStepSampler", timestep=399)
conditioning = [[cond, {}]]
sample = {
    "model": model,
    "add_noise": False,
    "noise_seed": 0,
    "cfg": 1.0,
    "positive": conditioning,
    "negative": conditioning,
    "sampler": sampler,
    "sigmas": sigmas,
    "latent_image": encoded,
}
custom = nodes_custom_sampler.SamplerCustom
if hasattr(custom, "execute"):
    sampled = custom.execute(**sample).result
else:
    sampled = custom().sample(**sample)
outputs["nano_sampler_custom"] = sampled[0]["samples"]
facts["nano_vre"] = bool(
    torch.equal(
        execute("FacewrightVREEncode", vre=nano.load_vre(), image=x.movedim(1, -1))[0][0][0], cond
    )
)

# Halves overflow: the decoder's first convolution leaves half precision's range, float32's not.
half_model, half_vae = host.load_nano(lora=False)
decoder = half_vae.first_stage_model.decoder.conv_in
decoder.weight.mul_(1e5)
decoder.bias.mul_(1e5)
outputs["overflow_float32"] = restore(half_model, half_vae, cond, x)[0]
half_vae.first_stage_model.half()
half_vae.vae_dtype = torch.float16
broken = half_vae.decode(outputs["nano_base_latent"])
facts["half_decode_finite"] = bool(torch.isfinite(broken).all())
outputs["overflow_half"] = restore(half_model, half_vae, cond, x)[0]
remembered = half_vae.first_stage_model._facewright_float32
outputs["overflow_again"] = restore(half_model, half_vae, cond, x)[0]
facts["overflow_remembered"] = half_vae.first_stage_model._facewright_float32 is remembered
facts["half_vae_untouched"] = str(next(half_vae.first_stage_model.parameters()).dtype)
facts["nan_conditioning"] = refusal(restore, model, vae, torch.full_like(cond, torch.nan), x)
next(half_model.model.diffusion_model.parameters()).fill_(torch.nan)
facts["nan_latent"] = refusal(restore, half_model, vae, cond, x)

# Stable Diffusion 2.1's layout with OSDFace's kind of LoRA.
path = str(models / "checkpoints" / "thin_kl.safetensors")
model, _, vae = comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=False)[:3]
lora_path = models / "loras" / "pytorch_lora_weights.safetensors"
x, cond = inputs["x"], inputs["cond"]
patched, facts["lora_report"] = execute(
    "FacewrightLoadLoRA", model=model, lora=lora_path.name, strength=0.7
)
facts["lora_applied"] = len(patched.patches)
stock, _ = comfy.sd.load_lora_for_models(
    model, None, comfy.utils.load_torch_file(str(lora_path)), 0.7, 0
)
facts["lora_stock_applied"] = len(stock.patches)


def merged(patcher):
    """What ComfyUI makes of every weight that a LoRA is on."""
    stored = patcher.model.state_dict()
    return {
        key: comfy.lora.calculate_weight(patches, stored[key].float().clone(), key)
        for key, patches in patcher.patches.items()
    }


def ours_and_stock(file):
    """Weights changed by our node and by ComfyUI's loader, and how far apart they are."""
    ours, _ = host.apply_lora(model, *read_lora(file), 0.7)
    theirs, _ = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(file)), 0.7, 0
    )
    ours, theirs = merged(ours), merged(theirs)
    apart = max(float((ours[k] - theirs[k]).abs().max()) for k in ours.keys() & theirs.keys())
    return [len(ours), len(theirs), apart]


# As "Extract and Save LoRA" writes one, norms and biases included; and renamed for ComfyUI.
table = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
extracted = {}
for module, weight in parse_lora(*read_lora(lora_path)).items():
    stem = "diffusion_model." + table[f"{module}.weight"].removesuffix(".weight")
    extracted |= {f"{stem}.lora_up.weight": weight.up, f"{stem}.lora_down.weight": weight.down}
norm = "diffusion_model.middle_block.0.in_layers.0"
extracted |= {f"{norm}.diff": torch.full((320,), 0.1), f"{norm}.diff_b": torch.full((320,), 0.2)}
for name, values in (("extracted", extracted), ("released", read_lora(lora_path)[0])):
    file = home / f"{name}.safetensors"
    save_safetensors(file, values)
    renamed = home / "converted" / file.name
    save_safetensors(renamed, to_kohya(parse_lora(values, {}, table.keys())))
    facts[f"lora_{name}"] = ours_and_stock(file)
    facts[f"lora_{name}_converted"] = ours_and_stock(renamed)
huge = {f"{norm}.diff": torch.full((320,), 3e38)}
facts["lora_overflow"] = refusal(host.apply_lora, model, huge, {}, 2.0)
facts["lora_nan_strength"] = refusal(host.apply_lora, model, extracted, {}, float("nan"))
outputs["sd_base"], latent = restore(model, vae, cond, x)
outputs["sd_lora"], _ = restore(patched, vae, cond, x)
outputs["sd_base_again"], _ = restore(model, vae, cond, x, faces_at_once=1)
outputs["sd_sampled"], _ = restore(model, vae, cond, x, posterior="sample", seed=5)
outputs["sd_decoded"] = vae.decode(latent["samples"])

# Refusals.
tensors, metadata = read_tensors(lora_path)
nano_model, nano_vae = host.load_nano(lora=False)
facts["lora_other_model"] = refusal(host.apply_lora, nano_model, tensors, metadata, 1.0)


class Velocity(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
    """What ComfyUI gives SD 2.1 at 768 pixels."""


velocity = model.clone()
velocity.add_object_patch("model_sampling", Velocity(model.model.model_config))
facts["v_prediction"] = refusal(restore, velocity, vae, cond, x)
unet_config = model.model.model_config.unet_config
unet_config["context_dim"] = 768
facts["sd15"] = refusal(restore, model, vae, cond, x)
facts["lora_sd15"] = refusal(host.apply_lora, model, {
    f"unet.{m}.lora_{part}.weight": torch.zeros(2, 2)
    for m in ["down_blocks.0.attentions.0.proj_in"] for part in "AB"
}, {}, 1.0)  # fmt: skip
unet_config["context_dim"] = 1024
facts["windows_name"] = host.model_path("facewright", "people\\alice.person").name
facts["cond_other_faces"] = refusal(restore, model, vae, cond.repeat(2, 1, 1)[:3], x)
facts["cond_other_model"] = refusal(restore, model, vae, inputs["nano_cond"], x)
facts["vae_other_model"] = refusal(restore, model, nano_vae, cond, x)
facts["missing_file"] = refusal(host.model_path, "facewright", "associate_3.ckpt")
facts["no_name"] = [refusal(host.model_path, "loras", name) for name in (None, 7, {"a": 1})]
facts["model_files"] = host.model_files("facewright")
facts["lora_files"] = host.model_files("loras")
facts["facewright_folders"] = folder_paths.get_folder_paths("facewright")
facts["temp_folder"] = folder_paths.get_temp_directory()


class Analyzer:
    """Finds the faces it is told."""

    name = "told"

    def __init__(self, faces):
        self.faces = faces

    def detect(self, image):
        return self.faces


def detect(image, faces, **options):
    values = {
        "crop_size": 64,
        "order": "left to right",
        "pick": "",
        "min_size": 0,
        "min_score": 0.0,
        "max_faces": 0,
        "padding": 0.0,
    }
    return execute(
        "FacewrightDetectFaces", image=image, analyzer=Analyzer(faces), **(values | options)
    )


# Pictures of any prefix get names of their own, below the output folder.
saver = pack_nodes["FacewrightSaveWithReceipts"]


def saved(prefix):
    pictures = host.save_pictures(torch.rand(1, 4, 6, 3), prefix, [{}], saver)
    (entry,) = pictures.results
    return f"{entry.subfolder}|{entry.filename}"


facts["saved"] = [saved(p) for p in ("faces/", "faces/", "a/..", "a/..", "x/%width%", ".h/x [2]")]
facts["unsaved"] = [refusal(saved, p) for p in ("../x", "..\\x", "a/../../x", "a\0b")]


# A picture without a face goes through everything unchanged.
photo = torch.rand(1, 96, 120, 4)
faces, crops, preview, count, report = detect(photo, [])
tokens, token_map = execute("FacewrightVREEncode", vre=nano.load_vre(), image=crops)
restored, latent = execute(
    "FacewrightOneStepRestore",
    model=nano_model,
    vae=nano_vae,
    conditioning=tokens,
    image=crops,
    timestep=399,
    posterior="mean",
    seed=0,
    faces_at_once=4,
)
pasted, mask, _ = execute(
    "FacewrightPasteFaces",
    image=photo,
    faces=faces,
    restored=restored,
    feather=0.12,
    color="lab",
    strength=1.0,
)
facts["no_face"] = {
    "count": count,
    "report": report,
    "shapes": [list(t.shape) for t in (crops, tokens[0][0], token_map, restored)],
    "unchanged": torch.equal(pasted, photo),
    "mask": float(mask.abs().max()),
}

# The stop button ends the work between groups of faces.
done = []
original = type(host).check_interrupt


def press_stop(self):
    done.append(1)
    if len(done) == 2:
        comfy.model_management.interrupt_current_processing(True)
    original(self)


type(host).check_interrupt = press_stop
try:
    restore(
        nano_model,
        nano_vae,
        inputs["nano_cond"][:1],
        inputs["nano_x"].repeat(3, 1, 1, 1),
        faces_at_once=1,
    )
except comfy.model_management.InterruptProcessingException:
    facts["interrupted_after"] = len(done)
finally:
    type(host).check_interrupt = original

face = Face(box=(30.0, 20.0, 80.0, 70.0), score=1.0)
faces, crops, preview, count, report = detect(photo, [face])
pasted, mask, _ = execute(
    "FacewrightPasteFaces",
    image=photo,
    faces=faces,
    restored=crops,
    feather=0.12,
    color="none",
    strength=1.0,
)
facts["paste"] = {
    "outside_unchanged": torch.equal(pasted[mask == 0], photo[mask == 0]),
    "alpha_unchanged": torch.equal(pasted[..., 3], photo[..., 3]),
    "covered": float(mask.mean()),
}

# Degradation is the same code, whoever runs it.
degraded, recipe, _ = execute(
    "FacewrightDegrade", image=inputs["x"].movedim(1, -1), preset="flipnet", seed=3, noise_max=9.0
)
outputs["degraded"] = degraded
facts["recipe"] = json.loads(recipe)
again = execute(
    "FacewrightDegrade", image=inputs["x"].movedim(1, -1), preset="mild", seed=0, recipe=recipe
)
outputs["degraded_again"] = again[0]

save_file({k: v.contiguous().float() for k, v in outputs.items()}, home / "outputs.safetensors")
(home / "facts.json").write_text(json.dumps(facts, indent=1))
