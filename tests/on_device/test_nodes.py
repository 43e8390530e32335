"""Nodes, restorers and shipped workflows on the device, in the embedded host."""

from pathlib import Path

import pytest
import torch

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NANO = sorted(path.stem for path in WORKFLOWS.glob("nano_*.json"))


def close(a, b):
    # Rounding of another device's sums, after a whole chain of networks.
    return torch.allclose(a.cpu(), b.cpu(), atol=2e-3)


@pytest.fixture
def picture():
    from facewright.core.demo import picture

    return picture("group")[0]


@pytest.mark.slow
def test_a_seed_gives_the_same_restored_faces(picture, device, on_cpu):
    from facewright.headless.make.people import find_recogniser
    from facewright.headless.make.restore import RestoreOptions, load_restorer

    options = RestoreOptions(seed=3, receipts=True, max_faces=1, color="lab")

    def restored():
        return (
            load_restorer("nano")
            .with_recogniser(find_recogniser("nano"))
            .restore(picture[0], options)
        )

    there, here = restored(), on_cpu(restored)
    assert there.faces == here.faces == 1
    assert there.pixels.device == picture.device and close(there.pixels, here.pixels)
    assert there.guard.receipts[0].drift == pytest.approx(here.guard.receipts[0].drift, abs=1e-3)


def test_a_seed_gives_ksampler_the_same_latent(device, on_cpu):
    """What FLIPNET and the practice loop sample with, without ComfyUI."""
    from facewright.headless.host.builtin import VAEDecode, VAEEncode
    from facewright.headless.host.builtin_sampling import KSampler
    from facewright.headless.host.host import HeadlessHost

    image, prompt = torch.rand(1, 32, 32, 3), [[torch.randn(1, 5, 128), {}]]

    def sampled(name="euler_ancestral"):
        model, vae = HeadlessHost().load_nano(lora=False)
        latent = VAEEncode.execute(image, vae)[0]
        assert latent["samples"].device.type == "cpu"
        out = KSampler.execute(
            model, 3, 2, 1.5, name, "simple", prompt, prompt, latent, 1.0
        )[0]  # fmt: skip
        assert out["samples"].device.type == "cpu"
        return out["samples"], VAEDecode.execute(out, vae)[0]

    for there, here in zip(sampled(), on_cpu(sampled), strict=True):
        assert there.device.type == "cpu" and close(there, here)


@pytest.mark.slow
def test_the_one_step_sampler_gives_what_the_restorer_does(device):
    from facewright.headless.host.builtin import SamplerCustom, VAEEncode
    from facewright.headless.host.host import HeadlessHost
    from facewright.nodes.one_step import OneStepRestore

    model, vae = HeadlessHost().load_nano(lora=True)
    image, cond = torch.rand(1, 64, 64, 3), [[torch.randn(1, 77, 128), {}]]
    restored, latent = OneStepRestore.execute(model, vae, cond, image, 399, "mean", 0, 4)
    assert restored.device.type == latent["samples"].device.type == "cpu"
    sampler, sigmas = HeadlessHost().one_step_sampler(399)
    encoded = VAEEncode.execute(image, vae)[0]
    out = SamplerCustom.execute(model, False, 0, 1.0, cond, cond, sampler, sigmas, encoded)[0]
    assert close(out["samples"], latent["samples"])


def test_vaes_of_diffusers_sample_alike(device):
    from facewright.core.diffusion.library import diffusers_classes
    from facewright.core.diffusion.vae import Vae

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    module = diffusers_classes()[1](block_out_channels=(32,), **blocks)
    x, draw = torch.rand(1, 3, 16, 16), lambda: torch.Generator().manual_seed(5)
    here = Vae(module).encode(x, draw())
    assert close(here, Vae(module.to(device)).encode(x, draw()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NANO)
def test_workflow(name, tmp_path, device):
    """Every shipped workflow whose weights came along, and with it every node it is made of."""
    from facewright.headless.remote.here import Here
    from facewright.headless.workflows.workflow import read_workflow

    workflow = read_workflow(WORKFLOWS / f"{name}.json")
    report = Here(workflow).run({}, input_dir=WORKFLOWS, output_dir=tmp_path)
    assert report.saved and all(path.stat().st_size for path in report.saved)


@pytest.mark.slow
def test_every_node_is_in_a_workflow_that_runs_here():
    """What is not stands here by name: loaders and what works on the CPU's pictures."""
    from facewright.headless.workflows.workflow import node_kinds, read_workflow
    from facewright.nodes import all_nodes

    ours = {node.GET_SCHEMA().node_id for node in all_nodes()}
    run = {k for name in NANO for k in node_kinds(read_workflow(WORKFLOWS / f"{name}.json"))}
    assert ours - run == NOT_IN_A_WORKFLOW


NOT_IN_A_WORKFLOW = {
    f"Facewright{name}"
    for name in (
        "DegradationSheet", "Degrade", "Doctor", "IdentityScore", "LoadBoostHub",
        "LoadFaceAnalyzer", "LoadFaceEncoder", "LoadIDE", "LoadLoRA", "LoadPerson",
        "LoadRecogniser", "LoadVRE", "OneStepSampler", "SavePerson",
    )
}  # fmt: skip
