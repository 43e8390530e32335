"""`facewright cost`: what the bundled restorer has, counted from its files."""

import json

from facewright.core.checkpoint import read_tensors
from facewright.core.files.known import bundled_path
from facewright.headless.cli import app
from typer.testing import CliRunner

runner = CliRunner()


def test_parameters_are_those_of_the_files():
    result = runner.invoke(
        app, ["cost", "--weights", "nano", "--weights", "nobody", "--repeats", "1", "--json"]
    )
    assert result.exit_code == 1 and "nobody" in result.stderr
    (row,) = json.loads(result.stdout)
    files = [read_tensors(bundled_path(f"nano_{name}"))[0] for name in ("unet", "vae", "vre")]
    assert row["parameters"] == sum(t.numel() for tensors in files for t in tensors.values())
    assert row["size"] == 128 and row["seconds"] > 0
    calls = {part["name"]: part["calls"] for part in row["parts"]}
    assert calls["UNet2DConditionModel"] == calls["Encoder"] == calls["Decoder"] == 1
    assert row["macs"] > sum(part["macs"] for part in row["parts"]) * 0.99 > 2e9
