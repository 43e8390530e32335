"""LoRA files on the disk, in many styles and damaged: the sum by hand, or the base untouched."""

import math

import torch
from facewright.core.lora.files import read_lora
from facewright.core.lora.merge import merge_lora
from facewright.core.lora.unet_names import sd_modules
from facewright.core.weights.convert import convert
from safetensors.torch import save

from ...tests.core.lora_files import LDM, by_hand, small_base
from ...tests.core.test_lora_fuzz import a_case
from .watch import Told, Wrong

_CLOSE = {torch.float32: 1e-5, torch.float16: 4e-3}


def loras(room):
    others = {f"{m}.weight": torch.zeros(1, 1) for m in sd_modules() - set(LDM)}

    def case(rng):
        dtype = rng.choice(list(_CLOSE))
        base = small_base(dtype)
        before = {k: v.clone() for k, v in base.items()}
        strength = rng.choice([1.0, 0.3, -1.0, 0.0, 1e4, math.inf])
        tensors, metadata, truth, harm = a_case(rng, base)
        path = room.given / "lora.safetensors"
        path.write_bytes(save({k: v.contiguous().clone() for k, v in tensors.items()}, metadata))

        def merge(file, into):
            read = read_lora(file)
            return merge_lora(into | others, read[0], strength, read[1])

        report = room.watch(merge, path, base)
        if isinstance(report, Told):
            if not all(torch.equal(v, base[k]) for k, v in before.items()):
                raise Wrong(f"refused, but the base is changed: {report}")
            if harm == "none" and abs(strength) not in (1e4, math.inf):
                raise Wrong(f"a whole file was refused: {report}")
            return report
        if not all(v.isfinite().all() for v in base.values()):
            raise Wrong(f"NaN or infinity in the base, harm {harm}, strength {strength}")
        if harm == "none":
            _by_hand(before, base, truth, strength, report)
        _converted(room, path, before, base, merge, strength)
        return report

    return case


def _by_hand(before, base, truth, strength, report):
    if set(report.applied) != truth.keys():
        raise Wrong(f"applied {sorted(report.applied)}, not {sorted(truth)}")
    for module, (pair, scale) in truth.items():
        weight = f"{module}.weight"
        wanted = by_hand(before[weight], *pair, strength * scale)
        close = _CLOSE[base[weight].dtype]
        most = close * max(1, abs(strength)) + close * wanted.abs()
        if ((base[weight].double() - wanted).abs() > most).any():
            raise Wrong(f"{module} is not the sum in float64")


def _converted(room, path, before, base, merge, strength):
    """The same file under the names of others does the same."""
    written = room.watch(convert, [path], room.out)
    if isinstance(written, Told):
        return
    again = {k: v.clone() for k, v in before.items()}
    report = room.watch(merge, next(iter(written)), again)
    if isinstance(report, Told):
        raise Wrong(f"converted, but not readable then: {report}")
    for name, value in base.items():
        close = _CLOSE[value.dtype]
        most = close * max(1, abs(strength)) + close * value.double().abs()
        if ((value.double() - again[name].double()).abs() > most).any():
            raise Wrong(f"{name} differs after conversion")
