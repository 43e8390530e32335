"""The blueprints of `subgraphs/`: a whole restoration as one node of ComfyUI's node library.

Newer servers (from 0.10) offer them at /global_subgraphs. Models are inputs, so that a graph loads
them once and the nano models fit as well as Stable Diffusion; what one turns while working is
exposed, the rest is inside.
"""

import json
import uuid
from pathlib import Path
from typing import Any

from .graph import Graph, Node, Output, ui_entry
from .honestface import restore_with_photos
from .kinds import Input, Kind
from .parts import find_faces, restore_crops

FOLDER = Path(__file__).parents[2] / "subgraphs"
_INPUT, _OUTPUT = -10, -20  # the ids ComfyUI gives to the two ends of a subgraph
_SIZE = (320, 480)
_END, _AWAY, _EDGE = 140, 160, 20
"""Width of an end, its distance from the frames, and how far its sockets are inside."""


class Blueprint(Graph):
    """A graph with open ends. Its `name` is what the node library shows."""

    def __init__(self, name: str, description: str, **sockets: str) -> None:
        """`sockets` are the inputs of the whole and their types."""
        super().__init__(name)
        self.description = description
        self._ports = list(sockets.items())
        self.source = Node(_INPUT, Kind("", "", [], self._ports), (0, 0, 0, 0), {})
        self.sink = Node(_OUTPUT, Kind("", "", [], []), (0, 0, 0, 0), {})
        self._given: dict[str, Output] = {}
        self._exposed: list[tuple[Node, str]] = []
        self.use(self.source)

    def expose(self, node: Node, *widgets: str) -> None:
        """Show widgets of a node on the whole."""
        types = {given.name: given.type for given in node.kind.inputs}
        for widget in widgets:
            self._ports.append((widget, types[widget]))
            node.values[widget] = self.source[widget]
            self._exposed.append((node, widget))

    def give(self, **outputs: Output) -> None:
        """The outputs of the whole, which is complete with them."""
        self._given = outputs
        self.sink.kind.inputs.extend(Input(name, o.type, False) for name, o in outputs.items())
        self.settle()
        right = max(x + width for x, _, width, _ in (group.box for group in self.groups))
        for end, x in ((self.source, -_AWAY - _END), (self.sink, right + _AWAY)):
            end.box = x, 0, _END, 40 + 20 * (len(end.kind.inputs) + len(end.kind.outputs))

    def ends(self) -> tuple[Node, ...]:
        return self.source, self.sink

    def links(self) -> list[list]:
        links = super().links()
        for slot, output in enumerate(self._given.values()):
            start = len(links) + 1, output.node.id, output.index
            links.append([*start, _OUTPUT, slot, output.type])
        return links

    def blueprint(self) -> dict:
        """What ComfyUI reads from `subgraphs/<name>.json`."""
        inside = self.ui()
        ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        last = {extension["id"]: extension for extension in inside["extra"]["linkExtensions"]}
        links = [
            dict(zip(ends, link, strict=True))
            | ({"parentId": last[link[0]]["parentId"]} if link[0] in last else {})
            for link in inside["links"]
        ]
        given = [(name, output.type) for name, output in self._given.items()]
        inputs = self._ui_ports("in", self._ports, "origin", links)
        outputs = self._ui_ports("out", given, "target", links)
        whole = {
            "id": self._uuid(),
            "version": 1,
            "state": {
                "lastGroupId": len(self.groups),
                "lastNodeId": len(self.nodes),
                "lastLinkId": len(links),
                "lastRerouteId": len(inside["extra"]["reroutes"]),
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": _INPUT, "bounding": list(self.source.box)},
            "outputNode": {"id": _OUTPUT, "bounding": list(self.sink.box)},
            "inputs": inputs,
            "outputs": outputs,
            "widgets": [],
            "nodes": inside["nodes"],
            "groups": inside["groups"],
            "links": links,
            "reroutes": inside["extra"]["reroutes"],
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

    def _ui_ports(
        self, side: str, ports: list[tuple[str, str]], end: str, links: list[dict]
    ) -> list[dict]:
        """The sockets of one side, with the links that begin or end there."""
        node = self.source if end == "origin" else self.sink
        entries = []
        for slot, (name, io_type) in enumerate(ports):
            place = (node.id, slot)
            used = [i["id"] for i in links if (i[f"{end}_id"], i[f"{end}_slot"]) == place]
            x = node.box[0] + (_END - _EDGE if end == "origin" else _EDGE)
            entry = {"name": name, "type": io_type, "linkIds": used, "pos": [x, 20 + 20 * slot]}
            entries.append({"id": self._uuid(side, name), **entry})
        return entries

    def _outside(self) -> dict:
        """The one node that the whole is."""
        shown = [widget for _, widget in self._exposed]
        inputs = []
        for name, io_type in self._ports:
            widget = {"widget": {"name": name}} if name in shown else {}
            inputs.append({"name": name, "type": io_type, "link": None, **widget})
        outputs = [{"name": n, "type": o.type, "links": []} for n, o in self._given.items()]
        proxies = [[str(node.id), widget] for node, widget in self._exposed]
        return ui_entry(
            1,
            self._uuid(),
            (0, 0, *_SIZE),
            inputs=inputs,
            outputs=outputs,
            title=self.name,
            properties={"proxyWidgets": proxies, "cnr_id": "facewright"},
            widgets_values=[],
        )

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
        image="IMAGE",
        model="MODEL",
        vae="VAE",
        vre="FACEWRIGHT_VRE",
        analyzer="FACEWRIGHT_ANALYZER",
    )
    image = graph.source["image"]
    found = find_faces(graph, image)
    restore_crops(graph, found["crops"])
    pasted = graph.add("PasteFaces", image=image)
    graph.group("Put them back", "output")
    graph.expose(found, "crop_size", "pick")
    graph.expose(pasted, "feather", "color", "strength")
    graph.give(image=pasted["image"], mask=pasted["mask"], report=found["report"])
    return graph


def restore_with_album() -> Blueprint:
    """HonestFace: each known person with their own photographs, everybody else from the picture."""
    graph = Blueprint(
        "Restore with person album",
        "Restores the faces of a picture, each known person with the photographs of their album, "
        "everybody else from the picture alone, and holds back who drifted. Give it people of "
        "Person Album or Load Person, and the models of Load Nano HonestFace or your own.",
        image="IMAGE",
        people="FACEWRIGHT_PEOPLE",
        model="MODEL",
        vae="VAE",
        vre="FACEWRIGHT_VRE",
        ide="FACEWRIGHT_IDE",
        analyzer="FACEWRIGHT_ANALYZER",
        recogniser="FACEWRIGHT_RECOGNISER",
    )
    image, people = graph.source["image"], graph.source["people"]
    found = find_faces(graph, image)
    who = graph.add("MatchPeople", image=image, people=people)
    graph.group("Whose faces are they?", "people")
    crops, matches = found["crops"], who["matches"]
    _, restored = restore_with_photos(graph, crops, matches=matches)
    graph.group("Restore each with its own photographs", "restore")
    before: dict[str, Any] = {"image": image, "faces": found["faces"]}
    pasted = graph.add("PasteFaces", restored=restored["restored"], **before)
    graph.group("Put them back", "output")
    after: dict[str, Any] = {"image": image, "pasted": pasted["image"], "faces": pasted["faces"]}
    guard = graph.add("PictureGuard", matches=matches, **after)
    graph.group("Hold back who drifted", "check")
    graph.expose(found, "crop_size", "pick")
    graph.expose(who, "threshold")
    graph.expose(guard, "max_drift", "false_match_rate")
    graph.expose(pasted, "color", "strength")
    picture = {"image": guard["image"], "mask": pasted["mask"]}
    graph.give(**picture, names=who["preview"], report=guard["report"])
    return graph


BLUEPRINTS = (restore_faces, restore_with_album)
