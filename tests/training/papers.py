"""Stages of `*_paper.yaml` built at their true shapes, without weights; what the files mark."""

import re
from contextlib import contextmanager
from pathlib import Path

import torch
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules import vgg
from facewright.core.modules.adaface import AdaFaceIR
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.modules.iresnet import IResNet
from facewright.core.people import recogniser
from facewright.training import methods
from facewright.training._backbone import Codec, TrainingBackbone
from facewright.training._text import NoText
from facewright.training.losses import extractors, masked
from facewright.training.methods import flipnet, flipnet_faces, honestface, onestep, vre
from facewright.training.settings.config import load_config
from facewright.training.train import stages
from torch import nn

CONFIGS = Path(methods.__path__[0]).parent / "configs"
NAMES = sorted(path.stem.removesuffix("_paper") for path in CONFIGS.glob("*_paper.yaml"))
DISTS = {name: torch.linspace(0.1, 1, 1475).view(1, -1, 1, 1) for name in ("alpha", "beta")}
HEADS = {
    f"lin{i}.model.1.weight": torch.ones(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))
}
SD21 = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024,
    "use_linear_projection": True,
}  # fmt: skip


def marked(name, mark="[paper]"):
    """Keys that the config marks: on their line, or in the comment right above it."""
    found, above, stack = [], False, []
    for line in (CONFIGS / f"{name}_paper.yaml").read_text(encoding="utf-8").splitlines():
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if text.startswith("#"):
            above = above or mark in text
            continue
        here = above or mark in text.partition("#")[2]
        above = False
        stack = [(i, key) for i, key in stack if i < indent]
        if key := re.match(r"(\w+):", text):
            stack.append((indent, key[1]))
        # Above `output` stands what the marks mean; what is no key is an item of a list.
        if here and text and not (key and key[1] == "output"):
            found.append(".".join(key for _, key in stack))
    return list(dict.fromkeys(found))


class Built:
    """A stage's recipe with its networks on the meta device, and the files it asked for."""

    def __init__(self, name, patch):
        stage = name.replace("_", "-")
        known = stages()
        stage = next(s for s in sorted(known, key=len, reverse=True) if stage.startswith(s))
        self.name, self.read = name, {}
        self.config = load_config(CONFIGS / f"{name}_paper.yaml", known[stage].Config)
        self._stand_in(patch)
        section = self.config.recipe
        if name == "honestface":  # two files that need weights; the config's own are checked
            alone = section.discriminator.model_copy(update={"carry_on": None})
            change = {"start": None, "lora_layers": "all", "discriminator": alone}
            section = section.model_copy(update=change)
        self.recipe = known[stage](section)
        self.recipe.check_data(self.config)
        with torch.device("meta"):
            self.trained = self.recipe.build()
            self.frozen = self.recipe.frozen()
        self.nets = self.recipe.nets = {**self.trained, **self.frozen}
        self.recipe.trained = tuple(self.trained)

    def _noted(self, what, make):
        def load(path, *args, **kwargs):
            self.read.setdefault(what, []).append(Path(path).name)
            return make(Path(path), *args, **kwargs)

        return load

    def _stand_in(self, patch):
        for module in (onestep, flipnet):
            patch.setattr(module, "load_backbone", self._backbone)
        embedder = self._noted("vre", lambda p: VisualRepresentationEmbedder(VREConfig()))
        patch.setattr(onestep, "load_embedder", embedder)
        shapes = {
            vre.VQAutoencoder: vre.EmbedderShape().to_vre(),
            flipnet_faces.FaceAutoencoder: flipnet_faces.FaceShape().to_core(),
        }
        for cls, shape in shapes.items():
            made = self._noted("autoencoder", lambda p, cls=cls, shape=shape: cls(shape))
            patch.setattr(cls, "read", made)
        start = self._noted("init", lambda p, shape: flipnet_faces.FaceAutoencoder(shape))
        patch.setattr(flipnet_faces.FaceAutoencoder, "start", start)
        faces = self._noted("faces", lambda p: FaceEncoder(FaceEncoderConfig()))
        patch.setattr(flipnet, "encoder_within", faces)
        patch.setattr(flipnet, "TextEncoder", self._noted("text", lambda p: NoText(77, 1024)))
        for module in (onestep, honestface):
            patch.setattr(module, "load_recogniser", self._noted("recogniser", _recogniser))
        for module in (recogniser, honestface):
            patch.setattr(module, "fingerprint", lambda net: "0" * 8)
        eyes = self._noted("eyes", lambda p: vgg.VGG16("max"))
        patch.setattr(honestface, "load_eye_extractor", eyes)
        patch.setattr(honestface, "load_analyzer", lambda *args: None)
        patch.setattr(honestface, "dense_landmarker", lambda analyzer: nn.Identity())
        patch.setattr(vgg, "read_tensors", self._noted("vgg", _vgg_tensors))
        patch.setattr(vgg, "load_strict", _same_shapes)
        patch.setattr(extractors, "read_tensors", self._noted("learned", _learned))
        patch.setattr(masked, "lpips_missing", lambda net: None)
        patch.setattr(masked, "lpips_network", self._noted("lpips", lambda p: nn.Identity()))

    def _backbone(self, config):
        from facewright.core.diffusion.library import diffusers_classes

        assert config.source == "sd"
        unet, vae = diffusers_classes()
        return TrainingBackbone(unet(**SD21), Codec(vae(), 0.18215), "sd21")


def _recogniser(path, calibrated=True):
    net = AdaFaceIR((3, 4, 14, 3)) if "adaface" in path.name else IResNet((3, 4, 14, 3))
    name = "adaface-ir50" if "adaface" in path.name else "arcface-r50"
    return recogniser.Recogniser(net, name=name, dim=512, crop="arcface")


def _vgg_tensors(path):
    net = {"vgg16.safetensors": vgg.VGG16, "vgg19.safetensors": vgg.VGG19}[path.name]()
    return {k.replace("features_.", "features."): v for k, v in net.state_dict().items()}, {}


def _same_shapes(net, tensors, source):
    shapes = [{k: v.shape for k, v in t.items()} for t in (net.state_dict(), tensors)]
    assert shapes[0] == shapes[1], source


def _learned(path):
    return {"dists_weights.pt": DISTS, "lpips_vgg.pth": HEADS}[path.name], {}


@contextmanager
def looking_through(built, features):
    """In place of the network of a perceptual term one of known arithmetic."""
    before = dict(built.nets)
    for name in ("extractor", "perceptual"):
        if name in built.nets:
            built.nets[name] = features
    yield
    built.nets.update(before)
