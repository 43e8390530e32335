"""A forest plot of a method's claims."""

from collections.abc import Sequence
from pathlib import Path

from facewright.benchmarks._claims import Claims
from facewright.benchmarks._claims_outcome import NOT_RUN, Outcome, gain

COLOURS = {
    "supported": "#2f7d4f",
    "not established": "#6b7280",
    "contradicted": "#b4452f",
}


def draw(claims: Claims, method: str, found: Sequence[Outcome], path: Path) -> None:
    """A row per claim: its gain with interval and each training seed's, in units of the difference
    that would matter; to the right where `first` is better, as it is said to be."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(10, 1.3 + 0.34 * len(found)), layout="constrained")
    axis.axvspan(-1, 1, color="#eef1f5", zorder=0)
    axis.axvline(0, color="#9aa3af", linewidth=0.8, zorder=1)
    labels = []
    for row, o in enumerate(found):
        metric = claims.metrics[o.claim.metric]
        labels.append(f"{o.claim.id}: {o.claim.first} > {o.claim.second}\n{metric.label}")
        colour = COLOURS.get(o.verdict, "#9aa3af")
        d = o.difference
        if d is None or not o.decided:
            axis.text(0, row, f" {o.verdict}", va="center", fontsize=7, color=colour)
            continue
        mean, low, high, *runs = (
            gain(claims, o.claim, x) / claims.size(o.claim)
            for x in (d.mean, d.low, d.high, *d.runs)
        )
        axis.plot([low, high], [row, row], color=colour, linewidth=1.6, zorder=2)
        axis.plot(mean, row, "o", color=colour, markersize=5, zorder=4)
        if len(runs) > 1:
            axis.plot(runs, [row + 0.25] * len(runs), ".", color="#6b7280", markersize=5, zorder=3)
    axis.set_yticks(range(len(found)), labels, fontsize=7)
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xscale("symlog", linthresh=2, linscale=1.2)
    reach = max(4.0, *(abs(x) for x in axis.get_xlim()))
    axis.set_xlim(-reach, reach)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= reach]
    axis.set_xticks([-t for t in reversed(ticks)] + [0, *ticks])
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.minorticks_off()
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(
        "gain of the first over the second, in units of the difference that would matter "
        "(shaded: smaller)\nbars: 95 % over people and training seeds; small dots: training seeds",
        fontsize=8,
    )
    axis.spines[["top", "right", "left"]].set_visible(False)
    for verdict, colour in COLOURS.items():
        axis.plot([], [], "o-", color=colour, label=verdict)
    axis.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    run = sum(o.verdict != NOT_RUN for o in found)
    axis.set_title(f"{method}: {run} of {len(found)} claims run", fontsize=9, loc="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
