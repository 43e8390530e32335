"""A workflow under construction, written down once and saved in the two forms ComfyUI knows."""

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...core.files.known import SUFFIXES, TRAINING_PAGE
from ...core.weights.known_files import known_file
from .kinds import CORE, LOOKS, SIZES, WIDTH, Kind, kinds, over
from .layout import GRID, TITLE, Box, Frame, Point, arrange, screen
from .wires import Wires

FOLDER = Path(__file__).parents[2] / "workflows"

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
_LINE, _LETTERS = 13.8, 5.3
"""Pixels of a note's lines and letters."""


@functools.cache
def _notes() -> dict[str, str]:
    """The sections of notes.md by their headings; the name of one in braces stands for its text."""
    text = (Path(__file__).parent / "notes.md").read_text("utf-8")
    _, *parts = re.split(r"^# (\w+)\n", text, flags=re.MULTILINE)
    notes = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    # The editor's Vue nodes write code in blue, which is hard to read on a dark note.
    whole = {name: re.sub("`([^`]+)`", r"**\1**", text) for name, text in notes.items()}
    for _ in range(2):  # a section that stands in another may hold a third
        whole = {name: text.format(**whole) for name, text in whole.items()}
    return whole


def _text_height(text: str, width: int) -> int:
    """Of a note that shows its whole text, a little more than less."""
    lines = 0.0
    for line in text.splitlines():
        if line.startswith("|"):
            lines += 0 if set(line) <= {"|", "-"} else 2
        else:
            heading = 1.6 if line.startswith("#") else 1
            lines += heading * math.ceil(max(len(line), 1) * _LETTERS / (width - 40))
    return math.ceil((lines * _LINE + 40) / GRID) * GRID


@dataclass(eq=False)
class Node:
    id: int
    kind: Kind
    box: Box
    values: dict[str, Any]
    """Input name -> widget value, or `Output` of another node."""
    title: str | None = None
    grows: bool = False
    """Whether it shows something that may be larger."""
    properties: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, output: str) -> "Output":
        """An output by its name, in small letters."""
        return Output(self, [name.lower() for name, _ in self.kind.outputs].index(output))

    @property
    def over(self) -> int:
        """How far it reaches below its box, at most."""
        return over(self.kind)

    @property
    def widens(self) -> bool:
        """Not with a video, which classic nodes show as wide as they are: it would be higher."""
        return self.kind.id != "SaveVideo"

    def high(self, width: int) -> int:
        """The same, however wide it is."""
        return self.box[3]

    def stretch(self, more: int) -> None:
        x, y, width, height = self.box
        self.box = x, y, width, height + more

    def links(self) -> dict[str, "Output"]:
        """The inputs that are linked, and to what."""
        given = {i.name: self.values.get(i.name) for i in self.kind.inputs}
        return {name: value for name, value in given.items() if isinstance(value, Output)}

    def input_at(self, slot: int) -> Point:
        """Where a wire comes in, by the place among all inputs: sockets, then widgets."""
        sockets = sum(not given.is_widget for given in self.kind.inputs)
        if slot < sockets:
            return self.box[0], self.box[1] + 14 + 20 * slot
        rows = max(sockets, len(self.kind.outputs))
        return self.box[0], self.box[1] + 18 + 20 * rows + 28 * (slot - sockets)

    def output_at(self, index: int) -> Point:
        return self.box[0] + self.box[2], self.box[1] + 14 + 20 * index

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
    grows: bool = False
    widens: bool = True

    def high(self, width: int) -> int:
        """What its text needs at this width."""
        return _text_height(self.text, width)


@dataclass
class Group(Frame):
    """A frame around its members, in the colour of what they are for."""

    title: str = ""
    meaning: str = ""

    @property
    def least(self) -> int:
        return math.ceil(11 * len(self.title) / GRID) * GRID

    def heading(self) -> Box:
        """Where its title stands."""
        x, y, width, _ = self.box
        return x, y, min(width, 14 * len(self.title)), 30


class Graph:
    """A workflow under construction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.groups: list[Group] = []
        self.notes: list[Note] = []
        self._kinds = kinds()
        self._latest: dict[str, Output] = {}

    def add(
        self,
        kind: str,
        width: int = 0,
        room: int = 0,
        /,
        *,
        title: str | None = None,
        **values: Any,
    ) -> Node:
        """A new node with these widget values and links.

        A socket that must be linked and is not takes the latest output of its name. `width` and
        `room` (for what the node shows) are those of its kind by default.
        """
        wide, high = LOOKS.get(kind, (WIDTH, 0))
        found = self._kinds[kind]
        # Classic nodes cut off a title that is too long for them.
        titled = math.ceil((len(title or found.title) * 8 + 70) / 20) * 20
        least = math.ceil(SIZES[found.id] / GRID) * GRID
        box = 0, 0, max(width or wide, titled), least + (room or high)
        node = Node(len(self.nodes) + 1, found, box, values, title, grows=bool(room or high))
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

    def note(self, name: str | None = None) -> None:
        """A note with a text of notes.md: that of this name, or else of the workflow's own."""
        text = _notes()[name or self.name]
        # Vue nodes cut off a table that is too wide.
        self.notes.append(Note(text, (0, 0, 420 if "|" in text else 340, 0)))

    def group(self, title: str, meaning: str, *members: Node) -> None:
        """Frame `members`, or all that has no frame yet; `meaning` is one of `COLORS`."""
        framed = [id(member) for group in self.groups for member in group.items]
        new = [node for node in self.nodes if id(node) not in framed]
        self.groups.append(Group(members or new, title=title, meaning=meaning))

    def settle(self) -> None:
        """Place everything: notes first, then frames in the order in which they were made."""
        notes = [Frame(self.notes, framed=False)] if self.notes else []
        for node in self.nodes:
            node.stretch(node.over)
        arrange([*notes, *self.groups])
        for node in self.nodes:
            node.stretch(-node.over)

    def links(self) -> list[list]:
        """Each link as the editor holds it: its id, from where, to where, and its type."""
        links: list[list] = []
        for node in self.nodes:
            linked = node.links()
            for slot, name in enumerate(i.name for i in node.kind.inputs):
                if name in linked:
                    source, index = linked[name]
                    ends = source.id, index, node.id, slot
                    links.append([len(links) + 1, *ends, linked[name].type])
        return links

    def ends(self) -> tuple[Node, ...]:
        """What links begin and end at, besides nodes."""
        return ()

    def _wire(self, links: list[list]) -> tuple[list[dict], dict[int, int]]:
        """Reroutes for the links that need any, and by the link's id the last of its reroutes."""
        nodes = {node.id: node for node in (*self.nodes, *self.ends())}
        ends: dict[int, tuple[Point, Point]] = {}
        for link, source, index, target, slot, _ in links:
            ends[link] = nodes[source].output_at(index), nodes[target].input_at(slot)
        boxes = [(node.box, node.over) for node in self.nodes]
        boxes += [(note.box, 0) for note in self.notes]
        obstacles = [(x, y - TITLE, w, TITLE + h + over) for (x, y, w, h), over in boxes]
        obstacles += [group.heading() for group in self.groups]
        wires = Wires(
            obstacles,
            min(group.box[1] for group in self.groups),
            [y for pair in ends.values() for _, y in pair],
        )
        reroutes: dict[tuple, dict] = {}
        last = {}
        for link, source, index, *_ in sorted(links, key=lambda link: math.dist(*ends[link[0]])):
            points = wires.route(*ends[link], (source, index))
            for count in range(1, len(points) + 1):
                way = (source, index, *points[:count])
                entry = {"id": len(reroutes) + 1, "pos": list(points[count - 1]), "linkIds": []}
                parent = {"parentId": last[link]} if link in last else {}
                entry = reroutes.setdefault(way, entry | parent)
                entry["linkIds"].append(link)
                last[link] = entry["id"]
        return list(reroutes.values()), last

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
        links = self.links()
        nodes = [_ui_node(node, links) for node in self.nodes]
        nodes += [_ui_note(note, len(nodes) + 1 + i) for i, note in enumerate(self.notes)]
        reroutes, last = self._wire(links)
        extensions = [{"id": link, "parentId": reroute} for link, reroute in sorted(last.items())]
        notes = [(x, y - TITLE, w, TITLE + h) for x, y, w, h in (note.box for note in self.notes)]
        scale, offset = screen([*(group.box for group in self.groups), *notes])
        return {
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": links,
            "groups": self._ui_groups(),
            "config": {},
            "extra": {
                "ds": {"scale": scale, "offset": offset},
                "reroutes": reroutes,
                "linkExtensions": extensions,
            },
            "version": 0.4,
        }

    def _ui_groups(self) -> list[dict]:
        return [
            {
                "id": i,
                "title": group.title,
                "bounding": list(group.box),
                "color": COLORS[group.meaning],
                "font_size": 24,
                "flags": {},
            }
            for i, group in enumerate(self.groups, 1)
        ]

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
    pack = {} if node.kind.id in CORE else {"cnr_id": "facewright"}
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
    colors = {"color": "#222", "bgcolor": "#000"}
    return ui_entry(id, "MarkdownNote", note.box, inputs=[], outputs=[], **shown, **colors)


WORKFLOWS: list[Callable[[], Graph]] = []
"""What makes each shipped workflow."""


def workflow(draw: Callable[[Graph], None]) -> Callable[[], Graph]:
    """Make a function that draws into an empty graph one that returns the workflow of its name."""

    def make() -> Graph:
        graph = Graph(draw.__name__)
        draw(graph)
        graph.note()
        graph.settle()
        return graph

    make.__name__, make.__doc__ = draw.__name__, draw.__doc__
    WORKFLOWS.append(make)
    return make
