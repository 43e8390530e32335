"""The procedural world as arrays on disk, rendered once by several processes."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..settings.config import WorldData
from ..settings.strict import ConfigError

Split = tuple[np.ndarray, np.ndarray, np.ndarray]
"""images uint8 (n, 3, s, s), boxes float32 (n, 4), identities int64 (n,)."""

CHUNK = 64
"""Photos rendered by a process at a time."""
WORLD_VERSION = 3
"""Raised when the renderer draws other pixels for the same seeds, so that no cache is stale."""
MOST_PROCESSES = 61 if os.name == "nt" else 2**10
"""Windows waits for no more at a time, and Python's pool refuses to be larger there."""
SEEDS_PER_WORLD = 2**20
HELD_OUT_SEED = 2**40
"""Held-out people are drawn from seeds no training person uses."""


def world_arrays(config: WorldData) -> tuple[Split, Split]:
    """Training and held-out photographs, rendered on first use; deterministic in the config."""
    folder = world_folder(config)
    if not folder.exists():
        _render_all(config, folder)
    return _read(folder, "train"), _read(folder, "held_out")


def world_folder(config: WorldData) -> Path:
    """Where this world's arrays lie."""
    return config.cache / (
        f"{config.size}px-{config.identities}x{config.photos}"
        f"-held{config.held_out}-seed{config.seed}-v{WORLD_VERSION}-jitter{config.jitter:g}"
    )


def _read(folder: Path, split: str) -> Split:
    names = ("images", "boxes", "identities")
    # Mapped, not read: a data set larger than memory stays usable.
    try:
        images, boxes, identities = (
            np.load(folder / f"{split}_{name}.npy", mmap_mode="r") for name in names
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The rendered faces in {folder} are not whole ({error}). Delete that folder: they are "
            "rendered anew."
        ) from error
    return images, np.array(boxes), np.array(identities)


def _render_all(config: WorldData, folder: Path) -> None:
    """Render every photograph into a partial folder that takes its name only when complete."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    _remove_partial(folder)
    partial.mkdir(parents=True)
    workers = min(os.cpu_count() or 1, MOST_PROCESSES)
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _one_thread) as pool:
            for split, base, people in (
                ("train", config.seed * SEEDS_PER_WORLD, config.identities),
                ("held_out", HELD_OUT_SEED + config.seed * SEEDS_PER_WORLD, config.held_out),
            ):
                count = people * config.photos
                images = np.lib.format.open_memmap(
                    partial / f"{split}_images.npy", "w+", np.uint8,
                    (count, 3, config.size, config.size),
                )  # fmt: skip
                boxes = np.empty((count, 4), np.float32)
                starts = range(0, count, CHUNK)
                jobs = [
                    (base, config.photos, s, min(s + CHUNK, count), config.size, config.jitter)
                    for s in starts
                ]
                for start, (pixels, box) in zip(starts, pool.map(_render, jobs), strict=True):
                    images[start : start + len(pixels)] = pixels
                    boxes[start : start + len(pixels)] = box
                images.flush()
                del images
                np.save(partial / f"{split}_boxes.npy", boxes)
                np.save(
                    partial / f"{split}_identities.npy", base + np.arange(count) // config.photos
                )
        try:
            os.replace(partial, folder)
        except OSError:
            # Another run finished the same data first; its arrays are equal to these.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_partial(folder: Path) -> None:
    """Delete what runs that were killed while they rendered this world left beside it."""
    from psutil import pid_exists

    for left in folder.parent.glob(f"{folder.name}.*.partial"):
        process = left.name.removesuffix(".partial").rpartition(".")[2]
        # Another run may be rendering just now.
        if process.isdigit() and not pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _one_thread() -> None:
    import torch

    # Parallel by process; threads of several processes would fight for the same cores.
    torch.set_num_threads(1)


def _render(job: tuple[int, int, int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    from ..world.faces3d import photos

    base, per_person, start, stop, size, jitter = job
    people = [base + i // per_person for i in range(start, stop)]
    # The photo's number is part of its seed, so no two photos of a world share pose and light.
    shots = [base * per_person + i for i in range(start, stop)]
    faces = photos(people, shots, size, jitter=jitter)
    pixels = (faces.pixels * 255).round().byte().numpy()
    return pixels, face_boxes(faces.landmarks.numpy())


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """(n, 68, 2) landmarks -> (n, 4) boxes x0 y0 x1 y1, raised by a fifth to hold the forehead."""
    low, high = landmarks.min(1), landmarks.max(1)
    low[:, 1] -= 0.2 * (high[:, 1] - low[:, 1])
    return np.concatenate([low, high], 1).astype(np.float32)
