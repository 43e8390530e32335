"""From a config's section `data:` to photographs."""

from ..settings.data_sections import FolderData, PairsData, ShardsData, WorldData
from ..settings.strict import ConfigError
from .files import picture_folder
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
    files = [sample.file for sample in picture_folder(config.folder).samples]
    if config.captions and files and not any(f.with_suffix(".txt").is_file() for f in files):
        raise ConfigError(
            f"`captions` is true, and none of the {len(files)} pictures in {config.folder} has a "
            f"text file beside it: {files[0].with_suffix('.txt')} was expected, for example. Write "
            "captions, or take `captions` out of the config to train without text."
        )
    return open_folder(
        config.folder, config.size, config.held_out, config.identity, captions=config.captions
    )
