"""Which of the papers' claims hold in miniature, as experiments/claims.yaml asked beforehand.

    python bootstrap.py bench claims

Reads experiments/claims.yaml and benchmarks/results/scores_<experiment>.json and computes nothing
but statistics: the paired difference of two conditions with its 95 % interval over people and
training seeds (core/metrics/crossed.py), each seed's own difference, the verdict, and p-values
corrected for all claims. Writes the table in docs/results.md between its two markers,
benchmarks/results/claims.json and a plot per method. A claim without scores is "not run".
"""

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from facewright.benchmarks._claims import FILE, VERDICTS, Claims, read_claims
from facewright.benchmarks._claims_outcome import BELOW, NOT_RUN, REACHED, Outcome, outcomes
from facewright.benchmarks._claims_scores import RESULTS, UNTRAINED, read_scores
from facewright.core.errors import FacewrightError, counted
from facewright.core.files.json_text import strict
from facewright.core.files.writing import written_whole

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
BEGIN = "<!-- claims: python bootstrap.py bench claims -->\n"
END = "<!-- claims: end -->\n"
HEADS = (
    "", "claim", "the paper", "our prediction", "first - second", "verdict", "seeds × people",
    "command",
)  # fmt: skip


def decide(claims: Claims, folder: Path) -> list[Outcome]:
    """Every claim's outcome by the scores in a folder."""
    return outcomes(claims, {name: read_scores(name, folder) for name in claims.experiments})


def by_method(claims: Claims, found: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes by the method that they are about."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in found:
        method = claims.experiments[outcome.claim.experiment].method
        groups.setdefault(method, []).append(outcome)
    return groups


def plot_name(method: str) -> str:
    """The file that shows a method's claims."""
    return f"claims_{re.sub('[^a-z0-9]+', '_', method.lower())}.png"


def section(claims: Claims, found: Sequence[Outcome]) -> str:
    """What stands between the markers: sums, table and plots, in Markdown."""
    lines = [summary(found), "", _row(HEADS), "|---" * len(HEADS) + "|"]
    lines += [_row(_cells(claims, outcome)) for outcome in found]
    for method, mine in by_method(claims, found).items():
        if any(o.decided for o in mine):
            alt = f"{method}: gains in units of the difference that would matter"
            lines += ["", f"![{alt}](../benchmarks/results/{plot_name(method)})"]
    return "\n".join(lines) + "\n"


def summary(found: Sequence[Outcome]) -> str:
    """How many claims came out how."""
    count = Counter(outcome.verdict for outcome in found)
    parts = [
        f"{count[v]} {v}" for v in (*VERDICTS, *sorted(count.keys() - {*VERDICTS})) if count[v]
    ]
    text = f"Of {counted(len(found), 'claim')}: {', '.join(parts)}."
    decided = [outcome for outcome in found if outcome.decided]
    if decided:
        right = sum(outcome.as_expected for outcome in decided)
        text += f" The verdict was the predicted one in {right} of {len(decided)}."
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _cells(claims: Claims, o: Outcome) -> list[str]:
    claim, experiment = o.claim, claims.experiments[o.claim.experiment]
    metric = claims.metrics[claim.metric]
    compared = (
        f"`{claim.first}` against `{claim.second}`: {metric.label}, {metric.better} is better"
    )
    registered = f" [Written down there](../{claim.registered})." if claim.registered else ""
    return [
        claim.id,
        f"{claim.claim} ({compared})",
        f"{claim.paper_result} ({claim.source})",
        f"{claim.prediction}{registered}",
        result(claims, o),
        _verdict(o),
        "; ".join((_taken_over(claims, o), *o.remarks)),
        f"`{experiment.command}`",
    ]


def _taken_over(claims: Claims, o: Outcome) -> str:
    if o.difference is None:
        return NOT_RUN
    trained = "" if o.seeds == (UNTRAINED,) else f"{len(o.seeds)} × "
    return f"{trained}{o.difference.count} {claims.experiments[o.claim.experiment].unit}"


def result(claims: Claims, o: Outcome) -> str:
    """The difference with its interval, each seed's own, and the size that would matter."""
    if o.difference is None:
        return o.why
    metric, size, d = claims.metrics[o.claim.metric], claims.size(o.claim), o.difference
    digits = max(2, 1 - math.floor(math.log10(size)))

    def number(x: float) -> str:
        return f"{x:+.{digits}f}"

    unit = f" {metric.unit}" if metric.unit else ""
    text = f"{number(d.mean)}{unit}"
    if o.decided:
        text += f" [{number(d.low)}, {number(d.high)}]"
    if len(d.runs) > 1:
        text += f"; by seed {', '.join(map(number, d.runs))}"
    return f"{text}; would matter from {size:g}{unit}"


def _verdict(o: Outcome) -> str:
    if not o.decided:
        return o.verdict
    size = {REACHED: "; a size that matters", BELOW: "; smaller than what matters"}.get(o.size, "")
    p = "p < 0.001" if o.p_holm < 0.001 else f"p = {o.p_holm:.3f}"
    expected = "as predicted" if o.as_expected else f"{o.claim.expected} was predicted"
    return f"**{o.verdict}**{size} ({p}); {expected}"


def renewed(page: str, text: str) -> str:
    """A page with `text` between the two markers.

    Raises:
        FacewrightError: the page does not hold each marker once, in this order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end or BEGIN in after or END in after + before:
        raise FacewrightError(
            f"The page should hold the lines {BEGIN.strip()} and {END.strip()} once each; between "
            "them stands the table of claims. Put them back where it belongs."
        )
    return f"{before}{begin}{text}{end}{after}"


def as_json(claims: Claims, found: Sequence[Outcome]) -> dict:
    """All outcomes in numbers."""
    rows = []
    for o in found:
        d = o.difference
        rows.append(
            {
                "id": o.claim.id,
                "experiment": o.claim.experiment,
                "metric": o.claim.metric,
                "first": o.claim.first,
                "second": o.claim.second,
                "expected": o.claim.expected,
                "verdict": o.verdict,
                "why": o.why,
                "mean": d and d.mean,
                "low": d and d.low,
                "high": d and d.high,
                "by_seed": dict(zip(o.seeds, d.runs, strict=True)) if d else {},
                "count": d and d.count,
                "matters": claims.size(o.claim),
                "size": o.size,
                "p": d and d.p,
                "p_holm": o.p_holm,
                "remarks": list(o.remarks),
            }
        )
    return {"schema": 1, "summary": summary(found), "claims": strict(rows, digits=6)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claims", type=Path, default=FILE)
    parser.add_argument("--results", type=Path, default=RESULTS, help="scores, and what is written")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose table is drawn anew")
    options = parser.parse_args(arguments)
    claims = read_claims(options.claims)
    found = decide(claims, options.results)
    page = renewed(options.page.read_text(encoding="utf-8"), section(claims, found))
    from facewright.benchmarks._claims_plot import draw

    for method, mine in by_method(claims, found).items():
        if any(o.decided for o in mine):
            draw(claims, method, mine, options.results / plot_name(method))
    content = json.dumps(as_json(claims, found), indent=1, allow_nan=False) + "\n"
    for path, text in ((options.results / "claims.json", content), (options.page, page)):
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    for o in found:
        print(f"{o.claim.id:14s} {o.verdict:15s} {result(claims, o)}")
    print(f"\n{summary(found)}\n{options.page} and claims.json are written.")


if __name__ == "__main__":
    main()
