"""The visual representation embedder: golden parity, batching, and which files it takes."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from facewright.core.checkpoint import CONFIG_KEY, FORMAT_KEY, read_tensors, save_safetensors
from facewright.core.errors import CheckpointError, FacewrightError, NonFiniteError
from facewright.core.methods.osdface import VisualRepresentationEmbedder, VREConfig
from facewright.core.modules.autoencoder import AutoencoderConfig
from torch import autocast

SMALL = VREConfig(
    encoder=AutoencoderConfig(ch=8, ch_mult=(1, 2, 4), attn_levels=(2,), z_channels=16, groups=4),
    num_codes=40,
    input_size=32,
    proj_hidden=8,
    proj_out=12,
    double_norm=False,
)


@pytest.fixture
def small():
    vre = VisualRepresentationEmbedder(SMALL).eval()
    torch.nn.init.normal_(vre.quantize.embedding.weight)
    return vre


@pytest.fixture(scope="session")
def official(released):
    return VisualRepresentationEmbedder.from_files(*released)


def moments(x):
    return x[0].flatten(1).mean(1), x[0].flatten(1).std(1)


# All four take 20 s on one core; `b` covers the resize, `flat` the zero rows.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("a", marks=pytest.mark.slow),
        "b",
        pytest.param("c", marks=pytest.mark.slow),
        "flat",
    ],
)
def test_official_inference_is_reproduced(official, golden, golden_image, case):
    maps = {}
    hook = official.quant_conv.register_forward_hook(
        lambda _module, inputs, output: maps.update(enc=inputs[0], z=output)
    )
    selection = official.select(golden_image(case))
    hook.remove()

    assert torch.equal(selection.tokens[0].int(), golden[f"{case}.indices"])
    assert torch.equal(selection.positions[0].int(), golden[f"{case}.positions"])
    for name, x in maps.items():
        expected = golden[f"{case}.{name}_slice"]
        torch.testing.assert_close(x[0, ::16, ::3, ::3], expected, atol=1e-4, rtol=0)
        assert x.shape == (1, 512, 16, 16)
    mean, std = moments(maps["z"])
    torch.testing.assert_close(mean, golden[f"{case}.z_mean_c"], atol=1e-4, rtol=0)
    torch.testing.assert_close(std, golden[f"{case}.z_std_c"], atol=1e-4, rtol=0)
    _, distances = official.quantize.nearest(maps["z"].flatten(2).mT)
    torch.testing.assert_close(distances[0], golden[f"{case}.min_distance"], atol=5e-3, rtol=0)

    every = 1 if f"{case}.prompt" in golden else 4
    expected = golden[f"{case}.prompt" if every == 1 else f"{case}.prompt_every4"]
    prompt = official.embed(selection.tokens)
    assert prompt.shape == (1, 77, 1024)
    torch.testing.assert_close(prompt[0, :, ::every], expected, atol=1e-4, rtol=0)


def test_zero_rows_become_one_constant_prompt(official, golden):
    prompt = official.embed(golden["flat.indices"].long()[None])[0]
    assert (golden["flat.indices"] < 0).sum() == 42
    assert prompt[35:].std(0).max() == 0
    assert prompt[35].abs().max() > 0
    assert prompt.min() >= -0.2785


@pytest.mark.parametrize("size", [(48, 48), (32, 32), (24, 40), (1, 1), (7, 300)])
@pytest.mark.parametrize("double_norm", [False, True])
def test_prepare_resizes_squares_with_aligned_corners_and_normalises(size, double_norm):
    vre = VisualRepresentationEmbedder(dataclasses.replace(SMALL, double_norm=double_norm))
    lq = torch.rand(2, 3, *size)
    x = lq.double() * 2 - 1
    if size[0] == size[1]:
        x = F.interpolate(x, (32, 32), mode="bilinear", align_corners=True)
    x = F.interpolate(x, (32, 32), mode="bilinear", align_corners=False)
    if double_norm:
        x = (x - 0.5) / 0.5
    torch.testing.assert_close(vre.prepare(lq).double(), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_a_batch_equals_its_images_one_by_one(small, monkeypatch, chunk):
    monkeypatch.setattr("facewright.core.methods.osdface._CHUNK_PIXELS", chunk * 32 * 32)
    lq = torch.rand(5, 3, 32, 32)
    lq[3] = 0.5
    tokens, positions = small.select(lq)
    for i in range(5):
        alone = small.select(lq[i : i + 1])
        assert torch.equal(alone.tokens[0], tokens[i])
        assert torch.equal(alone.positions[0], positions[i])
    torch.testing.assert_close(small(lq)[3:4], small(lq[3:4]))
    assert torch.equal(small.select(lq).positions, positions)
    assert torch.equal(small.tokenize(lq), tokens)


def test_released_size_encodes_one_image_at_a_time(official, monkeypatch):
    seen = []

    def encode(lq):
        seen.append(len(lq))
        return torch.zeros(len(lq), 512, 16, 16)

    monkeypatch.setattr(official, "encode", encode)
    assert official.tokenize(torch.zeros(3, 3, 8, 8)).shape == (3, 77)
    assert seen == [1, 1, 1]


def test_no_image_gives_no_tokens(small):
    lq = torch.empty(0, 3, 32, 32)
    assert small.tokenize(lq).shape == (0, 77)
    assert small.select(lq).positions.shape == (0, 77)
    assert small(lq).shape == (0, 77, 12)


def test_tokens_name_the_positions_they_came_from(small):
    lq = torch.rand(2, 3, 32, 32)
    codes, _ = small.quantize.nearest(small.encode(lq).flatten(2).mT)
    tokens, positions = small.select(lq)
    kept = tokens >= 0
    assert small.grid_size == 8
    assert torch.equal(codes.gather(1, positions.clamp_min(0))[kept], tokens[kept])
    assert torch.equal(positions < 0, tokens < 0)


def test_half_precision_and_autocast_change_nothing(small):
    lq = torch.rand(1, 3, 32, 32)
    expected = small(lq)
    with autocast("cpu", dtype=torch.bfloat16):
        result = small(lq)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    assert small(lq.half()).dtype == torch.float32


def test_only_the_projection_learns(small):
    small(torch.rand(1, 3, 32, 32)).square().sum().backward()
    learnt = {name for name, p in small.named_parameters() if p.grad is not None}
    projection = {f"embedding_change.conv{i}.{k}" for i in (1, 2) for k in ("weight", "bias")}
    assert projection <= learnt <= projection | {"quantize.embedding.weight"}


def test_bad_images_are_refused(small):
    with pytest.raises(FacewrightError, match=r"ComfyUI IMAGE"):
        small(torch.rand(1, 8, 8, 3))
    with pytest.raises(NonFiniteError, match="NaN"):
        small(torch.full((1, 3, 32, 32), float("nan")))


def test_save_and_load_give_the_same_embedder(small, tmp_path):
    path = tmp_path / "vre.safetensors"
    small.save(path)
    loaded = VisualRepresentationEmbedder.from_files(path)
    lq = torch.rand(2, 3, 20, 30)
    assert loaded.config == SMALL
    assert torch.equal(loaded(lq), small(lq))
    assert not any(p.requires_grad for p in loaded.parameters())
    small.save(path, dtype=torch.float16)
    assert {t.dtype for t in read_tensors(path)[0].values()} == {torch.float16}
    assert VisualRepresentationEmbedder.from_files(path).quant_conv.weight.dtype == torch.float32


def test_released_pair_in_either_order_becomes_one_file(official, released, tmp_path):
    swapped = VisualRepresentationEmbedder.from_files(*reversed(released))
    state = official.state_dict()
    assert len(state) == 173 + 4
    assert all(torch.equal(v, state[k]) for k, v in swapped.state_dict().items())
    assert official.config == VREConfig()


def edited(source, target, edit):
    content = torch.load(source, weights_only=True)
    edit(content)
    torch.save(content, target)
    return target


def test_wrong_files_are_refused_with_what_is_missing(released, tmp_path):
    load = VisualRepresentationEmbedder.from_files
    associate, projection = released
    with pytest.raises(CheckpointError, match=r"all 4 tensors .*\(conv1.weight, conv1.bias"):
        load(associate)
    with pytest.raises(CheckpointError, match=r"all 173 tensors .*vqvae_LQ.encoder.conv_in.weight"):
        load(projection, projection)
    with pytest.raises(CheckpointError, match="No file was given"):
        load()
    lora = tmp_path / "lora.safetensors"
    save_safetensors(lora, {"unet.a.lora_A.weight": torch.zeros(1, 1)})
    with pytest.raises(CheckpointError, match=r"lora.safetensors looks like a LoRA.*all 173"):
        load(lora, projection)

    short = edited(
        associate, tmp_path / "a.ckpt", lambda c: c["state_dict"].pop("vqvae_LQ.quant_conv.bias")
    )
    with pytest.raises(CheckpointError, match=r"1 of 177 tensors missing \(quant_conv.bias\)"):
        load(short, projection)
    short = edited(projection, tmp_path / "p.pth", lambda c: c.pop("conv2.bias"))
    with pytest.raises(CheckpointError, match=r"missing \(embedding_change.conv2.bias\)"):
        load(associate, short)
    wide = edited(projection, tmp_path / "w.pth", lambda c: c.update({"conv2.bias": torch.ones(9)}))
    with pytest.raises(CheckpointError, match=r"should be \(1024,\), came \(9,\)"):
        load(associate, wide)


def test_a_configuration_of_the_future_is_refused(small, tmp_path):
    path = tmp_path / "vre.safetensors"
    small.save(path)
    tensors, metadata = read_tensors(path)
    config = json.loads(metadata[CONFIG_KEY])
    save_safetensors(path, tensors, {**metadata, CONFIG_KEY: json.dumps({**config, "warp": 1})})
    with pytest.raises(CheckpointError, match="Update facewright"):
        VisualRepresentationEmbedder.from_files(path)
    save_safetensors(path, tensors, {FORMAT_KEY: metadata[FORMAT_KEY]})
    with pytest.raises(CheckpointError, match="lacks a readable"):
        VisualRepresentationEmbedder.from_files(path)


def test_a_projection_that_was_never_trained_is_refused(small, tmp_path):
    small.save(tmp_path / "new.safetensors", trained=False)
    tensors, metadata = read_tensors(tmp_path / "new.safetensors")
    # A file from before the mark says only which stage wrote it, and what that began with.
    del metadata["facewright.projection"]
    for stage in ("vre-associate", "onestep"):
        facts = {"stage": stage, "began_with": {"vre": {"stage": "vre-associate"}}}
        marks = metadata | {"facewright.training": json.dumps(facts)}
        save_safetensors(tmp_path / f"{stage}.safetensors", tensors, marks)
    for name in ("new", "vre-associate"):
        path = tmp_path / f"{name}.safetensors"
        with pytest.raises(
            CheckpointError, match=r"Use the file whose name ends in _vre\.safetens"
        ):
            VisualRepresentationEmbedder.from_files(path)
        VisualRepresentationEmbedder.from_files(path, untrained=True)
    VisualRepresentationEmbedder.from_files(tmp_path / "onestep.safetensors")
