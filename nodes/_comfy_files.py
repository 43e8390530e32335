"""Files in ComfyUI's model folders: where they are looked for, and who else may add to them."""

import os
from pathlib import Path

import folder_paths

from ..core.errors import CheckpointError, call_folders, shorten
from ..core.files.confined import is_plain
from ..core.files.search import named_roots
from ..core.people.person import SUFFIX as PERSON_FILE
from ..core.weights.known_files import known_file
from ..core.weights.model_folders import ANALYZER_FOLDERS, check_name, either_separator

_WEIGHT_FILES = {".safetensors", ".ckpt", ".pth"}

# Users' extra_model_paths.yaml may already have a folder of this name: added to, never replaced.
folder_paths.add_model_folder_path(
    "facewright", str(Path(folder_paths.models_dir) / "facewright"), is_default=True
)
folder_paths.folder_names_and_paths["facewright"][1].update({*_WEIGHT_FILES, PERSON_FILE})

# People show their screens and send what an error says to others.
call_folders(
    {
        os.path.expanduser("~"): "~",
        folder_paths.base_path: "",
        folder_paths.models_dir: "models",
    }
)


def model_folders(folder: str) -> list[Path]:
    """Every folder that ComfyUI searches for the files of `folder`, first match first."""
    if folder in folder_paths.folder_names_and_paths:
        return [Path(path) for path in folder_paths.get_folder_paths(folder)]
    return [Path(folder_paths.models_dir) / folder]


class ComfyFiles:
    """The part of `nodes._host.Host` that is about files."""

    def model_files(self, folder: str) -> list[str]:
        names = folder_paths.get_filename_list(folder)
        return sorted(name for name in names if not name.endswith(PERSON_FILE))

    def search_roots(self) -> list[Path]:
        folders = (path for folder in ANALYZER_FOLDERS for path in model_folders(folder))
        return [*named_roots(), Path(folder_paths.models_dir), *folders]

    def person_files(self) -> list[str]:
        names = folder_paths.get_filename_list("facewright")
        return sorted(name for name in names if name.endswith(PERSON_FILE))

    def people_folder(self) -> Path:
        return Path(folder_paths.get_folder_paths("facewright")[0]) / "people"

    def model_path(self, folder: str, name: str) -> Path:
        check_name(name)
        # Whatever a version of folder_paths makes of names that lead out of the folder.
        for spelled in either_separator(name) if is_plain(name) else ():
            path = folder_paths.get_full_path(folder, spelled)
            if path is not None:
                return Path(path)
        where = " or ".join(folder_paths.get_folder_paths(folder))
        known = known_file(name)
        source = f" Source: {known.source}. Licence: {known.licence}." if known else ""
        raise CheckpointError(
            f"{shorten(name)} is missing. Put it into {where}, then press R.{source}"
        )
