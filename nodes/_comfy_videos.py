"""ComfyUI's VIDEO, which is read and written frame by frame."""

import uuid
from fractions import Fraction
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

if TYPE_CHECKING:
    from ..core.video.clip import Clip


class ComfyVideos:
    """The part of `ComfyHost` that knows videos."""

    def video_source(self, video: Any) -> "str | BytesIO | Clip":
        from comfy_api.input_impl import VideoFromFile

        from ..core.video.clip import Clip

        # Newer versions cut without writing a file; their stream source is the whole one.
        cut = any(
            getattr(video, f"_VideoFromFile__{what}", 0) for what in ("start_time", "duration")
        )
        if isinstance(video, VideoFromFile) and not cut:
            return video.get_stream_source()
        exact = "crf" in signature(video.save_to).parameters
        if cut and exact and not any(side % 2 for side in video.get_dimensions()):
            # Frame by frame; without `crf` as lossy as any new file.
            path = self.new_video_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            video.save_to(str(path), crf=0)
            return str(path)
        # What is in memory stays there: a codec would cost quality.
        parts = video.get_components()
        return Clip(
            frames=parts.images[..., :3].movedim(-1, 1),
            rate=Fraction(parts.frame_rate),
            sound=parts.audio and (parts.audio["waveform"][0], int(parts.audio["sample_rate"])),
            depth=getattr(video, "get_bit_depth", lambda: 8)(),
            alpha=parts.images.shape[-1] > 3 or getattr(parts, "alpha", None) is not None,
        )

    def new_video_path(self) -> Path:
        return Path(folder_paths.get_temp_directory()) / f"facewright_{uuid.uuid4().hex}.mp4"

    def video(self, path: Path) -> Any:
        from comfy_api.input_impl import VideoFromFile

        return VideoFromFile(str(path))
