"""`facewright synthesize`: the same pixels whatever happens to the run."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from facewright.core.checkpoint import read_tensors, save_safetensors
from facewright.core.diffusion.backbone import DiffusersBackbone
from facewright.core.diffusion.boosthub import with_boosthubs
from facewright.core.errors import FacewrightError
from facewright.core.files import known
from facewright.core.geometry.square import centred_square
from facewright.core.host import host
from facewright.core.images import read_picture
from facewright.core.methods.flipnet import BoostHubs, Conditioning
from facewright.core.schedule import alpha_bar
from facewright.headless.cli import app
from facewright.headless.make import synthesize as synthesize_module
from facewright.headless.make.synthesize import (
    DegradeWeights,
    SynthesizeOptions,
    Synthesizer,
    SynthesizeRun,
)
from facewright.training.data.files import to_tensor
from facewright.training.data.off_shelf import OffShelf
from facewright.training.data.sources import open_folder
from facewright.training.settings.config import OffShelfConfig
from PIL import Image, ImageOps
from typer.testing import CliRunner

QUICK = SynthesizeOptions(steps=2, eta=1.0, copies=2, seed=3)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.setenv("FACEWRIGHT_MODELS", "")


@pytest.fixture
def weights(nano_flipnet):
    return DegradeWeights.nano()


def picture(path, size=(128, 128), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = np.random.default_rng(seed).integers(0, 256, (*size[::-1], bands), dtype=np.uint8)
    Image.frombytes(mode, size, data.tobytes()).save(path)


@pytest.fixture
def gt(tmp_path):
    picture(tmp_path / "gt/a.png")
    picture(tmp_path / "gt/sub/b.png", (150, 90), seed=1)
    return tmp_path / "gt"


def synthesize(*args):
    return CliRunner().invoke(app, ["synthesize", *map(str, args)])


def quick(*args):
    return synthesize(*args, "--weights", "nano", "--steps", 2, "--copies", 2, "--seed", 3)


def contents(folder):
    """Every file, hidden ones too, with its bytes."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def records(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


# Two workers load diffusers and the models once more each: as long as the rest of this file.
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_names_seeds_and_settings_are_in_the_manifest(gt, weights, tmp_path, workers):
    result = quick(gt, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "4 pictures of 128 x 128" in result.stderr
    assert "150 x 90 pixels were cut to the square" in result.stderr.replace("\n", " ")
    found = records(tmp_path / "out")
    assert [r["output"] for r in found] == ["a_1.png", "a_2.png", "sub/b_1.png", "sub/b_2.png"]
    digest = hashlib.sha256(weights.lora.read_bytes()).hexdigest()[:12]
    for r in found:
        words = f"3/{r['copy']}/{r['input']}"
        assert r["seed"] == int(hashlib.sha256(words.encode()).hexdigest()[:12], 16)
        assert (r["weights"], r["steps"], r["eta"], r["cfg"]) == ("nano", 2, 1.0, 1.5)
        assert (r["phi"], r["base_seed"], r["size"]) == (1.0, 3, 128)
        assert r["lora"] == f"nano_flipnet_degrade_lora.safetensors ({digest})"
        with Image.open(tmp_path / "out" / r["output"]) as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")
    pixels = contents(tmp_path / "out")
    assert len(set(pixels.values())) == 5, "copies differ"
    (gt / "a.png").rename(gt / "c.png")
    assert quick(gt / "sub", "-o", tmp_path / "one", "--overwrite").exit_code == 0
    assert quick(gt, "-o", tmp_path / "two", "--workers", workers).exit_code == 0
    two = contents(tmp_path / "two")
    assert two["sub/b_1.png"] == pixels["sub/b_1.png"], "neighbours and workers change nothing"
    assert two["c_1.png"] != pixels["a_1.png"], "the seed knows the name"
    again = quick(gt, "-o", tmp_path / "two")
    assert "4 were finished before" in again.stderr and contents(tmp_path / "two") == two


def test_a_picture_is_ddim_from_its_seed_looking_at_the_clean_one(gt, weights, tmp_path):
    """Eq. 12 and 16 of DDIM written out, on a UNet that runs both branches side by side."""
    assert quick(gt / "a.png", "-o", tmp_path / "out").exit_code == 0
    record = records(tmp_path / "out")[0]
    model, vae = host.load_nano(lora=False)
    model, _ = host.apply_lora(model, *read_tensors(weights.lora), 1.0)
    hubs = BoostHubs.from_file(weights.boosthub)
    hq = read_picture(gt / "a.png").pixels[None]
    z_y = vae.encode(hq * 2 - 1)
    noise = torch.Generator().manual_seed(record["seed"])
    z = torch.randn(z_y.shape, generator=noise)
    a, tokens = alpha_bar(), torch.zeros(2, 77, 128)
    state = Conditioning(1.0, "joint", 1)
    with torch.no_grad(), with_boosthubs(model.unet, hubs, state):
        for t, s in ((501, 1), (1, 0)):
            times = torch.tensor([t, 0])
            eps = model.unet(torch.cat([z, z_y]), times, encoder_hidden_states=tokens).sample[:1]
            x_0 = (z - (1 - a[t]).sqrt() * eps) / a[t].sqrt()
            u = ((1 - a[s]) / (1 - a[t])).sqrt() * (1 - a[t] / a[s]).sqrt()
            z = a[s].sqrt() * x_0 + (1 - a[s] - u**2).sqrt() * eps
            z = (z + u * torch.randn(z.shape, generator=noise)).float()
    expected = ((vae.decode(z) + 1) / 2).clamp(0, 1)
    made = read_picture(tmp_path / "out" / record["output"]).pixels[None]
    assert (made - expected).abs().max() < 1.01 / 255
    assert expected.std() > 0.05


def test_guidance_is_between_caption_and_empty_prompt(weights):
    synthesizer = Synthesizer.load(weights)
    prompts = {"": torch.zeros(1, 77, 128), "haze": 3 * torch.randn(1, 77, 128)}

    class Words:
        def caption(self, text):
            return prompts[text]

    model, vae = synthesizer.backbone.model, synthesizer.backbone.vae
    looking = replace(synthesizer, backbone=DiffusersBackbone(model, vae, Words()))
    hq = torch.rand(3, 32, 32)

    def made(caption, cfg, with_text=looking):
        return with_text.degrade(hq, 1, SynthesizeOptions(steps=2, cfg=cfg), caption)

    assert torch.equal(made("", 3.0), made("", 1.0, synthesizer))
    assert (made("haze", 1.0) - made("", 1.0)).abs().max() > 1e-3
    assert (made("haze", 1.5) - made("haze", 1.0)).abs().max() > 1e-3


@pytest.mark.slow  # degrade keeps its records by the same code; its test of this is quicker
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bytes(weights, tmp_path):
    for index in range(3):
        picture(tmp_path / f"gt/{index}.png", seed=index)
    out, manifest = tmp_path / "out", tmp_path / "out/manifest.jsonl"
    script = (
        "import sys; from pathlib import Path; from facewright.headless.make.synthesize import *\n"
        "weights = DegradeWeights(*map(Path, sys.argv[3:]))\n"
        "options = SynthesizeOptions(steps=2, eta=1.0, copies=2, seed=3)\n"
        "SynthesizeRun([sys.argv[1]], Path(sys.argv[2]), weights, options).carry_out()\n"
    )
    args = [str(p) for p in (tmp_path / "gt", out, weights.boosthub, weights.lora)]
    with subprocess.Popen(
        [sys.executable, "-c", script, *args], stderr=subprocess.PIPE, text=True
    ) as process:
        while not manifest.exists() or manifest.read_bytes().count(b"\n") < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    def run(out):
        return SynthesizeRun([str(tmp_path / "gt")], out, weights, QUICK).carry_out()

    summary = run(out)
    assert len(summary.skipped) >= 2 and len(summary.done) >= 1
    run(tmp_path / "quiet")
    assert contents(out) == contents(tmp_path / "quiet")


def test_other_settings_and_other_weights_are_not_mixed_in(gt, weights, tmp_path, monkeypatch):
    assert quick(gt / "a.png", "-o", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    result = synthesize(gt, "-o", tmp_path / "out", "--weights", "nano", "--steps", 3, "--seed", 3)
    assert result.exit_code == 2 and "--steps 2 there, 3 now" in result.stderr
    other = DegradeWeights(weights.boosthub, tmp_path / weights.lora.name)
    other.lora.write_bytes(weights.lora.read_bytes() + b" ")
    monkeypatch.setattr(DegradeWeights, "nano", classmethod(lambda cls: other))
    result = quick(gt / "a.png", "-o", tmp_path / "out")
    assert (
        result.exit_code == 2 and "--lora nano_flipnet_degrade_lora.safetensors (" in result.stderr
    )
    assert contents(tmp_path / "out") == before


def test_bad_pictures_are_named_and_the_others_done(gt, weights, tmp_path):
    (gt / "torn.png").write_bytes((gt / "a.png").read_bytes()[:200])
    picture(gt / "alpha.png", (8, 8), "RGBA")
    few = ["--weights", "nano", "--steps", 1, "--copies", 1]
    result = synthesize(gt, "-o", tmp_path / "out", *few)
    assert result.exit_code == 1 and "1 of 4 pictures failed" in result.stderr
    assert "torn.png is damaged" in result.stderr and "transparency was left out" in result.stderr
    assert len(records(tmp_path / "out")) == 3


def test_pictures_of_another_input_do_not_pass_for_finished(gt, weights, tmp_path):
    out = tmp_path / "out"
    assert quick(gt / "a.png", "-o", out).exit_code == 0
    digest = hashlib.sha256((gt / "a.png").read_bytes()).hexdigest()[:12]
    assert [r["input_sha256"] for r in records(out)] == [digest] * 2
    before = contents(out)
    picture(tmp_path / "two/a.png", seed=7)
    picture(tmp_path / "two/c.png", seed=8)
    result = quick(tmp_path / "two", "-o", out)
    assert result.exit_code == 2 and "was made from another picture" in result.stderr
    assert contents(out) == before
    for copy in (1, 2):
        (out / f"a_{copy}.png").unlink()
    assert quick(tmp_path / "two", "-o", out).exit_code == 0
    made = contents(out)
    assert len(made) == 5 and made["a_1.png"] != before["a_1.png"]


def test_the_base_model_is_told_from_another_of_its_name(weights, tmp_path):
    def settings(where, **files):
        base = tmp_path / where / "stable-diffusion-2-1-base"
        for part, data in files.items():
            (base / part).mkdir(parents=True)
            (base / part / "model.safetensors").write_bytes(data)
        return replace(weights, base=base).settings()["weights"]

    first = settings("a", unet=b"x" * 10, vae=b"y")
    assert first.startswith("stable-diffusion-2-1-base (")
    assert settings("b", unet=b"x" * 10, vae=b"y") == first
    assert len({first, settings("c", unet=b"x" * 9 + b"z", vae=b"y"),
                settings("d", unet=b"x" * 10, vae=b"y", text_encoder=b"w")}) == 3  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "start", "around"),
    [
        (251, 751, "250 or 300"),
        (334, 667, "333 or 450"),
        (600, 600, "500 or 900"),
        (888, 888, "500 or 900"),
    ],
)
def test_steps_that_would_not_start_from_noise_are_refused(
    gt, weights, tmp_path, steps, start, around
):
    args = ["--weights", "nano", "--steps", steps]
    result = synthesize(gt, "-o", tmp_path / "out", *args)
    assert result.exit_code == 2
    assert f"would start at t = {start} of 999" in " ".join(result.stderr.split())
    assert f"Take {around} steps" in " ".join(result.stderr.split())
    for fine in map(int, around.split(" or ")):
        SynthesizeRun([str(gt)], tmp_path / "out", weights, replace(QUICK, steps=fine))


@pytest.mark.parametrize("kind", ["turned", "deep"])
def test_training_lays_the_pictures_on_their_inputs(kind, weights, tmp_path, monkeypatch):
    """Seen with the damage taken away: what is left has to be the good picture, pixel by pixel."""
    monkeypatch.setattr(Synthesizer, "degrade", lambda self, hq, *_: hq)
    rng = np.random.default_rng(5)
    (tmp_path / "gt").mkdir()
    for name in "abc":
        if kind == "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            image = Image.fromarray(rng.integers(0, 256, (150, 130, 3), dtype=np.uint8))
            image.save(tmp_path / f"gt/{name}.png", exif=exif)
        else:
            cv2 = pytest.importorskip("cv2")
            grey = rng.integers(0, 65536, (130, 150), dtype=np.uint16)
            cv2.imwrite(str(tmp_path / f"gt/{name}.png"), grey)
    SynthesizeRun([str(tmp_path / "gt")], tmp_path / "out", weights, QUICK).carry_out()
    photos, _ = open_folder(tmp_path / "gt", 128, 0.3, "file")
    shelf = OffShelf(photos, OffShelfConfig(folder=tmp_path / "out", share=1.0))
    for index in range(2):
        photo = photos.load(index)
        assert torch.equal(shelf.lq(index, photo, rng), photo.pixels)
        upright = ImageOps.exif_transpose(Image.open(photos.files[index]))
        if kind == "turned":
            assert torch.equal(photo.pixels, to_tensor(centred_square(upright, 128)))
        else:
            assert 100 < photo.pixels.float().mean() < 155, "not clipped to white"


def test_captions_belong_to_a_picture(gt, weights, tmp_path):
    """Of SD 2.1; another caption than the one a picture was made with is another picture."""
    sd21 = replace(weights, base=tmp_path / "stable-diffusion-2-1-base")
    (gt / "a.txt").write_text("a man in the rain\n")
    run = SynthesizeRun([str(gt)], tmp_path / "out", sd21, QUICK)
    assert [j.given["caption"] for j in run.jobs] == ["a man in the rain"] * 2 + [""] * 2
    run.manifest.start()
    job = run.jobs[0]
    picture(job.target)
    run.manifest.add({"output": job.output, **job.settings, "caption": "another"})
    with pytest.raises(FacewrightError, match="its caption is not the one given now"):
        SynthesizeRun([str(gt)], tmp_path / "out", sd21, QUICK)


def test_a_caption_in_another_encoding_costs_its_own_picture_only(
    gt, weights, tmp_path, monkeypatch
):
    seen = []

    class Fake:
        def degrade(self, hq, seed, options, caption):
            seen.append(caption)
            return hq

    monkeypatch.setattr(synthesize_module, "_synthesizer", lambda *args: Fake())
    sd21 = replace(weights, base=tmp_path / "stable-diffusion-2-1-base")
    (gt / "a.txt").write_bytes("Zoë".encode("latin-1"))
    (gt / "sub/b.txt").write_text("a man (smiling)", encoding="utf-8-sig")
    run = SynthesizeRun([str(gt)], tmp_path / "out", sd21, replace(QUICK, copies=1))
    summary = run.carry_out()
    assert seen == ["a man (smiling)"] and len(summary.done) == 1
    (sentence,) = summary.failed.values()
    assert "a.txt is not in UTF-8 (byte 3" in sentence
    (gt / "a.txt").write_text("Zoë", encoding="utf-8")
    again = SynthesizeRun([str(gt)], tmp_path / "out", sd21, replace(QUICK, copies=1))
    assert len(again.carry_out().done) == 1 and seen[1:] == ["Zoë"]


def nano_pair(mode):
    return [known.bundled_path(f"nano_flipnet_{mode}_{part}") for part in ("boosthub", "lora")]


def test_weights_for_the_other_direction_are_refused(gt, nano_flipnet, tmp_path, monkeypatch):
    wrong = DegradeWeights(*nano_pair("restore"))
    monkeypatch.setattr(DegradeWeights, "nano", classmethod(lambda cls: wrong))
    result = quick(gt, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "trained to restore, not to degrade" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Give either --weights nano"),
        (["--weights", "osdface"], "not one of nano"),
        (["--boosthub", "x.safetensors"], "Give either --weights nano"),
        (["--weights", "nano", "--boosthub", "x.safetensors"], "Give either --weights nano"),
        (["--weights", "nano", "--copies", "0"], "--copies"),
        (["--weights", "nano", "--steps", "0"], "--steps"),
        (["--weights", "nano", "--phi", "3"], "--phi"),
        (["--weights", "nano", "--workers", "0"], "--workers"),
        (["--weights", "nano", "-o", "one.png"], "is the name of a picture"),
    ],
)
def test_wrong_usage_is_code_2_with_a_sentence(gt, weights, tmp_path, args, words):
    result = synthesize(gt, "-o", tmp_path / "out", *args)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
    assert not (tmp_path / "out").exists()


def test_missing_files_are_named(gt, tmp_path):
    (tmp_path / "models").mkdir()
    args = ["--boosthub", "hub.safetensors", "--lora", "lora.safetensors"]
    result = synthesize(gt, "-o", tmp_path / "out", *args, "--models", tmp_path / "models")
    assert result.exit_code == 1 and "There is no hub.safetensors" in result.stderr


def test_sd21_needs_its_text_encoder(flipnet_sd21, gt, tmp_path):
    args = [f"--{k}=flipnet_degrade_{k}.safetensors" for k in ("boosthub", "lora")]
    args += ["--models", flipnet_sd21]
    result = synthesize(gt, "-o", tmp_path / "out", *args)
    assert result.exit_code == 1 and "Put the whole diffusers folder" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_lora_of_the_other_direction_is_refused(gt, nano_flipnet, tmp_path, monkeypatch):
    hubs, lora = nano_pair("degrade")
    other = tmp_path / "other.safetensors"
    save_safetensors(other, read_tensors(lora)[0], {"method": "flipnet", "mode": "restore"})
    monkeypatch.setattr(DegradeWeights, "nano", classmethod(lambda cls: cls(hubs, other)))
    result = quick(gt, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "one training" in " ".join(result.stderr.split())
    assert not list((tmp_path / "out").rglob("*.png"))
