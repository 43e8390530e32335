"""Colours that are not RGB, made RGB."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def cmyk_to_rgb(image: "Image", icc: bytes | None, conversions: list[str]) -> "Image":
    """Through its own profile into sRGB, or by the plain formula where that does not work."""
    from PIL import ImageCms

    conversions.append("CMYK was converted to RGB")
    if icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            conversions.append(
                "its color profile is damaged or one of other pictures and was left out"
            )
    return image.convert("RGB")


def lab_to_rgb(image: "Image", conversions: list[str]) -> "Image":
    """CIE L*a*b* into sRGB."""
    from PIL import ImageCms

    conversions.append("CIE Lab was converted to RGB")
    profiles = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
