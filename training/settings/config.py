"""The YAML file of a training run as strict pydantic models: an unknown key is an error.

A run's file holds what every stage shares (`TrainConfig`) and one section `recipe:` whose model
belongs to the stage (`Recipe.Config`).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from ...core.degradation import Degradation
from ...core.errors import first_of, shorten
from ...core.files.writing import written_whole
from .data_sections import FolderData, PairsData, ShardsData, WorldData
from .strict import ConfigError, Refused, Strict
from .yaml_text import parse_yaml, read_yaml

PACKAGE = "package:"
"""Starts a path below the package's own folder, wherever that is installed; all other paths of a
config are relative to where the command is given."""


HIDDEN = "hidden"
"""Among the degradation's presets: the rendered world's own damage, for pairs no preset makes."""


class DegradationConfig(Strict):
    """What turns gt into lq; each sample draws one of the presets by its own seed.

    Named twice, a preset comes twice as often. `hidden` is the rendered world's own damage.
    """

    presets: tuple[str, ...] = Field(min_length=1)
    validation: str | None = Field(
        None, description="preset of the held-out set; default the first"
    )
    variants: int | None = Field(
        None,
        ge=1,
        description="degraded versions that each picture has; none: another one each time. With "
        "few, what the cache knows of them is found again",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="other values in every preset, such as {scale: [4, 16], quality: [30, 90]}; "
        "see core.degradation.Degradation.preset",
    )

    @model_validator(mode="after")
    def _known(self) -> "DegradationConfig":
        for name in {*self.presets, self.validation or HIDDEN} - {HIDDEN}:
            try:
                Degradation.preset(name, **self.overrides)
            except (TypeError, LookupError, OverflowError) as error:
                raise ValueError(f"`overrides` do not fit: {shorten(error, 200)}") from error
        return self


class OffShelfConfig(Strict):
    """Degraded training pictures made beforehand, in place of on-the-fly ones."""

    folder: Path = Field(description="<name>_<k>.png for each training picture <name>")
    share: float = Field(0.5, ge=0, le=1, description="of the samples that take one")


class OptimizerConfig(Strict):
    """One optimiser; a recipe has one per phase."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    rates: dict[str, float] = Field(
        default_factory=dict,
        description="part of parameters' names -> factor of their rate; the first that fits counts",
    )
    muon_lr: float = Field(4e-3, gt=0, description="kind muon: rate of the matrix-shaped weights")
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    warmup: int = Field(0, ge=0, description="steps")
    schedule: Literal["cosine", "constant"] = "constant"
    floor: float = Field(0.01, ge=0, le=1, description="share of the rate left at the end (cosine)")


class Budget(Strict):
    """How long to train; the schedule and the recipe's phases follow the share that is spent."""

    max_steps: int | None = Field(None, ge=1)
    max_minutes: float | None = Field(None, gt=0, description="time spent training, over resumes")

    @model_validator(mode="after")
    def _one(self) -> "Budget":
        if (self.max_steps is None) == (self.max_minutes is None):
            raise ValueError("give exactly one of max_steps and max_minutes")
        return self

    @property
    def seconds(self) -> float:
        """Of `max_minutes`; 0 where steps are counted."""
        return 60 * (self.max_minutes or 0)


def _yaml_no(value: object) -> object:
    return "no" if value is False else value  # what YAML makes of a bare no


Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_yaml_no)]


class CacheConfig(Strict):
    """Latents and tokens of frozen networks, kept for when the same picture comes again.

    Good pictures do, upright and mirrored; degraded ones with `degradation.variants` alone.
    """

    folder: Path = Field(description="any number of runs can share it; some 64 KB a picture")


class TrainConfig(Strict):
    """Everything about a run but the method itself."""

    output: Path = Field(description="folder of checkpoints, logs, grids and exports")
    seed: int = Field(0, ge=0, lt=2**21)
    budget: Budget
    batch_size: int = Field(
        8, ge=1, le=2**20, description="images per process and accumulation step"
    )
    accumulate: int = Field(
        1, ge=1, le=2**20, description="batches whose gradients are added per step"
    )
    total_batch: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="images per step in all, the same on any number of processes that divides it: "
        "`accumulate` follows from it, and a smaller `batch_size` where that is too much. None: "
        "batch_size x accumulate x processes",
    )
    precision: Precision = "no"
    cpu: bool = Field(False, description="stay on the CPU even where a GPU is found")
    threads: int | None = Field(
        None, ge=1, le=4096, description="CPU threads; default torch's own choice"
    )
    channels_last: bool = True
    frozen_precision: Precision = Field(
        "no",
        description="how large frozen weights are held, as under a LoRA; needs `precision`, too",
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice in place of holding them: less memory"
    )
    cache: CacheConfig | None = None
    compile: bool = Field(False, description="torch.compile of what is trained")
    data: Annotated[WorldData | FolderData | PairsData | ShardsData, Field(discriminator="source")]
    degradation: DegradationConfig | None = None
    off_shelf: OffShelfConfig | None = None
    optimizers: dict[str, OptimizerConfig] = Field(
        description="one per phase of the recipe; null takes one out again"
    )
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0 = off")
    log_every: int = Field(20, ge=1)
    trackers: tuple[str, ...] = Field(
        ("tensorboard",),
        description="where curves and grids go besides metrics.jsonl: names that accelerate knows, "
        "such as wandb, mlflow, aim, comet_ml; [] for none",
    )
    validate_every: int = Field(500, ge=1, description="steps between validations and grids")
    validate_images: int = Field(64, ge=1)
    grid_images: int = Field(8, ge=1)
    checkpoint_every: int = Field(
        500,
        ge=1,
        description="steps; a run that is killed goes on from its last checkpoint, so 1 loses at "
        "most the step in flight. Ctrl-C and SIGTERM write one before they end the run",
    )
    keep_last: int = Field(
        2,
        ge=1,
        description="newest checkpoints that are kept; with 1 the one before stays, too, until the "
        "run ends, for a checkpoint is known to be good when a step has gone on from it",
    )
    recipe: Any = Field(default_factory=dict, description="the stage's own section")

    @field_validator("optimizers", mode="before")
    @classmethod
    def _taken_out(cls, value: Any) -> Any:
        """An arm without a discriminator is a line more, too, and no other file."""
        left = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {}
        return left or value

    @model_validator(mode="after")
    def _comes_back(self) -> "TrainConfig":
        cropped = isinstance(self.data, ShardsData) and self.data.crop
        if self.cache and (cropped or isinstance(self.data, PairsData)):
            what = "with `crop` pictures are" if cropped else "pairs are"
            raise ValueError(
                f"{what} cut anew each time, so that no picture comes back: leave `cache` out"
            )
        return self

    @model_validator(mode="after")
    def _autocast(self) -> "TrainConfig":
        if self.frozen_precision != "no" and self.precision == "no":
            raise ValueError(
                f"frozen_precision {self.frozen_precision} needs precision: {self.frozen_precision}"
            )
        return self


def load_config(
    path: str | Path, recipe_config: type[Strict], overrides: list[str] | None = None
) -> TrainConfig:
    """Read and check a YAML file.

    Args:
        path: the file; `package:training/configs/<name>.yaml` is one that came with the package,
            and values of a file may start with `package:`, too.
        recipe_config: model of its `recipe:` section (`Recipe.Config` of the stage).
        overrides: `a.b=value` strings, the value read as YAML, applied before checking.

    Raises:
        ConfigError: unreadable file, unknown key (close names are offered) or wrong value.
    """
    data, lines = read_yaml(Path(_located(str(path))))
    if not isinstance(data, dict):
        raise ConfigError(f"The training config {path} should be a mapping of keys to values.")
    where: dict[tuple, str] = {place: f"line {line}" for place, line in lines.items()}
    for override in overrides or []:
        place = _override(data, override)
        where = {k: v for k, v in where.items() if k[: len(place)] != place} | {place: "--set"}
    model = create_model(
        "RunConfig",
        __base__=TrainConfig,
        recipe=(recipe_config, Field(default_factory=recipe_config)),
    )
    try:
        return model.model_validate(_located(data))
    except ValidationError as error:
        told = _without_consequences(error.errors(include_url=False))
        found = list(dict.fromkeys(_explain(item, model, where) for item in told))
        told = "\n".join(first_of(found, "  and {} more"))
        raise ConfigError(f"{shorten(path, 200)} is not a valid config:\n{told}") from error


def _located(value: Any) -> Any:
    """The same with every `package:` path made absolute."""
    if isinstance(value, dict):
        return {k: _located(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_located(v) for v in value]
    if isinstance(value, str) and value.startswith(PACKAGE):
        return str(Path(__file__).resolve().parents[2] / value.removeprefix(PACKAGE))
    return value


def save_config(config: TrainConfig, path: Path, stage: str) -> None:
    """Write a whole config, defaults spelled out, as a YAML file that `load_config` takes."""
    values = config.model_dump(mode="json")
    if config.total_batch is not None:
        del values["accumulate"]  # it follows, and another number of processes may resume
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with written_whole(path) as temporary:
        temporary.write_text(f"# facewright train {stage}\n{text}", encoding="utf-8")


def _override(data: dict, text: str) -> tuple[str, ...]:
    """Put `a.b=value` into `data`; returns its place."""
    key, equals, value = text.partition("=")
    place = tuple(key.strip().split("."))
    if not equals or not all(place):
        raise ConfigError(f"--set `{shorten(text)}` should look like section.key=value.")
    *sections, last = place
    inner: Any = data
    for section in sections:
        at = _within(inner, section, key)
        if isinstance(inner, dict) and inner.get(at) is None:
            inner[at] = {}
        inner = inner[at]
        if not isinstance(inner, dict | list):
            raise ConfigError(
                f"--set `{shorten(key)}`: `{shorten(section)}` holds a value, not a section."
            )
    at = _within(inner, last, key)
    inner[at], _ = parse_yaml(value, f"--set `{shorten(text)}` could not be read")
    return place


def _within(section: dict | list, part: str, key: str) -> Any:
    """A key of a section as it is, of a list as a number: `data.folder.0` is the first."""
    if isinstance(section, dict):
        return part
    if not (part.isascii() and part.isdigit() and int(part[:9]) < len(section)):
        raise ConfigError(
            f"--set `{shorten(key)}`: `{shorten(part)}` should be the number of one of the "
            f"{len(section)} entries there, counted from 0."
        )
    return int(part)


def _without_consequences(told: Sequence[Mapping]) -> list[Mapping]:
    """Errors without those that a list is too short, where its entries are wrong."""

    def inside(item: Mapping) -> bool:
        place = item["loc"]
        return any(o is not item and o["loc"][: len(place)] == place for o in told)

    return [item for item in told if item["type"] != "too_short" or not inside(item)]


def _explain(item: Mapping, model: type[BaseModel], lines: dict[tuple, str]) -> str:
    # The kind of a value that may be of several is no key: it bears brackets.
    kinds = re.compile(r"[a-z-]+\[.*\]")
    where = ".".join(shorten(p, 40) for p in item["loc"] if not kinds.fullmatch(str(p)))
    place, line = (), ""
    for part in item["loc"]:  # a union's tag stands in no file
        found = next((p for p in ((*place, part), (*place, str(part))) if p in lines), None)
        if found:
            place, line = found, lines[found]
    if item["type"] == "missing":
        return f"  {where}: is missing" + (f" ({line})" if line else "")
    if item["type"] != "extra_forbidden":
        given = item["input"]
        refused = isinstance(given, Refused)
        said = given.sentence if refused else item["msg"].removeprefix("Value error, ")
        got = ", ".join(filter(None, (f"got {shorten(repr(given))}", line)))
        # pydantic quotes what a file says as it stands there, escapes of a terminal included.
        return f"  {where}: {shorten(said, 500)} ({got})"
    known = sorted(_fields(model, item["loc"][:-1]))
    near = difflib.get_close_matches(str(item["loc"][-1]), known, n=3) or known
    hint = f"  {where}: unknown key; did you mean {', '.join(near)}?"
    if line:
        hint += f" ({line})"
    if item["loc"][0] == "data" and len(item["loc"]) == 3:
        hint += (
            f" (The config's data are of source {item['loc'][1]}; for another source replace the "
            'section: --set "data={source: folder, folder: ...}")'
        )
    return hint


def _fields(model: type[BaseModel], loc: tuple) -> list[str]:
    """Field names of the section at `loc`, walking nested models, unions and dicts of models."""
    candidates = [model]
    for part in loc:
        found = []
        for candidate in candidates:
            # First the tag: `source: folder` has a field `folder`, too.
            if len(candidates) > 1 and part in _tags(candidate):
                found.append(candidate)
            elif part in candidate.model_fields:
                found += _models(candidate.model_fields[part].annotation)
        # A dict's key or a union's tag names no field: stay at the models already found.
        candidates = found or candidates
    return list({name: None for candidate in candidates for name in candidate.model_fields})


def _tags(model: type[BaseModel]) -> tuple:
    source = model.model_fields.get("source")
    return getattr(source.annotation, "__args__", ()) if source else ()


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models(arg)]
