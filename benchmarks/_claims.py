"""The claims of experiments/claims.yaml, which were written down before they were tried."""

import re
from pathlib import Path
from typing import Literal

from facewright.core.errors import first_of, shorten
from facewright.training.settings.strict import ConfigError, Refused, Strict
from facewright.training.settings.yaml_text import Lines, parse_yaml
from pydantic import Field, ValidationError, model_validator

FILE = Path(__file__).resolve().parents[1] / "experiments" / "claims.yaml"
VERDICTS = ("supported", "not established", "contradicted")
Verdict = Literal["supported", "not established", "contradicted"]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


class Metric(Strict):
    """A number per person, and which difference in it would matter."""

    label: str
    unit: str = ""
    better: Literal["higher", "lower"]
    matters: float = Field(gt=0)
    why: str = Field(description="where `matters` comes from")


class Experiment(Strict):
    """Conditions that are compared, and how often each is trained and scored."""

    method: str = Field(description="heading in the page of results; its plot's name follows")
    about: str
    people: int = Field(ge=1)
    unit: str = Field("people", description="what intervals are over beside training seeds")
    seeds: int = Field(ge=1, description="training seeds; 1 where there is one run or none")
    command: str
    conditions: dict[str, str]


class Size(Strict):
    """A difference that matters for one claim."""

    size: float = Field(gt=0)
    why: str


class Claim(Strict):
    """One comparison: `first` is said to be better than `second`."""

    id: str
    experiment: str
    metric: str
    first: str
    second: str
    source: str
    claim: str
    paper_result: str
    expected: Verdict
    prediction: str
    matters: Size | None = None
    registered: str | None = None


class Claims(Strict):
    """The whole file."""

    form: Literal[1] = Field(alias="schema")
    metrics: dict[str, Metric]
    experiments: dict[str, Experiment]
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "Claims":
        problems, ids, asked = [], set(), set()
        for names in (self.metrics, self.experiments):
            problems += [f"{shorten(n)!r} is no name" for n in names if not _NAME.fullmatch(n)]
        for claim in self.claims:
            said = f"claim {shorten(claim.id)!r}"
            if not _NAME.fullmatch(claim.id):
                problems.append(f"{said}: the id should be letters, digits, `.`, `_` and `-`")
            if claim.id in ids:
                problems.append(f"{said}: another claim has the same id")
            ids.add(claim.id)
            if claim.metric not in self.metrics:
                problems.append(f"{said}: there is no metric {shorten(claim.metric)!r}")
            pair = (claim.experiment, claim.metric, frozenset((claim.first, claim.second)))
            if pair in asked:
                problems.append(f"{said}: another claim compares the same conditions in it")
            asked.add(pair)
            if claim.first == claim.second:
                problems.append(f"{said}: `first` and `second` are the same condition")
            experiment = self.experiments.get(claim.experiment)
            if experiment is None:
                problems.append(f"{said}: there is no experiment {shorten(claim.experiment)!r}")
                continue
            for name in (claim.first, claim.second):
                if name not in experiment.conditions:
                    problems.append(
                        f"{said}: {claim.experiment} has no condition {shorten(name)!r}"
                    )
        if problems:
            raise ValueError("; ".join(first_of(problems, "and {} more")))
        return self

    def size(self, claim: Claim) -> float:
        """The smallest difference that matters for a claim, in its metric."""
        return claim.matters.size if claim.matters else self.metrics[claim.metric].matters


def read_claims(path: Path = FILE) -> Claims:
    """The claims in a file.

    Raises:
        ConfigError: it cannot be read, or says something else than `Claims`; every wrong place is
            named with its line.
    """
    name = f"The claims {shorten(path, 200)} could not be read"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    data, lines = parse_yaml(text, name)
    try:
        return Claims.model_validate(data)
    except ValidationError as error:
        told = [_explain(item, lines) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join([f"{name}:", *first_of(told, "  and {} more")])) from error


def _explain(item, lines: Lines) -> str:
    place = tuple(item["loc"])
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    where = ".".join(shorten(part, 40) for part in place) or "the file"
    given = item["input"]
    said = given.sentence if isinstance(given, Refused) else item["msg"]
    said = {"missing": "is missing", "extra_forbidden": "is no key that is known here"}.get(
        item["type"], shorten(said.removeprefix("Value error, "), 2000)
    )
    return f"  {where}: {said}" + (f" (line {line})" if line else "")
