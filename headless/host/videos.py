"""Videos in a run without ComfyUI: files, and the core nodes that load, make and save them."""

import functools
import itertools
import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from ...core.errors import FacewrightError, shorten
from ...core.files.writing import written_whole
from ...core.node_api import io
from ...core.video.clip import Clip
from ...core.video.files import write_video
from ..workflows.input_files import input_file
from .plain import PlainNode
from .saving import context, free_names


@dataclass(frozen=True)
class VideoFile:
    """VIDEO of the embedded host."""

    path: Path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="facewright_")  # goes when the process ends


_numbers = itertools.count()


def new_video_path() -> Path:
    """A place for a file that is kept while this process runs."""
    return Path(_folder().name) / f"{next(_numbers)}.mp4"


class HeadlessVideos:
    """The part of `HeadlessHost` that knows videos."""

    def video_source(self, video: VideoFile | Clip) -> Path | Clip:
        return video if isinstance(video, Clip) else video.path

    def new_video_path(self) -> Path:
        return new_video_path()

    def video(self, path: Path) -> VideoFile:
        return VideoFile(path)


class LoadVideo(PlainNode):
    """A video of the input folder, or one named by hand."""

    # A plain string: what may be chosen is any file, not a list.
    INPUTS = (io.String.Input("file"),)
    OUTPUTS = (io.Video.Output(),)

    @classmethod
    def execute(cls, file: str | Path) -> io.NodeOutput:
        run = context.get()
        path = input_file("LoadVideo", file, run.input_dir, run.named)
        if path is None:
            raise FacewrightError(f"There is no file {shorten(file)} in {run.input_dir}.")
        return io.NodeOutput(VideoFile(path))


class CreateVideo(PlainNode):
    """Frames as a video, without sound here; no file is made of them before Save Video."""

    INPUTS = (io.Image.Input("images"), io.Float.Input("fps", default=30.0))
    OUTPUTS = (io.Video.Output(),)

    @classmethod
    def execute(cls, images: Tensor, fps: float) -> io.NodeOutput:
        rate = Fraction(fps).limit_denominator(1001)
        return io.NodeOutput(Clip(images[..., :3].movedim(-1, 1), rate, alpha=images.shape[-1] > 3))


class SaveVideo(PlainNode):
    """`<prefix>_00001_.mp4`, numbered on: a copy of the file, or one made of the frames."""

    INPUTS = (
        io.Video.Input("video"),
        io.String.Input("filename_prefix", default="video/ComfyUI"),
        io.Combo.Input("format", options=["auto", "mp4"], default="auto"),
        io.Combo.Input("codec", options=["auto", "h264"], default="auto"),
    )
    IS_OUTPUT = True

    @classmethod
    def execute(
        cls, video: VideoFile | Clip, filename_prefix: str, format: str, codec: str
    ) -> io.NodeOutput:
        if isinstance(video, Clip):
            target = next(free_names(filename_prefix, ".mp4"))
            write_video(target, video.frames, video.rate)
            return io.NodeOutput(ui={"images": [target]})
        suffix = video.path.suffix
        if format == "mp4" and suffix.lower() != ".mp4":
            raise FacewrightError(
                f"Without ComfyUI Save Video copies files, and {video.path.name} is no mp4. Choose "
                "the format auto, or run this workflow with --server."
            )
        target = next(free_names(filename_prefix, suffix))
        with written_whole(target) as temporary:
            shutil.copyfile(video.path, temporary)
        return io.NodeOutput(ui={"images": [target]})


NODES = (LoadVideo, CreateVideo, SaveVideo)
