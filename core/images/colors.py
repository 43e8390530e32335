"""Colours that are not RGB, made RGB."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsProfile


def cmyk_to_rgb(image: "Image", icc: bytes | None, conversions: list[str]) -> "Image":
    """Through its own profile into sRGB, or by the plain formula where that does not work."""
    from PIL import ImageCms

    conversions.append("CMYK was converted to RGB")
    if icc:
        try:
            return _to_srgb(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            conversions.append(
                "its color profile is damaged or one of other pictures and was left out"
            )
    return image.convert("RGB")


def lab_to_rgb(image: "Image", conversions: list[str]) -> "Image":
    """CIE L*a*b* into sRGB."""
    from PIL import ImageCms

    conversions.append("CIE Lab was converted to RGB")
    return _to_srgb(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def _to_srgb(image: "Image", profile: "ImageCmsProfile") -> "Image":
    from PIL import ImageCms

    change = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    return change.apply(image)
