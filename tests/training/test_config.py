from pathlib import Path

import pytest
from facewright.training.methods.vre import HQRecipe
from facewright.training.settings.config import PACKAGE, ConfigError, Strict, WorldData, load_config
from facewright.training.train import open_run

MINIMAL = """
output: run
budget: {max_steps: 3}
data: {source: world}
optimizers: {main: {}}
"""


class Section(Strict):
    weight: float = 1.0


def read(tmp_path, text, overrides=None):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load_config(path, Section, overrides)


def test_defaults_and_overrides(tmp_path):
    config = read(tmp_path, MINIMAL, ["data.size=64", "recipe.weight=0.5", "seed=3"])
    assert isinstance(config.data, WorldData)
    assert (config.data.size, config.recipe.weight, config.seed) == (64, 0.5, 3)


@pytest.mark.parametrize(
    ("extra", "key", "near"),
    [
        ("budgett: 1", "budgett", "budget"),
        ("recipe: {wieght: 1}", "recipe.wieght", "weight"),
        ("optimizers: {main: {lrr: 1}}", "optimizers.main.lrr", "lr"),
        ("data: {source: world, identites: 4}", "data.world.identites", "identities"),
        (
            "data: {source: folder, path: faces}",
            "data.folder.path",
            "captions, folder, held_out, identity,",
        ),
    ],
)
def test_unknown_keys_name_their_neighbours(tmp_path, extra, key, near):
    text = "\n".join(x for x in MINIMAL.splitlines() if not x.startswith(extra.split(":")[0] + ":"))
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"{text}\n{extra}\n")
    assert f"{key}: unknown key" in str(caught.value)
    assert near in str(caught.value).split("did you mean")[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget={max_steps: 3, max_minutes: 1}", "exactly one"),
        ("batch_size=0", "greater than or equal to 1"),
        ("seed", "section.key=value"),
        ("output.x=1", "holds a value"),
    ],
)
def test_wrong_values_are_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, MINIMAL, [override])


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="could not be read"):
        load_config(tmp_path / "none.yaml", Section)
    with pytest.raises(ConfigError, match="mapping"):
        read(tmp_path, "- 1")


def test_paths_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
    class Bundled(Strict):
        vae: Path
        others: dict[str, tuple[Path, ...]]

    monkeypatch.chdir(tmp_path)
    vae = f"{PACKAGE}weights/nano/nano_vae.safetensors"
    (tmp_path / "run.yaml").write_text(
        f"{MINIMAL}\nrecipe: {{vae: '{vae}', others: {{a: ['{vae}', runs/b.safetensors]}}}}"
    )
    config = load_config("run.yaml", Bundled)
    inside, outside = config.recipe.others["a"]
    assert config.recipe.vae == inside and inside.is_file() and inside.is_absolute()
    assert outside == Path("runs/b.safetensors")
    overridden = load_config("run.yaml", Bundled, [f"recipe.vae={PACKAGE}LICENSE"])
    assert overridden.recipe.vae.is_file()
    shipped = load_config(f"{PACKAGE}training/configs/vre_hq_paper.yaml", HQRecipe.Config)
    assert shipped.budget.max_steps == 219000
    with pytest.raises(ConfigError, match=r"no_such\.yaml"):
        load_config(f"{PACKAGE}training/configs/no_such.yaml", Bundled)


def test_all_that_is_missing_is_named_at_once_with_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        open_run("onestep", "onestep_24gb")
    text = str(caught.value)
    assert "data.folder.0: data/ffhq\n  data.folder.1: data/ffhqr" in text
    vre = "facewright train vre-associate --config vre_associate_24gb makes it"
    assert f"recipe.vre: runs/vre_associate_24gb/export/vre.safetensors ({vre})" in text
    assert "recipe.recogniser.path: models/backbone.pth (docs/training.md" in text
    assert "cache" not in text  # made where it is missing


def test_a_shipped_config_of_another_stage_is_told():
    with pytest.raises(ConfigError, match=r"`vre_hq_nano` is a config of stage vre-hq, not of"):
        open_run("onestep", "vre_hq_nano")


def test_hints_for_what_people_type(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "output: x\nbudget: {max_steps: 1}\noptimizers: {}\nprecision: no\ndata: {source: world}\n"
    )
    assert load_config(path, Strict).precision == "no"  # YAML reads a bare no as false
    with pytest.raises(ConfigError, match=r"of source world; for another source replace"):
        load_config(path, Strict, ["data.folder=photos"])


def test_entries_of_a_list_are_set_by_their_number(tmp_path):
    def folders(*overrides):
        return load_config(tmp_path / "run.yaml", Strict, [*overrides]).data.folder

    (tmp_path / "run.yaml").write_text(
        "output: x\nbudget: {max_steps: 1}\noptimizers: {main: {}}\n"
        "data: {source: folder, folder: [one, two]}\n"
    )
    assert list(map(str, folders("data.folder.1=three"))) == ["one", "three"]
    assert str(folders("data.folder=four")) == "four"
    for wrong in ("data.folder.2=x", "data.folder.-1=x", "data.folder.one=x", "data.folder.0.a=x"):
        with pytest.raises(ConfigError, match=r"of one of the 2 entries|holds a value"):
            folders(wrong)
