"""What the contracts in pyproject.toml cannot say of the rooms: cycles, ComfyUI, what waits."""

import ast
import graphlib
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
CORE_MAY = {"torch", "einops", "numpy", "safetensors", "PIL"}
# Only the backends of a face analyzer, videos and their smoothing, the colour space, the metrics
# and the check of what files say reach for more, and lazily.
CORE_MAY_LAZILY = {
    "kornia", "scipy", "skimage", "cv2", "av", "insightface", "facexlib", "onnxruntime", "lpips",
    "pyiqa", "pydantic", "pydantic_core", "yaml", "torchvision", "transformers", "diffusers",
    "spandrel", "spandrel_extra_arches", "sklearn",
}  # fmt: skip
TOPS = ("core", "nodes", "headless", "training")
# What of core is loaded when ComfyUI starts, room by room: what nodes need to describe themselves.
# All else waits until a node runs, in its `execute`.
AT_START = {
    "": (
        "_moved _plugins architecture color demo devices errors host node_api options "
        "restorer sampling schedule"
    ),
    "checkpoint": "files fitting identify",
    "degradation": "bands draw engine kernels linear passes presets real_esrgan recipe steps",
    "drawing": "compare paint sheet",
    "faces": "auto foreign mesh needs selection",
    "files": "confined json_text known names pickles search writing",
    "geometry": "face landmarks",
    "methods": "_flipnet_faces _spec classic",
    "metrics": "color_difference distribution identity optional regions registry similarity",
    "modules": "autoencoder boosthub face_encoder group_norm spandrel",
    "people": "person",
    "pipeline": "options",
    "weights": "known_files listing model_folders",
}
MOST_LOOSE = {"core": 14, "headless": 3, "training": 8}


@pytest.fixture(scope="module")
def imported():
    """Module of the product -> what it imports, lazily too: modules, and packages of others."""
    graph = grimp.build_graph(
        "facewright",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    own = [m for m in graph.modules if m.partition(".")[0] == "facewright"]
    return {m: graph.find_modules_directly_imported_by(m) for m in own}


def waiting_for_none(path):
    """The import statements that run when a file is itself imported."""
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.expr | ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def at_once(path):
    """Packages that a file imports when it is itself imported."""
    for node in waiting_for_none(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif not node.level:
            yield node.module.partition(".")[0]


def file_of(parts):
    """The file of a module of the product, named from its top on; None where there is none."""
    path = ROOT.joinpath(*parts)
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)


def loaded_with(starts):
    """Modules of the product that are loaded with those of `starts`, all by their parts."""
    loaded, waiting = set(), [*starts]
    while waiting:
        parts = waiting.pop()
        if parts in loaded or not (path := file_of(parts)):
            continue
        loaded.add(parts)
        waiting += [parts[:-1]] if len(parts) > 1 else []
        package = parts if path.name == "__init__.py" else parts[:-1]
        for node in waiting_for_none(path):
            if isinstance(node, ast.ImportFrom) and node.level:
                above = package[: len(package) - node.level + 1]
                module = (*above, *(node.module.split(".") if node.module else ()))
                waiting += [module, *((*module, alias.name) for alias in node.names)]
    return loaded


def test_no_file_imports_itself_by_way_of_others(imported):
    """Lazily neither: whoever reads a file can read what it stands on first."""
    assert len(imported) > 300
    graphlib.TopologicalSorter(imported).prepare()  # a CycleError names the files


@pytest.mark.parametrize("top", MOST_LOOSE)
def test_few_files_lie_outside_the_rooms(top):
    loose = sorted(path.name for path in (ROOT / top).glob("*.py"))
    assert len(loose) <= MOST_LOOSE[top], loose


def test_core_imports_at_once_only_what_comfyui_ships(imported):
    known = {"facewright", *CORE_MAY, *sys.stdlib_module_names}
    for module, names in imported.items():
        if module.startswith("facewright.core."):
            packages = {name.partition(".")[0] for name in names}
            assert packages <= known | CORE_MAY_LAZILY, module
    for path in (ROOT / "core").rglob("*.py"):
        if path.name != "shapes.py":  # imported only by who reads such files
            assert set(at_once(path)) <= known, path


def test_a_start_of_comfyui_loads_little_of_core():
    """A tenth of a second is all that the pack may add; 220 files took that."""
    nodes = [path.stem for path in (ROOT / "nodes").glob("[!_]*.py")]
    loaded = loaded_with(("nodes", name) for name in (*nodes, "_comfy"))
    may = {("core", *filter(None, (room,))) for room in AT_START}
    may |= {
        ("core", *filter(None, (room,)), name)
        for room in AT_START
        for name in AT_START[room].split()
    }
    assert sorted(parts for parts in loaded - may if parts[0] == "core") == []
    assert len(loaded) > 90  # the check itself sees them


def test_few_files_import_comfyui(imported):
    for module, names in imported.items():
        if module.split(".")[1:2] not in [["tests"], ["benchmarks"]]:
            may = module.startswith("facewright.nodes._comfy")
            assert bool(COMFY & names) == may, module


def test_the_product_does_not_import_its_tests(imported):
    tops = tuple(f"facewright.{top}" for top in TOPS)
    for module, names in imported.items():
        if module.startswith(tops):
            packages = {n.removeprefix("facewright.").partition(".")[0] for n in names}
            assert not packages & {"tests", "benchmarks", "pytest"}, module
