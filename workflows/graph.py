"""A workflow under construction, written down once and saved in the two forms ComfyUI knows."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import headless  # noqa: F401 (runs the nodes)
from ..nodes import all_nodes

FOLDER = Path(__file__).parent

Place = tuple[int, int]
"""x and y, or width and height."""

COLORS = {
    "load": "#8888aa",
    "faces": "#3f789e",
    "people": "#a8613a",
    "restore": "#88aa88",
    "damage": "#b455b0",
    "check": "#4a9e94",
    "output": "#b58b2a",
}
"""What a group is for -> its colour, the same in every workflow."""
_MARGIN, _HEAD = 20, 80

# The few nodes of ComfyUI itself that the graphs use: (inputs, widgets, outputs).
_CORE = {
    "CLIPTextEncode": ([("clip", "CLIP")], {"text": "STRING"}, ["CONDITIONING"]),
    "CheckpointLoaderSimple": ([], {"ckpt_name": "COMBO"}, ["MODEL", "CLIP", "VAE"]),
    "KSampler": (
        [
            ("model", "MODEL"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
        ],
        {
            "seed": "INT",
            "steps": "INT",
            "cfg": "FLOAT",
            "sampler_name": "COMBO",
            "scheduler": "COMBO",
            "denoise": "FLOAT",
        },
        ["LATENT"],
    ),
    "LoadImage": ([], {"image": "COMBO"}, ["IMAGE", "MASK"]),
    "CreateVideo": ([("images", "IMAGE")], {"fps": "FLOAT"}, ["VIDEO"]),
    "SaveVideo": (
        [("video", "VIDEO")],
        {"filename_prefix": "STRING", "format": "COMBO", "codec": "COMBO"},
        [],
    ),
    "PreviewAny": ([("source", "*")], {}, []),
    "SaveImage": ([("images", "IMAGE")], {"filename_prefix": "STRING"}, []),
    "VAEDecode": ([("samples", "LATENT"), ("vae", "VAE")], {}, ["IMAGE"]),
    "VAEEncode": ([("pixels", "IMAGE"), ("vae", "VAE")], {}, ["LATENT"]),
}


@dataclass
class Node:
    id: int
    kind: str
    values: dict[str, Any]
    """Input name -> widget value, or (node, output index)."""
    pos: Place
    size: Place
    title: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    def out(self, index: int) -> tuple["Node", int]:
        return self, index


@dataclass
class Note:
    text: str
    pos: Place
    size: Place


@dataclass
class Group:
    """A frame around its members, in the colour of what they are for."""

    title: str
    meaning: str
    members: tuple[Node | Note, ...]

    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height"""
        left = min(m.pos[0] for m in self.members) - _MARGIN
        top = min(m.pos[1] for m in self.members) - _HEAD
        right = max(m.pos[0] + m.size[0] for m in self.members) + _MARGIN
        bottom = max(m.pos[1] + m.size[1] for m in self.members) + _MARGIN
        return left, top, right - left, bottom - top


class Graph:
    """A workflow under construction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.groups: list[Group] = []
        self.notes: list[Note] = []
        self._schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in all_nodes()}

    def add(
        self,
        kind: str,
        pos: Place,
        size: Place = (300, 100),
        *,
        title: str | None = None,
        properties: dict[str, Any] | None = None,
        **values: Any,
    ) -> Node:
        node = Node(len(self.nodes) + 1, kind, values, pos, size, title, properties or {})
        sockets = self._sockets(kind)
        known = {name for name, _, _ in sockets} | set(self._widgets(kind))
        if values.keys() - known:
            raise ValueError(f"{kind} has no inputs {sorted(values.keys() - known)}")
        open_ = {name for name, _, optional in sockets if not optional} - values.keys()
        if open_:
            raise ValueError(f"{kind} needs {sorted(open_)}")
        self.nodes.append(node)
        return node

    def note(self, text: str, pos: Place, size: Place) -> Note:
        self.notes.append(Note(text, pos, size))
        return self.notes[-1]

    def group(self, title: str, meaning: str, *members: Node | Note) -> None:
        """Frame what belongs together; `meaning` is one of `COLORS`."""
        self.groups.append(Group(title, meaning, members))

    def _sockets(self, kind: str) -> list[tuple[str, str, bool]]:
        """Name, type, and whether it may stay open."""
        if kind in _CORE:
            return [(name, io_type, False) for name, io_type in _CORE[kind][0]]
        inputs = self._schemas[kind].inputs
        return [(i.id, i.io_type, i.optional) for i in inputs if not i.has_widget]

    def _widgets(self, kind: str) -> dict[str, tuple[str, Any, bool]]:
        """Name -> type, default, and whether it is optional."""
        if kind in _CORE:
            return {name: (io_type, None, False) for name, io_type in _CORE[kind][1].items()}
        inputs = self._schemas[kind].inputs
        return {i.id: (i.io_type, i.default, i.optional) for i in inputs if i.has_widget}

    def _outputs(self, kind: str) -> list[tuple[str, str]]:
        if kind in _CORE:
            return [(name, name) for name in _CORE[kind][2]]
        return [(o.display_name or o.id, o.io_type) for o in self._schemas[kind].outputs]

    def _value(self, node: Node, widget: str) -> Any:
        """What the widget shows; one that is linked keeps its default."""
        value, default = node.values.get(widget), self._widgets(node.kind)[widget][1]
        return default if value is None or isinstance(value, tuple) else value

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

    def _links(self, node: Node) -> dict[str, tuple[Node, int]]:
        return {
            name: node.values[name]
            for name, _, _ in self._inputs(node.kind)
            if isinstance(node.values.get(name), tuple)
        }

    def _inputs(self, kind: str) -> list[tuple[str, str, bool]]:
        """Sockets, then widgets: name, type, and whether it may stay open."""
        widgets = [(name, io_type, opt) for name, (io_type, _, opt) in self._widgets(kind).items()]
        return self._sockets(kind) + widgets

    def ui(self) -> dict:
        links: list[list] = []
        used: dict[tuple[int, int], list[int]] = {}
        nodes = []
        for node in self.nodes:
            inputs, linked = [], self._links(node)
            widgets = self._widgets(node.kind)
            for slot, (name, kind, optional) in enumerate(self._inputs(node.kind)):
                widget = {"widget": {"name": name}} if name in widgets else {}
                inputs.append({"name": name, "type": kind, **widget, "link": None})
                inputs[-1] |= _shape(optional)
                if name not in linked:
                    continue
                source, index = linked[name]
                given = self._outputs(source.kind)[index][1]
                links.append([len(links) + 1, source.id, index, node.id, slot, given])
                used.setdefault((source.id, index), []).append(len(links))
                inputs[-1]["link"] = len(links)
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
            "groups": self._ui_groups(),
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [60, 120]}},
            "version": 0.4,
        }

    def _ui_node(self, node: Node, inputs: list[dict], values: list) -> dict:
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

    def _ui_groups(self) -> list[dict]:
        """Frames that begin at one height end at one, too, where nothing is in the way."""
        boxes = [group.box() for group in self.groups]
        floor = {y: max(b[1] + b[3] for b in boxes if b[1] == y) for y in {b[1] for b in boxes}}
        entries = []
        for i, (group, (x, y, width, height)) in enumerate(zip(self.groups, boxes, strict=True)):
            others = [b for b in boxes if b[1] > y and b[0] < x + width and x < b[0] + b[2]]
            if all(b[1] >= floor[y] for b in others):
                height = floor[y] - y
            entries.append(
                {
                    "id": i + 1,
                    "title": group.title,
                    "bounding": [x, y, width, height],
                    "color": COLORS[group.meaning],
                    "font_size": 24,
                    "flags": {},
                }
            )
        return entries

    def _ui_note(self, note: Note, id: int) -> dict:
        return {
            "id": id,
            "type": "MarkdownNote",
            "pos": list(note.pos),
            "size": list(note.size),
            "flags": {},
            "order": id - 1,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": "Read me",
            "properties": {},
            "widgets_values": [note.text],
            "color": "#432",
            "bgcolor": "#653",
        }

    def files(self) -> tuple[tuple[str, dict], ...]:
        """Both forms, by their paths below `FOLDER`.

        The API form has a folder of its own: ComfyUI's template browser lists whatever JSON lies in
        this one.
        """
        return (f"{self.name}.json", self.ui()), (f"api/{self.name}.api.json", self.api())

    def save(self) -> None:
        for file, content in self.files():
            (FOLDER / file).write_text(json.dumps(content, indent=1) + "\n")


def _shape(optional: bool) -> dict:
    """The editor draws optional inputs as hollow circles."""
    return {"shape": 7} if optional else {}
