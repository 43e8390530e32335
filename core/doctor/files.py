"""Weight files that nodes name: whether they are here, and what is said of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ..checkpoint import Identity, identify, read_metadata
from ..errors import CheckpointError, shorten
from ..files.confined import is_plain
from ..files.known import IMAGE_MODELS, SUFFIXES, KnownFile
from ..node_api import called
from ..weights.known_files import known_file
from ..weights.listing import is_hint
from ..weights.model_folders import either_separator, is_there
from .nodes import Download, Node
from .surroundings import Surroundings
from .weights import UNREADABLE, find_all

FILES = {
    "AudioEncoderLoader": {"audio_encoder_name": "audio_encoders"},
    "CheckpointLoaderSimple": {"ckpt_name": "checkpoints"},
    "CLIPLoader": {"clip_name": "text_encoders"},
    "CLIPVisionLoader": {"clip_name": "clip_vision"},
    "ControlNetLoader": {"control_net_name": "controlnet"},
    "DiffControlNetLoader": {"control_net_name": "controlnet"},
    "DualCLIPLoader": {"clip_name1": "text_encoders", "clip_name2": "text_encoders"},
    "GLIGENLoader": {"gligen_name": "gligen"},
    "HypernetworkLoader": {"hypernetwork_name": "hypernetworks"},
    "ImageOnlyCheckpointLoader": {"ckpt_name": "checkpoints"},
    "LatentUpscaleModelLoader": {"model_name": "latent_upscale_models"},
    "LoraLoader": {"lora_name": "loras"},
    "LoraLoaderModelOnly": {"lora_name": "loras"},
    "ModelPatchLoader": {"name": "model_patches"},
    "PhotoMakerLoader": {"photomaker_model_name": "photomaker"},
    "QuadrupleCLIPLoader": {f"clip_name{i}": "text_encoders" for i in (1, 2, 3, 4)},
    "StyleModelLoader": {"style_model_name": "style_models"},
    "TripleCLIPLoader": {f"clip_name{i}": "text_encoders" for i in (1, 2, 3)},
    "UNETLoader": {"unet_name": "diffusion_models"},
    "UpscaleModelLoader": {"model_name": "upscale_models"},
    "VAELoader": {"vae_name": "vae"},
    "unCLIPCheckpointLoader": {"ckpt_name": "checkpoints"},
}
"""Inputs of ComfyUI's nodes that name weight files, their first widgets; of ours see
`Surroundings.files`. Files that other nodes name are told by their suffix."""
_ALSO = {"text_encoders": "clip", "diffusion_models": "unet", "controlnet": "t2i_adapter"}
"""Folders that ComfyUI looks into as well."""
_BUILT_IN_VAES = {"taesd", "taesdxl", "taesd3", "taef1", "pixel_space"}
_SUFFIXES = (*SUFFIXES, ".gguf", ".onnx", ".sft")


@dataclass(frozen=True)
class Named:
    """A weight file that a node names."""

    node: Node
    input: str
    """"" where the file does not tell."""
    name: str
    folder: str | None


@dataclass
class Files:
    """Looks for the weight files of one workflow."""

    around: Surroundings
    downloads: Mapping[str, Download]
    base: bool
    """Whether the one checkpoint of the workflow has to be SD 2.1-base."""
    _seen: set[tuple[str, str | None]] = field(default_factory=set)

    def named(self, node: Node) -> Iterator[Named]:
        """What a node names, each file once."""
        inputs = FILES.get(node.kind) or self.around.files(node.kind)
        seen = set()
        for position, (name, folder) in enumerate(inputs.items()):
            value = node.value(name, position)
            if isinstance(value, str) and value != "none" and value not in _BUILT_IN_VAES:
                seen.add(value)
                yield Named(node, name, value, folder)
        for name, value in node.all_values():
            if isinstance(value, str) and is_weight_file(value) and value not in seen:
                seen.add(value)
                yield Named(node, name, value, self.folder_of(value))

    def folder_of(self, name: str) -> str | None:
        """The models folder of a file, by what the workflow says of it and by what is known."""
        said, known = self.downloads.get(name), known_file(name)
        if said is not None and is_plain(said.folder):
            return said.folder
        return known.folder if known else None

    def look(self, file: Named) -> dict[str, Any]:
        """Where it is, or a sentence on what is lacking; ready for JSON."""
        places = self._places(file.folder)
        # A workflow may name files of the models folders; others are not even looked at.
        spellings = either_separator(file.name) if is_plain(file.name) else ()
        paths = [p / spelled for spelled in spellings for p in places]
        path = next(filter(is_there, paths), None)
        if path is None and file.folder is None and spellings:
            path = self._anywhere.get(PurePosixPath(spellings[-1]).name)
        entry = told(file, known_file(file.name), path and str(path), [str(p) for p in places])
        where = called(file.node.id, file.node.title)
        if path is None:
            return entry | {"problem": f"{where} {self._missing(file, places)}"}
        return entry | {"problem": self._problem(file, path, where)}

    def _places(self, folder: str | None) -> list[Path]:
        if folder is None:
            return self.around.everywhere()
        names = [folder]
        if not self.around.inside:  # which knows all this by itself
            # Face restorers are found where the embedded host looks, too.
            names = [*IMAGE_MODELS] if folder in IMAGE_MODELS else [folder, *_also(folder)]
        return [place for name in names for place in self.around.places(name)]

    @cached_property
    def _anywhere(self) -> dict[str, Path]:
        """Weight files of all models folders, by their bare names."""
        found: dict[str, Path] = {}
        for place in self.around.everywhere():
            for path in sorted(place.rglob("*")) if place.is_dir() else ():
                if path.suffix.lower() in _SUFFIXES:
                    found.setdefault(path.name, path)
        return found

    def _problem(self, file: Named, path: Path, where: str) -> str | None:
        """Why a file that is there cannot be used."""
        try:
            if self.base and file.node.kind == "CheckpointLoaderSimple":
                identify(path).check_base()
            elif path.suffix == ".safetensors" and file.folder:
                _check_kind(identify(path), file.folder)
            elif path.is_file() and path.suffix not in {*UNREADABLE, ".gguf", ".sft"}:
                read_metadata(path)
        except (CheckpointError, OSError) as error:
            return f"{where}: {error}"
        return None

    def _missing(self, file: Named, places: list[Path]) -> str:
        value, folder = file.name, file.folder
        if is_hint(value) or not value.strip():
            return f"has no file chosen: put one into {places[0]} and choose it."
        if not is_plain(value):
            return f"names {shorten(value)}, which is no file in models/{folder}: choose one there."
        if folder is None:
            text = f"needs {shorten(value)}, which is in none of the models folders: "
            text += "put it into the one that this node lists."
        else:
            text = f"needs {shorten(value)} in models/{folder}, which is not there: "
            text += f"put it into {places[0]}."
        return text + self.sources(value, places)

    def sources(self, name: str, places: list[Path]) -> str:
        """Sentences on where a file comes from, each with a space before it."""
        known, said = known_file(name), self.downloads.get(name)
        if known is None:
            return f" Source: {shorten(said.source, 200)}." if said and said.source else ""
        text = f" It is {known.what}. Source: {known.source}. Licence: {known.licence}."
        others = find_all(places, known.names)
        if others:
            text += f" There is {others[0]}: choose that in the node instead."
        return text


def is_weight_file(value: str) -> bool:
    """Whether a value of an unknown widget is the name of a weight file."""
    plain = len(value) < 256 and not set(value) & set('\n\r:<>|"')
    return plain and value.lower().endswith(_SUFFIXES)


def told(
    file: Named, known: KnownFile | None, path: str | None, searched: list[str]
) -> dict[str, Any]:
    """What the report says of a file, without its problem."""
    return file.node.entry(file.input) | {
        "name": file.name,
        "folder": file.folder,
        "searched": searched,
        "path": path,
        **{k: known and getattr(known, k) for k in ("what", "source", "licence", "commercial")},
    }


def _also(folder: str) -> list[str]:
    return [_ALSO[folder]] if folder in _ALSO else []


def _check_kind(found: Identity, folder: str) -> None:
    """Raise CheckpointError where a LoRA is asked for and this is something else, or vice versa."""
    if found.kind != "unknown" and (found.kind == "lora") != (folder == "loras"):
        wanted = "a LoRA" if folder == "loras" else f"a file of models/{folder}"
        raise found.unsuitable(f"{wanted} was expected. Choose another file in the node.")
