"""The blueprints of `subgraphs/`: a whole restoration as one node of ComfyUI's node library.

Newer servers (from 0.10) offer them at /global_subgraphs. Models are inputs, so that a graph loads
them once and the nano models fit as well as Stable Diffusion; what one turns while working is
exposed, the rest is inside.
"""

import json
import uuid
from pathlib import Path

from .graph import Graph, Node
from .parts import one_step

FOLDER = Path(__file__).parents[1] / "subgraphs"
_INPUT, _OUTPUT = -10, -20  # the ids ComfyUI gives to the two ends of a subgraph
_SIZE = (320, 480)


class Blueprint(Graph):
    """A graph with open ends. Its `name` is what the node library shows."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name)
        self.description = description
        self._source = Node(_INPUT, "", {}, (0, 100), (140, 100))
        self._inputs_: list[tuple[str, str]] = []
        self._outputs_: list[tuple[str, Node, int]] = []
        self._exposed: list[tuple[str, str, str]] = []

    def take(self, name: str, io_type: str) -> tuple[Node, int]:
        """A new input of the whole."""
        self._inputs_.append((name, io_type))
        return self._source.out(len(self._inputs_) - 1)

    def expose(self, node: Node, *widgets: str) -> None:
        """Show widgets of a node on the whole."""
        for widget in widgets:
            node.values[widget] = self.take(widget, self._widgets(node.kind)[widget][0])
            self._exposed.append((str(node.id), widget, widget))

    def give(self, name: str, output: tuple[Node, int]) -> None:
        """A new output of the whole."""
        self._outputs_.append((name, *output))

    def _outputs(self, kind: str) -> list[tuple[str, str]]:
        return super()._outputs(kind) if kind else self._inputs_

    def blueprint(self) -> dict:
        """What ComfyUI reads from `subgraphs/<name>.json`."""
        inside = self.ui()
        links = [
            dict(
                zip(
                    ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"),
                    link,
                    strict=True,
                )
            )
            for link in inside["links"]
        ]
        outputs = []
        for slot, (name, node, index) in enumerate(self._outputs_):
            io_type = self._outputs(node.kind)[index][1]
            ends = (node.id, index, _OUTPUT, slot)
            names = ("origin_id", "origin_slot", "target_id", "target_slot")
            links.append(
                {"id": len(links) + 1, **dict(zip(names, ends, strict=True)), "type": io_type}
            )
            entry = next(n for n in inside["nodes"] if n["id"] == node.id)["outputs"][index]
            entry["links"] = [*(entry["links"] or []), len(links)]
            outputs.append({"name": name, "type": io_type, "linkIds": [len(links)]})
        inputs = [
            {
                "name": name,
                "type": io_type,
                "linkIds": [
                    link["id"]
                    for link in links
                    if (link["origin_id"], link["origin_slot"]) == (_INPUT, slot)
                ],
            }
            for slot, (name, io_type) in enumerate(self._inputs_)
        ]
        right = max(node.pos[0] + node.size[0] for node in self.nodes)
        for side, ports, x in (("in", inputs, -60), ("out", outputs, right + 60)):
            for slot, port in enumerate(ports):
                port |= {"id": self._uuid(side, port["name"]), "pos": [x, 120 + 20 * slot]}
        whole = {
            "id": self._uuid(),
            "version": 1,
            "state": {
                "lastGroupId": len(self.groups),
                "lastNodeId": len(self.nodes),
                "lastLinkId": len(links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": _INPUT, "bounding": [-180, 100, 140, 40 + 20 * len(inputs)]},
            "outputNode": {
                "id": _OUTPUT,
                "bounding": [right + 40, 100, 140, 40 + 20 * len(outputs)],
            },
            "inputs": inputs,
            "outputs": outputs,
            "widgets": [],
            "nodes": inside["nodes"],
            "groups": inside["groups"],
            "links": links,
            "extra": {},
            "category": "facewright",
            "description": self.description,
        }
        return {
            "revision": 0,
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [self._outside()],
            "links": [],
            "version": 0.4,
            "definitions": {"subgraphs": [whole]},
            "extra": {},
        }

    def _outside(self) -> dict:
        """The one node that the whole is."""
        shown = {name for *_, name in self._exposed}
        return {
            "id": 1,
            "type": self._uuid(),
            "pos": [0, 0],
            "size": list(_SIZE),
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [
                {"name": name, "type": io_type, "link": None}
                | ({"widget": {"name": name}} if name in shown else {})
                for name, io_type in self._inputs_
            ],
            "outputs": [
                {"name": name, "type": self._outputs(node.kind)[index][1], "links": []}
                for name, node, index in self._outputs_
            ],
            "title": self.name,
            "properties": {
                "proxyWidgets": [[node_id, widget] for node_id, widget, _ in self._exposed],
                "cnr_id": "facewright",
            },
            "widgets_values": [],
        }

    def _uuid(self, *parts: str) -> str:
        """The same for ever, as saved workflows hold it."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("facewright", self.name, *parts))))

    def save(self) -> None:
        FOLDER.mkdir(exist_ok=True)
        text = json.dumps(self.blueprint(), indent=1) + "\n"
        (FOLDER / f"{self.name}.json").write_text(text)


def restore_faces() -> Blueprint:
    """OSDFace: a picture in, the restored picture out."""
    graph = Blueprint(
        "Restore faces in photo",
        "Finds the faces of a picture, restores each in one step and puts it back. Give it the "
        "models of Load Nano Models, or Stable Diffusion 2.1-base with OSDFace's LoRA, its face "
        "embedder and a face detector.",
    )
    image = graph.take("image", "IMAGE")
    model, vae = graph.take("model", "MODEL"), graph.take("vae", "VAE")
    vre = graph.take("vre", "FACEWRIGHT_VRE")
    analyzer = graph.take("analyzer", "FACEWRIGHT_ANALYZER")
    found = graph.add(
        "FacewrightDetectFaces", (60, 100), (340, 560), image=image, analyzer=analyzer
    )
    crops = found.out(1)
    cond = graph.add("FacewrightVREEncode", (460, 100), (320, 340), vre=vre, image=crops)
    restored = one_step(graph, (460, 510), (320, 220), (model, vae), cond.out(0), crops)
    pasted = graph.add(
        "FacewrightPasteFaces",
        (840, 100),
        (300, 180),
        image=image,
        faces=found.out(0),
        restored=restored.out(0),
    )
    graph.group("Find the faces", "faces", found)
    graph.group("Restore them", "restore", cond, restored)
    graph.group("Put them back", "output", pasted)
    graph.expose(found, "crop_size", "pick")
    graph.expose(pasted, "feather", "color", "strength")
    graph.give("image", pasted.out(0))
    graph.give("mask", pasted.out(1))
    graph.give("report", found.out(4))
    return graph


def restore_with_album() -> Blueprint:
    """HonestFace: each known person with their own photographs, everybody else from the picture."""
    graph = Blueprint(
        "Restore with person album",
        "Restores the faces of a picture, each known person with the photographs of their album, "
        "everybody else from the picture alone, and holds back who drifted. Give it people of "
        "Person Album or Load Person, and the models of Load Nano HonestFace or your own.",
    )
    image = graph.take("image", "IMAGE")
    people = graph.take("people", "FACEWRIGHT_PEOPLE")
    model, vae = graph.take("model", "MODEL"), graph.take("vae", "VAE")
    vre, ide = graph.take("vre", "FACEWRIGHT_VRE"), graph.take("ide", "FACEWRIGHT_IDE")
    analyzer = graph.take("analyzer", "FACEWRIGHT_ANALYZER")
    recogniser = graph.take("recogniser", "FACEWRIGHT_RECOGNISER")
    found = graph.add(
        "FacewrightDetectFaces", (60, 100), (340, 560), image=image, analyzer=analyzer
    )
    crops = found.out(1)
    who = graph.add(
        "FacewrightMatchPeople",
        (460, 100),
        (340, 500),
        image=image,
        faces=found.out(0),
        recogniser=recogniser,
        people=people,
    )
    matches = who.out(0)
    cond = graph.add(
        "FacewrightIDEEncode",
        (860, 100),
        (340, 210),
        ide=ide,
        vre=vre,
        image=crops,
        matches=matches,
    )
    restored = one_step(graph, (860, 380), (340, 220), (model, vae), cond.out(0), crops)
    guard = graph.add(
        "FacewrightIdentityGuard",
        (1260, 100),
        (460, 520),
        image=crops,
        restored=restored.out(0),
        recogniser=recogniser,
        analyzer=analyzer,
        matches=matches,
    )
    pasted = graph.add(
        "FacewrightPasteFaces",
        (1780, 100),
        (300, 180),
        image=image,
        faces=found.out(0),
        restored=guard.out(0),
    )
    graph.group("Find the faces", "faces", found)
    graph.group("Whose faces are they?", "people", who)
    graph.group("Restore each with its own photographs", "restore", cond, restored)
    graph.group("Hold back who drifted", "check", guard)
    graph.group("Put them back", "output", pasted)
    graph.expose(found, "crop_size", "pick")
    graph.expose(who, "threshold")
    graph.expose(guard, "max_drift")
    graph.expose(pasted, "color", "strength")
    graph.give("image", pasted.out(0))
    graph.give("mask", pasted.out(1))
    graph.give("names", who.out(1))
    graph.give("report", guard.out(3))
    return graph


BLUEPRINTS = (restore_faces, restore_with_album)
