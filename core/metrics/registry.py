"""Every score by name, with its conventions, what it needs and what it reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..errors import FacewrightError, listed, not_finite
from ..geometry.landmarks import affine_landmark_distance, landmark_distance, region_points
from .color_difference import ms_swd
from .distribution import frechet_distance
from .identity import first_in_rank, identity_cosine, identity_degrees, identity_rank
from .optional import (
    BASICSR_LICENCE,
    INCEPTION_LICENCE,
    IQA_LICENCE,
    LPIPS_LICENCE,
    basicsr_missing,
    inception_features,
    inception_missing,
    iqa_missing,
    iqa_score,
    lpips_distance,
    lpips_missing,
)
from .similarity import edge_ratio, psnr, ssim


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score: call it with a batch, get one number per picture."""

    name: str
    """The key in `METRICS`; in tables and on the command line."""
    label: str
    """For people."""
    better: Literal["higher", "lower", "one"]
    """"one": the closer to 1 the better."""
    summary: str
    """Its conventions in one sentence."""
    compute: Callable[..., Tensor]
    """The function itself, without the checks of `__call__`."""
    unit: str = ""
    needs: Literal["gt", "nothing", "set"] = "gt"
    """What a picture is compared with: its original, or a whole reference set."""
    reads: Literal["pixels", "landmarks", "embeddings", "gallery", "set"] = "pixels"
    """"gallery": embeddings of the restored pictures and of all originals, which share a value per
    picture; "set": features of all pictures, which share one value."""
    smallest: int = 1
    """Shortest side of a picture it can score."""
    package: str | None = None
    """What to `pip install`; None for our own."""
    extra: str | None = None
    """The extra of this package that brings it."""
    licence: str | None = None
    """Terms of `package` or of weights that have to be put there; None for our own."""
    missing: Callable[[], str | None] = lambda: None
    """None if it can be used; else a sentence on what to install and under which licence.

    Cheap: looks for packages and files and imports nothing.
    """
    extract: Callable[[Tensor], Tensor] | None = None
    """For FID: pictures (n, 3, h, w) -> the features (n, d) that it reads, same refusals."""
    convention: str = ""
    """Where it reads sets: which features, as files of statistics name them."""

    def __call__(self, restored: Tensor, gt: Tensor | None = None) -> Tensor:
        """Score a batch.

        Args:
            restored: by `reads`: (n, 3, h, w) in [0, 1], (n, k, 2) landmarks in pixels, (n, d)
                embeddings (for "gallery", too, where row i of `gt` belongs to row i), or for "set"
                the features (n, d) of all pictures.
            gt: the same for the truth, of the same shape (for "set" any number of rows). Not read
                where `needs` is "nothing".

        Returns:
            (n,) float64 on the CPU, for "set" a scalar.

        Raises:
            FacewrightError: it is not available, `gt` is missing, shapes do not fit, pictures are
                too small, or values are NaN, infinite or outside [0, 1] (their indices are named).
        """
        reason = self.missing()
        if reason:
            raise FacewrightError(reason)
        inputs = {"restored": restored}
        if self.needs != "nothing":
            if gt is None:
                raise FacewrightError(
                    f"{self.label} compares with the truth; pass `gt` or choose a score without "
                    "reference."
                )
            inputs["gt"] = gt = gt.to(restored.device)
        for name, x in inputs.items():
            self._check(name, x)
        truth = inputs.get("gt", restored)
        if self.reads != "set" and restored.shape != truth.shape:
            raise FacewrightError(
                f"{self.label} compares two batches of one shape: `restored` is "
                f"{tuple(restored.shape)}, `gt` is {tuple(truth.shape)}."
            )
        if self.reads != "set" and not len(restored):
            return torch.zeros(0, dtype=torch.float64)
        # TF32 would leave three digits.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.compute(*inputs.values()).cpu().double()

    def _check(self, name: str, x: Tensor) -> None:
        if self.reads == "pixels":
            _check_pixels(self.label, name, x, self.smallest)
            return
        wanted = "(n, k, 2) landmarks in pixels" if self.reads == "landmarks" else "(n, d)"
        shape_ok = x.ndim == 3 and x.shape[2] == 2 if self.reads == "landmarks" else x.ndim == 2
        if not shape_ok or not x.is_floating_point():
            raise FacewrightError(
                f"{self.label} reads `{name}` as floating point {wanted}, got {tuple(x.shape)} "
                f"{x.dtype}."
            )
        _check_finite(self.label, name, x)


def _check_pixels(label: str, name: str, x: Tensor, smallest: int) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        hint = ""
        if x.ndim == 4 and x.shape[-1] == 3:
            hint = " It looks like a ComfyUI IMAGE (n, h, w, 3); move the channels first."
        elif x.ndim == 4 and x.shape[1] == 1:
            hint = " Repeat the grey channel three times."
        elif x.ndim == 4 and x.shape[1] == 4:
            hint = " Lay the picture over a background, or leave alpha out."
        elif not x.is_floating_point():
            hint = " Convert to floating point and divide by 255."
        raise FacewrightError(
            f"{label} reads `{name}` as floating point (n, 3, h, w) in [0, 1], got "
            f"{tuple(x.shape)} {x.dtype}.{hint}"
        )
    if min(x.shape[-2:]) < smallest:
        raise FacewrightError(
            f"{label} needs pictures of at least {smallest} x {smallest} pixels, got "
            f"{x.shape[-2]} x {x.shape[-1]}; enlarge both or choose another score."
        )
    _check_finite(label, name, x)
    # A thousandth is rounding; more means another range or a restorer that was not clamped.
    outside = ((x < -1e-3) | (x > 1 + 1e-3)).flatten(1).any(1).nonzero().flatten().tolist()
    if outside:
        raise FacewrightError(
            f"{label} reads `{name}` in [0, 1], but pictures {listed(outside)} go outside; clamp "
            "them, or divide by 255."
        )


def _check_finite(label: str, name: str, x: Tensor) -> None:
    bad = not_finite(x)
    if bad:
        raise FacewrightError(
            f"{label} cannot score NaN or infinity: `{name}` has them at index {listed(bad)}; "
            "look at what made these pictures."
        )


def _affine(restored: Tensor, gt: Tensor, region: str | None = None) -> Tensor:
    if region is not None:
        points = region_points(restored.shape[1], region)
        restored, gt = restored[:, points], gt[:, points]
    return affine_landmark_distance(restored, gt)


def _inception(pictures: Tensor) -> Tensor:
    _check_pixels("FID", "pictures", pictures, 1)
    return inception_features(pictures)


def _basicsr(pictures: Tensor) -> Tensor:
    _check_pixels("FID (BasicSR)", "pictures", pictures, 1)
    from .inception import basicsr_features

    return basicsr_features(pictures)


def _to_set(of: Metric) -> Metric:
    """The same distance to a reference set instead of the originals."""
    return replace(
        of,
        name=f"{of.name}_set",
        label=f"{of.label} to set",
        needs="set",
        summary=f"As {of.label}, to the reference set instead of the originals: pictures need no "
        "partner in it. Compare only numbers to the same set.",
    )


def _iqa(
    name: str,
    label: str,
    iqa_name: str | None = None,
    *,
    better: Literal["higher", "lower"],
    needs: Literal["gt", "nothing"] = "gt",
    smallest: int,
    summary: str,
) -> Metric:
    iqa_name = iqa_name or name
    return Metric(
        name=name,
        label=label,
        compute=partial(iqa_score, iqa_name),
        missing=partial(iqa_missing, iqa_name),
        package="pyiqa",
        extra="metrics-nc",
        licence=IQA_LICENCE,
        better=better,
        needs=needs,
        smallest=smallest,
        summary=summary,
    )


def _lpips(name: str, label: str, net: str, backbone: str, smallest: int) -> Metric:
    return Metric(
        name=name,
        label=label,
        better="lower",
        summary=f"Learned perceptual distance v0.1 on {backbone} (arXiv:1801.03924); 0 is equal.",
        compute=partial(lpips_distance, net=net),
        missing=partial(lpips_missing, net),
        smallest=smallest,
        package="lpips",
        extra="metrics",
        licence=LPIPS_LICENCE,
    )


_ALD = (
    "root of the summed squares that no affine map of the restored landmarks explains "
    "(HonestFace, Eq. 14), in pixels of the truth; not symmetric, blind to shear"
)

_FID = (
    Metric(
        name="fid", label="FID", better="lower", reads="set",
        summary="Fréchet distance of Inception features, resized as clean-fid does; compare only "
        "sets of equal size.",
        compute=frechet_distance, extract=_inception, missing=inception_missing,
        licence=INCEPTION_LICENCE, convention="clean-fid",
    ),
    Metric(
        name="fid_basicsr", label="FID (BasicSR)", better="lower", reads="set",
        summary="Fréchet distance of Inception features as the scripts of BasicSR, GFPGAN and VQFR "
        "take them: resized bilinearly without antialiasing; compare only sets of equal size.",
        compute=frechet_distance, extract=_basicsr, missing=basicsr_missing,
        licence=BASICSR_LICENCE, convention="basicsr",
    ),
)  # fmt: skip
_FRECHET = Metric(
    name="frechet", label="Fréchet distance", better="lower", reads="set",
    summary="Of Gaussians fitted to any features, unbiased covariances; compare only sets of "
    "equal size.",
    compute=frechet_distance, convention="nano",
)  # fmt: skip

_ALL = (
    Metric(
        name="psnr", label="PSNR", unit="dB", better="higher",
        summary="Peak 1, all three RGB channels, no border cropped; infinite for equal pictures.",
        compute=psnr,
    ),
    Metric(
        name="psnr_y", label="PSNR (Y)", unit="dB", better="higher",
        summary="Peak 1, full-range BT.601 luma (pyiqa's psnry), no border cropped.",
        compute=partial(psnr, channels="y"),
    ),
    Metric(
        name="ssim", label="SSIM", better="higher", smallest=11,
        summary="RGB mean, 11x11 Gaussian window of sigma 1.5, inner pixels only, full size.",
        compute=ssim,
    ),
    Metric(
        name="ssim_y", label="SSIM (Y)", better="higher", smallest=11,
        summary="As SSIM on full-range BT.601 luma (pyiqa's ssim without its rounding of Y).",
        compute=partial(ssim, channels="y"),
    ),
    Metric(
        name="psnr_y_studio", label="PSNR (Y, studio)", unit="dB", better="higher",
        summary="Peak 255, BT.601 luma in studio range (16 to 235) as BasicSR's test_y_channel, no "
        "border cropped; 1.32 dB above PSNR (Y).",
        compute=partial(psnr, channels="y_studio"),
    ),
    Metric(
        name="ssim_y_studio", label="SSIM (Y, studio)", better="higher", smallest=11,
        summary="As SSIM on BT.601 luma in studio range (16 to 235, peak 255) as BasicSR's "
        "test_y_channel, no border cropped.",
        compute=partial(ssim, channels="y_studio"),
    ),
    Metric(
        name="edges", label="Edge ratio", better="one",
        summary="Mean Sobel gradient relative to the truth: 1 is ideal, below is soft, above is "
        "noise or oversharpening.",
        compute=edge_ratio,
    ),
    Metric(
        name="msswd", label="MS-SWD", better="lower", smallest=11,
        summary="Multiscale sliced Wasserstein colour difference (arXiv:2407.10181), fixed random "
        "filters, CIELAB, shorter side reduced to 256; 0 is equal.",
        compute=ms_swd,
    ),
    _lpips("lpips", "LPIPS", "alex", "AlexNet", 31),
    _lpips("lpips_vgg", "LPIPS (VGG)", "vgg", "VGG-16", 16),
    _iqa(
        "dists", "DISTS", better="lower", smallest=32,
        summary="Structure and texture distance on VGG-16 (arXiv:2004.07728), by pyiqa.",
    ),
    _iqa(
        "musiq", "MUSIQ", better="higher", needs="nothing", smallest=32,
        summary="No reference; trained on KonIQ-10k (arXiv:2108.05997), 0 to 100, by pyiqa.",
    ),
    _iqa(
        "maniqa", "MANIQA", better="higher", needs="nothing", smallest=224,
        summary="No reference; trained on KonIQ-10k (arXiv:2204.08958), 0 to 1, by pyiqa.",
    ),
    _iqa(
        "maniqa_pipal", "MANIQA (PIPAL)", "maniqa-pipal", better="higher", needs="nothing",
        smallest=224,
        summary="No reference; trained on PIPAL (arXiv:2204.08958), 0 to 1, by pyiqa: the one of "
        "many papers on super-resolution.",
    ),
    _iqa(
        "clipiqa", "CLIP-IQA", better="higher", needs="nothing", smallest=32,
        summary="No reference; CLIP RN50 with pyiqa's prompts (arXiv:2207.12396), 0 to 1.",
    ),
    _iqa(
        "niqe", "NIQE", better="lower", needs="nothing", smallest=192,
        summary="No reference; natural scene statistics of luma in blocks of 96, by pyiqa.",
    ),
    _iqa(
        "msswd_learned", "MS-SWD (learned)", "msswd", better="lower", smallest=11,
        summary="The authors' learned filters (arXiv:2407.10181), by pyiqa.",
    ),
    *_FID,
    *map(_to_set, _FID),
    Metric(
        name="ald", label="A-LD", unit="px", better="lower", reads="landmarks",
        summary=f"All points: {_ALD}.", compute=_affine,
    ),
    Metric(
        name="ald_eyes", label="A-LD eyes", unit="px", better="lower", reads="landmarks",
        summary=f"Eyes and brows (68 or 98 points): {_ALD}.",
        compute=partial(_affine, region="eyes"),
    ),
    Metric(
        name="ald_mouth", label="A-LD mouth", unit="px", better="lower", reads="landmarks",
        summary=f"Both lip contours (68 or 98 points): {_ALD}.",
        compute=partial(_affine, region="mouth"),
    ),
    Metric(
        name="ald_lips", label="A-LD outer lips", unit="px", better="lower", reads="landmarks",
        summary=f"The outer lip contour, 12 points (68 or 98 points): {_ALD}.",
        compute=partial(_affine, region="outer_mouth"),
    ),
    Metric(
        name="lmd", label="LMD", unit="px", better="lower", reads="landmarks",
        summary="Mean distance of landmarks (L2-LD), not normalised by the distance of the eyes.",
        compute=landmark_distance,
    ),
    Metric(
        name="deg", label="Deg.", unit="°", better="lower", reads="embeddings",
        summary="Angle between face embeddings, every pair counted; comparable only for one "
        "recogniser fed in one way.",
        compute=identity_degrees,
    ),
    Metric(
        name="cosine", label="Cosine", better="higher", reads="embeddings",
        summary="Cosine of face embeddings, 1 the same, 0 unrelated; comparable only for one "
        "recogniser fed in one way.",
        compute=identity_cosine,
    ),
    Metric(
        name="rank", label="Rank", better="lower", reads="gallery",
        summary="Place of a picture's own original among all originals by the cosine of face "
        "embeddings: 1 where none is nearer. It grows with the number of originals.",
        compute=identity_rank,
    ),
    Metric(
        name="rank1", label="Rank-1", better="higher", reads="gallery",
        summary="1 where no other original is nearer to a picture than its own, else 0; the mean "
        "is the rate of identification. It falls with the number of originals.",
        compute=first_in_rank,
    ),
    _FRECHET,
    _to_set(_FRECHET),
)  # fmt: skip

METRICS = {m.name: m for m in _ALL}
"""All metrics in the order they are shown."""


def scoring_pictures() -> list[str]:
    """Names of those that score single pictures, in the same order."""
    return [name for name, one in METRICS.items() if one.reads in ("pixels", "landmarks")]


def metric(name: str) -> Metric:
    """A metric by name.

    Raises:
        FacewrightError: there is none of that name.
    """
    if name not in METRICS:
        raise FacewrightError(f"No metric '{name}'; known: {', '.join(METRICS)}.")
    return METRICS[name]
