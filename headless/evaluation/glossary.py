"""What every metric tells, for people who do not compute it."""

_LEARNED = "judged by a network that was trained on what people say about pictures"
_ALONE = f"How good a picture looks by itself, {_LEARNED}; the original is not looked at."
_PERCEPTUAL = "How different two pictures look to people, as far as a trained network can tell."
_PIXELS = (
    "How close the pixels are to those of the original. 1 dB more means 11 % less deviation. Soft "
    "pictures are favoured: a guess in the middle is never far off."
)
_STRUCTURE = "How alike the local patterns of light and dark are; 1 is equal, 0 unrelated."
_SHAPE = (
    "after the best shift, rotation, stretch and shear: whether {} changed its form, not whether "
    "it moved or turned. It grows with the number of landmarks and their own error, "
    "and does not tell people apart."
)
_SETS = (
    "How different in kind the restored pictures are from the originals, as two crowds: not "
    "whether each picture is right, but whether together they look like the originals."
)
_REFERENCE = (
    "How different in kind the restored pictures are from those of the reference set, as two "
    "crowds: whether they look like such pictures, whoever is in them."
)

MEANING = {
    "psnr": _PIXELS,
    "psnr_y": f"{_PIXELS} Brightness alone, without colour.",
    "ssim": _STRUCTURE,
    "ssim_y": f"{_STRUCTURE} Brightness alone, without colour.",
    "psnr_y_studio": f"{_PIXELS} Brightness alone, in the range of video.",
    "ssim_y_studio": f"{_STRUCTURE} Brightness alone, in the range of video.",
    "edges": "How sharp a picture is compared with the original. Noise counts as sharpness too.",
    "msswd": "How different the colours are, wherever in the picture they lie.",
    "msswd_learned": "How different the colours are, wherever in the picture they lie.",
    "lpips": _PERCEPTUAL,
    "lpips_vgg": _PERCEPTUAL,
    "dists": f"{_PERCEPTUAL} Tolerates textures that are alike but not the same.",
    "musiq": _ALONE,
    "maniqa": _ALONE,
    "maniqa_pipal": _ALONE,
    "clipiqa": f"{_ALONE} Asked in words: a good or a bad photo.",
    "niqe": "How unnatural the picture's fine statistics are; the original is not looked at.",
    "ald": f"How far the face's landmarks are from the original's {_SHAPE.format('the face')}",
    "ald_eyes": f"How far eyes and brows are from the original's {_SHAPE.format('this part')}",
    "ald_mouth": f"How far the lips are from the original's {_SHAPE.format('the mouth')}",
    "ald_lips": f"How far the outer line of the lips is from the original's {_SHAPE.format('it')}",
    "lmd": "How far the face's landmarks lie from the original's on average.",
    "deg": "How different the person looks to a face recogniser: 0° is the same, 90° unrelated.",
    "cosine": "How alike the person looks to a face recogniser: 1 is the same, 0 unrelated.",
    "rank": "Whether a face recogniser still finds the right person among all originals: 1 where "
    "the picture's own original comes first.",
    "rank1": "In how many pictures a face recogniser still finds the right person among all "
    "originals.",
    "fid": _SETS,
    "fid_basicsr": _SETS,
    "fid_set": _REFERENCE,
    "fid_basicsr_set": _REFERENCE,
    "frechet": _SETS,
    "frechet_set": _REFERENCE,
}
"""Name of a metric -> what it tells, in words."""
