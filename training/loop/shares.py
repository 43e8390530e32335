"""How the images of a step are shared out to processes and passes."""

import logging

from accelerate import Accelerator

from ..settings.config import ConfigError, TrainConfig

log = logging.getLogger(__name__)


def with_shares(config: TrainConfig, accelerator: Accelerator) -> TrainConfig:
    """The config with the `batch_size` and `accumulate` that make its `total_batch`, exactly.

    `batch_size` is the most that a process takes in one pass: the largest divisor of its share up
    to there is taken. Without `total_batch` the config comes back as it is.

    Raises:
        ConfigError: the processes cannot have equal shares, or the config gives an `accumulate` of
            its own that makes another batch.
    """
    total, processes = config.total_batch, accelerator.num_processes
    if total is None:
        return config
    if total % processes:
        fitting = [n for n in range(1, total + 1) if total % n == 0]
        below = max(n for n in fitting if n < processes)
        raise ConfigError(
            f"A step of {total} pictures (`total_batch`) cannot be shared evenly by {processes} "
            f"processes. Start {below}, or any other divisor of {total}; or train with another "
            f"batch, --set total_batch={-(-total // processes) * processes}."
        )
    share = total // processes
    if "accumulate" in config.model_fields_set:
        made = config.batch_size * config.accumulate
        if made != share:
            raise ConfigError(
                f"A step should take {total} pictures (`total_batch`), but `batch_size` "
                f"{config.batch_size} x `accumulate` {config.accumulate} x {processes} "
                f"{'process' if processes == 1 else 'processes'} are {made * processes}. Leave "
                "`accumulate` out, which then follows, or set total_batch=null to train with that."
            )
        return config
    batch = max(n for n in range(1, min(config.batch_size, share) + 1) if share % n == 0)
    if accelerator.is_main_process:
        told = "A step takes %d pictures: processes x passes x pictures of a pass = %d x %d x %d."
        log.info(told, total, processes, share // batch, batch)
    return config.model_copy(update={"batch_size": batch, "accumulate": share // batch})
