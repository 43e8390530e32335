"""FLIPNET's sampling with guidance: the UNet alone, with cached and with joint BoostHubs."""

import torch
from facewright.core.diffusion.library import diffusers_classes

from ._device_run import Bench, Row, attempt
from ._device_traffic import traffic_of
from .boosthub import RUN_OF, TINY, WAYS, models_for, random_hubs, random_model, rows_of, sample
from .onestep import UNET

FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def measure(bench: Bench) -> None:
    """Rows: `RUN_OF` steps of a 512 px picture in each format, way by way."""
    steps, side = (2, 64) if bench.tiny else (RUN_OF, 512)
    where = str(bench.device)
    diffusers_classes()  # before anything imports torchvision
    with torch.no_grad():
        for name, dtype in FORMATS.items():
            made: list = []

            def models(d: torch.dtype = dtype, made: list = made) -> dict:
                if not made:
                    torch.manual_seed(0)
                    config = TINY if bench.tiny else UNET
                    model = random_model(config, d, where)
                    made.append(models_for(model, random_hubs(model, d, where), side))
                return made[0]

            for way in WAYS:
                bench.row(f"{way}, {name}", lambda w=way, m=models: run(bench, m()[w], side, steps))


def run(bench: Bench, model: object, side: int, steps: int) -> Row:
    """Milliseconds of a run and of a step, memory, rows of the UNet and traffic."""
    with bench.peak() as memory:
        rows = rows_of(model, lambda: sample(model, side, steps))
    time = bench.timed(lambda: sample(model, side, steps), most=5, seconds=2)
    traffic = attempt(lambda: traffic_of(lambda: sample(model, side, steps)))
    facts = {"steps": steps, "side": side, "rows": rows, "ms_per_step": time["ms"] / steps}
    return {**facts, **time, **memory, "traffic": traffic}
