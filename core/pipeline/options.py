"""How to restore: options of `facewright restore`, Restore Video and Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import FacewrightError, shorten
from ..options import check_options, option, same_option

if TYPE_CHECKING:
    from torch import Tensor

    from ..people.person import Person

# Written down, as the modules that know them import torch, and --help does not.
_COLORS = ("none", "adain", "wavelet", "lab")
_ORDERS = ("left to right", "top to bottom", "size", "score")
ACTIONS = ("lower strength", "fall back", "report only")
_MODES = ("oval", "parsing")
_PARTS = (
    "skin", "brows", "eyes", "glasses", "nose", "mouth", "ears", "earrings", "hair", "hat", "neck",
    "necklace", "clothes",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Which pixels of a face's crop are restored; the others stay as they are."""

    mode: str = option(
        "oval",
        "oval: jaw and forehead by the landmarks, or the mean face where there are none; needs no "
        "weights, and what lies over the face within the oval is restored with it. parsing: what "
        "facexlib's ParseNet or BiSeNet recognizes as one of the parts, so that hands, microphones "
        "and glasses stay; needs its weights.",
        choices=_MODES,
    )
    parts: str = option(
        "skin, brows, eyes, nose, mouth, ears, hair, neck",
        "What parsing lets be restored, separated by commas. There are also glasses, earrings, "
        "hat, necklace and clothes. All else, such as a hand, is never restored.",
    )
    grow: float = option(
        0.0,
        "Moves the mask's border outwards, or inwards where negative: a share of the crop's side, "
        "of which the eyes are a quarter apart.",
        low=-0.2,
        high=0.2,
        step=0.005,
    )
    feather: float = option(
        0.03,
        "How far inwards from its border the mask rises from 0 to 1: a share of the crop's side.",
        low=0.0,
        high=0.3,
        step=0.005,
    )

    def __post_init__(self) -> None:
        check_options(self)
        _ = self.part_names  # raises where one is unknown

    @property
    def part_names(self) -> tuple[str, ...]:
        """`parts` one by one.

        Raises:
            FacewrightError: an unknown name.
        """
        names = [name.strip() for name in self.parts.split(",") if name.strip()]
        for name in names:
            if name not in _PARTS:
                raise FacewrightError(
                    f"A mask's `parts` are names separated by commas; {shorten(name)!r} is none of "
                    f"{', '.join(_PARTS)}."
                )
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How to restore pictures and the frames of videos.

    What is said of pictures holds for every frame, too, with two exceptions. `people` are
    assigned, and the guard's numbers are kept, for each face as it is followed over the frames;
    and where something is drawn (`seed`), a face gets the same numbers in each of its frames.
    """

    size: int | None = option(
        None, "Side of the face crops in pixels. By default that of the weights.", low=64, high=2048
    )
    strength: float = option(
        1.0,
        "0 keeps the original, 1 shows the restored face alone.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    color: str = option(
        "none",
        "How the restored face takes over the colours of the original, as in Paste Faces. wavelet "
        "follows the original from frame to frame.",
        choices=_COLORS,
    )
    feather: float = option(
        0.12, "Width of the soft border as a share of the crop.", low=0.01, high=0.5, step=0.01
    )
    order: str = option(
        "left to right",
        "How faces are numbered, from 0, separately in every picture.",
        choices=_ORDERS,
    )
    pick: str = option("", 'Numbers of the faces to take, such as "0" or "0, 2". Empty: all.')
    min_size: float = option(0.0, "Faces smaller than this many pixels are left alone.", low=0)
    min_score: float = option(
        0.0, "Faces the detector is less sure of are left alone.", low=0.0, high=1.0, step=0.01
    )
    max_faces: int = option(0, "Take at most this many faces of a picture. 0: no limit.", low=0)
    padding: float = option(
        0.0,
        "Extend the picture's border by this share before looking. Try 0.3 where a face fills the "
        "whole picture and is not found.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    seed: int | None = option(
        None, "Sample what is random with this seed. By default OSDFace takes the mean latent."
    )
    faces_at_once: int = option(
        4, "Faces restored together. Fewer need less memory; the result is the same.", low=1
    )
    method: Any = None
    """The method's own options (`RestorerSpec.options`); None: as they are by default."""
    people: "Sequence[Person]" = ()
    """Albums; a face is restored with that of the person it shows, or without."""
    person: "Person | None" = None
    """One album for all faces instead."""
    references: "Sequence[Tensor]" = ()
    """Photographs (3, h, w) in [0, 1] of one person, of whom `person` is made."""
    threshold: float | None = option(
        None,
        "Cosine from which a face is one of the people; 0 or none: what suits the recogniser.",
        low=0,
        high=1,
    )
    max_drift: float | None = option(
        None,
        "Hold back faces that drift farther from who they are: 1 - cosine to their photos, or to "
        "the input where there are none. 0: no change; 1: as far as a stranger.",
        low=0,
        high=2,
    )
    on_drift: str | None = option(
        None,
        "What becomes of them: lower strength (until they are within; the default), fall back (to "
        "the input) or report only.",
        choices=ACTIONS,
    )
    receipts: bool = option(False, "Measure what changed in each face.")
    smoothing: float = option(
        0.5,
        "How steady the crops are held. 0.5: trembling within 20 frames goes, slower movement "
        "stays; 1: within 40 frames. 0: as detected. Fast movements are followed at any value, and "
        "nothing lags behind.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    fill_gaps: int = option(
        3,
        "A face that was missed for at most this many frames between two where it was found is put "
        "in between, so that it does not flash. 0: never.",
        low=0,
    )
    fade: int = option(
        3,
        "Frames over which the restored face fades in and out where it appears or disappears "
        "within a scene. 0: at once.",
        low=0,
    )
    cut_threshold: float = option(
        0.1,
        "How different a frame has to be from the one before, and from its surroundings, to count "
        "as a cut, over which nothing is smoothed. Lower finds more cuts. 1: the frames are one "
        "scene.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    crf: int = option(
        16,
        "Quality of the H.264 file: 0 lossless, 16 hardly to be told from the source, 23 usual. "
        "Every frame is encoded again.",
        low=0,
        high=51,
    )
    upscale: str | None = option(
        None,
        "Also enlarge the whole picture with this upscaler: a file, or its name in upscale_models. "
        "Any that spandrel reads, such as ESRGAN, DAT or SwinIR; one of 1x cleans instead.",
    )
    upscale_by: float | None = option(
        None,
        "How many times as large the picture becomes; by default what the upscaler was made for. "
        "Another factor is resampled from that.",
        low=1,
        high=16,
    )
    upscale_tile: int | None = option(
        None,
        "Side of the tiles that the upscaler sees, in pixels of the picture. By default what takes "
        "about 2 GB. Smaller tiles need less memory and more time.",
        low=128,
        high=4096,
    )
    detail: float = option(
        0.0,
        "For faces larger than the crop, which come out softer: how much of the fine detail lost "
        "by shrinking is given back. Only where the restorer agreed with the input, not noise or "
        "damage. 0: none.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    mask: str = option(
        "none",
        "Keeps what lies over or beside a face. oval: only jaw to forehead is restored. parsing: "
        "only what a network recognizes as parts of a face, so that hands, microphones and "
        "glasses stay; needs facexlib's weights.",
        choices=("none", *_MODES),
    )
    mask_parts: str = same_option(MaskOptions, "parts")
    mask_grow: float = same_option(MaskOptions, "grow")
    mask_feather: float = same_option(MaskOptions, "feather")
    margin: float | None = option(
        None,
        "By how much the cosine of a face's album has to beat the next one; below it the report "
        "says who it may be, and neither is taken. 0: the best always is. By default what suits "
        "the recogniser.",
        low=0,
        high=1,
    )
    assign: tuple[str, ...] = option(
        (),
        "Whose face it is, by hand: its number and the name of an album, such as 2=Bo, or "
        "3=nobody. Numbers are those of the report, from 0.",
    )
    location: str = option(
        "keep",
        "Where it was taken, in the files that are written. keep: as the source says (EXIF of "
        "pictures, tags of videos). drop: left out, with all else that may tell: XMP, IPTC and "
        "makers' notes that do, and subtitles of drones. The place alone; other metadata stays.",
        choices=("keep", "drop"),
    )
    names: bool = option(
        False,
        "Write people's names into PNGs, with the receipts there. By default these say person 1, "
        "person 2; the receipts beside the results always name them.",
    )
    false_match_rate: float | None = option(
        None,
        "Share of strangers that may pass for a person, such as 0.001 for 0.1 %. From what is "
        "known of the recogniser it gives the limits of threshold and max_drift, and so holds "
        "faces back; these count where they are given, too.",
        low=0.000001,
        high=0.5,
    )
    aligned: bool = option(
        False,
        "Every picture is one aligned face (FFHQ's template, 512 px), as in the test sets of "
        "papers: no face is looked for, and the restored face takes the place of the whole "
        "picture, or of the square in its middle, without a soft border.",
    )

    def __post_init__(self) -> None:
        check_options(self)
        # The help of an option is no place for numbers of this size.
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise FacewrightError(
                f"`seed` should be from {-(2**63)} to {2**64 - 1}; came {shorten(self.seed)}."
            )
        if self.upscale is not None and not self.upscale.strip():
            raise FacewrightError(
                "`upscale` is empty; give the file of an upscaler or its name, or leave it out."
            )
        for name in ("upscale_by", "upscale_tile"):
            if getattr(self, name) is not None and self.upscale is None:
                raise FacewrightError(
                    f"`{name}` says how the whole picture is enlarged; give the upscaler, too, by "
                    "`upscale` (--upscale)."
                )
        given = [name for name in ("people", "person", "references") if _given(getattr(self, name))]
        if len(given) > 1:
            raise FacewrightError(
                f"Both `{given[0]}` and `{given[1]}` are given; whose photographs count? Give "
                "`people` where a picture shows several, `person` or `references` where all faces "
                "are one person's."
            )
        _ = self.masks  # raises where they cannot be meant
        object.__setattr__(self, "assign", tuple(self.assign))
        if self.assign:
            from ..people.by_hand import parse_told

            parse_told(self.assign)
        if self.people:
            from ..people.person import check_names

            check_names(list(self.people))

    @property
    def masks(self) -> MaskOptions | None:
        """How the faces are masked; None where they are not."""
        masked = self.mask != "none"
        how = MaskOptions(
            mode=self.mask if masked else _MODES[0],
            parts=self.mask_parts,
            grow=self.mask_grow,
            feather=self.mask_feather,
        )
        return how if masked else None

    @property
    def border(self) -> float:
        """Width of the soft border as a share of the crop, as `paste_faces` takes it."""
        return 0.0 if self.aligned else self.feather

    @property
    def measured(self) -> bool:
        """Whether faces are compared with who they were, which takes a recogniser."""
        return self.receipts or self.held_back

    @property
    def held_back(self) -> bool:
        """Whether faces that drift too far are held back."""
        return self.max_drift is not None or self.false_match_rate is not None

    @property
    def with_people(self) -> bool:
        """Whether photographs of people were given."""
        return bool(self.people) or self.person is not None or len(self.references) > 0


def _given(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)
