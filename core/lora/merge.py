"""Low-rank adapters of a Stable Diffusion UNet: every key style, every key accounted for.

W' = W + strength * (alpha / rank) * B A (Hu et al. 2021, arXiv:2106.09685); for a convolution A is
(rank, in, kh, kw) and B (out, rank, 1, 1).

Loaders that skip what they do not recognise turn a LoRA into a different, worse model without a
word. Here a key is applied, or belongs to a text encoder and is reported, or the file is refused.
"""

import math
from collections.abc import Collection, Mapping, MutableMapping

import torch
from torch import Tensor

from ..checkpoint import broken_in
from ..errors import LoraError, listed, shorten
from . import unet_names
from .alphas import Alphas
from .keys import bare_name, foreign, is_for_text, split_key
from .weights import Difference, LoraModules, LoraReport, LoraWeight


def parse_lora(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    parameters: Collection[str] | None = None,
) -> LoraModules:
    """Sort a LoRA file's tensors by UNet module.

    Understood, also side by side in one file: peft (`lora_A`/`lora_B`, with or without adapter
    name and `base_model.model.`), diffusers (`lora.down`/`lora.up`, `.processor.`), kohya
    (`lora_unet_..._lora_down`, `.alpha`), ComfyUI (`diffusion_model.`, `.diff`, `.diff_b`) and
    LyCORIS' plain LoRA (`lycoris_`, `lora_mid`); modules as diffusers or as the original layout
    names them, with dots or underscores.

    Args:
        tensors: a whole file.
        metadata: its safetensors metadata. Alpha comes from `.alpha` tensors, else from here
            (facewright, peft or kohya), else it equals the rank: scale 1, as OSDFace is merged.
        parameters: names of the model's parameters, as diffusers has them. Modules that it lacks
            stay under the file's name. None: any UNet that facewright knows, and only such.

    Raises:
        LoraError: no LoRA, a tensor of unknown kind, half of a pair missing, values that are no
            numbers, or a module that no UNet has.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    result = LoraModules()
    unknown = []
    for key, tensor in tensors.items():
        if not isinstance(key, str):
            raise LoraError(
                f"The file holds a tensor called {shorten(key)!r}; a text was expected."
            )
        split = split_key(key)
        if is_for_text(key):
            result.text[key] = tensor
        elif split:
            found = parts.setdefault(bare_name(split[0]), {})
            if split[1] in found:
                raise _second(key, split[1])
            _check(key, tensor)
            found[split[1]] = tensor
        else:
            unknown.append(key)
    if unknown:
        raise foreign(unknown, len(tensors))
    if not parts:
        raise LoraError(
            "The file holds no LoRA for a UNet"
            + (", only for text encoders." if result.unused else ". Choose a LoRA file.")
        )
    alphas = Alphas(metadata or {})
    for module, (own, found) in _by_module(parts, parameters).items():
        _add(result, module, own, found, alphas)
    stored = any("alpha" in found for found in parts.values())
    result.alpha_source = "from its .alpha tensors" if stored else alphas.source
    return result


def _second(name: str, part: str) -> LoraError:
    kind = f"{part} matrix" if part in ("down", "up", "mid") else f"entry ({part})"
    return LoraError(f"{shorten(name)} is the second {kind} for its module in this file.")


def _check(key: str, tensor: Tensor) -> None:
    if not (tensor.is_floating_point() or key.endswith("alpha")) or tensor.is_complex():
        raise LoraError(
            f"{shorten(key)} holds {_kind(tensor)} values; a LoRA has "
            "floating-point ones. Take the file that has not been quantised."
        )
    if not tensor.to(torch.float32).isfinite().all():
        raise LoraError(
            f"{shorten(key)} holds values that are not finite (NaN or infinity): the training of "
            "this LoRA went wrong, or the file is damaged. Take an earlier or another file."
        )


def _by_module(
    parts: Mapping[str, dict[str, Tensor]], parameters: Collection[str] | None
) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """The parts by the model's module, with the name that its trainer knew it by."""
    names = _resolve(parts, parameters)
    joined: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for name, found in parts.items():
        module = names.get(name, name)
        own = name if name.startswith(unet_names.ORIGINAL) and "." in name else module
        _, into = joined.setdefault(module, (own, {}))
        for part, tensor in found.items():
            if part in into:
                raise _second(name, part)
            into[part] = tensor
    return joined


def _resolve(names: Collection[str], parameters: Collection[str] | None) -> Mapping[str, str]:
    """The model's module by the file's name of it."""
    if parameters is not None:
        ends = (".weight", ".bias")
        modules = {p.removesuffix(e) for p in parameters for e in ends if p.endswith(e)}
        return unet_names.table(sorted(modules))
    tables = [unet_names.sd_table(), unet_names.nano_table()]
    for table in tables:
        if all(name in table for name in names):
            return table
    every = unet_names.any_table()
    if all(n in every for n in names) and unet_names.is_some_unet({every[n] for n in names}):
        return every
    raise unfit(
        [f"{shorten(n)} does not exist there" for n in names if n not in tables[0]],
        len(names),
        model="the UNet of Stable Diffusion 2.1-base",
    )


def unfit(
    problems: list[str], total: int, *, model: str = "the model", came: str = ""
) -> LoraError:
    """The refusal of a LoRA with modules that a model has no place for.

    Args:
        came: an addition to the sentence that says which model it belongs to.
    """
    return LoraError(
        f"{len(problems)} of {total} modules of this LoRA do not fit {model} "
        f"({listed(problems)}): it was made for another architecture. OSDFace's LoRA "
        f"belongs to Stable Diffusion 2.1-base{came}."
    )


def _add(
    result: LoraModules, module: str, own: str, found: Mapping[str, Tensor], alphas: Alphas
) -> None:
    for part in ("weight", "bias"):
        if part in found:
            result.differences[f"{module}.{part}"] = Difference(found[part])
    matrices = found.keys() & {"down", "up", "mid"}
    if not matrices and result.differences.keys() & {f"{module}.weight", f"{module}.bias"}:
        return
    name = shorten(module)
    if not {"down", "up"} <= matrices:
        lacking = "down (lora_A)" if "down" not in found else "up (lora_B)"
        raise LoraError(f"{name} lacks its {lacking} matrix: the LoRA file is incomplete.")
    if "weight" in found:
        raise LoraError(
            f"{name} has both a LoRA and a whole difference of its weight in this file."
        )
    down, up = found["down"], found["up"]
    if "mid" in found:
        down = _with_kernel(name, down, found["mid"])
    rank = down.shape[0] if down.ndim else 0
    shaped = down.ndim in (2, 4) and up.ndim in (2, 4) and rank and down.numel() and up.numel()
    if not shaped or (up.shape[1], up[0].numel()) != (rank, rank):
        raise LoraError(
            f"{name}: the down matrix {tuple(down.shape)} and the up matrix {tuple(up.shape)} do "
            "not share a rank; the LoRA file is damaged."
        )
    alpha = found.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        raise LoraError(f"{name}: alpha should be one number, came {tuple(alpha.shape)}.")
    value = alphas.of(own, rank) if alpha is None else float(alpha)
    result[module] = LoraWeight(down, up, value, rank)


def _with_kernel(name: str, down: Tensor, mid: Tensor) -> Tensor:
    """The down matrix of a plain LoRA that does what a pointwise one and `mid` do in a row."""
    fits = mid.ndim == 4 and down.ndim in (2, 4) and mid.shape[:2] == down.shape[:1] * 2
    if not fits or down.numel() != math.prod(down.shape[:2]):
        raise LoraError(
            f"{name}: the down matrix {tuple(down.shape)} and the middle one {tuple(mid.shape)} "
            "do not belong together; the LoRA file is damaged."
        )
    whole = torch.einsum("mnhw,ni->mihw", mid.float(), down.float().flatten(1))
    _check(f"{name} (its kernel)", whole)
    return whole


def merge_lora(
    unet_state_dict: MutableMapping[str, Tensor],
    lora_tensors: Mapping[str, Tensor],
    strength: float = 1.0,
    metadata: Mapping[str, str] | None = None,
) -> LoraReport:
    """Add a LoRA to a UNet's weights, in place; the weights are untouched on error.

    Args:
        unet_state_dict: tensors under diffusers names, any floating-point dtype. The sum is formed
            in float32.
        lora_tensors: a LoRA file, any key style; see `parse_lora`.
        strength: 1 is what the LoRA was trained for; negative values subtract.
        metadata: the LoRA file's safetensors metadata.

    Raises:
        LoraError: modules that the UNet lacks or that have another shape there, or a sum that is
            not finite in the UNet's dtype.
    """
    check_strength(strength)
    weights = parse_lora(lora_tensors, metadata, unet_state_dict.keys())
    changes = weights.changes
    if problems := misfits(changes, unet_state_dict):
        raise unfit(problems, len(changes))
    with torch.no_grad():
        for name, change in changes.items():
            _check_base(name, unet_state_dict[name])
            check_sum(name, unet_state_dict[name], change, strength)
        for name, change in changes.items():
            target = unet_state_dict[name]
            target.copy_(_sum(target, change, strength))
    return LoraReport.of(weights)


def misfits(
    changes: Mapping[str, LoraWeight | Difference], parameters: Mapping[str, Tensor]
) -> list[str]:
    """What of a LoRA a model has no place for, in words, by the names of its parameters."""
    problems = []
    for name, change in changes.items():
        module, target = shorten(name.removesuffix(".weight")), parameters.get(name)
        if target is None:
            problems.append(f"{module} does not exist in the model")
        elif not change.fits(target.shape):
            problems.append(f"{module} should be {tuple(target.shape)}, came {change.made_for}")
    return problems


def _sum(target: Tensor, change: LoraWeight | Difference, strength: float) -> Tensor:
    """In float32, or in float64 where the target is."""
    step = strength * change.delta(target)
    if target.dtype == torch.float64:
        return target + step
    # In place: of the largest weights every further tensor is more than 100 MB.
    return step.add_(target if target.itemsize > 1 else target.float())


def check_strength(strength: float) -> None:
    """Refuse a strength that is no number.

    Raises:
        LoraError: NaN or infinity.
    """
    if not math.isfinite(strength):
        raise LoraError(f"The strength of a LoRA should be a finite number, came {strength}.")


def _check_base(name: str, target: Tensor) -> None:
    if not target.is_floating_point():
        raise LoraError(
            f"The model's {shorten(name)} holds {_kind(target)} values, and a LoRA is added to "
            "floating-point ones. Take a model that has not been quantised."
        )
    if broken_in({name: target}):
        raise LoraError(
            f"The model's {shorten(name)} holds values that are not finite: the file is damaged. "
            "Download it again."
        )


def check_sum(name: str, target: Tensor, change: LoraWeight | Difference, strength: float) -> None:
    """Refuse an addition to a finite parameter that its dtype cannot hold.

    Raises:
        LoraError: the sum is not finite.
    """
    if not target.is_floating_point():
        return  # a host's own kind of quantised weight, which is added to in another dtype
    limits = torch.finfo(target.dtype)
    bound = change.bound  # of the change alone, which float32 has to hold whatever the strength
    step = abs(strength) * bound
    if bound < torch.finfo(torch.float32).max and step < limits.max * limits.eps / 4:
        return  # less than what the largest number of this dtype is rounded by
    largest = limits.max * (1 + limits.eps / 4)  # above, rounding gives infinity or cuts it off
    if not (_sum(target, change, strength).abs() <= largest).all():
        raise LoraError(
            f"With strength {strength:g} the LoRA makes {shorten(name)} larger than "
            f"{_kind(target)} holds ({limits.max:g}). Take a smaller strength, or a model in "
            "float32."
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def to_kohya(weights: LoraModules) -> dict[str, Tensor]:
    """Tensors under the names that ComfyUI's and other loaders apply completely, with alphas."""
    tensors = {}
    for module, weight in weights.items():
        name = kohya_name(module)
        tensors[f"{name}.lora_down.weight"] = weight.down
        tensors[f"{name}.lora_up.weight"] = weight.up
        tensors[f"{name}.alpha"] = torch.tensor(float(weight.alpha))
    for parameter, difference in weights.differences.items():
        module, _, part = parameter.rpartition(".")
        tail = {"weight": "diff", "bias": "diff_b"}[part]
        tensors[f"{kohya_name(module)}.{tail}"] = difference.value
    return tensors


def kohya_name(module: str) -> str:
    """What kohya's trainer calls a module."""
    return "lora_unet_" + module.replace(".", "_")
