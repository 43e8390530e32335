"""`python bootstrap.py bench number_formats` in its tiny form."""

import pytest
from facewright.benchmarks import number_formats


@pytest.mark.slow
def test_every_part_is_compared_in_both_short_formats(monkeypatch, tmp_path):
    monkeypatch.setattr(number_formats, "RESULT", tmp_path / "kept.json")
    found = number_formats.main(["--tiny"])
    assert not number_formats.RESULT.exists()  # it measures nothing
    assert found["bundled"].keys() == {"nano", "nano-honestface", "nano-flipnet"}
    for rows in found["bundled"].values():
        assert 20 < rows["bf16"]["psnr_db_mean"] < rows["fp16"]["psnr_db_mean"] < 100
    for short in ("bf16", "fp16"):
        parts = found["true_width"][short]
        assert parts.pop("kept_its_format")
        assert parts.keys() == {"encode", "denoise", "decode", "whole"}
        assert all(20 < part["psnr_db"] < 100 for part in parts.values())
