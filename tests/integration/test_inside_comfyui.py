"""The pack inside ComfyUI, against diffusers and against itself; no server."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.comfyui
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ran(comfyui, weights, tmp_path_factory):
    """Everything `inside.py` found out, the inputs it had, and where the weights are."""
    folder, python = comfyui
    home = tmp_path_factory.mktemp("inside")
    for sub in ("checkpoints", "facewright", "loras"):
        (home / "models" / sub).mkdir(parents=True)
    library = pytest.importorskip("facewright.core.diffusion.library")
    unet_class, _ = library.diffusers_classes()
    checkpoint = home / "models" / "checkpoints" / "thin_kl.safetensors"
    weights.thin_checkpoint(checkpoint, full_vae=True)
    weights.osdface_vre(home / "models" / "facewright")
    modules = weights.osdface_lora(home / "models" / "loras" / "pytorch_lora_weights.safetensors")
    weights.nano_bundle(home / "nano", unet_class)
    (home / "models" / "facewright" / "people").mkdir()
    (home / "models" / "facewright" / "people" / "alice.person").touch()
    from facewright.core.weights import nano

    torch.manual_seed(0)
    x = torch.rand(2, 3, 128, 128)
    vre = nano.load_vre(home / "nano" / "nano_vre.safetensors")
    inputs = {
        "x": torch.rand(2, 3, 64, 64),
        "cond": torch.randn(2, 77, 1024),
        "nano_x": x,
        "nano_cond": vre(x),
    }
    save_file({k: v.contiguous() for k, v in inputs.items()}, home / "inputs.safetensors")
    done = subprocess.run(
        [python, str(HERE / "inside.py"), str(folder), str(HERE.parents[1]), str(home)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        "home": home,
        "modules": modules,
        "inputs": inputs,
        "facts": json.loads((home / "facts.json").read_text()),
        "out": load_file(home / "outputs.safetensors"),
    }


@pytest.fixture(scope="module")
def facts(ran):
    return ran["facts"]


def test_the_pack_loads_fast_and_imports_nothing_heavy(facts):
    heavy = {"diffusers", "peft", "accelerate", "insightface", "facexlib", "cv2", "skimage"}
    assert not heavy & set(facts["modules"])
    assert set(facts["modules"]) <= {"facewright"}
    assert min(facts["import_seconds"]) < 0.1


@pytest.fixture(scope="module")
def headless(ran):
    """The same restorations by diffusers."""
    from facewright.core.checkpoint import read_tensors
    from facewright.core.diffusion import loading
    from facewright.core.diffusion.loading import _nano, _nano_with_lora, load_checkpoint
    from facewright.core.files import known
    from facewright.core.restorer import restore_one_step
    from facewright.core.weights import nano
    from facewright.headless.host.host import HeadlessHost

    models, inputs = ran["home"] / "models", ran["inputs"]
    kept, known.NANO_DIR = known.NANO_DIR, ran["home"] / "nano"
    for cached in (_nano, _nano_with_lora):
        cached.cache_clear()
    try:
        out = {}
        for name in ("base", "onestep"):
            backbone = HeadlessHost().backbone(*HeadlessHost().load_nano(lora=name == "onestep"))
            restored, latent = restore_one_step(inputs["nano_x"], inputs["nano_cond"], backbone)
            out[f"nano_{name}"], out[f"nano_{name}_latent"] = restored.movedim(1, -1), latent
        vae = nano.load_vae()
        latent = vae.encode(inputs["nano_x"] * 2 - 1)
        out["nano_vae_encode"] = latent
        out["nano_vae_decode"] = vae.decode(latent).add(1).div(2).clamp(0, 1).movedim(1, -1)
    finally:
        known.NANO_DIR = kept
        for cached in (_nano, _nano_with_lora):
            cached.cache_clear()
    # ComfyUI computes in float32 on a CPU; so must we, whatever this one is quick in.
    fast, loading.fast_dtype = loading.fast_dtype, lambda device: torch.float32
    try:
        model, vae = load_checkpoint(models / "checkpoints" / "thin_kl.safetensors")
    finally:
        loading.fast_dtype = fast
    lora = read_tensors(models / "loras" / "pytorch_lora_weights.safetensors")
    patched, _ = HeadlessHost().apply_lora(model, *lora, 0.7)
    x, cond = inputs["x"], inputs["cond"]
    generator = torch.Generator().manual_seed(5)
    for name, m, g in (
        ("sd_base", model, None),
        ("sd_lora", patched, None),
        ("sd_sampled", model, generator),
    ):
        restored, _ = restore_one_step(x, cond, HeadlessHost().backbone(m, vae), generator=g)
        out[name] = restored.movedim(1, -1)
    return out


@pytest.mark.parametrize(
    "name",
    [
        "nano_base",
        "nano_onestep",
        "nano_vae_encode",
        "nano_vae_decode",
        "sd_base",
        "sd_lora",
        "sd_sampled",
    ],
)
def test_comfyui_and_diffusers_give_the_same(ran, headless, name):
    torch.testing.assert_close(ran["out"][name], headless[name], atol=1e-4, rtol=1e-4)


def test_the_lora_and_the_sampled_posterior_matter(ran):
    for name in ("sd_lora", "sd_sampled"):
        assert (ran["out"][name] - ran["out"]["sd_base"]).abs().max() > 1e-2
    assert (ran["out"]["nano_onestep"] - ran["out"]["nano_base"]).abs().max() > 1e-2


def test_the_result_does_not_depend_on_faces_at_once_or_on_a_patched_copy(ran):
    # Restored again after the LoRA was used: the given model must not have changed.
    torch.testing.assert_close(
        ran["out"]["sd_base_again"], ran["out"]["sd_base"], atol=1e-5, rtol=0
    )


def test_latents_fit_the_stock_vae_decode(ran):
    torch.testing.assert_close(ran["out"]["sd_decoded"], ran["out"]["sd_base"], atol=1e-5, rtol=0)


def test_sampler_custom_does_the_same_single_step(ran):
    torch.testing.assert_close(
        ran["out"]["nano_sampler_custom"], ran["out"]["nano_onestep_latent"], atol=1e-4, rtol=1e-4
    )


def test_the_nano_vae_decodes_in_tiles(ran):
    assert ran["out"]["nano_vae_tiled"].shape == ran["out"]["nano_vae_decode"].shape


def test_the_nano_embedder_gives_the_same_tokens(facts):
    assert facts["nano_vre"]


def test_every_lora_module_is_applied_where_the_stock_loader_drops_attention(ran, facts):
    assert facts["lora_applied"] == ran["modules"]
    assert f"{ran['modules']} modules applied" in facts["lora_report"]
    assert facts["lora_stock_applied"] < 0.6 * ran["modules"]


@pytest.mark.parametrize(
    "name", ["released", "extracted", "released_converted", "extracted_converted"]
)
def test_a_lora_of_any_style_does_what_the_stock_loader_does_with_it(ran, facts, name):
    ours, stock, apart = facts[f"lora_{name}"]
    whole = ran["modules"] + 2 * ("extracted" in name)
    assert ours == whole and apart < 1e-5
    assert stock == whole or name == "released"


def test_a_lora_that_leads_to_infinity_is_refused(facts):
    assert "larger than" in facts["lora_overflow"]
    assert "finite number" in facts["lora_nan_strength"]


def test_an_overflow_in_half_precision_is_decoded_again_in_float32(ran, facts):
    assert not facts["half_decode_finite"]
    assert torch.isfinite(ran["out"]["overflow_half"]).all()
    # The encoder ran in half precision, so the two differ a little.
    difference = (ran["out"]["overflow_half"] - ran["out"]["overflow_float32"]).abs()
    assert difference.mean() < 0.02
    assert facts["half_vae_untouched"] == "torch.float16"
    assert facts["overflow_remembered"]
    assert torch.equal(ran["out"]["overflow_again"], ran["out"]["overflow_half"])


def test_nan_in_the_latent_is_an_error_not_a_black_picture(facts):
    assert "NaN" in facts["nan_latent"] and "the latent" in facts["nan_latent"]
    assert "`conditioning` holds NaN" in facts["nan_conditioning"]


def test_what_does_not_fit_together_is_refused_in_words(facts):
    assert "another architecture" in facts["lora_other_model"]
    assert "`conditioning` holds 3 faces but `image` holds 2" in facts["cond_other_faces"]
    assert "has 128 channels, but the model expects 1024" in facts["cond_other_model"]
    assert "makes latents of 8 channels, but the model expects 4" in facts["vae_other_model"]
    assert "models/facewright" in facts["missing_file"]
    assert "`model` is a v-prediction model such as SD 2.1 for 768" in facts["v_prediction"]
    assert "`model` is Stable Diffusion 1.x" in facts["sd15"]
    assert "another architecture" in facts["lora_sd15"]
    assert "`model` is Stable Diffusion 1.x" in facts["lora_sd15"]


def test_a_value_that_is_no_file_name_is_refused_in_words(facts):
    for value, sentence in zip(("None", "7", "{'a': 1}"), facts["no_name"], strict=True):
        assert f"should be text, got {value}. Choose a file" in sentence


def test_saved_pictures_never_overwrite_and_never_leave_the_output_folder(facts):
    assert facts["saved"] == [
        "|faces_00001_.png", "|faces_00002_.png", "|ComfyUI_00001_.png", "|ComfyUI_00002_.png",
        "x|6_00001_.png", ".h|x [2]_00001_.png",
    ]  # fmt: skip
    assert all("filename_prefix" in sentence for sentence in facts["unsaved"])


def test_an_album_chosen_on_windows_is_found(facts):
    assert facts["windows_name"] == "alice.person"


def test_weight_files_are_found_in_the_base_directory(ran, facts):
    assert facts["model_files"] == ["associate_2.ckpt", "embedding_change_weights.pth"]
    assert facts["lora_files"] == ["pytorch_lora_weights.safetensors"]
    assert facts["facewright_folders"] == [str(ran["home"] / "models" / "facewright")]


def test_a_picture_without_a_face_passes_through(facts):
    seen = facts["no_face"]
    assert seen["count"] == 0 and "no face" in seen["report"]
    assert [shape[0] for shape in seen["shapes"]] == [0, 0, 0, 0]
    assert seen["unchanged"] and seen["mask"] == 0


def test_pasting_keeps_alpha_and_everything_outside_the_mask(facts):
    seen = facts["paste"]
    assert seen["outside_unchanged"] and seen["alpha_unchanged"]
    assert 0.02 < seen["covered"] < 0.9


def test_the_stop_button_ends_the_work_between_groups(facts):
    assert facts["interrupted_after"] == 2


def test_degrade_gives_the_same_pixels_as_core_in_this_process(ran, facts):
    from facewright.core.degradation import Degradation

    degradation = Degradation.preset("flipnet", noise=(9 / 255, 9 / 255))
    lq, recipes = degradation(ran["inputs"]["x"], seed=3)
    assert facts["recipe"] == json.loads(json.dumps(recipes))
    assert torch.equal(ran["out"]["degraded"], lq.movedim(1, -1))
    assert torch.equal(ran["out"]["degraded_again"], ran["out"]["degraded"])
