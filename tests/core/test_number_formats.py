"""Which number format a device gets, what may be asked for, and faces decoded once more."""

import pytest
import torch
import torch.nn.functional as F
from facewright.core import devices
from facewright.core.devices import asked_dtype, asked_format, computing_on
from facewright.core.errors import FacewrightError, NonFiniteError
from facewright.core.modules.fast import fast_dtype
from facewright.core.restorer import decode_finite

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capability", "hip", "expected"),
    [
        ((6, 1), None, "float32"),  # Pascal: 64 times slower in float16
        ((7, 0), None, "float16"),  # Volta
        ((7, 5), None, "float16"),  # Turing
        ((8, 0), None, "bfloat16"),  # Ampere
        ((9, 0), None, "bfloat16"),
        ((0, 0), "6.0", "bfloat16"),  # AMD's count otherwise
    ],
)
def test_each_gpu_gets_the_format_that_it_multiplies(monkeypatch, capability, hip, expected):
    asked = []
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability
    )
    assert fast_dtype(torch.device("cuda:1")) == getattr(torch, expected)
    assert asked == ([] if hip else [torch.device("cuda:1")])  # not the current one


def test_other_devices():
    assert fast_dtype(torch.device("mps")) == torch.float16
    assert fast_dtype(torch.device("xpu")) == fast_dtype(torch.device("meta")) == torch.float32


def test_what_is_asked_for_ends_with_the_block(monkeypatch):
    monkeypatch.delenv(devices.DTYPE_VARIABLE, raising=False)
    assert asked_dtype(CPU) is None
    monkeypatch.setenv(devices.DTYPE_VARIABLE, " BF16 ")
    assert asked_dtype(CPU) == torch.bfloat16
    with computing_on("cpu", "fp16"):
        assert asked_dtype(CPU) == torch.float16
        with computing_on("cpu", "auto"):  # comes before the environment
            assert asked_dtype(CPU) is None
    with computing_on("cpu"):
        assert asked_format() == "bf16"
    monkeypatch.setenv(devices.DTYPE_VARIABLE, "int8")
    with pytest.raises(FacewrightError, match=r"int8 is no number format\. Choose auto, fp32"):
        asked_dtype(CPU)


def test_a_format_that_a_device_lacks_is_refused_before_anything_is_loaded(monkeypatch):
    def conv2d(x, *rest):
        if x.dtype == torch.bfloat16:
            raise TypeError("BFloat16 is not supported on this device\nstack trace")
        return real(x, *rest)

    real = F.conv2d
    monkeypatch.setattr(F, "conv2d", conv2d)
    devices._refusal.cache_clear()
    try:
        with (
            computing_on(None, "bf16"),
            pytest.raises(
                FacewrightError,
                match=r"^cpu does not compute in bf16 with torch .* \(BFloat16 is not supported on "
                r"this device\)\. Choose another format, or auto",
            ),
        ):
            asked_dtype(CPU)
        with computing_on(None, "fp16"):
            assert asked_dtype(CPU) == torch.float16
    finally:
        devices._refusal.cache_clear()


class Decoder:
    """Twice the latent; in half precision infinite from 2 on, in both from 100 on."""

    factor = 1

    def __init__(self):
        self.calls = []

    def decode(self, z_0, *, full_precision=False):
        self.calls.append((z_0.flatten(1)[:, 0].tolist(), full_precision))
        limit = 100 if full_precision else 2
        return torch.where(z_0 < limit, 2 * z_0 + full_precision / 4, torch.inf)


def test_only_the_faces_that_overflow_are_decoded_again():
    decoder = Decoder()
    z = torch.tensor([0.0, 5.0, 1.0, 7.0]).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    pixels = decode_finite(z, decoder)
    assert decoder.calls == [([0.0, 5.0, 1.0, 7.0], False), ([5.0, 7.0], True)]
    assert pixels[:, 0, 0, 0].tolist() == [0.0, 10.25, 2.0, 14.25]


def test_a_broken_latent_is_not_decoded_again():
    decoder = Decoder()
    with pytest.raises(NonFiniteError, match="coming from the latent") as error:
        decode_finite(torch.tensor([0.0, torch.nan]).view(2, 1, 1, 1), decoder)
    assert len(decoder.calls) == 1 and "second decode" not in str(error.value)
    with pytest.raises(NonFiniteError, match=r"the VAE decoder, even after .*--dtype fp32"):
        decode_finite(torch.full((1, 1, 1, 1), 200.0), decoder)
