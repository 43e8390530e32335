"""Parameters and multiply-accumulates of OSDFace for one 512 x 512 face, at the true shapes.

    python bootstrap.py bench cost

No weights are needed: UNet and VAE of Stable Diffusion 2.1 are counted on shapes alone, the
embedder runs once with random weights, as its choice of tokens looks at values. The LoRA is merged
and adds nothing. Seconds depend on the machine: `facewright cost --weights osdface` measures them
where the weights are. Writes benchmarks/results/cost.json.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from facewright.benchmarks.onestep import RESULTS, UNET, VAE
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.scores.cost import counting

PUBLISHED = {"parameters_m": 978.4, "macs_g": 2132.0}
"""OSDFace (arXiv:2411.17163), Table 3; whose counter it was is not said."""


def count():
    unet_class, vae_class = diffusers_classes()
    vre = VisualRepresentationEmbedder(VREConfig()).eval()
    with torch.device("meta"):
        unet, vae = unet_class(**UNET).eval(), vae_class(**VAE).eval()
        pixels, latent = torch.zeros(1, 3, 512, 512), torch.zeros(1, 4, 64, 64)
        prompt = torch.zeros(1, 77, 1024)
    with counting() as counted, torch.no_grad():
        vre(torch.rand(1, 3, 512, 512))
        vae.encode(pixels)
        unet(latent, torch.zeros(1, device="meta"), encoder_hidden_states=prompt)
        vae.decode(latent)
    return counted


def main():
    counted = count()
    result = {
        "parameters_m": counted.parameters / 1e6,
        "macs_g": counted.macs / 1e9,
        "published": PUBLISHED,
        "parts": [asdict(part) for part in counted.parts],
        "torch": torch.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    path = Path(RESULTS) / "cost.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for part in counted.parts:
        row = f"{part.name:32}{part.parameters / 1e6:10.2f} M{part.macs / 1e9:12.2f} G"
        print(row, file=sys.stderr)
    print(
        f"OSDFace: {result['parameters_m']:.1f} M parameters (published {PUBLISHED['parameters_m']}"
        f"), {result['macs_g']:.0f} G multiply-accumulates (published {PUBLISHED['macs_g']:.0f})",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
