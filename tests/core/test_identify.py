"""One answer to "which model is this file", whoever asks and however much has been read."""

import pytest
import torch
from facewright.core.checkpoint import (
    files,
    identify,
    make_metadata,
    read_tensors,
    save_safetensors,
)
from facewright.core.checkpoint.identify import BIAS
from facewright.core.errors import CheckpointError
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.core.weights import nano
from safetensors import safe_open

SD = "model.diffusion_model."
KNOWN = {
    "vqvae_LQ.encoder.conv_in.weight": "OSDFace's VRE checkpoint",
    "unet.down_blocks.0.x.lora_A.weight": "a LoRA",
    "double_blocks.0.x.lora_A.weight": "a LoRA",
    "lora_unet_x.hada_w1_a": "a LoRA",
    f"{SD}input_blocks.0.0.weight": "a whole Stable Diffusion checkpoint",
    f"{SD}joint_blocks.0.x": "Stable Diffusion 3",
    "double_blocks.0.x": "Flux",
    "transformer_blocks.0.x": "a transformer model",
    f"{SD}x": "none of the files facewright knows",
}


@pytest.mark.parametrize("key", KNOWN)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_is_the_same_before_and_after_it_was_read(tmp_path, key, suffix):
    path = tmp_path / f"x{suffix}"
    tensors = {key: torch.zeros(4, 4)}
    if suffix == ".ckpt":
        torch.save(tensors, path)
    else:
        save_safetensors(path, tensors)
    found = identify(path)
    assert found == identify(path, *read_tensors(path))
    assert found.what.startswith(KNOWN[key])
    said = str(found.unsuitable("a LoRA was expected."))
    assert said == f"{path.name} is {found.what}; a LoRA was expected."


def test_every_bundled_file_is_what_its_metadata_says():
    kinds = {path.name: identify(path).kind for path in sorted(nano.NANO_DIR.glob("*.safetensors"))}
    assert kinds["nano_unet.safetensors"] == "nano-unet"
    assert kinds["nano_vre.safetensors"] == "osdface-vre"
    assert kinds["nano_onestep_lora.safetensors"] == "lora"
    assert "unknown" not in kinds.values()


def test_a_format_of_ours_goes_before_what_its_tensors_look_like(tmp_path):
    path = tmp_path / "x.safetensors"
    save_safetensors(path, {"vqvae_LQ.x": torch.zeros(1)}, make_metadata("osdface-vre", {}))
    assert identify(path).what == 'a facewright "osdface-vre" file'


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_lora_weights.safetensors"])
def test_a_folder_that_a_lora_was_saved_in(tmp_path, name):
    (tmp_path / name).write_bytes(b"{}")
    assert identify(tmp_path).kind == "lora"
    with pytest.raises(CheckpointError, match="looks like a LoRA"):
        identify(tmp_path).check_base()
    (tmp_path / "unet").mkdir()  # a whole model beside it is what the folder is for
    with pytest.raises(CheckpointError, match=r"unet should hold config\.json"):
        identify(tmp_path)


def test_no_more_than_the_header_and_one_tensor_are_read(tmp_path, monkeypatch):
    read = []

    class Watched:
        def __init__(self, path, framework):
            self.file = safe_open(path, framework=framework)

        def __enter__(self):
            opened = self.file.__enter__()
            self.keys, self.metadata = opened.keys, opened.metadata
            self.get_slice = opened.get_slice
            self.get_tensor = lambda name: read.append(name) or opened.get_tensor(name)
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

    path = tmp_path / "x.safetensors"
    tensors = {BIAS: torch.zeros(3), f"{SD}input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}
    save_safetensors(path, tensors)
    monkeypatch.setattr(files, "safe_open", Watched)
    assert identify(path).unet.channels == 9
    assert read == [BIAS]


def test_a_network_is_stored_in_its_format_or_the_one_that_is_asked_for(tmp_path):
    net = IdentityEncoder(IdentityConfig(ch=(8, 8), dim=4, input_size=8))
    net.register_buffer("steps", torch.tensor(70_000))
    for dtype, stored in ((None, torch.float16), (torch.bfloat16, torch.bfloat16)):
        net.save(tmp_path / "x.safetensors", dtype=dtype, note="kept")
        tensors, metadata = read_tensors(tmp_path / "x.safetensors")
        assert tensors.pop("steps").item() == 70_000 and metadata["note"] == "kept"
        assert {v.dtype for v in tensors.values()} == {stored}
