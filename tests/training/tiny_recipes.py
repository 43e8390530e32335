"""Every stage a user trains, with tiny networks and all of its terms on; `tiny` of conftest."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from facewright.training.methods import flipnet, flipnet_faces, honestface, onestep, vre
from facewright.training.settings.config import TrainConfig

STAGES = {
    "onestep": onestep.OneStepRecipe,
    "honestface": honestface.HonestFaceRecipe,
    "flipnet-restore": flipnet.RestoreRecipe,
    "flipnet-degrade": flipnet.DegradeRecipe,
    "vre-hq": vre.HQRecipe,
    "vre-lq": vre.LQRecipe,
    "vre-associate": vre.AssociateRecipe,
    "face-autoencoder": flipnet_faces.FaceAutoencoderRecipe,
    "face-associate": flipnet_faces.FaceAssociateRecipe,
}
WEIGHTS = {
    "mse": 1.0, "perceptual": 0.7, "identity": 0.3, "gan": 0.2, "latent": 0.5, "l1": 0.4,
    "edges": 0.3, "chroma": 0.6, "features": 0.2, "face": 2.0,
}  # fmt: skip
BRANCH = {"perceptual": 0.7, "gan": 0.8, "gan_start": 0, "gan_ch": 8, "gan_layers": 1,
          "gan_norm": "group"}  # fmt: skip
ENCODER = {"ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_levels": (1,), "groups": 1}
VRE_SHAPE = {"encoder": {**ENCODER, "z_channels": 16}, "num_codes": 32, "num_tokens": 9,
             "input_size": 16, "proj_hidden": 8, "proj_out": 12}  # fmt: skip
FACE_SHAPE = {"encoder": {**ENCODER, "z_channels": 6}, "input_size": 16, "hidden": 8, "width": 12}


def neighbour(name):
    """A test module of this folder, for what it builds."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"facewright_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Tiny:
    """Files of tiny networks in `folder`, and recipes that train on them."""

    flip: object

    def __post_init__(self):
        folder = self.folder = self.flip.folder
        self.nano = {"kind": "nano", "path": folder / "identity.safetensors"}
        neighbour("test_onestep").vre_file(folder / "vre.safetensors", 12)
        torch.manual_seed(0)
        for branch in ("hq", "lq"):
            shape = vre.EmbedderShape(**VRE_SHAPE).to_vre()
            vre.VQAutoencoder(shape).write(folder / f"vq_{branch}.safetensors", {})
            shape = flipnet_faces.FaceShape(**FACE_SHAPE).to_core()
            flipnet_faces.FaceAutoencoder(shape).write(folder / f"face_{branch}.safetensors", {})

    def values(self, stage):
        """The section `recipe:`."""
        folder, nano = self.folder, self.nano
        if stage.startswith("flipnet"):
            return self.flip.values(stage.removeprefix("flipnet-"))
        if stage.startswith(("vre", "face")):
            values = {**BRANCH, "extractor": nano}
            if stage == "face-autoencoder":
                return {**values, "shape": FACE_SHAPE, "branch": "lq", "kl": 0.1}
            kind = "vq" if stage.startswith("vre") else "face"
            values |= {"shape": VRE_SHAPE} if kind == "vq" else {"shape": FACE_SHAPE, "kl": 0.1}
            if stage.endswith("associate"):
                values |= {b: folder / f"{kind}_{b}.safetensors" for b in ("hq", "lq")}
            return values
        values = {
            "backbone": self.flip.values("degrade")["backbone"],
            "vre": folder / "vre.safetensors",
            "rank": 2,
            "alpha": 2,
            "extractor": nano,
            "discriminator": {"rank": 2, "hidden": 32},
            "weights": WEIGHTS,
        }
        if stage == "onestep":
            return {**values, "recogniser": {**nano, "crop": "full"}}
        return {
            **values,
            "recognisers": [nano["path"]],
            "mfa_distance": "features",
            "weights": {**WEIGHTS, "mfa": 0.9},
            "embedder": {"recogniser": nano["path"], "extractor": nano["path"], "eye_size": 16,
                         "landmarker": {"kind": "nano"}, "hidden": 8},
        }  # fmt: skip

    def recipe(self, stage, **changes):
        """Not built yet; `changes` replace entries, those of `weights` one by one."""
        values = {**self.values(stage), **changes}
        if "weights" in changes:
            values["weights"] = {**self.values(stage)["weights"], **changes["weights"]}
        return STAGES[stage](STAGES[stage].Config(**values))

    def start(self, stage, **changes):
        """Built as the engine builds it, and what starts at zero woken up, so that it counts."""
        recipe = self.recipe(stage, **changes)
        torch.manual_seed(0)
        nets = recipe.build()
        recipe.trained = tuple(nets)
        frozen = recipe.frozen()
        for net in frozen.values():
            net.requires_grad_(False).eval()
        recipe.nets = {**frozen, **nets}
        torch.manual_seed(5)
        with torch.no_grad():
            for net in nets.values():
                for p in trainable(net).values():
                    if not p.any():
                        p.normal_(0, 0.2)
        return recipe

    def run(self, stage, people, output, **changes):
        """The config of a run on the pictures of `people`, but for its recipe."""
        phases = ("generator", "discriminator")
        if stage.startswith("flipnet"):
            phases = ("main",)
        elif stage.startswith(("vre", "face")):
            phases = ("autoencoder", "discriminator")
        values = {
            "output": output,
            "budget": {"max_steps": 2},
            "batch_size": 2,
            "cpu": True,
            "threads": 1,
            "ema": 0,
            "log_every": 1,
            "validate_images": 1,
            "data": {"source": "folder", "folder": people, "size": 32, "workers": 0,
                     "identity": "parent", "held_out": 0.3,
                     "references": 2 if stage == "honestface" else 0},
            "degradation": {"presets": ["mild"]},
            "optimizers": {phase: {"lr": 1e-2, "clip": 1e6} for phase in phases},
        }  # fmt: skip
        return TrainConfig(**{**values, **changes})

    def batch(self, stage, b=2, size=32):
        data = self.flip.batch(b, size)
        if stage == "honestface":
            generator = torch.Generator().manual_seed(5)
            photos = torch.rand(b, 2, 3, size, size, generator=generator)
            data |= {"references": photos, "valid": torch.ones(b, 2, dtype=torch.bool)}
        return data


def trainable(net):
    return {n: p for n, p in net.named_parameters() if p.requires_grad}
