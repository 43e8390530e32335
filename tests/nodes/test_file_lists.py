"""Loaders list what fits first; what a workflow has saved stays a choice."""

import json

import pytest
import torch
from facewright.core.files.known import NANO_DIR
from facewright.core.weights import listing
from facewright.core.weights.known_files import known_file, known_files
from facewright.docs.graphs.graph import FOLDER
from facewright.headless.host.host import HeadlessHost
from facewright.nodes import all_nodes
from safetensors.torch import save_file

FILES = {
    "associate_2.ckpt": None,
    "adaface_ir50_ms1mv2.ckpt": None,
    "backbone.pth": None,
    "embedding_change_weights.pth": None,
    "other.safetensors": {},
    "vgg16-397923af.pth": None,
    "z_boosthub.safetensors": {"facewright.format": "flipnet-boosthub"},
    "z_encoder.safetensors": {"facewright.format": "flipnet-face-encoder"},
    "z_ide.safetensors": {"facewright.format": "honestface-ide"},
    "z_identity.safetensors": {"facewright.format": "nano-identity"},
    "z_vre.safetensors": {"facewright.format": "osdface-vre"},
}
FITTING = {
    "embedder": {
        "FacewrightLoadVRE": ["associate_2.ckpt", "z_vre.safetensors"],
        "FacewrightLoadIDE": ["z_ide.safetensors"],
    },
    "projector": ["none", "embedding_change_weights.pth"],
    "eye_extractor": ["vgg16-397923af.pth"],
    "boosthub": ["z_boosthub.safetensors"],
    "face_encoder": ["z_encoder.safetensors"],
    "recogniser_file": ["backbone.pth", "adaface_ir50_ms1mv2.ckpt", "z_identity.safetensors"],
}


@pytest.fixture
def models(tmp_path, monkeypatch, models_in):
    models_in(tmp_path)
    monkeypatch.setattr(listing, "_listed", {})
    monkeypatch.setattr(listing, "_formats", {})
    monkeypatch.setattr(listing, "_MOST_SECONDS", 60.0)  # busy machines take longer
    return tmp_path


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, metadata in files.items():
        if metadata is None:
            (folder / name).write_bytes(b"PK")
        else:
            save_file({"x": torch.zeros(1)}, folder / name, metadata=metadata)


def combos(folder="facewright"):
    """Node, input id and combo of every choice of a weight file of `folder`."""
    for schema in (node.GET_SCHEMA() for node in all_nodes()):
        for combo in schema.inputs:
            if getattr(combo, "of_files", None) == folder and combo.id != "album":
                yield schema.node_id, combo.id, combo


def test_what_fits_comes_first_and_everything_is_there(models):
    put(models / "facewright", FILES)
    seen = set()
    for node, name, combo in combos():
        wanted = FITTING[name]
        wanted = wanted[node] if isinstance(wanted, dict) else wanted
        assert combo.options[: len(wanted)] == wanted, node
        assert sorted(combo.options) == sorted({*FILES, *wanted[:1]}), node
        assert combo.default == wanted[0]
        rest = combo.options[len(wanted) :]
        assert rest == sorted(rest)
        seen.add((node, name))
    assert len(seen) == 7


def test_known_files_are_listed_by_their_names(models):
    """Nodes write names down that the methods say; formats are held by the bundled files."""
    of_loaders = {"facewright", "loras"}
    scores_and_losses = (
        "inception-2015-12-05.pt", "alexnet-owt-7be5be79.pth",
        "pt_inception-2015-12-05-6726825d.pth", "vgg19-dcbb9e9d.pth", "dists_weights.pt",
        "lpips_vgg.pth",
    )  # fmt: skip
    others = {known_file(name) for name in scores_and_losses}
    known = [f for f in known_files() if f.folder in of_loaders and f not in others]
    names = [name for file in known for name in file.names]
    for folder in of_loaders:
        put(models / folder, {"0.ckpt": None})
        put(models / folder, {n: None for f in known if f.folder == folder for n in f.names})
    first = set()
    for _, _, combo in (*combos(), *combos("loras")):
        first |= set(combo.options[: combo.options.index("0.ckpt")]) - {"none"}
    assert first == set(names)


def test_loras_of_ours_come_first(models):
    training = {"facewright.training": json.dumps({"stage": "onestep"}), "rank": "4"}
    put(
        models / "loras",
        {"a_style.safetensors": {"ss_base_model_version": "sd_v1"}, "mine.safetensors": training},
    )
    (models / "loras" / "sub").mkdir()
    put(models / "loras" / "sub", {"pytorch_lora_weights.safetensors": {}})
    ((_, _, combo),) = combos("loras")
    assert combo.options == [
        "sub/pytorch_lora_weights.safetensors", "mine.safetensors", "a_style.safetensors"
    ]  # fmt: skip


def test_bundled_files_fit_their_loaders(models):
    """What training exports is told apart by what it says of itself, whatever its name."""
    for folder in ("facewright", "loras"):
        (models / folder).mkdir()
    for path in NANO_DIR.glob("*.safetensors"):
        folder = "loras" if path.stem.endswith("lora") else "facewright"
        (models / folder / f"my {path.name[5:]}").symlink_to(path)
    fitting = {
        "boosthub": ["flipnet_degrade_boosthub", "flipnet_restore_boosthub"],
        "face_encoder": ["face_encoder"],
        "recogniser_file": ["identity_loss", "identity_metric"],
        "FacewrightLoadVRE": ["base_vre", "honestface_vre", "vre"],
        "FacewrightLoadIDE": ["honestface_ide"],
    }
    for node, name, combo in combos():
        wanted = fitting.get(name if name != "embedder" else node, [])
        assert combo.options[: len(wanted)] == [f"my {w}.safetensors" for w in wanted]
    ((_, _, combo),) = combos("loras")
    assert len(combo.options) == 4 and not combo.default.startswith("(")


def test_where_nothing_fits_a_hint_is_chosen_and_files_can_be(models):
    put(models / "facewright", {"other.safetensors": {}, "renamed.ckpt": None})
    for node, name, combo in combos():
        if name != "projector":
            assert combo.default == "(put one in models/facewright, press R)", node
            assert combo.options == [combo.default, "other.safetensors", "renamed.ckpt"]
    ids = {node.GET_SCHEMA().node_id: node for node in all_nodes()}
    answer = ids["FacewrightLoadBoostHub"].validate_inputs(boosthub=combo.default)
    assert "No file is chosen" in answer
    assert ids["FacewrightLoadBoostHub"].validate_inputs(boosthub="renamed.ckpt") is True


def test_each_state_of_a_file_is_opened_once(models, monkeypatch):
    opened = []
    real = listing.quick_metadata
    monkeypatch.setattr(listing, "quick_metadata", lambda p: opened.append(p) or real(p))
    put(models / "facewright", {f"{i:03}.safetensors": {} for i in range(30)})
    monkeypatch.setattr(listing, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(listing, "_MOST_SECONDS", 60.0)
    for _ in range(3):
        list(combos())
    assert len(opened) == 30
    put(models / "facewright", {"007.safetensors": {"facewright.format": "flipnet-boosthub"}})
    (hub,) = [combo for _, name, combo in combos() if name == "boosthub"]
    assert hub.default == "007.safetensors" and len(opened) == 31


def test_asking_again_at_once_looks_at_no_file(models, monkeypatch):
    put(models / "facewright", FILES)
    monkeypatch.setattr(listing, "_FRESH_SECONDS", 60.0)
    list(combos())
    paths = []
    real = HeadlessHost.model_path
    monkeypatch.setattr(
        HeadlessHost, "model_path", lambda self, f, n: paths.append(n) or real(self, f, n)
    )
    list(combos())
    assert set(paths) == {"other.safetensors"}  # the first of the list, once for each loader
    put(models / "facewright", {"zz.safetensors": {"facewright.format": "flipnet-boosthub"}})
    (hub,) = [combo for _, name, combo in combos() if name == "boosthub"]
    assert "zz.safetensors" in hub.options[: hub.options.index("other.safetensors")]  # a new list


def test_a_slow_disk_holds_up_nobody(models, monkeypatch):
    """What there was no time for stays among the rest until it is asked for again."""
    put(models / "facewright", FILES)
    monkeypatch.setattr(listing, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(listing, "_MOST_SECONDS", -1.0)
    (hub,) = [combo for _, name, combo in combos() if name == "boosthub"]
    assert hub.default.startswith("(") and "z_boosthub.safetensors" in hub.options
    monkeypatch.setattr(listing, "_MOST_SECONDS", 60.0)
    (hub,) = [combo for _, name, combo in combos() if name == "boosthub"]
    assert hub.default == "z_boosthub.safetensors"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 9,
        b"version https://git-lfs",
        (99).to_bytes(8, "little") + b'{"__metadata__":{"facewright.format":',
        (99).to_bytes(8, "little") + b'{"__metadata__":' + b"[" * 60000,
        (99).to_bytes(8, "little") + b'{"__metadata__":[1]}',
        (99).to_bytes(8, "little") + b'{"__metadata__":{"facewright.format":["osdface-vre"]}}',
    ],
)
def test_broken_and_hostile_files_are_the_rest(models, content):
    put(models / "facewright", {})
    (models / "facewright" / "x.safetensors").write_bytes(content)
    for _, name, combo in combos():
        assert "x.safetensors" in combo.options
        assert name == "projector" or combo.default.startswith("(")


def test_workflows_say_of_each_file_where_it_comes_from_and_goes():
    """The editor shows that where the file is missing; it reads `models` of the node."""
    named = 0
    for path in FOLDER.glob("*.json"):
        for node in json.loads(path.read_text())["nodes"]:
            models = {m["name"]: m for m in node["properties"].get("models", ())}
            files = [
                value
                for value in node["widgets_values"]
                if str(value).endswith((".safetensors", ".ckpt", ".pth")) and "\n" not in value
            ]
            assert set(models) == set(files), path.name
            for name, model in models.items():
                folder = "loras" if "lora" in name else model["directory"]
                assert model["directory"] == folder and model["url"].startswith("https://")
                # From there the editor offers to download, which must be the file itself.
                assert "huggingface.co" not in model["url"] or model["url"].endswith(name)
                named += 1
    assert named > 25
    assert all(file.page.startswith("https://") for file in known_files())
