"""Values that do not change a result, made the same: ComfyUI then keeps what it has worked out."""

from typing import Any

from ._results import at

_UNUSED = {
    "FacewrightOneStepRestore": ("posterior", "mean", "seed"),
    "FacewrightRestoreVideo": ("posterior", "mean", "seed"),
    "FacewrightApplyBoostHub": ("lq_timestep", 0, "lq_seed"),
}
"""By node class: where the first input has that value, the last one means nothing."""


def without_unused(request: Any) -> Any:
    """What ComfyUI is asked to run, seeds that nothing is drawn with set to 0, in place."""
    prompt = at(request, "prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs, kind = at(node, "inputs"), at(node, "class_type")
        if not isinstance(kind, str) or kind not in _UNUSED or not isinstance(inputs, dict):
            continue
        decides, value, unused = _UNUSED[kind]
        # A link or a value of another type is ComfyUI's to judge.
        if inputs.get(decides) == value and type(inputs.get(unused)) is int:
            inputs[unused] = 0
    return request
