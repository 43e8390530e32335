"""BoostHubs inside ComfyUI, against an independent reference, diffusers, and themselves."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from facewright.core.methods.flipnet import BoostHubConfig, BoostHubs, Condition, find_sites
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.sampling import SCHEDULERS, sigmas
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.comfyui
HERE = Path(__file__).parent


def hubs_for(tensors, dim_head):
    config = BoostHubConfig(sites=find_sites(tensors), dim_head=dim_head, base="test")
    return BoostHubs.beside(tensors, config)


def randomised(hubs):
    for site, dim in hubs.config.sites.items():
        with torch.no_grad():
            hubs[site].to_q.weight.mul_(4)  # random attention would see the average only
        torch.nn.init.normal_(hubs[site].to_out.weight, std=4 * dim**-0.5)
        torch.nn.init.normal_(hubs[site].to_out.bias, std=0.1)
    return hubs


@pytest.fixture(scope="module")
def thin_model(tmp_path_factory, weights):
    """SD 2.1's layout with one level, in diffusers; and its file for ComfyUI."""
    from facewright.core.checkpoint import read_tensors, save_safetensors
    from facewright.core.diffusion import ldm, loading

    path = tmp_path_factory.mktemp("thin") / "thin.safetensors"
    weights.thin_checkpoint(path, full_vae=False)
    # Its VAE is ComfyUI's small one, which is none of ours.
    tensors = read_tensors(path)[0]
    alone = path.with_name("alone.safetensors")
    save_safetensors(alone, {k: v for k, v in tensors.items() if k.startswith(ldm.UNET_PREFIX)}, {})
    # ComfyUI computes in float32 on a CPU; so must we, whatever this one is quick in.
    place = loading.Place(torch.float32, torch.device("cpu"))
    return loading.load_checkpoint(alone, place)[0], path


@pytest.fixture(scope="module")
def ran(comfyui, weights, thin_model, tmp_path_factory):
    """What `inside_boosthub.py` found out, the inputs it had, and where the weights are."""
    folder, python = comfyui
    home = tmp_path_factory.mktemp("boosthub")
    for sub in ("checkpoints", "facewright"):
        (home / "models" / sub).mkdir(parents=True)
    library = pytest.importorskip("facewright.core.diffusion.library")
    thin, checkpoint = thin_model
    (home / "models" / "checkpoints" / "thin.safetensors").symlink_to(checkpoint)
    bundle = home / "nano"
    weights.nano_bundle(bundle, library.diffusers_classes()[0])
    detector = "nano_faces.safetensors"
    (bundle / detector).symlink_to(HERE.parents[1] / "weights" / "nano" / detector)
    unet = load_file(bundle / "nano_unet.safetensors")
    torch.manual_seed(5)
    hubs = hubs_for(unet, 32)
    hubs.save(home / "models" / "facewright" / "fresh.safetensors")
    randomised(hubs).save(home / "models" / "facewright" / "hubs.safetensors")
    hubs.save(bundle / "nano_flipnet_restore_boosthub.safetensors")
    sd_hubs = randomised(hubs_for(thin.tensors(), 64))
    sd_hubs.save(home / "models" / "facewright" / "sd_hubs.safetensors")
    lora = {
        k: v for k, v in load_file(bundle / "nano_onestep_lora.safetensors").items() if ".attn" in k
    }
    save_file(lora, bundle / "nano_flipnet_restore_lora.safetensors")
    shape = AutoencoderConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(), z_channels=8, groups=1
    )
    config = FaceEncoderConfig(encoder=shape, input_size=32, hidden=16, width=128)
    FaceEncoder(config).save(bundle / "nano_face_encoder.safetensors")
    inputs = {
        "y": torch.randn(2, 8, 16, 16),
        "other_y": torch.randn(2, 8, 16, 16),
        "encoded": torch.randn(2, 8, 16, 16),
        "positive": torch.randn(1, 5, 128),
        "negative": torch.randn(1, 5, 128),
        "sd_y": torch.randn(1, 4, 12, 12),
        "text": torch.randn(1, 9, 1024),
    }
    save_file(inputs, home / "inputs.safetensors")
    script = str(HERE / "inside_boosthub.py")
    done = subprocess.run(
        [python, script, str(folder), str(HERE.parents[1]), str(home)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        "home": home,
        "inputs": inputs,
        "hubs": hubs,
        "sd_hubs": sd_hubs,
        "facts": json.loads((home / "facts.json").read_text()),
        "out": load_file(home / "outputs.safetensors"),
    }


@pytest.fixture(scope="module")
def facts(ran):
    return ran["facts"]


def test_a_fresh_boosthub_is_the_base_network(facts):
    assert facts["fresh_is_base"]["cached"] == [True, 0.0]
    # Twice the rows in a call may add up in another order.
    assert facts["fresh_is_base"]["joint"][1] <= 1e-6


def test_phi_0_does_not_see_the_condition_bit_for_bit(facts):
    assert facts["phi_0"] == [True] * 6


def test_both_modes_are_equations_4_and_5(facts):
    assert facts["effect"] > 0.05
    assert facts["cached_joint"] <= 1e-5
    assert facts["cached_reference"] <= 1e-5
    assert facts["joint_reference"] <= 1e-5
    assert facts["phi_half"] <= 1e-5


def test_rows_of_twenty_steps_with_guidance_and_two_images(facts):
    assert facts["rows_stock"] == 2 * 2 * 20
    assert facts["rows_cached"] == 2 * (2 * 20 + 1)
    assert facts["rows_joint"] == 2 * 4 * 20


def test_batches_sizes_prompts_and_samplers(facts):
    for name, (difference, effect) in facts["same_either_way"].items():
        assert difference <= 1e-5, name
        assert effect > 1e-3, name
    assert facts["each_its_own_condition"] <= 1e-5


def test_prompts_that_run_one_after_the_other(facts):
    assert facts["separate_rows"] == [2]
    assert facts["separate_calls"] <= 1e-5


def test_comfyui_manages_the_memory_of_the_weights(facts):
    assert facts["loaded_by_comfyui"]


def test_copies_two_at_once_and_a_lora_on_top(facts):
    assert facts["clone"]
    assert facts["two_alive"] == [True] * 4
    above_below, effect, restored = facts["lora"]
    assert above_below <= 1e-6 and effect > 1e-3 and restored


def test_an_interrupted_run_keeps_nothing(ran, facts):
    during, after = facts["interrupted"]
    assert during == len(ran["hubs"].config.sites) and after == 0
    assert facts["kept_after"] == 0
    assert facts["again_after_stop"]
    assert facts["options_after"] == []


def test_patches_of_other_packs_stay(facts):
    for difference, effect in facts["beside_others"]:
        assert difference <= 1e-5 and effect > 1e-3


def test_what_changes_the_model_in_some_passes_leaves_the_cached_condition_alone(facts):
    """As the tooltip of `mode` says; and joint is another picture then."""
    for name, found in facts["in_some_passes"].items():
        assert found["cached"] == 0 and found["joint"] > 1e-4, name
        assert found["without"] <= 1e-5 and found["beside"] > 1e-3 and found["effect"] > 1e-3, name


def test_half_precision(facts):
    assert facts["half"] < 0.05


def test_what_does_not_fit_is_refused_in_words(facts):
    for message in facts["token_merging"]:
        assert message is not None and "merges or drops tokens" in message
    refused = facts["refused"]
    for name, shape in (("channels", "(1, 4, 16, 16)"), ("video", "(1, 8, 1, 16, 16)")):
        assert f"shape {shape}, but the model takes (images, 8, height, width)" in refused[name]
    assert "`condition` of Apply BoostHub holds NaN" in refused["not finite"]
    assert "Apply BoostHub already" in refused["twice"]
    assert "Apply BoostHub already" in refused["twice in a copy"]
    assert "made for test (" in refused["architecture"]
    assert "predicts something else, such as v" in refused["prediction"]
    for mode in ("cached", "joint"):
        said = "conditioning has 64 channels, but this BaseModel takes 128"
        assert said in refused[f"width, {mode}"]
    for name in ("lora", "lora above"):
        assert "trained to degrade, but these BoostHub weights" in refused[name]
    assert "no prompt called positive" in refused["guider"]
    assert "holds 2 images, but 3 are sampled" in refused["batch"]
    assert "positive prompt has 2 parts" in refused["parts"]
    assert "trained to restore, not to degrade" in facts["other_mode"]
    assert "to restore, for test" in facts["info"]


def test_without_a_face_nodes_behind_do_not_run(facts):
    assert facts["without_a_face"] == ["ExecutionBlocker"] * 4


def test_the_bundled_models_and_face_tokens(facts):
    assert facts["nano_flipnet"][2:4] == ["BoostHubs", "FaceEncoder"]
    assert facts["tokens"] == [[2, 77 + 64, 128], [1, 77, 128]]
    assert facts["with_face_tokens"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 3, 20, 33, 50])
def test_noise_levels_are_comfyuis(ran, scheduler, steps):
    expected = ran["out"][f"sigmas.{scheduler}.{steps}"]
    torch.testing.assert_close(sigmas(scheduler, steps), expected, rtol=1e-6, atol=0)


def headless_sample(model, latent, positive, negative, **options):
    from facewright.headless.host.builtin_sampling import KSampler

    values = {"steps": 4, "cfg": 1.5, "sampler_name": "euler", "scheduler": "normal"} | options
    return KSampler.execute(
        model=model,
        seed=7,
        positive=[[positive, {}]],
        negative=[[negative, {}]],
        latent_image={"samples": latent},
        **({"denoise": 1.0} | values),
    )[0]["samples"]


RUNS = {
    "ddim": {"sampler_name": "ddim", "scheduler": "ddim_uniform", "steps": 20},
    "euler": {"steps": 20},
    "karras": {"scheduler": "karras", "steps": 6},
    "simple": {"scheduler": "simple", "steps": 6},
    "sgm_uniform": {"scheduler": "sgm_uniform", "steps": 6},
    "denoise": {"denoise": 0.6, "steps": 6},
    "all of it over a picture": {"steps": 6},
}


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="module")
def headless_nano(ran):
    from facewright.core.diffusion.loading import _nano, _nano_with_lora
    from facewright.core.files import known
    from facewright.headless.host.host import HeadlessHost

    kept, known.NANO_DIR = known.NANO_DIR, ran["home"] / "nano"
    for cached in (_nano, _nano_with_lora):
        cached.cache_clear()
    try:
        return HeadlessHost().load_nano(lora=False)[0]
    finally:
        known.NANO_DIR = kept
        for cached in (_nano, _nano_with_lora):
            cached.cache_clear()


@pytest.mark.parametrize("mode", ["cached", "joint"])
@pytest.mark.parametrize("name", RUNS)
def test_comfyui_and_diffusers_sample_the_same(ran, headless_nano, name, mode):
    from facewright.headless.host.host import HeadlessHost

    inputs = ran["inputs"]
    condition = Condition(latent=inputs["y"], timestep=30, seed=2, mode=mode)
    model = HeadlessHost().apply_boosthub(headless_nano, ran["hubs"], condition)
    over = name in ("denoise", "all of it over a picture")
    latent = inputs["encoded"] if over else torch.zeros(2, 4, 16, 16)
    made = headless_sample(model, latent, inputs["positive"], inputs["negative"], **RUNS[name])
    assert relative(made, ran["out"][f"{name}.{mode}"]) <= 1e-4


def test_comfyui_and_diffusers_sample_the_same_with_stable_diffusions_layout(ran, thin_model):
    from facewright.headless.host.host import HeadlessHost

    inputs = ran["inputs"]
    condition = Condition(latent=inputs["sd_y"])
    model = HeadlessHost().apply_boosthub(thin_model[0], ran["sd_hubs"], condition)
    text = inputs["text"]
    made = headless_sample(model, torch.zeros(1, 4, 16, 16), text, text * 0.5)
    assert relative(made, ran["out"]["sd"]) <= 1e-4
