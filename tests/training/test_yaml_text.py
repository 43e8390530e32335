"""Training configs as people write them: sentences with the place and exit code 2, no traceback."""

import random
from pathlib import Path

import pytest
import yaml
from facewright.headless.cli import app
from facewright.training.settings.config import ConfigError, Strict, TrainConfig, load_config
from facewright.training.settings.shipped import shipped_configs
from facewright.training.settings.yaml_text import parse_yaml
from facewright.training.train import stages
from pydantic import BaseModel
from typer.testing import CliRunner

WHOLE = """\
output: run
budget: {max_steps: 3}
batch_size: 2
data: {source: world}
optimizers:
  main: {lr: 1e-3}
"""


class Section(Strict):
    weight: float = 1.0
    file: Path | None = None
    name: str = "x"
    shape: tuple[int, ...] = (1,)


def read(tmp_path, text, *overrides):
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, Section, list(overrides))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WHOLE.encode("utf-16"), "no UTF-8 text, but UTF-16"),
        (WHOLE.encode("utf-16-le"), "no UTF-8 text, but UTF-16"),
        (WHOLE.encode("utf-32"), "no UTF-8 text"),
        ((WHOLE + "# fünf").encode("latin-1"), "line 7 holds a byte (0xfc) that is no UTF-8"),
        (b"\xff\xd8\xff\xe0 a jpeg", "line 1 holds a byte (0xff)"),
        (WHOLE + "batch_size: 4\n", "`batch_size` stands there for the second time, first in li"),
        (WHOLE + "  other: {lr: 1, lr: 2}", "line 7: `lr` stands there for the second time"),
        (WHOLE + "seed: 'x", "line 7"),
        (WHOLE + "\tseed: 1", "with spaces, not with tabs"),
        (WHOLE + "seed: [1", "line 7"),
        (WHOLE + "seed: @x", "line 7, column 7"),
        (WHOLE + BOMB, "more than 20000 values"),
        (WHOLE + "recipe: &a {x: *a}", "sections too deep"),
        (WHOLE + "recipe: " + "[" * 600 + "]" * 600, "too deep"),
        (WHOLE + "recipe: " + "{a: " * 100 + "}" * 100, "too deep"),
        (WHOLE + "seed: !!python/object/apply:os.system [true]", "line 7"),
        (WHOLE + "seed: " + "9" * 5000, "could not be read"),
        (WHOLE + "---\nseed: 1", "line 7"),
        (WHOLE + "\x07", "not allowed"),
        (WHOLE + "[a]: 1", "line 7"),
        (b"#" * 2**20 + b"\n", "larger than 1048576 bytes"),
        ("", "mapping"),
        ("null", "mapping"),
        ("- output: x", "mapping"),
        ("2024-01-01", "mapping"),
    ],
)  # fmt: skip
def test_what_is_no_config_is_told_with_its_place(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value) and "run.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": "yes"}, "batch_size: should be a number, not yes, no, true or false"),
        ({"seed": "on"}, "seed: should be a number"),
        ({"ema": "false"}, "ema: should be a number"),
        ({"optimizers": "{main: {lr: yes}}"}, "optimizers.main.lr: should be a number"),
        ({"optimizers": "{main: {betas: [yes, 0.9]}}"}, "optimizers.main.betas: should be a"),
        ({"optimizers": "{main: {rates: {a: no}}}"}, "optimizers.main.rates: should be a"),
        ({"ema": ".inf"}, "ema"),
        ({"ema": ".nan"}, "ema"),
        ({"optimizers": "{main: {clip: .inf}}"}, "optimizers.main.clip"),
        ({"optimizers": "{main: {lr: 1e999}}"}, "optimizers.main.lr"),
        ({"budget": "{max_minutes: .inf}"}, "budget.max_minutes"),
        ({"budget": "{max_minutes: 1:30}"}, "budget.max_minutes"),
        ({"budget": "[max_steps, 3]"}, "budget"),
        ({"budget": ""}, "budget"),
        ({"output": "''"}, "output: '' is no path. Give the name of a file or folder"),
        ({"output": "' '"}, "output: ' ' is no path"),
        ({"output": '"a\\0b"'}, "is no path"),
        ({"output": "5"}, "output"),
        ({"output": "[a]"}, "output"),
        ({"output": "$NOT_SET/x"}, "output: The path $NOT_SET/x names the variable $NOT_SET"),
        ({"output": "~nobody-here/x"}, "home folder that this system does not know"),
        ({"seed": "1000000000000000000000000"}, "seed"),
        ({"batch_size": "10000000000"}, "batch_size"),
        ({"threads": "10000000000"}, "threads"),
        ({"batch_size": "two"}, "batch_size"),
        ({"batch_size": "2.5"}, "batch_size"),
        ({"batch_size": "2024-01-01"}, "batch_size"),
        ({"data": "{source: wrld}"}, "data"),
        ({"data": "world"}, "data"),
        ({"data": '{source: "wor\\e[31mld"}'}, "data: Input tag"),
        ({"data": "{source: folder, folder: ''}"}, "data.folder.folder: '' is no path"),
        ({"data": "{source: world, size: 100000000}"}, "data.world.size"),
        ({"data": "{source: world, workers: 100000}"}, "data.world.workers"),
        ({"optimizers": "[main]"}, "optimizers"),
        ({"optimizers": "{1: {}}"}, "optimizers"),
        ({"recipe": "{file: ''}"}, "recipe.file: '' is no path"),
        ({"recipe": "{name: ../x}"}, "recipe.name: should be the name of a file, without any"),
        ({"recipe": "{name: /x}"}, "recipe.name: should be the name of a file"),
        ({"recipe": "{name: ''}"}, "recipe.name: should be the name of a file"),
        ({"recipe": "{name: ..}"}, "recipe.name: should be the name of a file"),
        ({"recipe": "{shape: [1, yes]}"}, "recipe.shape: should be a number"),
        ({"degradation": "{presets: [mild], overrides: {name: 3}}"}, "degradation"),
        ({"degradation": "{presets: [mild], overrides: {scale: 3}}"}, "degradation"),
        ({"degradation": "{presets: [mild], overrides: {scale: [.nan, 2]}}"}, "degradation"),
        ({"degradation": "{presets: mild}"}, "degradation.presets"),
        ({"sed": "3"}, "sed: unknown key; did you mean seed"),
        ({"1": "3"}, "1"),
    ],
)  # fmt: skip
def test_wrong_values_are_told_with_key_and_line(tmp_path, change, words):
    (key, value), = change.items()  # fmt: skip
    values = {line.split(":")[0]: line for line in WHOLE.splitlines() if line[0] != " "}
    values["optimizers"] = "optimizers: {main: {lr: 1e-3}}"
    values.pop(key, None)
    text = "\n".join([*values.values(), f"{key}: {value}"])
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    sentence = str(caught.value)
    assert words in sentence and f"line {len(values) + 1})" in sentence, sentence
    assert sentence.replace("\n", "").isprintable()
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "\n".join(values.values()), f"{key}={value}")
    if key in values or key == "sed":
        assert "--set)" in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["seed='", "seed=[", "=3", "a..b=1", ".=1", "seed=\ud800", "seed", "seed={a: 1, a: 2}",
     "seed=&a [*a]", "output.x=1", f"seed={'9' * 9999}", "seed=!!python/name:os.system"],
)  # fmt: skip
def test_broken_overrides_are_told(tmp_path, override):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, WHOLE, override)
    assert "--set" in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_meant_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "elsewhere")
    text = "\ufeff" + WHOLE.replace("output: run", "output: 2024-01-01").replace("\n", "\r\n")
    config = read(tmp_path, text + "seed: 0010\nrecipe: {file: ~/a/$PLACE, weight: '0.5'}\n")
    assert config.output == Path("2024-01-01") and config.seed == 10
    assert config.recipe.file == tmp_path / "a" / "elsewhere" and config.recipe.weight == 0.5
    assert config.optimizers["main"].lr == 1e-3
    config = read(
        tmp_path, WHOLE + "cpu: yes\ncompile: off\nprecision: no\nrecipe: ~\n", "recipe={}"
    )
    assert config.cpu and not config.compile and config.precision == "no"
    data = "data={source: shards, shards: ['~/a-{0..2}.tar', 's3://b/~/$x.tar', 'rel/*.tar']}"
    config = read(tmp_path, WHOLE, data, "output=$PLACE/x", "recipe.file=~/w")
    assert config.data.shards == (f"{tmp_path}/a-{{0..2}}.tar", "s3://b/~/$x.tar", "rel/*.tar")
    assert config.output == Path("elsewhere/x") and config.recipe.file == tmp_path / "w"
    pairs = "data={source: pairs, folders: [~/a, {hq: ~/b, lq: $PLACE}]}"
    first, second = read(tmp_path, WHOLE, pairs).data.folders
    assert first == tmp_path / "a" and (second.hq, second.lq) == (tmp_path / "b", Path("elsewhere"))


def test_no_path_of_any_config_is_left_with_its_tilde(tmp_path, monkeypatch):
    """Every key of every stage that holds a path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = set()

    def walk(model):
        for name, field in model.model_fields.items():
            kinds = str(field.annotation)
            if "Path" in kinds and "PairFolders" not in kinds:
                seen.add((model.__name__, name))
                value = ("~/x",) if kinds.startswith("tuple") else "~/x"
                try:
                    model.model_validate({name: value})
                except ValueError as error:
                    assert not [e for e in error.errors() if e["loc"][:1] == (name,)]
                read = model._as_written.__func__(model, {name: value})[name]
                assert read in (tmp_path / "x", [tmp_path / "x"])
            for part in _models(field.annotation):
                walk(part)

    for recipe in stages().values():
        walk(recipe.Config)
    walk(TrainConfig)
    assert len(seen) > 25


def _models(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]


def test_shipped_configs_hold_what_a_plain_reader_finds():
    for name, file in shipped_configs().items():
        text = file.read_text(encoding="utf-8")
        assert _plain(parse_yaml(text, name)[0]) == _plain(yaml.safe_load(text)), name


def _plain(value):
    """The stock reader takes 1e-4 for a text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


@pytest.mark.parametrize("text", ["", WHOLE.encode("utf-16"), WHOLE + "seed: yes", "output: ''"])
def test_the_command_ends_with_2_and_a_sentence(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for argument in (str(path), str(tmp_path), "x" * 5000, "no such\udcff"):
        result = CliRunner().invoke(app, ["train", "nano_base", "--config", argument])
        assert result.exit_code == 2 and "Traceback" not in result.stderr, argument
        assert isinstance(result.exception, SystemExit)


PIECES = [
    "yes", ".inf", "-.nan", "''", "~", "[", "]", "{", "}", ": ", "\n", "  ", "\t", "&a ", "*a",
    "- ", "!!int ", "!x ", "'", '"', "|\n", ">", "#", "%YAML 1.1\n", "---\n", "...", "<<: ", "null",
    "0x1", "1e400", "9" * 40, "$HOME", "$X", "package:", "\ud7ff", "\x00", "\ufeff", "é",
    "2024-01-01",
    ",", "? ", "@", "`", "\\", "-1", "0", "1:30", "a.b",
]  # fmt: skip


def drawn_config(rng, files):
    """Bytes of a config with one to four places changed, and overrides."""
    text = rng.choice([WHOLE, *files])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        kind = rng.random()
        if kind < 0.5:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind < 0.7:  # the value of a key
            lines = text.split("\n")
            i = rng.randrange(len(lines))
            lines[i] = lines[i].split(":")[0] + ": " + rng.choice(PIECES)
            text = "\n".join(lines)
        elif kind < 0.85:
            text = text[:at] + text[at + rng.randint(1, 30) :]
        else:
            text += text[at : at + rng.randint(1, 60)]
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + bytes([rng.randrange(256)]) + data[at:]
    overrides = [f"{rng.choice(['seed', 'data.size', 'a.b', '', 'output'])}={rng.choice(PIECES)}"]
    return data, overrides if rng.random() < 0.3 else []


@pytest.mark.parametrize("cases", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_config_with_anything_in_it_is_read_or_refused(tmp_path, cases):
    rng = random.Random(7)
    files = [f.read_text(encoding="utf-8") for f in shipped_configs().values()]
    known = stages()
    refused = 0
    for case in range(cases):
        data, overrides = drawn_config(rng, files)
        (tmp_path / "run.yaml").write_bytes(data)
        model = rng.choice(list(known.values())).Config
        try:
            load_config(tmp_path / "run.yaml", model, overrides)
        except ConfigError as error:
            refused += 1
            assert len(str(error)) < 6000 and "Traceback" not in str(error), case
        except Exception as error:
            raise AssertionError(f"case {case}: {error!r}\n{data!r}") from error
    assert refused > cases / 2
