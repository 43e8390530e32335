"""What a ComfyUI lacks for a workflow, by what it says that its combos offer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import listed, shorten
from ..files.confined import is_plain
from ..files.names import bare
from ..node_api import called, is_link
from ..weights.known_files import known_file
from ..weights.listing import is_hint
from ..weights.model_folders import either_separator
from .files import FILES, Files, Named, is_weight_file, told
from .inputs import LOADERS, Inputs
from .nodes import Node
from .surroundings import Choice, Server, Surroundings


@dataclass(frozen=True)
class OnServer:
    """Judges the combos of nodes whose values are known by name."""

    around: Surroundings
    server: Server
    files: Files
    inputs: Inputs

    def judged(self, node: Node) -> Iterator[tuple[str, dict[str, Any]]]:
        """ "files" or "inputs", and an entry for the report with its `problem`, if any.

        Of combos that are neither files nor pictures only what is not offered is told; nothing of
        those that offer nothing by themselves, which the editor fills.
        """
        choices = self.server.choices(node.kind, node.values)
        if node.widgets or not self.around.has_node(node.kind):
            yield from self._unnamed(node, choices)
            return
        loads = FILES.get(node.kind) or self.around.files(node.kind)
        for name, choice in choices.items():
            value = _plain(node.values.get(name))
            if value is None or is_link(value):
                continue
            for one in value if choice.several and isinstance(value, list) else [value]:
                if choice.upload:
                    if isinstance(one, str) and one != "none":
                        yield "inputs", self._picture(node, name, one, choice)
                elif isinstance(one, str) and (
                    is_weight_file(one)
                    or is_hint(one)
                    or (name in loads and one not in choice.options)
                ):
                    yield "files", self._file(node, name, one, choice)
                elif (choice.options or name in loads) and one not in choice.options:
                    yield "inputs", self._not_offered(node, name, one, choice)

    def _unnamed(
        self, node: Node, choices: Mapping[str, Choice]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Of a node whose widgets nobody can name: its files and the picture it may load."""
        every = tuple(option for choice in choices.values() for option in choice.options)
        for file in self.files.named(node):
            choice = choices.get(file.input)
            if choice is None:
                there = not choices and self.server.lists(file.folder, file.name)
                choice = Choice((file.name,) if there else every)
            yield "files", self._file(node, file.input, file.name, choice)
        name = LOADERS.get(node.kind, ("",))[0]
        value = node.value(name, 0)
        if name in choices and isinstance(value, str) and value != "none":
            yield "inputs", self._picture(node, name, value, choices[name])

    def _picture(self, node: Node, name: str, value: str, choice: Choice) -> dict[str, Any]:
        there = value in choice.options or self.server.has_input(value)
        return self.inputs.entry(node, name, value, there, f"the ComfyUI at {self.server.url}")

    def _file(self, node: Node, name: str, value: str, choice: Choice) -> dict[str, Any]:
        own = self.around.files(node.kind)
        # Our nodes take what was chosen on another system; ComfyUI's compare letter by letter.
        spellings = either_separator(value) if name in own else (value,)
        found = next((s for s in spellings if s in choice.options), None)
        folder = (FILES.get(node.kind) or own).get(name) or self.files.folder_of(value)
        folder = folder or self.server.folder_of(choice.options)
        file = Named(node, name, value, folder)
        where = f"models/{folder}" if folder else "the models folder that it lists"
        entry = told(file, known_file(value), found and f"{where}/{found}", [where])
        return entry | {"problem": None if found else self._missing(file, where, choice)}

    def _missing(self, file: Named, where: str, choice: Choice) -> str:
        node, value = called(file.node.id, file.node.title), file.name
        server = f"the ComfyUI at {self.server.url}"
        if is_hint(value) or not value.strip():
            return f"{node} has no file chosen: put one into {where} of {server} and choose it."
        if not is_plain(value):
            return f"{node} names {shorten(value)}, which is no file in {where}: choose one there."
        text = f"{node} needs {shorten(value)} in {where}, which {server} does not list: put it "
        text += f"there.{self.files.sources(value, [])}"
        other = _alike(value, choice)
        return f"{text} It lists {shorten(other)}: choose that in the node." if other else text

    def _not_offered(self, node: Node, name: str, value: Any, choice: Choice) -> dict[str, Any]:
        offered = listed((shorten(o, 60) for o in choice.options), most=8) or "nothing yet"
        return node.entry(name) | {
            "value": shorten(value, 200),
            "problem": f"{called(node.id, node.title)} has {shorten(value)} as {shorten(name)}, "
            f"which the ComfyUI at {self.server.url} does not offer. Choose one of what it does: "
            f"{offered}.",
        }


def _plain(value: Any) -> Any:
    """A value without what marks a list as no link."""
    return value.get("__value__") if isinstance(value, Mapping) else value


def _alike(value: str, choice: Choice) -> str | None:
    """A file of the same name in another folder of the list, or written the other way."""
    others = (o for o in choice.options if isinstance(o, str))
    return next((other for other in others if bare(other).lower() == bare(value).lower()), None)
