"""Socket types of this package; the names are stored in workflows and stay for ever."""

from typing import Any

from ._host import io

Vre = io.Custom("FACEWRIGHT_VRE")  # core.methods.osdface.VisualRepresentationEmbedder
Analyzer = io.Custom("FACEWRIGHT_ANALYZER")  # core.faces.FaceAnalyzer
Faces = io.Custom("FACEWRIGHT_FACES")  # core.geometry.align.FaceCrops
BoostHub = io.Custom("FACEWRIGHT_BOOSTHUB")  # core.methods.flipnet.BoostHubs
FaceEncoder = io.Custom("FACEWRIGHT_FACE_ENCODER")  # core.modules.face_encoder.FaceEncoder
Recogniser = io.Custom("FACEWRIGHT_RECOGNISER")  # core.people.recogniser.Recogniser
Person = io.Custom("FACEWRIGHT_PERSON")  # core.people.person.Person
People = io.Custom("FACEWRIGHT_PEOPLE")  # list[core.people.person.Person]
Matches = io.Custom("FACEWRIGHT_MATCHES")  # core.people.matching.Matches
Ide = io.Custom("FACEWRIGHT_IDE")  # core.methods.honestface.IdentityEmbedder


SHOWS: dict[str, Any] = (
    {"has_intermediate_output": True}
    if "has_intermediate_output" in io.Schema.__dataclass_fields__  # newer than ComfyUI 0.10
    else {}
)
"""The schema's arguments of a node that shows what it found and is no end of a graph.

Where ComfyUI remembers the node's result from a run before the last one, the editor is sent what it
showed then; else the picture and the words of another run would stay on it.
"""


def output(kind: Any, id: str, tooltip: str, *, name: str | None = None) -> Any:
    """An output that is called as its id or `name`: ComfyUI would show its type instead."""
    return kind.Output(id, display_name=name or id, tooltip=tooltip)
