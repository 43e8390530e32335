"""ComfyUI's VIDEO, which is read and written frame by frame."""

import uuid
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import folder_paths

from ..core.video.files import write_video


class ComfyVideos:
    """The part of `ComfyHost` that knows videos."""

    def video_source(self, video: Any) -> str | BytesIO:
        from comfy_api.input_impl import VideoFromFile

        # Newer versions cut without writing a file; their stream source is the whole one. Videos
        # made from frames have no stream source that works: it names no container.
        cut = any(
            getattr(video, f"_VideoFromFile__{what}", 0) for what in ("start_time", "duration")
        )
        if isinstance(video, VideoFromFile) and not cut:
            return video.get_stream_source()
        path = self.new_video_path()
        if cut and not any(side % 2 for side in video.get_dimensions()):
            path.parent.mkdir(parents=True, exist_ok=True)
            video.save_to(str(path))
            return str(path)
        # Not by `save_to`, which loses quality and fails on frames of odd width or height.
        parts = video.get_components()
        sound = parts.audio and (parts.audio["waveform"][0], int(parts.audio["sample_rate"]))
        images = parts.images[..., :3].movedim(-1, 1)
        write_video(path, images, Fraction(parts.frame_rate), crf=0, sound=sound)
        return str(path)

    def new_video_path(self) -> Path:
        return Path(folder_paths.get_temp_directory()) / f"facewright_{uuid.uuid4().hex}.mp4"

    def video(self, path: Path) -> Any:
        from comfy_api.input_impl import VideoFromFile

        return VideoFromFile(str(path))
