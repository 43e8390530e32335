"""Which layer may import what, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}
CORE_MAY = {"torch", "einops", "numpy", "safetensors", "PIL"}
# Only the backends of a face analyzer, videos and their smoothing, the colour space, the metrics
# and the check of what files say reach for more, and lazily.
CORE_MAY_LAZILY = {
    "kornia", "scipy", "skimage", "cv2", "av", "insightface", "facexlib", "onnxruntime", "lpips",
    "pyiqa", "pydantic", "pydantic_core", "yaml", "torchvision", "transformers", "diffusers",
}  # fmt: skip
LAYERS = ("core", "nodes", "headless", "training")


def sources(*folders):
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def is_lazy(tree):
    """Nodes inside functions, or under `if TYPE_CHECKING`."""
    lazy = set()
    for node in ast.walk(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if function or typing_only:
            lazy.update(map(id, ast.walk(node)))
    return lazy


def imports(path):
    """(top-level package, whether inside a function, our own layer or None) per import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = is_lazy(tree)
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], id(node) in lazy, None
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], id(node) in lazy, None
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level]
            full = (*base, *(node.module or node.names[0].name).split("."))
            yield "", id(node) in lazy, full[0]


@pytest.mark.parametrize("path", sources("core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_torch_and_itself(path):
    for name, lazy, layer in imports(path):
        if layer is not None:
            assert layer == "core", f"core reaches into {layer}"
        elif name not in sys.stdlib_module_names:
            lazy = lazy or path.name == "shapes.py"  # imported only by who reads such files
            assert name in CORE_MAY | (CORE_MAY_LAZILY if lazy else set()), name


@pytest.mark.parametrize(
    "path",
    [*sources(*LAYERS), ROOT / "__init__.py", ROOT / "__main__.py"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_few_files_import_comfyui(path):
    if path.parent == ROOT / "nodes" and path.name.startswith("_comfy"):
        assert COMFY & {name for name, _, _ in imports(path)}
        return
    assert not {name for name, _, layer in imports(path) if layer is None} & COMFY


# Loading the pack in ComfyUI must stay quick and must not need what ComfyUI does not ship.
HEAVY = {"diffusers", "peft", "accelerate", "transformers", "kornia", "cv2", "skimage", "scipy"}


@pytest.mark.parametrize("path", sources("nodes"), ids=lambda p: p.name)
def test_nodes_are_light_and_know_only_core_and_the_headless_stand_in(path):
    for name, lazy, layer in imports(path):
        assert name not in HEAVY or lazy, name
        assert layer in (None, "core", "nodes", "headless"), layer
        if layer == "headless":
            assert path.name.startswith(("_host", "_comfy"))


def test_no_layer_of_the_product_imports_the_tests():
    for path in sources(*LAYERS):
        assert not {name for name, _, _ in imports(path)} & {"tests", "pytest"}, path
