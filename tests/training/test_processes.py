"""Two processes that share a batch learn what one process learns from the whole batch."""

import os
import socket
import subprocess
import sys

import pytest
import torch
import yaml

SCRIPT = """
import sys
import torch
from facewright.training.config import Strict, load_config
from facewright.training.engine import Engine
from facewright.training.recipe import Evaluation, Recipe


class Pair(Recipe):
    stage = "pair"

    def build(self):
        return {"painter": torch.nn.Conv2d(3, 3, 3, padding=1), "judge": torch.nn.Conv2d(3, 1, 3)}

    def phases(self):
        return {"generator": ("painter",), "discriminator": ("judge",)}

    def losses(self, phase, batch, progress):
        if phase == "generator":
            made = self.nets["painter"](batch["gt"])
            batch["made"] = made.detach()
            mse = (made - batch["gt"]).square().mean()
            return {"mse": mse, "gan": -0.1 * self.nets["judge"](made).mean()}
        if progress.step == 0:
            return None
        return {"bce": self.nets["judge"](batch["made"]).square().mean()}

    def evaluate(self, batches):
        return Evaluation({})

    def export(self, folder, facts):
        torch.save({k: v.state_dict() for k, v in self.nets.items()}, folder / "nets.pt")
        return []


config = load_config(sys.argv[1], Strict)
Engine(Pair(config.recipe), config).run()
"""


def nets(tmp_path, folder, name, batch_size, launcher):
    adam = {"kind": "adamw", "lr": 1e-2}
    config = tmp_path / f"{name}.yaml"
    values = {
        "output": str(tmp_path / name),
        "budget": {"max_steps": 4},
        "batch_size": batch_size,
        "accumulate": 2,
        "cpu": True,
        "threads": 1,
        "ema": 0,
        "data": {"source": "folder", "folder": str(folder), "size": 32, "workers": 0},
        "optimizers": {"generator": adam, "discriminator": adam},
    }
    config.write_text(yaml.safe_dump(values))
    script = tmp_path / "pair.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(config)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return torch.load(tmp_path / name / "export" / "nets.pt", weights_only=True)


@pytest.mark.slow
def test_two_processes_equal_one(folder_of_people, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    one = nets(tmp_path, folder_of_people, "one", 4, [])
    two = nets(tmp_path, folder_of_people, "two", 2, launcher)
    for net in one:
        for key in one[net]:
            torch.testing.assert_close(two[net][key], one[net][key], rtol=1e-4, atol=1e-6)
