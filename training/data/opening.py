"""From a config's section `data:` to photographs."""

from pathlib import Path

from ..settings.data_sections import FolderData, PairsData, ShardsData, WorldData
from .files import look_for_captions
from .pairs import open_pairs
from .shards import open_shards
from .sources import Photos, WorldPhotos, open_folder
from .world import world_arrays, world_folder


def open_source(config: WorldData | FolderData | PairsData | ShardsData) -> tuple[Photos, Photos]:
    """Training and validation photographs; no person is in both.

    Raises:
        ConfigError: there are fewer than two people, none of the captions that were asked for,
            pairs that do not fit, or shards that cannot be used.
    """
    if isinstance(config, WorldData):
        train, held_out = world_arrays(config)
        made = world_folder(config).name
        return WorldPhotos(*train, f"{made}/train"), WorldPhotos(*held_out, f"{made}/held_out")
    if isinstance(config, PairsData):
        return open_pairs(config)
    if isinstance(config, ShardsData):
        return open_shards(config)
    train, held_out = open_folder(
        config.folder, config.size, config.held_out, config.identity, captions=config.captions
    )
    if config.captions:
        folders = [config.folder] if isinstance(config.folder, Path) else config.folder
        look_for_captions([*train.files, *held_out.files], folders, needed=True)
    return train, held_out
