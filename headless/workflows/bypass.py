"""Which input takes the place of an output of a bypassed node."""

from collections.abc import Sequence


def bypassed_to(inputs: Sequence[str], output: int, output_type: str, wanted: str) -> int | None:
    """Number of the input whose link goes on, as the editor chooses it; None where none fits.

    A node with two conditionings has two inputs of their type: the input with the number of the
    output comes first, then the first of exactly the type that is wanted, then any that fits.

    Args:
        inputs: types of the node's inputs.
        output: number of the output that is linked.
        output_type: its type.
        wanted: type of the input that the link leads to in the end.
    """
    if wanted in {"*", ""}:
        return (output if output < len(inputs) else 0) if inputs else None

    def fits(number: int) -> bool:
        return fits_together(inputs[number], output_type) and fits_together(inputs[number], wanted)

    if output < len(inputs) and fits(output):
        return output
    if wanted in inputs:
        return inputs.index(wanted)
    return next((number for number in range(len(inputs)) if fits(number)), None)


def fits_together(one: str, other: str) -> bool:
    """Whether the editor lets these types be linked; commas separate alternatives."""
    if one in {"", "*", "0"} or other in {"", "*", "0"} or one == other:
        return True
    ones, others = one.lower().split(","), other.lower().split(",")
    if len(ones) == len(others) == 1:
        return ones == others
    return any(fits_together(a, b) for a in ones for b in others)
