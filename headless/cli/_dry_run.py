"""How a dry run of training is shown."""

from datetime import timedelta
from typing import Any

from ._common import console, counted, say

_PARTS = {
    "weights": "all networks as they are held",
    "gradients": "of the phase that has most",
    "optimizer": "its states",
    "ema": "averaged weights",
    "activations": "what else a step takes at most",
    "total": "during a step",
    "validation": "during a validation",
}
"""Rows of the memory table: key of the facts, and what it is."""


def show_dry_run(facts: dict[str, Any]) -> None:
    """Tables of networks and memory, and sentences about the rest, on standard error."""
    from rich.table import Table

    table = Table(title=f"{facts['stage']} on {facts['device']}", title_justify="left")
    for name in ("network", "trained (M)", "frozen (M)", "LoRA modules", "held as"):
        table.add_column(name, justify="left" if name in ("network", "held as") else "right")
    for name, net in facts["networks"].items():
        held = ", ".join(f"{dtype} {size(n)}" for dtype, n in net["bytes"].items())
        millions = [f"{net[k] / 1e6:.2f}" if net[k] else "" for k in ("trained", "frozen")]
        table.add_row(name, *millions, str(net["lora_modules"] or ""), held)
    console().print(table)
    memory = Table(title="Memory", title_justify="left")
    memory.add_column("")
    memory.add_column("", justify="right")
    memory.add_column("", style="dim")
    for key, what in _PARTS.items():
        if facts["memory"][key] is not None:
            memory.add_row(key, size(facts["memory"][key]), what, style="bold" * (key == "total"))
    console().print(memory)
    say(f"Activations and what they add to the total: {facts['memory']['measured']}.", "dim")
    for text in _sentences(facts):
        say(text)
    for phase, of in facts["phases"].items():
        if not of["runs"]:
            say(f"Phase {phase} trains at no step of this budget.", "yellow")
        elif not of["finite"]:
            say(f"Phase {phase} met NaN or infinity with its first weights.", "yellow")
    if facts["sheet"]:
        say(f"The first batch: {facts['sheet']}")


def _sentences(facts: dict[str, Any]) -> list[str]:
    speed, budget, disk, data = (facts[k] for k in ("speed", "budget", "disk", "data"))
    train, held_out = (
        f"{counted(data[split]['pictures'], 'picture')} of {data[split]['people']} people"
        for split in ("train", "held_out")
    )
    per_second, step = speed["samples_per_second"], speed["seconds_per_step"]
    left = timedelta(seconds=round(budget["seconds"]))
    return [
        f"Data: {train} to train on, {held_out} held out.",
        f"Speed: {per_second:.3g} samples/s; {step:.3g} s a step of {speed['samples_per_step']}.",
        (
            f"To the end of the budget: {left} for {budget['steps']} steps and "
            f"{budget['validations']} validations of {speed['validation_seconds']:.3g} s, "
            "checkpoints not counted."
        ),
        (
            f"Disk: {size(disk['checkpoint'])} for a checkpoint, {size(disk['kept'])} for all that "
            f"are kept; at most {size(disk['grid'])} for the pictures of each validation."
        ),
    ]


def size(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError
