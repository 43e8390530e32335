"""Does the bundled base listen to its prompt?

    python bootstrap.py bench prompt_gate [--people 128] [--unet FILE] [--vre FILE]

At timesteps from 600 on the base denoises photos of unseen rendered people with the tokens of the
same face, of somebody else's and with a prompt of zeros, from the same noise. Printed is by how
much the eps error grows: sum (other - own) / sum own, with a 95 % bootstrap interval over people,
pairs kept. Tokens are read from the good face, which is what a prompt describes, and once more from
the face reduced 8 times (`severe`), which is all that a restorer has. The gate: over all these
timesteps from 600 on, summed, the interval lies above 5 % for somebody else's tokens of good faces.
Rows of single timesteps show where it comes from.

Writes benchmarks/results/prompt_gate.json. A base that fails it cannot answer whether prompts help.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from facewright.benchmarks.nano_quality import BATCH, FIRST_IDENTITY, by_batches, people
from facewright.core.degradation import Degradation
from facewright.core.schedule import add_noise, alpha_bar
from facewright.core.weights import nano
from facewright.training._backbone import BackboneConfig, load_backbone

RESULTS = Path(__file__).parent / "results"
TIMESTEPS = (399, 600, 650, 700, 750, 800, 850, 900, 950)
GATED_FROM = 600
LATE = f"{GATED_FROM} and later"
GATE = 0.05
DRAWS = 4000


def ratio_interval(own: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """sum (other - own) / sum own with its bootstrap interval; people are drawn, pairs kept."""
    drawn = np.random.default_rng(0).integers(len(own), size=(DRAWS, len(own)))
    ratios = other[drawn].sum(1) / own[drawn].sum(1) - 1
    low, high = np.quantile(ratios, (0.025, 0.975))
    return {"mean": float(other.sum() / own.sum() - 1), "low": float(low), "high": float(high)}


@torch.no_grad()
def errors(unet, z_0: torch.Tensor, prompts: dict, t: int, repeats: int) -> dict[str, np.ndarray]:
    """eps error of every picture under every prompt, the mean over `repeats` draws of the noise."""
    level = alpha_bar()[t]
    found = {name: np.zeros(len(z_0)) for name in prompts}
    for repeat in range(repeats):
        noise = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(1000 * t + repeat))
        z_t = add_noise(z_0, noise, level)

        def error(z: torch.Tensor, eps: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
            return (unet(z, t, cond).sample - eps).square().mean((1, 2, 3))

        for name, cond in prompts.items():
            found[name] += by_batches(error, z_t, noise, cond).double().numpy() / repeats
    return found


def measure(unet, vae, vre, count: int, repeats: int) -> dict:
    """The table: read from -> timestep -> own error, and what another prompt adds."""
    gt, _, _ = people(count)
    lq, _ = Degradation.preset("severe")(gt, seed=FIRST_IDENTITY)
    z_0 = by_batches(lambda x: vae.encode(x * 2 - 1), gt)
    table: dict = {}
    for source, faces in (("good face", gt), ("face reduced 8 times", lq)):
        own = by_batches(vre, faces)
        prompts = {"own": own, "somebody else's": own.roll(1, 0), "zeros": torch.zeros_like(own)}
        rows: dict = {}
        late = {name: np.zeros(count) for name in prompts}
        for t in TIMESTEPS:
            found = errors(unet, z_0, prompts, t, repeats)
            rows[str(t)] = _row(found)
            if t >= GATED_FROM:
                late = {name: late[name] + values for name, values in found.items()}
        rows[LATE] = _row(late)
        table[source] = rows | {"rms of tokens": float(own.square().mean().sqrt())}
    return table


def _row(found: dict[str, np.ndarray]) -> dict:
    own = found["own"]
    others = {name: ratio_interval(own, v) for name, v in found.items() if name != "own"}
    return {"own": float(own.mean()), **others}


def passes(table: dict) -> bool:
    """Whether somebody else's tokens of good faces cost more than `GATE` from `GATED_FROM` on."""
    return table["good face"][LATE]["somebody else's"]["low"] > GATE


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1, help="draws of the noise")
    parser.add_argument("--unet", type=Path, default=nano.NANO_DIR / "nano_unet.safetensors")
    parser.add_argument("--vae", type=Path, default=nano.NANO_DIR / "nano_vae.safetensors")
    parser.add_argument("--vre", type=Path, default=nano.NANO_DIR / "nano_base_vre.safetensors")
    parser.add_argument("--out", type=Path, default=RESULTS / "prompt_gate.json")
    options = parser.parse_args(arguments)

    backbone = load_backbone(BackboneConfig(source="nano", unet=options.unet, vae=options.vae))
    unet = backbone.unet.eval().to(memory_format=torch.channels_last)
    vae, vre = nano.load_vae(options.vae), nano.load_vre(options.vre)
    table = measure(unet, vae, vre, options.people, options.repeats)
    for source, rows in table.items():
        print(f"\nTokens of the {source}, rms {rows['rms of tokens']:.2f}:\n")
        print("| t | eps error, own | somebody else's | zeros |\n|---|---|---|---|")
        for t in (*map(str, TIMESTEPS), LATE):
            row = rows[t]
            cells = [
                f"{c['mean']:+.1%} [{c['low']:+.1%}, {c['high']:+.1%}]"
                for c in (row["somebody else's"], row["zeros"])
            ]
            print(f"| {t} | {row['own']:.5f} | " + " | ".join(cells) + " |")
    passed = passes(table)
    verdict = "pass" if passed else "FAIL"
    print(f"\nThe gate (more than {GATE:.0%} from t = {GATED_FROM} on): {verdict}")
    report = {"people": options.people, "repeats": options.repeats, "batch": BATCH,
              "first_identity": FIRST_IDENTITY, "gate": GATE, "gated_from": GATED_FROM,
              "passed": passed, "table": table}  # fmt: skip
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(options.out)


if __name__ == "__main__":
    main()
