"""ComfyUI's sampling nodes in the embedded host: its noise, its refusals, its text encoder."""

import json

import pytest
import torch
from facewright.core.diffusion.backbone import Model
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.diffusion.text import Clip
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.headless.host.builtin_sampling import CLIPTextEncode, EmptyLatentImage, KSampler

CONFIG = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (32,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": (2,),
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
COND = [[torch.randn(1, 5, 24), {}]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    unet = diffusers_classes()[0].from_config(CONFIG).eval().requires_grad_(False)
    return Model(unet, CONFIG, "tiny", scaling_factor=0.5)


def sample(model, latent, **changes):
    values = {
        "seed": 3,
        "steps": 2,
        "cfg": 1.5,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": COND,
        "negative": COND,
        "denoise": 1.0,
    }
    return KSampler.execute(model=model, latent_image={"samples": latent}, **(values | changes))[0]


def test_two_steps_by_hand(model):
    """ComfyUI's formulas: x = noise sqrt(1 + sigma^2) + latent, then Euler on x."""
    latent = torch.randn(2, 8, 6, 6)
    negative = [[torch.randn(1, 3, 24), {}]]
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - beta).cumprod(0)
    levels = [float(((1 - a[t]) / a[t]).sqrt()) for t in (999, 499)] + [0.0]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
    x = noise * (1 + levels[0] ** 2) ** 0.5 + latent * 0.5
    for i, t in enumerate((999, 499)):
        z = x / (1 + levels[i] ** 2) ** 0.5
        with torch.no_grad():
            p, n = (
                model.unet(z, t, encoder_hidden_states=c[0][0].expand(2, -1, -1)).sample
                for c in (COND, negative)
            )
        x = x + (levels[i + 1] - levels[i]) * (n + 1.5 * (p - n))
    made = sample(model, latent, negative=negative)["samples"]
    torch.testing.assert_close(made, x / 0.5, rtol=1e-4, atol=1e-4)


def test_an_ancestral_step_by_hand(model):
    """ComfyUI's formulas: down to sigma_down, then fresh noise of sigma_up; none at the end."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - beta).cumprod(0)
    high, low = (float(((1 - a[t]) / a[t]).sqrt()) for t in (999, 499))
    up = min(low, (low**2 * (high**2 - low**2) / high**2) ** 0.5)
    down = (low**2 - up**2) ** 0.5
    shape = (1, 8, 6, 6)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * (1 + high**2) ** 0.5
    with torch.no_grad():
        for t, sigma, to in ((999, high, down), (499, low, 0.0)):
            z = x / (1 + sigma**2) ** 0.5
            x = x + (to - sigma) * model.unet(z, t, encoder_hidden_states=COND[0][0]).sample
            if to:
                x = x + up * torch.randn(shape, generator=torch.Generator().manual_seed(4))
    made = sample(model, torch.zeros(shape), sampler_name="euler_ancestral", cfg=1.0)["samples"]
    torch.testing.assert_close(made, x / 0.5, rtol=1e-4, atol=1e-4)


def test_an_empty_latent_gets_the_models_channels(model):
    (empty,) = EmptyLatentImage.execute(64, 48, 2).result
    assert empty["samples"].shape == (2, 4, 6, 8)
    one = sample(model, empty["samples"])["samples"]
    assert torch.equal(one, sample(model, torch.zeros(2, 8, 6, 8))["samples"])


def test_no_denoising_gives_the_latent_back(model):
    latent = torch.randn(1, 8, 6, 6)
    assert torch.equal(sample(model, latent, denoise=0.0)["samples"], latent)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler_name": "dpmpp_2m"}, "no sampler 'dpmpp_2m', only euler, ddim, euler_ancestral"),
        ({"scheduler": "beta"}, "no scheduler 'beta', only normal, karras, simple"),
        ({"positive": [*COND, *COND]}, "2 entries"),
        ({"positive": [[COND[0][0], {"area": (1, 1, 0, 0)}]]}, "carries area"),
        ({"negative": [[torch.randn(3, 5, 24), {}]]}, "for 3 faces, but 1 latents"),
        ({"latent": torch.randn(1, 4, 6, 6)}, "has 4 channels, but the model works on 8"),
    ],
)
def test_what_takes_comfyui_is_said_so(model, changes, words):
    latent = changes.pop("latent", torch.zeros(1, 8, 6, 6))
    with pytest.raises(FacewrightError, match=words):
        sample(model, latent, **changes)
    names = {"sampler_name": changes.get("sampler_name"), "scheduler": changes.get("scheduler")}
    named = any(names.values())
    assert (KSampler.validate_inputs(**names) is True) is not named


def test_a_mask_takes_comfyui(model):
    latent = {"samples": torch.zeros(1, 8, 6, 6), "noise_mask": torch.ones(1, 6, 6)}
    values = {"seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    prompts = {"positive": COND, "negative": COND, "denoise": 1.0}
    with pytest.raises(FacewrightError, match="has a mask"):
        KSampler.execute(model=model, latent_image=latent, **values, **prompts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A diffusers folder with a text encoder and tokenizer that know a few letters."""
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("sd")
    letters = [*"abc", *(f"{c}</w>" for c in "abc"), "<|startoftext|>", "<|endoftext|>"]
    (root / "tokenizer").mkdir()
    vocabulary = {token: i for i, token in enumerate(letters)}
    (root / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
    (root / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    settings = {"model_max_length": 12, "pad_token": "a", "tokenizer_class": "CLIPTokenizer"}
    (root / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.CLIPTextConfig(
        vocab_size=len(letters),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=6,
        eos_token_id=7,
    )
    torch.manual_seed(0)
    transformers.CLIPTextModel(config).save_pretrained(root / "text_encoder")
    return root


def test_prompts_are_padded_to_the_full_length(folder):
    import transformers

    (cond,) = CLIPTextEncode.execute("c b", Clip(folder)).result
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    ids = torch.tensor([[6, 5, 4, 7, *[0] * 8]])
    with torch.no_grad():
        torch.testing.assert_close(cond[0][0], encoder(ids).last_hidden_state)


def test_prompts_that_take_comfyui_or_a_folder_are_refused(folder, tmp_path):
    with pytest.raises(FacewrightError, match="weights in parentheses"):
        Clip(folder).encode("a (b:1.2)")
    with pytest.raises(FacewrightError, match="tokens long; 12 fit"):
        Clip(folder).encode("a " * 20)
    with pytest.raises(CheckpointError, match=r"sd\.safetensors has no folder 'tokenizer'"):
        Clip(tmp_path / "sd.safetensors").encode("a")


def test_captions_are_read_as_training_reads_them(folder):
    from facewright.training._text import TextEncoder

    texts = ["a (b)", "(c:1.2) embedding:a", "a " * 20, ""]
    mine = torch.cat([Clip(folder).caption(text) for text in texts])
    torch.testing.assert_close(mine, TextEncoder(folder).eval()(texts))
    torch.testing.assert_close(mine[3:], Clip(folder).encode(""))
