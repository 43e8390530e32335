"""Text that travels with a PNG: written beside the pixels, found by other readers, never half."""

import json

import pytest
import torch
from facewright.core.errors import FacewrightError
from facewright.core.images import Picture, read_picture, write_picture
from facewright.headless.host.saving import RunContext, context, save_pictures
from PIL import Image


@pytest.mark.parametrize("bits", [8, 16])
def test_text_travels_and_the_pixels_stay(tmp_path, bits):
    pixels = (torch.rand(3, 7, 5) * (2**bits - 1)).round() / (2**bits - 1)
    like = Picture(pixels, bits)
    receipts = json.dumps({"person": "Zoë \u738b"})
    write_picture(tmp_path / "a.png", pixels, like, text={"facewright_receipts": receipts})
    with Image.open(tmp_path / "a.png") as image:
        image.verify()  # checks every chunk's CRC
        assert json.loads(image.info["facewright_receipts"]) == {"person": "Zoë \u738b"}
    torch.testing.assert_close(read_picture(tmp_path / "a.png").pixels, pixels)
    write_picture(tmp_path / "plain.png", pixels, like)
    assert Image.open(tmp_path / "plain.png").info.get("facewright_receipts") is None


def test_other_formats_say_that_they_keep_no_text(tmp_path):
    pixels = torch.rand(3, 4, 4)
    with pytest.raises(FacewrightError, match=r"a\.jpg: only PNG keeps receipts"):
        write_picture(tmp_path / "a.jpg", pixels, Picture(pixels), text={"receipts": "{}"})
    assert not list(tmp_path.iterdir())


def test_numbered_pictures_carry_their_workflow_and_their_own_text(tmp_path):
    token = context.set(RunContext(output_dir=tmp_path, prompt={"1": {}}, workflow={"nodes": []}))
    try:
        save_pictures(torch.rand(1, 4, 4, 3), "sub/face")
        paths = save_pictures(torch.rand(2, 4, 4, 4), "sub/face", [{"a": "1"}, {"a": "2"}])
        with pytest.raises(FacewrightError, match="leaves the output folder"):
            save_pictures(torch.rand(1, 4, 4, 3), "../face")
    finally:
        context.reset(token)
    assert [p.name for p in paths] == ["face_00002_.png", "face_00003_.png"]
    for path, own in zip(paths, "12", strict=True):
        info = Image.open(path).info
        assert info == {"prompt": '{"1": {}}', "workflow": '{"nodes": []}', "a": own}
    assert len(list((tmp_path / "sub").iterdir())) == 3  # nothing temporary stays
