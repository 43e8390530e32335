"""`facewright caption`: a small BLIP of random weights writes text beside pictures."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from facewright.core.devices import mend_torchvision
from facewright.headless.cli import app
from facewright.headless.make.captions import Captioner, _captioner
from facewright.training.data import Batches
from facewright.training.settings.config import TrainConfig
from PIL import Image
from typer.testing import CliRunner

mend_torchvision()
pytest.importorskip("transformers")

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] [ENC] a red blue face of with dark light woman man on"


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    from transformers.models.bert.tokenization_bert import BertTokenizer
    from transformers.models.blip import modeling_blip
    from transformers.models.blip.configuration_blip import BlipConfig

    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32}  # fmt: skip
    ids = {"vocab_size": len(WORDS.split()), "bos_token_id": 5, "eos_token_id": 3,
           "pad_token_id": 0, "sep_token_id": 3, "encoder_hidden_size": 16,
           "max_position_embeddings": 64}  # fmt: skip
    config = BlipConfig(
        text_config={**small, **ids},
        vision_config={**small, "image_size": 32, "patch_size": 16},
    )
    torch.manual_seed(0)
    model = modeling_blip.BlipForConditionalGeneration(config)
    for weight in model.parameters():  # or all pictures look alike to it
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.7)
    with torch.no_grad():  # words, no marks
        model.text_decoder.cls.predictions.bias[:7] = -1e4
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a.png", "deep/b.jpg", "deep/c.png", "deep/c.lq.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 50)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def run(*arguments):
    return CliRunner().invoke(app, ["caption", *map(str, arguments)])


def by_hand(blip, file):
    """The library's own preparation, model and tokenizer."""
    from transformers.models.bert.tokenization_bert import BertTokenizer
    from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

    square = Image.open(file).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, np.float64).transpose(2, 0, 1) / 255
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    pixels = (pixels - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    model = BlipForConditionalGeneration.from_pretrained(blip).eval()
    tokens = model.generate(torch.tensor(pixels[None]).float(), num_beams=3, min_new_tokens=5,
                            max_new_tokens=20)  # fmt: skip
    words = BertTokenizer.from_pretrained(blip).decode(tokens[0], skip_special_tokens=True)
    return words.removeprefix("[DEC] ")  # no special token in this small vocabulary


def test_each_good_picture_gets_the_words_that_blip_has_for_it(blip, photos):
    result = run(photos, "--model", blip, "--json")
    assert result.exit_code == 0, result.output
    texts = {p.relative_to(photos).as_posix(): p.read_text() for p in photos.rglob("*.txt")}
    assert texts.keys() == {"a.txt", "deep/b.txt", "deep/c.txt"}
    for name, file in (("a.txt", "a.png"), ("deep/b.txt", "deep/b.jpg")):
        assert texts[name] == by_hand(blip, photos / file) + "\n"
        assert set(texts[name].split()) <= set(WORDS.split()) and len(texts[name]) > 3
    assert len(set(texts.values())) > 1
    done = json.loads(result.stdout)["done"]
    assert [entry["caption"] for entry in done] == [texts[k].strip() for k in texts]


def test_captions_that_are_there_stay_and_a_bad_picture_loses_none(blip, photos):
    (photos / "a.txt").write_text("written by hand")
    (photos / "deep/b.txt").write_text(" \n")
    (photos / "bad.png").write_bytes(b"no picture")
    result = run(photos, "--model", blip)
    assert result.exit_code == 1 and "bad.png" in result.output
    assert "2 captions written" in result.output and "1 were finished before" in result.output
    assert (photos / "a.txt").read_text() == "written by hand"
    assert (photos / "deep/b.txt").read_text().strip() and (photos / "deep/c.txt").is_file()
    assert not (photos / "bad.txt").exists()
    (photos / "bad.png").unlink()
    assert run(photos, "--model", blip, "--overwrite").exit_code == 0
    assert (photos / "a.txt").read_text() != "written by hand"


def test_finished_captions_need_no_model(photos, tmp_path):
    for name in ("a", "deep/b", "deep/c"):
        (photos / f"{name}.txt").write_text("there")
    (tmp_path / "empty").mkdir()
    assert run(photos, "--model", tmp_path / "empty").exit_code == 0


def test_of_pairs_the_good_pictures_get_captions_and_the_trainer_reads_them(blip, photos, tmp_path):
    for i in range(3):
        for side in ("gt", "blur"):
            path = tmp_path / "set" / f"scene{i}" / side / f"{side}_1.png"
            path.parent.mkdir(parents=True)
            shutil.copy(photos / "a.png", path)
    result = run(tmp_path / "set", "--model", blip)
    assert result.exit_code == 0 and "3 pairs by the rule realblur-j" in result.output
    written = sorted(p.parent.name for p in (tmp_path / "set").rglob("*.txt"))
    assert written == ["gt", "gt", "gt"]
    data = {"source": "pairs", "folders": [tmp_path / "set"], "size": 32, "workers": 0,
            "captions": True}  # fmt: skip
    config = TrainConfig(output="x", budget={"max_steps": 1}, batch_size=2, data=data,
                         optimizers={"main": {}})  # fmt: skip
    (batch,) = next(Batches(config, torch.device("cpu")).train(first_step=0))
    assert batch["caption"] == [by_hand(blip, photos / "a.png")] * 2
    assert run(tmp_path / "set", "--model", blip, "--rule", "none").exit_code == 0
    assert len(list((tmp_path / "set").rglob("*.txt"))) == 6


def test_an_older_folder_holds_a_pickle_and_positions(blip, photos, tmp_path):
    from safetensors.torch import load_file

    copy = tmp_path / "model"
    shutil.copytree(blip, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = load_file(blip / "model.safetensors")
    positions = torch.arange(64)[None]
    torch.save(tensors | {"text_decoder.bert.embeddings.position_ids": positions},
               copy / "pytorch_model.bin")  # fmt: skip
    picture = Image.open(photos / "a.png")
    assert Captioner(copy)(picture) == by_hand(blip, photos / "a.png")


def refused(folder, *, match):
    with pytest.raises(Exception, match=match):
        Captioner(folder)


def test_what_is_no_blip_model_is_refused_in_a_sentence(blip, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(blip, copy)
    config = json.loads((copy / "config.json").read_text())

    def says(**changes):
        (copy / "config.json").write_text(json.dumps(config | changes))

    says(model_type="clip")
    refused(copy, match=r"model of type clip .*BLIP model that writes captions was expected")
    says(architectures=["BlipForQuestionAnswering"])
    refused(copy, match="BlipForQuestionAnswering")
    says(vision_config={"hidden_size": 10**9})
    refused(copy, match="hidden_size")
    says()
    (copy / "preprocessor_config.json").write_text('{"image_std": [0, 1, 1]}')
    refused(copy, match="three numbers each")
    (copy / "preprocessor_config.json").unlink()
    (copy / "vocab.txt").unlink()
    (copy / "tokenizer.json").unlink()
    refused(copy, match=r"no vocabulary in .*vocab\.txt was expected")
    (copy / "model.safetensors").unlink()
    refused(copy, match=r"no weights in .*model\.safetensors was expected")
    (copy / "config.json").unlink()
    refused(copy, match=r"no config\.json in")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_in_it_is_refused(blip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(blip, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"a": Evil()}, copy / "pytorch_model.bin")
    refused(copy, match="pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


def test_weights_of_part_of_a_model_are_refused(blip, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "model"
    shutil.copytree(blip, copy)
    tensors = load_file(copy / "model.safetensors")
    lost = next(k for k in tensors if k.startswith("vision_model.encoder"))
    save_file({k: v for k, v in tensors.items() if k != lost}, copy / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    refused(copy, match=f"not those of a whole BLIP model.*{lost}")


def test_without_transformers_a_sentence_names_the_extra(photos, blip, monkeypatch):
    _captioner.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers.models.blip.modeling_blip", None)
    result = run(photos, "--model", blip)
    assert result.exit_code == 1 and "facewright[captions]" in result.output
    assert not list(photos.rglob("*.txt"))
