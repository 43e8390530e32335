"""Where weight files are looked for, and what is said where they are not."""

import json
import re
from pathlib import Path

import pytest
import torch
from facewright.core.diffusion.source import DiffusersModels
from facewright.core.errors import CheckpointError, FacewrightError
from facewright.core.faces import load_analyzer
from facewright.core.files.known import BASE, NANO_DIR, VGG
from facewright.core.host import running
from facewright.core.methods import honestface, osdface, spec_of, specs
from facewright.core.weights.known_files import TABLE, known_file, known_files, with_table
from facewright.core.weights.model_folders import ModelFolders
from facewright.headless.host.host import HeadlessHost
from facewright.training.train import stages
from safetensors.torch import save_file

NOTICE = Path(__file__).parents[2] / "NOTICE"


@pytest.fixture
def comfyui(tmp_path, monkeypatch):
    """A ComfyUI's folder, empty but for what tells that it is one."""
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    monkeypatch.delenv("FACEWRIGHT_MODELS", raising=False)
    return folder


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_extra_model_paths_are_read_as_comfyui_reads_them(comfyui, tmp_path, monkeypatch):
    """As ComfyUI's utils/extra_config.py has it: base_path, several lines, absolute paths."""
    monkeypatch.setenv("FACEWRIGHT_TEST_DISK", str(tmp_path / "disk"))
    (comfyui / "extra_model_paths.yaml").write_text(
        "a111:\n    base_path: ../webui\n    checkpoints: models/Stable-diffusion\n"
        "    loras: |\n        models/Lora\n        models/LyCORIS\n"
        "disk:\n    base_path: $FACEWRIGHT_TEST_DISK\n    is_default: true\n    facewright: faces\n"
        f"bare:\n    vae: {tmp_path / 'vae'}\n    loras: mine\nempty:\n"
    )
    folders = ModelFolders()
    webui = tmp_path / "webui" / "models"
    assert folders.folders("loras") == [
        comfyui / "models/loras", webui / "Lora", webui / "LyCORIS", comfyui / "mine"
    ]  # fmt: skip
    lora = put(webui / "LyCORIS/sub/x.safetensors")
    face = put(tmp_path / "disk/faces/associate_2.ckpt")
    vae = put(tmp_path / "vae/v.pt")
    base = put(webui / "Stable-diffusion" / BASE.names[0])
    assert folders.names("loras") == ["sub/x.safetensors"]
    assert folders.path("loras", "sub/x.safetensors") == lora
    assert folders.path("facewright", "associate_2.ckpt") == face
    assert folders.path("vae", "v.pt") == vae
    assert folders.known(BASE) == base
    with pytest.raises(CheckpointError, match=re.escape(str(webui / "Lora"))):
        folders.path("loras", "nowhere.safetensors")


def test_what_comfyui_has_itself_comes_first(comfyui, tmp_path):
    (comfyui / "extra_model_paths.yaml").write_text(f"x:\n  loras: {tmp_path / 'l'}\n")
    put(tmp_path / "l/a.safetensors")
    own = put(comfyui / "models/loras/a.safetensors")
    assert ModelFolders().path("loras", "a.safetensors") == own


def test_but_for_the_folders_that_are_marked_as_default(comfyui, tmp_path, monkeypatch):
    """ComfyUI puts them before its own; what FACEWRIGHT_MODELS names comes before both."""
    (comfyui / "extra_model_paths.yaml").write_text(
        f"a:\n  base_path: {tmp_path}\n  loras: late\n"
        f"b:\n  base_path: {tmp_path}\n  is_default: true\n  loras: |\n    one\n    two\n    late\n"
    )
    put(comfyui / "models/loras/a.safetensors")
    marked = put(tmp_path / "two/a.safetensors")
    assert ModelFolders().path("loras", "a.safetensors") == marked
    own = comfyui / "models" / "loras"
    late, one, two = (tmp_path / name for name in ("late", "one", "two"))
    assert ModelFolders().folders("loras") == [late, two, one, own]
    named = put(tmp_path / "named/loras/a.safetensors")
    monkeypatch.setenv("FACEWRIGHT_MODELS", str(tmp_path / "named"))
    assert ModelFolders().path("loras", "a.safetensors") == named


def test_face_detectors_are_looked_for_there_too(comfyui, tmp_path):
    (comfyui / "extra_model_paths.yaml").write_text(f"x:\n  facedetection: {tmp_path / 'fd'}\n")
    looked = pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "fd")))
    with running(HeadlessHost()), looked:
        load_analyzer("facexlib")


def test_named_folders_are_all_there_is(comfyui, tmp_path):
    (comfyui / "extra_model_paths.yaml").write_text(f"x:\n  loras: {tmp_path / 'l'}\n")
    put(tmp_path / "l/a.safetensors")
    assert ModelFolders([tmp_path / "m"]).names("loras") == []


@pytest.mark.parametrize("text", ["a: [", "just words", "a:\n  loras: [1]\n", "a:\n  loras: 3\n"])
def test_a_broken_extra_model_paths_is_named(comfyui, text):
    (comfyui / "extra_model_paths.yaml").write_text(text)
    folders = ModelFolders()  # nothing is looked for yet
    with pytest.raises(FacewrightError, match=r"extra_model_paths\.yaml cannot be read"):
        folders.names("loras")


def test_names_chosen_on_windows_are_found(tmp_path):
    album = put(tmp_path / "facewright/people/alice.person")
    assert ModelFolders([tmp_path]).path("facewright", "people\\alice.person") == album
    assert known_file("sub\\vgg16-397923af.pth") is known_file("sub/vgg16-397923af.pth") is VGG


def test_a_base_model_may_be_a_folder_among_the_diffusers(tmp_path):
    folder = tmp_path / "diffusers/stable-diffusion-2-1-base"
    folder.mkdir(parents=True)
    assert ModelFolders([tmp_path]).known(BASE) == folder


def test_a_base_model_of_another_name_is_pointed_out(tmp_path, ldm_files):
    place = tmp_path / "checkpoints"
    place.mkdir()
    folders = ModelFolders([tmp_path])
    with pytest.raises(CheckpointError) as nothing:
        folders.known(BASE)
    assert "same architecture" not in str(nothing.value)
    save_file(ldm_files.checkpoint(), place / "my sd21.safetensors")
    save_file(ldm_files.checkpoint(context=768), place / "sd15.safetensors")
    save_file({"x": torch.zeros(1)}, place / "other.safetensors")
    with pytest.raises(CheckpointError) as error:
        folders.known(BASE)
    assert "my sd21.safetensors: of the same architecture" in str(error.value)
    assert "sd15" not in str(error.value) and "other.safe" not in str(error.value)


def test_a_base_model_of_any_name_can_be_named(tmp_path, monkeypatch):
    named = put(tmp_path / "somewhere" / "my sd21.safetensors")
    put(tmp_path / "checkpoints" / BASE.names[0])
    monkeypatch.setenv("FACEWRIGHT_BASE", str(named))
    assert ModelFolders([tmp_path]).known(BASE) == named
    monkeypatch.setenv("FACEWRIGHT_BASE", str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match=r"FACEWRIGHT_BASE names .*gone, which is not there"):
        ModelFolders([tmp_path]).known(BASE)


def test_the_page_of_licences_lists_every_known_file():
    page = TABLE.read_text(encoding="utf-8")
    assert page == with_table(page), "run python -m facewright.core.weights.known_files"
    for file in known_files():
        row = next(line for line in page.split("\n") if line.startswith(f"| {file.what} |"))
        assert file.licence in row and row.endswith(f"| {file.commercial} |")


def test_notice_names_every_file_of_somebody_else():
    notice = " ".join(NOTICE.read_text(encoding="utf-8").split())
    for name in ("associate_2.ckpt", "embedding_change_weights.pth", "buffalo_l", "backbone.pth"):
        assert name in notice
    for who in ("Stable Diffusion 2.1-base", "AdaFace", "AlexNet", "VGG-16", "facexlib", "pyiqa"):
        assert who in notice
    assert "inception-2015-12-05.pt" in notice and "docs/licences.md" in notice


def test_each_known_file_says_what_a_user_has_to_know():
    names = [name for file in known_files() for name in file.names]
    assert len(names) == len(set(names))
    for file in known_files():
        assert file.commercial in {"yes", "no", "depends"}
        assert all((file.what, file.folder, file.source, file.licence))
        assert re.fullmatch(r"([0-9a-f]{8})?", file.sha256)
        # torchvision's rule: the name carries the first digits of the hash.
        carried = re.search(r"-([0-9a-f]{8})\.", file.names[0])
        assert carried is None or carried[1] == file.sha256


def exported(path, stage, kind):
    path.parent.mkdir(exist_ok=True)
    facts = {"facewright.training": json.dumps({"stage": stage, "base": {"kind": kind}})}
    save_file({"x": torch.zeros(1)}, path, facts)


def test_what_training_exported_is_found_under_any_name(tmp_path):
    folders = ModelFolders([tmp_path])
    exported(tmp_path / "mine_vre.safetensors", "honestface", "sd")
    exported(tmp_path / "loras/mine_lora.safetensors", "onestep", "sd")
    exported(tmp_path / "toy_lora.safetensors", "onestep", "nano")
    assert folders.known(osdface.LORA) == tmp_path / "loras/mine_lora.safetensors"
    assert folders.known(honestface.VRE_FILE) == tmp_path / "mine_vre.safetensors"
    with pytest.raises(CheckpointError, match=r"OSDFace's face embedder .VRE. is missing"):
        folders.known(osdface.EMBEDDER)
    _, vre, lora = osdface.NANO_FILES
    assert folders.known(lora) == tmp_path / "toy_lora.safetensors"
    assert folders.known(vre) == NANO_DIR / "nano_vre.safetensors"

    exported(tmp_path / "other_lora.safetensors", "onestep", "sd")
    with pytest.raises(CheckpointError, match="several files that may be OSDFace's UNet LoRA: "):
        folders.known(osdface.LORA)
    (tmp_path / "loras/pytorch_lora_weights.safetensors").touch()
    assert folders.known(osdface.LORA).name == "pytorch_lora_weights.safetensors"


def test_each_stage_writes_files_that_its_method_looks_for():
    known = {(f.stage, f.part) for s in specs().values() for f in (*s.files, *s.further_files)}
    parts = {f"{{name}}_{part}.safetensors" for _, part in known}
    for stage in ("onestep", "honestface", "flipnet-restore", "flipnet-degrade"):
        written = {setting.partition("=")[2] for setting in stages()[stage].settings}
        assert written & parts == {
            f"{{name}}_{part}.safetensors" for of, part in known if of == stage
        }


def test_flipnet_asks_for_a_base_that_reads_text(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/v2-1_512-ema-pruned.safetensors").touch()
    with pytest.raises(CheckpointError) as error:
        spec_of("flipnet").find(DiffusersModels(ModelFolders([tmp_path])))
    lines = str(error.value).split("\n")
    assert len(lines) == 4 and lines[0].startswith(
        "Stable Diffusion 2.1-base as a diffusers folder"
    )
    assert "put stable-diffusion-2-1-base into" in lines[0]
