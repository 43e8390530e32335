"""The pictures of a step are the config's `total_batch`, however many processes share them out."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from facewright.training.data import Batches
from facewright.training.loop.shares import with_shares
from facewright.training.settings.config import ConfigError, TrainConfig, load_config, save_config
from facewright.training.settings.strict import Strict


def config(**changes):
    data = {"source": "folder", "folder": "unused", "size": 32, "workers": 0,
            **changes.pop("data", {})}  # fmt: skip
    values = {"output": "unused", "budget": {"max_steps": 1}, "data": data}
    return TrainConfig(**{**values, "optimizers": {"main": {}}, **changes})


def processes(count):
    return SimpleNamespace(num_processes=count, is_main_process=False)


def shared(given, count):
    made = with_shares(given, processes(count))
    return made.batch_size, made.accumulate


@pytest.mark.parametrize("total", [2, 4, 6, 7, 16, 32])
@pytest.mark.parametrize("most", [1, 2, 3, 4, 8])
def test_it_is_exact_on_every_number_of_processes_that_divides_it(total, most):
    for count in range(1, total + 1):
        given = config(total_batch=total, batch_size=most)
        if total % count:
            with pytest.raises(ConfigError, match=f"cannot be shared evenly by {count} proc"):
                with_shares(given, processes(count))
            continue
        batch, passes = shared(given, count)
        assert batch * passes * count == total and batch <= most
        larger = [b for b in range(batch + 1, most + 1) if (total // count) % b == 0]
        assert not larger, "no more passes than needed"


def test_the_papers_own_machines_need_one_pass():
    assert shared(config(total_batch=32, batch_size=4), 8) == (4, 1)
    assert shared(config(total_batch=32, batch_size=4), 1) == (4, 8)
    assert shared(config(total_batch=4, batch_size=4), 4) == (1, 1)


def test_without_it_nothing_is_worked_out():
    given = config(batch_size=3, accumulate=5)
    assert with_shares(given, processes(7)) is given


def test_an_accumulate_of_ones_own_has_to_make_it():
    given = config(total_batch=8, batch_size=2, accumulate=4)
    assert shared(given, 1) == (2, 4)
    with pytest.raises(ConfigError, match=r"`batch_size` 2 x `accumulate` 4 x 2 processes are 16"):
        with_shares(given, processes(2))


def test_too_many_processes_are_told_what_would_fit():
    with pytest.raises(ConfigError, match=r"Start 4, .* --set total_batch=6\."):
        with_shares(config(total_batch=4), processes(6))
    with pytest.raises(ConfigError, match=r"Start 2, .* --set total_batch=6\."):
        with_shares(config(total_batch=4), processes(3))


def test_a_written_config_goes_on_with_another_number_of_processes(tmp_path):
    alone = with_shares(config(total_batch=8, batch_size=2), processes(1))
    save_config(alone, tmp_path / "config.yaml", "any")
    again = load_config(tmp_path / "config.yaml", Strict)
    assert shared(again, 1) == (2, 4) and shared(again, 4) == (2, 1)


def test_a_step_sees_the_same_pictures_on_any_number_of_processes(folder_of_people):
    seen = []
    for count in (1, 2, 4):
        given = config(total_batch=4, batch_size=2, data={"folder": folder_of_people})
        mine = with_shares(given, processes(count))
        steps = [set(), set(), set()]
        for process in range(count):
            batches = Batches(mine, torch.device("cpu"), process=process, processes=count)
            for n, step in enumerate(itertools.islice(batches.train(first_step=0), 3)):
                steps[n] |= {int(s) for batch in step for s in batch["seed"]}
        seen.append(steps)
    assert seen[0] == seen[1] == seen[2] and [len(s) for s in seen[0]] == [4, 4, 4]
