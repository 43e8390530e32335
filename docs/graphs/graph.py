"""A workflow under construction, written down once and saved in the two forms ComfyUI knows."""

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ... import headless  # noqa: F401 (runs the nodes)
from ...core.files.known import SUFFIXES, TRAINING_PAGE
from ...core.weights.known_files import known_file
from ...nodes import all_nodes
from ...nodes._all import file_inputs

FOLDER = Path(__file__).parents[2] / "workflows"

Box = tuple[int, int, int, int]
"""x, y, width and height."""

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
_APART = 60
"""Pixels between two nodes in a column: the lower one's title, and the line that the editor hangs
below a node whose file is missing."""

_CORE = {
    "CLIPTextEncode": "clip CLIP, text STRING -> CONDITIONING",
    "CheckpointLoaderSimple": "ckpt_name COMBO -> MODEL, CLIP, VAE",
    "CreateVideo": "images IMAGE, fps FLOAT -> VIDEO",
    "KSampler": "model MODEL, positive CONDITIONING, negative CONDITIONING, latent_image LATENT, "
    "seed INT, steps INT, cfg FLOAT, sampler_name COMBO, scheduler COMBO, denoise FLOAT -> LATENT",
    "ImageUpscaleWithModel": "upscale_model UPSCALE_MODEL, image IMAGE -> IMAGE",
    "LoadImage": "image COMBO -> IMAGE, MASK",
    "PreviewAny": "source * -> ",
    "SaveImage": "images IMAGE, filename_prefix STRING -> ",
    "SaveVideo": "video VIDEO, filename_prefix STRING, format COMBO, codec COMBO -> ",
    "UpscaleModelLoader": "model_name COMBO -> UPSCALE_MODEL",
    "VAEDecode": "samples LATENT, vae VAE -> IMAGE",
    "VAEEncode": "pixels IMAGE, vae VAE -> LATENT",
}
"""The few nodes of ComfyUI itself that the graphs use: their inputs and outputs."""
_WIDGETS = {"STRING", "INT", "FLOAT", "COMBO"}


class Input(NamedTuple):
    name: str
    type: str
    is_widget: bool
    optional: bool = False
    default: Any = None


class Kind(NamedTuple):
    """What the nodes of one class have in common."""

    id: str
    title: str
    inputs: list[Input]
    """Sockets, then widgets."""
    outputs: list[tuple[str, str]]
    """Names and types."""
    files: dict[str, str] = {}  # noqa: RUF012 (never changed)
    """Inputs of ours that name weight files -> the models folder of these."""


def _kinds() -> dict[str, Kind]:
    """All kinds of nodes; those of this pack by their names without "Facewright" in front."""
    kinds = {}
    for name, signature in _CORE.items():
        taken, given = (part.split(", ") for part in signature.split(" -> "))
        pairs = [pair.split() for pair in taken]
        inputs = [Input(name, io_type, io_type in _WIDGETS) for name, io_type in pairs]
        kinds[name] = Kind(name, name, inputs, [(output, output) for output in given if output])
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        inputs = [
            Input(i.id, i.io_type, i.has_widget, i.optional, getattr(i, "default", None))
            for i in schema.inputs
        ]
        inputs.sort(key=lambda given: given.is_widget)
        outputs = [(o.display_name or o.id, o.io_type) for o in schema.outputs]
        short = schema.node_id.removeprefix("Facewright")
        files = file_inputs(node)
        kinds[short] = Kind(schema.node_id, schema.display_name, inputs, outputs, files)
    return kinds


@functools.cache
def _notes() -> dict[str, str]:
    """The sections of notes.md by their headings; the name of one in braces stands for its text."""
    text = (Path(__file__).parent / "notes.md").read_text("utf-8")
    _, *parts = re.split(r"^# (\w+)\n", text, flags=re.MULTILINE)
    notes = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    # The editor's Vue nodes write code in blue, which nobody can read on the brown of a note.
    bold = {name: re.sub("`([^`]+)`", r"**\1**", text) for name, text in notes.items()}
    return {name: text.format(**bold) for name, text in bold.items()}


@dataclass(eq=False)
class Node:
    id: int
    kind: Kind
    box: Box
    values: dict[str, Any]
    """Input name -> widget value, or `Output` of another node."""
    title: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, output: str) -> "Output":
        """An output by its name, in small letters."""
        return Output(self, [name.lower() for name, _ in self.kind.outputs].index(output))

    def links(self) -> dict[str, "Output"]:
        """The inputs that are linked, and to what."""
        given = {i.name: self.values.get(i.name) for i in self.kind.inputs}
        return {name: value for name, value in given.items() if isinstance(value, Output)}

    def height(self) -> int:
        """What the editor's Vue nodes take at least, as measured in ComfyUI 0.33; the classic ones
        take less."""
        widgets = [i for i in self.kind.inputs if i.is_widget]
        texts = sum(i.type == "STRING" for i in widgets)
        rows = max(len(self.kind.inputs) - len(widgets), len(self.kind.outputs))
        pack = 0 if self.kind.id in _CORE else 26
        return 12 + 20 * rows + 28 * len(widgets) + 8 * texts + pack

    def widgets(self) -> dict[str, Any]:
        """What each widget shows; one that is linked keeps its default."""
        shown = {}
        for widget in (i for i in self.kind.inputs if i.is_widget):
            value = self.values.get(widget.name)
            keeps = value is None or isinstance(value, Output)
            shown[widget.name] = widget.default if keeps else value
        return shown


class Output(NamedTuple):
    node: Node
    index: int

    @property
    def type(self) -> str:
        return self.node.kind.outputs[self.index][1]


@dataclass(eq=False)
class Note:
    text: str
    box: Box


class Group(NamedTuple):
    """A frame around its members, in the colour of what they are for."""

    title: str
    meaning: str
    members: tuple[Node | Note, ...]

    def box(self) -> Box:
        boxes = [member.box for member in self.members]
        left = min(x for x, *_ in boxes) - _MARGIN
        top = min(y for _, y, *_ in boxes) - _HEAD
        right = max(x + width for x, _, width, _ in boxes) + _MARGIN
        bottom = max(y + height for _, y, _, height in boxes) + _MARGIN
        return left, top, right - left, bottom - top


class Graph:
    """A workflow under construction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.groups: list[Group] = []
        self.notes: list[Note] = []
        self._kinds = _kinds()
        self._latest: dict[str, Output] = {}

    def add(self, kind: str, box: Box, *, title: str | None = None, **values: Any) -> Node:
        """A new node with these widget values and links.

        A socket that must be linked and is not takes the latest output of its name.
        """
        node = Node(len(self.nodes) + 1, self._kinds[kind], box, values, title)
        inputs = node.kind.inputs
        if unknown := values.keys() - {i.name for i in inputs}:
            raise ValueError(f"{kind} has no inputs {sorted(unknown)}")
        needed = {i.name for i in inputs if not i.is_widget and not i.optional} - values.keys()
        if missing := needed - self._latest.keys():
            raise ValueError(f"{kind} needs {sorted(missing)}")
        node.values |= {name: self._latest[name] for name in needed}
        self.nodes.append(node)
        self.use(node)
        return node

    def use(self, node: Node) -> None:
        """Make the outputs of a node the latest of their names."""
        self._latest |= {name.lower(): node[name.lower()] for name, _ in node.kind.outputs}

    def note(self, box: Box, name: str | None = None) -> Note:
        """A note with a text of notes.md: that of this name, or else of the workflow's own."""
        self.notes.append(Note(_notes()[name or self.name], box))
        return self.notes[-1]

    def group(self, title: str, meaning: str, *members: Node | Note) -> None:
        """Frame `members`, or all that has no frame yet; `meaning` is one of `COLORS`."""
        framed = [id(member) for group in self.groups for member in group.members]
        new = tuple(item for item in (*self.nodes, *self.notes) if id(item) not in framed)
        self.groups.append(Group(title, meaning, members or new))

    def settle(self) -> None:
        """Make nodes as high as their widgets, and move down what stands too close below."""
        framed = {id(member): i for i, group in enumerate(self.groups) for member in group.members}
        placed: list[Node | Note] = []
        for item in sorted([*self.nodes, *self.notes], key=lambda item: item.box[1]):
            x, y, width, height = item.box
            if isinstance(item, Node):
                height = max(height, item.height())
            for other in placed:
                left, top, across, down = other.box
                if left < x + width and x < left + across:
                    together = framed.get(id(other)) == framed.get(id(item))
                    y = max(y, top + down + (_APART if together else _MARGIN + _HEAD))
            item.box = x, y, width, height
            placed.append(item)

    def api(self) -> dict[str, dict]:
        """What ComfyUI's /prompt endpoint takes."""
        prompt = {}
        for node in self.nodes:
            links = {name: [str(o.node.id), o.index] for name, o in node.links().items()}
            prompt[str(node.id)] = {
                "class_type": node.kind.id,
                "inputs": node.widgets() | links,
                "_meta": {"title": node.title or node.kind.title},
            }
        return prompt

    def ui(self) -> dict:
        """What ComfyUI's editor opens."""
        links: list[list] = []
        for node in self.nodes:
            linked = node.links()
            for slot, name in enumerate(i.name for i in node.kind.inputs):
                if name in linked:
                    source, index = linked[name]
                    ends = source.id, index, node.id, slot
                    links.append([len(links) + 1, *ends, linked[name].type])
        nodes = [_ui_node(node, links) for node in self.nodes]
        nodes += [_ui_note(note, len(nodes) + 1 + i) for i, note in enumerate(self.notes)]
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

    def _ui_groups(self) -> list[dict]:
        """Frames that begin at one height end at one, too, where nothing is in the way."""
        boxes = [group.box() for group in self.groups]
        floor = {y: max(b[1] + b[3] for b in boxes if b[1] == y) for y in {b[1] for b in boxes}}
        entries = []
        for i, (group, (x, y, width, height)) in enumerate(zip(self.groups, boxes, strict=True)):
            others = [b for b in boxes if b[1] > y and b[0] < x + width and x < b[0] + b[2]]
            if all(b[1] >= floor[y] for b in others):
                height = floor[y] - y
            box, color = [x, y, width, height], COLORS[group.meaning]
            entry = {"id": i + 1, "title": group.title, "bounding": box, "color": color}
            entries.append(entry | {"font_size": 24, "flags": {}})
        return entries

    def files(self) -> tuple[tuple[str, dict], ...]:
        """Both forms, by their paths below `FOLDER`.

        The API form has a folder of its own: ComfyUI's template browser lists whatever JSON lies in
        this one.
        """
        return (f"{self.name}.json", self.ui()), (f"api/{self.name}.api.json", self.api())

    def save(self) -> None:
        for file, content in self.files():
            (FOLDER / file).write_text(json.dumps(content, indent=1) + "\n")


def ui_entry(id: int, kind: str, box: Box, **more: Any) -> dict:
    """A node as the editor's files hold it; `more` are its inputs, outputs and so on."""
    place = {"pos": list(box[:2]), "size": list(box[2:])}
    return {"id": id, "type": kind, **place, "flags": {}, "order": id - 1, "mode": 0, **more}


def _ui_node(node: Node, links: list[list]) -> dict:
    into = {slot: link for link, _, _, target, slot, _ in links if target == node.id}
    inputs = []
    for slot, given in enumerate(node.kind.inputs):
        widget = {"widget": {"name": given.name}} if given.is_widget else {}
        hollow = {"shape": 7} if given.optional else {}
        linked = {"link": into.get(slot)}
        inputs.append({"name": given.name, "type": given.type, **widget, **linked, **hollow})
    outputs = []
    for i, (name, io_type) in enumerate(node.kind.outputs):
        users = [link for link, source, index, *_ in links if (source, index) == (node.id, i)]
        outputs.append({"name": name, "type": io_type, "links": users or None, "slot_index": i})
    values = []
    for name, value in node.widgets().items():
        # A seed has the editor's own "control after generate" beside it.
        values += [value, "fixed"] if name == "seed" else [value]
    pack = {} if node.kind.id in _CORE else {"cnr_id": "facewright"}
    models = _models(node)
    properties = {"Node name for S&R": node.kind.id, **pack, **models, **node.properties}
    shown = {"properties": properties, "widgets_values": values}
    title = {"title": node.title} if node.title else {}
    return ui_entry(
        node.id, node.kind.id, node.box, inputs=inputs, outputs=outputs, **shown, **title
    )


def _models(node: Node) -> dict[str, list[dict[str, str]]]:
    """Name, address and folder of each weight file it names, for the editor's missing models.

    A file that is known nowhere comes out of training.
    """
    found = []
    for widget, name in node.widgets().items():
        known = known_file(name) if isinstance(name, str) else None
        if known is not None:
            found.append({"name": name, "url": known.page, "directory": known.folder})
        elif widget in node.kind.files and Path(name).suffix in SUFFIXES:
            directory = node.kind.files[widget]
            found.append({"name": name, "url": TRAINING_PAGE, "directory": directory})
    return {"models": found} if found else {}


def _ui_note(note: Note, id: int) -> dict:
    shown = {"title": "Read me", "properties": {}, "widgets_values": [note.text]}
    colors = {"color": "#432", "bgcolor": "#653"}
    return ui_entry(id, "MarkdownNote", note.box, inputs=[], outputs=[], **shown, **colors)


WORKFLOWS: list[Callable[[], Graph]] = []
"""What makes each shipped workflow."""


def workflow(draw: Callable[[Graph], None]) -> Callable[[], Graph]:
    """Make a function that draws into an empty graph one that returns the workflow of its name."""

    def make() -> Graph:
        graph = Graph(draw.__name__)
        draw(graph)
        graph.settle()
        return graph

    make.__name__, make.__doc__ = draw.__name__, draw.__doc__
    WORKFLOWS.append(make)
    return make
