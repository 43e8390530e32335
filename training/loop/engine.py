"""The training loop: knows budgets, devices, files and logs, and no method."""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import nn

from ...core.devices import channels_last, seeded
from ...core.errors import DataLostError, FacewrightError, shorten
from ..data import Batches
from ..data.cache import FrozenCache
from ..log.trackers import check_trackers, open_trackers
from ..log.visual import RunLog
from ..recipe import Batch, Evaluation, Progress, Recipe
from ..settings.config import ConfigError, TrainConfig
from .checkpoints import non_finite
from .devices import accelerator, with_chosen_device
from .guard import NonFiniteGuard
from .memory import DTYPES, compile_in_place, hold_in, recompute_activations
from .optim import AveragedWeights, build_optimizers, set_lr
from .processes import agreed, gathered, mean_over
from .results import begin, draw_curves, export, write_facts
from .shares import with_shares
from .signals import ended_by_signals
from .state import put_down, take_up

log = logging.getLogger(__name__)

_SHARDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


class Engine:
    """Train one recipe: `Engine(recipe, config).run(resume=...)`."""

    def __init__(self, recipe: Recipe, config: TrainConfig) -> None:
        if recipe.needs_lq and config.degradation is None and not config.data.brings_lq:
            raise ConfigError(
                f"Stage `{recipe.stage}` restores degraded pictures: the config needs a section "
                "`degradation:` with `presets: [...]`."
            )
        recipe.check_data(config)
        if config.threads:
            torch.set_num_threads(config.threads)
        config = with_chosen_device(config)
        self.recipe = recipe
        self.accelerator = accelerator(
            config,
            mixed_precision=config.precision,
            log_with=check_trackers(config.trackers) or None,
            project_dir=config.output,
        )
        self.config = config = with_shares(config, self.accelerator)
        kind = self.accelerator.distributed_type
        if kind in _SHARDING:
            raise ConfigError(
                f"accelerate is set up for {kind.value}, which spreads a network over devices. "
                "No stage here needs that: what is trained is small, and `frozen_precision: bf16` "
                "halves the rest. Choose multi-GPU without it in `accelerate config`, or start "
                "with torchrun."
            )
        self.device = recipe.device = self.accelerator.device
        # Networks are built alike in every process; noise afterwards differs between them.
        torch.manual_seed(config.seed)
        self.bare = recipe.build()
        recipe.trained = tuple(self.bare)
        self.frozen = recipe.frozen()
        for net in self.frozen.values():
            net.requires_grad_(False).eval()
        recipe.nets = {**self.frozen, **self.bare}
        if where := non_finite({name: net.state_dict() for name, net in recipe.nets.items()}):
            raise ConfigError(
                f"The weights that this run would start from hold NaN or infinite numbers "
                f"({shorten(where)}). A file that the section `recipe:` names comes of a training "
                "that diverged, or is damaged: name another."
            )
        hold_in(DTYPES[config.frozen_precision], recipe.nets, recipe.large)
        for net in recipe.nets.values():
            self._place(net)
        for net in self.bare.values():
            net.train()
            if config.compile:
                compile_in_place(net)
        if config.cache:
            precision = f"{config.precision}-{config.frozen_precision}"
            recipe.cache = FrozenCache(config.cache.folder, precision)
        self._prepare()
        torch.manual_seed(config.seed + 1 + self.accelerator.process_index)
        self.step, self.images = 0, 0
        self.spent, self.cpu_spent = 0.0, 0.0
        self.guard = NonFiniteGuard(
            config.output / "nonfinite",
            tuple(self.phases),
            self.accelerator.process_index,
            self.checkpoints,
        )
        self.changes: list[dict] = []
        """What was trained otherwise from a step on: {step, key, before, now} of the config."""
        self.stopped_by: str | None = None
        """Name of the signal that told the run to end."""

    def _place(self, net: nn.Module) -> None:
        net.to(self.device)
        if self.config.channels_last:
            channels_last(net)
        if self.config.gradient_checkpointing:
            recompute_activations(net)

    def _prepare(self) -> None:
        phases, given = self.recipe.phases(), self.config.optimizers
        if phases.keys() != given.keys():
            raise ConfigError(
                f"`optimizers:` should have one section for each of {sorted(phases)}; missing "
                f"{sorted(phases.keys() - given.keys())}, unknown "
                f"{sorted(given.keys() - phases.keys())}."
            )
        # requires_grad is toggled by phase below, so what is trained is fixed here, once.
        self.trainable = {
            name: [p for p in net.parameters() if p.requires_grad]
            for name, net in self.bare.items()
        }
        self.phases = phases
        self.optimizers = {
            phase: build_optimizers(
                [item for n in names for item in self.bare[n].named_parameters()],
                self.config.optimizers[phase],
                self.recipe.adam_only(),
            )
            for phase, names in phases.items()
        }
        self.wrapped = {
            name: self.accelerator.prepare(net) if self.trainable[name] else net
            for name, net in self.bare.items()
        }
        self.prepared = {
            phase: [self.accelerator.prepare(o) for o in optimizers]
            for phase, optimizers in self.optimizers.items()
        }
        averaged = [p for n in self.recipe.averaged() for p in self.trainable[n]]
        self.ema = AveragedWeights(averaged, self.config.ema) if self.config.ema else None

    def run(self, *, resume: bool = False) -> dict:
        """Train until the budget is spent or the process is told to stop; then export.

        Returns:
            The facts of the run: steps, minutes, CPU seconds of all processes, images, metrics,
            whether it finished.

        Raises:
            ConfigError: the output folder already holds a run and `resume` is False, or cannot be
                written.
            NonFiniteError: the loss stays NaN or infinite.
            DataLostError: the data vanished. The checkpoint is of the step before.
            FacewrightError: the last checkpoint or the results could not be written.
        """
        take_up(self, resume=resume)
        if self.accelerator.is_main_process:
            begin(self)
        batches = self.open_data()
        with ExitStack() as stack:
            stack.enter_context(ended_by_signals(self))
            self.log = stack.enter_context(
                RunLog(
                    self.config.output,
                    main=self.accelerator.is_main_process,
                    step=self.step,
                    trackers=open_trackers(self.config, self.accelerator, self.step),
                )
            )
            self.log.start(self.recipe.stage, self._fraction(), self.config.budget.max_steps)
            if self.step == 0:  # whether training helps, shows only beside what it began with
                self._validate(batches)
            stream = batches.train(first_step=self.step)
            last = time.perf_counter(), time.process_time()
            while self._fraction() < 1 and agreed(self.accelerator, self.stopped_by) is None:
                with self._saved_where_data_are_lost():
                    batch = self._next(stream)
                if batch is None:
                    break
                self.train_step(batch)
                now = time.perf_counter(), time.process_time()
                self.spent += now[0] - last[0]
                self.cpu_spent += now[1] - last[1]
                last = now
                self.log.advance(self.step, self._fraction(), self.images, self.spent)
                if self.step % self.config.validate_every == 0:
                    with self._saved_where_data_are_lost():
                        self._validate(batches)
                if self.step % self.config.checkpoint_every == 0:
                    put_down(self)
                last = time.perf_counter(), time.process_time()
            put_down(self, last=True)
            return self._finish(batches)

    def open_data(self) -> Batches:
        """The run's data; rendered or fetched on first use, by one process of each machine."""
        with self.accelerator.local_main_process_first():
            try:
                return Batches(
                    self.config,
                    self.device,
                    process=self.accelerator.process_index,
                    processes=self.accelerator.num_processes,
                )
            except OSError as error:
                raise FacewrightError(
                    f"The pictures of `data.source: {self.config.data.source}` could not be opened "
                    f"({error}). Mend that and start the same command again."
                ) from error

    def _next(self, stream: Iterator[list[Batch]]) -> list[Batch] | None:
        """The next step's batches; None where the signal that ends the run ended their worker.

        It does so while a worker starts; after that they wait for the main process.
        """
        try:
            return next(stream)
        except RuntimeError as error:
            alone = self.accelerator.num_processes == 1
            if not (self.stopped_by and alone and "DataLoader worker" in str(error)):
                raise
            return None

    @contextmanager
    def _saved_where_data_are_lost(self) -> Iterator[None]:
        try:
            yield
        except DataLostError:
            # Others may be in the middle of a step: what they hold cannot be gathered.
            if self.accelerator.num_processes == 1:
                put_down(self)
            raise

    def train_step(self, micro_batches: list[Batch]) -> None:
        """All phases of one optimiser step, on `accumulate` batches."""
        progress = Progress(self.step, self._fraction())
        logged: dict[str, float] = {}
        counts = (b for net in self.bare.values() for b in net.buffers() if b.is_floating_point())
        kept = [(buffer, buffer.clone()) for buffer in counts]
        for phase, names in self.phases.items():
            config = self.config.optimizers[phase]
            set_lr(self.optimizers[phase], config, self.step, progress.fraction)
            params = [p for n in names for p in self.trainable[n]]
            with self._only(phase):
                terms = self._backward(phase, names, micro_batches, progress)
                if terms is None:
                    continue
                # None under DeepSpeed alone, which is refused.
                norm: Any = self.accelerator.clip_grad_norm_(params, config.clip)
            logged |= {f"{phase}/{k}": v for k, v in terms.items()}
            logged[f"{phase}/grad_norm"] = float(norm)
            rates = [group["lr"] for o in self.optimizers[phase] for group in o.param_groups]
            logged[f"{phase}/lr"] = max(rates)
            self._apply(phase, terms, float(norm), micro_batches)
        if self.guard.in_bad_row:
            # What networks count while they run, as batch norm does, saw the bad batch, too.
            for buffer, before in kept:
                if not buffer.isfinite().all():
                    buffer.copy_(before)
        self.recipe.after_step(progress)
        if self.ema:
            self.ema.update()
        self.step += 1
        batch = sum(len(b["gt"]) for b in micro_batches)
        self.images += batch * self.accelerator.num_processes
        if self.step % self.config.log_every == 0:
            logged |= {k: float(v) for k, v in self.recipe.monitor.items()}
            self.log.scalars(mean_over(self.accelerator, logged), self.step)
        self.recipe.monitor.clear()

    def _backward(
        self, phase: str, names: tuple[str, ...], micro_batches: list[Batch], progress: Progress
    ) -> dict[str, float] | None:
        sums: dict[str, float] = {}
        for i, batch in enumerate(micro_batches):
            last = i == len(micro_batches) - 1
            with ExitStack() as stack:
                for name in names if not last else ():
                    stack.enter_context(self.accelerator.no_sync(self.wrapped[name]))
                with self.accelerator.autocast():
                    terms = self.recipe.losses(phase, batch, progress)
                if terms is None:
                    return None
                total = torch.stack([t.float() for t in terms.values()]).sum()
                self.accelerator.backward(total / len(micro_batches))
            for key, term in terms.items():
                sums[key] = sums.get(key, 0.0) + term.detach().item() / len(micro_batches)
        return sums

    def _apply(
        self, phase: str, terms: dict[str, float], norm: float, micro_batches: list[Batch]
    ) -> None:
        # With a gradient scaler an infinite norm is ordinary: the scaler skips that step itself.
        scaled = self.accelerator.scaler is not None
        finite = all(map(math.isfinite, terms.values())) and (scaled or math.isfinite(norm))
        # One process with a bad loss: all skip the step, or their weights would part.
        finite = all(gathered(self.accelerator, finite))
        if finite:
            for optimizer in self.prepared[phase]:
                optimizer.step()
            if scaled:
                self.guard.scaled(phase, self.step, math.isfinite(norm))
        for optimizers in self.prepared.values():
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
        if finite:
            self.guard.good(phase)
        else:
            self.guard.bad(phase, self.step, terms, micro_batches)

    @contextmanager
    def _only(self, phase: str) -> Iterator[None]:
        """Other phases' networks are frozen and bare, this phase's are wrapped for training."""
        active = self.phases[phase]
        for name, params in self.trainable.items():
            for p in params:
                p.requires_grad_(name in active)
        self.recipe.nets |= {n: (self.wrapped if n in active else self.bare)[n] for n in self.bare}
        try:
            yield
        finally:
            self.recipe.nets |= self.bare
            for params in self.trainable.values():
                for p in params:
                    p.requires_grad_(True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Averaged weights, eval mode, no gradients, and random numbers of our own."""
        if self.ema:
            self.ema.swap()
        for net in self.bare.values():
            net.eval()
        try:
            with torch.no_grad(), seeded(self.device, 0):
                yield
        finally:
            for net in self.bare.values():
                net.train()
            if self.ema:
                self.ema.swap()

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """What the recipe finds on held-out batches, with averaged weights."""
        half = self.config.frozen_precision != "no"  # only autocast can run such weights
        with self.averaged(), self.accelerator.autocast() if half else nullcontext():
            return self.recipe.evaluate(batches)

    def _validate(self, batches: Batches) -> dict[str, float]:
        if not self.accelerator.is_main_process:
            return {}
        evaluation = self.evaluate(batches.validation())
        self.log.evaluation(
            evaluation, self.step, self.config.grid_images, self.spent, self.cpu_spent
        )
        return evaluation.metrics

    def _finish(self, batches: Batches) -> dict:
        metrics = {k: round(v, 5) for k, v in self._validate(batches).items()}
        cpu_seconds = round(sum(gathered(self.accelerator, self.cpu_spent)))
        measured = self.measured(metrics, cpu_seconds)
        unreadable = gathered(self.accelerator, batches.skipped)
        facts = measured | {"unreadable": {k: v for found in unreadable for k, v in found.items()}}
        if self.accelerator.is_main_process:
            output = self.config.output
            curves = draw_curves(output)
            facts["curves"] = str(curves) if curves else None
            if measured["finished"]:
                # Shared with others: `measured` names no place of this machine.
                files = export(self, measured, batches, output / "export")
                facts["files"] = [str(f) for f in files]
            write_facts(output, facts)
        self.accelerator.wait_for_everyone()
        return facts

    def measured(self, metrics: dict[str, float], cpu_seconds: int | None) -> dict[str, Any]:
        """Facts of the run as far as it has come, without any place of this machine."""
        return {
            "stage": self.recipe.stage,
            "finished": self._fraction() >= 1,
            "steps": self.step,
            "images": self.images,
            "minutes": round(self.spent / 60, 2),
            "cpu_seconds": cpu_seconds,
            "metrics": metrics,
            "stopped_by": self.stopped_by,
        }

    def _fraction(self) -> float:
        budget = self.config.budget
        if budget.max_steps:
            return min(1.0, self.step / budget.max_steps)
        return min(1.0, agreed(self.accelerator, self.spent) / budget.seconds)

    @property
    def checkpoints(self) -> Path:
        """Folder of this run's checkpoints."""
        return self.config.output / "checkpoints"
