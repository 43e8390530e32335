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
}  # fmt: skip
TOPS = ("core", "nodes", "headless", "training")
MOST_LOOSE = {"core": 14, "headless": 3, "training": 8}


def sources(*folders):
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def imports(path):
    """(top-level package, whether inside a function or for types alone) per import of others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = set()
    for node in ast.walk(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if function or typing_only:
            lazy.update(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], id(node) in lazy
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], id(node) in lazy


def test_no_file_imports_itself_by_way_of_others():
    """Lazily neither: whoever reads a file can read what it stands on first."""
    graph = grimp.build_graph("facewright", exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 300
    files = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    graphlib.TopologicalSorter(files).prepare()  # a CycleError names the files


@pytest.mark.parametrize("top", MOST_LOOSE)
def test_few_files_lie_outside_the_rooms(top):
    loose = sorted(path.name for path in (ROOT / top).glob("*.py"))
    assert len(loose) <= MOST_LOOSE[top], loose


def test_core_imports_at_once_only_what_comfyui_ships():
    for path in sources("core"):
        for name, lazy in imports(path):
            if name not in sys.stdlib_module_names:
                lazy = lazy or path.name == "shapes.py"  # imported only by who reads such files
                assert name in CORE_MAY | (CORE_MAY_LAZILY if lazy else set()), (path, name)


def test_few_files_import_comfyui():
    for path in [*sources(*TOPS), ROOT / "__init__.py", ROOT / "__main__.py"]:
        comfy = COMFY & {name for name, _ in imports(path)}
        may = path.parent == ROOT / "nodes" and path.name.startswith("_comfy")
        assert bool(comfy) == may, (path, comfy)


def test_the_product_does_not_import_its_tests():
    for path in sources(*TOPS):
        assert not {name for name, _ in imports(path)} & {"tests", "pytest"}, path
