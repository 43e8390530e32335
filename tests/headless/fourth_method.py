"""A method as somebody would add it: the three files that it takes, as text."""

CORE = '''
"""Sharpening: what a Gaussian took away, times a learned share."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoint import read_tensors
from ..files.known import trained
from ..options import option
from ._spec import RestorerSpec

FILE = trained("sharpening", "share", "the share of sharpening", "sharpening")


@dataclass(frozen=True, kw_only=True)
class SharpeningOptions:
    amount: float = option(1.0, "How much of the sharpening is seen.", low=0.0, high=2.0)


class Sharpening(nn.Module):
    size, recogniser, landmarker, takes_people = 64, None, None, False

    def __init__(self, share=0.5):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, lq, amount=1.0):
        return lq + amount * self.share * (lq - F.avg_pool2d(lq, 3, 1, 1))

    @torch.no_grad()
    def restore(self, lq, people, *, options=None, generator=None, chunk_size=4, on_chunk=len):
        return self(lq, (options or SharpeningOptions()).amount).clamp(0, 1)


def load(files, source, analyzer):
    return Sharpening(float(read_tensors(files[FILE])[0]["share"]))


SPECS = (
    RestorerSpec(
        name="sharpening",
        help="which only sharpens",
        files=(FILE,),
        build=load,
        analyzer="nano",
        options=SharpeningOptions,
    ),
)
'''

NODE = '''
"""Sharpening as a node."""

from ..core.methods.sharpening import load
from ._convert import to_image, to_nchw
from ._files import check_files, file_input
from ._host import io


class SharpenFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightSharpenFaces",
            display_name="Sharpen Faces",
            category="facewright/sample",
            inputs=[file_input("share", "facewright", "A file."), io.Image.Input("image")],
            outputs=[io.Image.Output("restored")],
        )


NODES = [SharpenFaces]
'''

TRAINING = '''
"""The training of sharpening."""

import torch.nn.functional as F

from ...core.checkpoint import save_safetensors
from ...core.methods.sharpening import Sharpening
from ..recipe import Evaluation, Recipe


class SharpeningRecipe(Recipe):
    stage = "sharpening"

    def build(self):
        return {"sharpening": Sharpening()}

    def losses(self, phase, batch, progress):
        gt = batch["gt"]
        return {"mse": F.mse_loss(self.nets["sharpening"](F.avg_pool2d(gt, 3, 1, 1)), gt)}

    def evaluate(self, batches):
        return Evaluation({"share": float(self.nets["sharpening"].share)})

    def export(self, folder, facts):
        path = folder / "sharpening_share.safetensors"
        save_safetensors(path, {"share": self.nets["sharpening"].share.detach()}, {})
        return [path]
'''
