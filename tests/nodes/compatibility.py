"""What a change of the nodes does to workflows that people have saved.

`python tests/nodes/compatibility.py` compares the nodes with every released version and, where
nothing breaks, writes schema_snapshot.json anew.
"""

import json
import sys
from pathlib import Path

import facewright.headless  # noqa: F401  (runs nodes where no ComfyUI does)

HERE = Path(__file__).parent
SNAPSHOT = HERE / "schema_snapshot.json"
RELEASED = HERE / "released"
# Their options are what lies on the disk.
FILE_COMBOS = {
    "embedder",
    "projector",
    "lora",
    "boosthub",
    "face_encoder",
    "recogniser_file",
    "album",
    "eye_extractor",
}
RULES = (
    "Allowed: a new node; an optional input after all others; an output after all others; a combo "
    "option after all others; a wider range; another category.\n"
    "Everything else breaks saved workflows. CONTRIBUTING.md, 'Changing a node', says what to do "
    "instead."
)


def describe(schema):
    """What saved workflows rely on in a node."""
    inputs = []
    for i in schema.inputs:
        entry = {"id": i.id, "type": i.io_type, "optional": i.optional}
        if i.has_widget and i.id not in FILE_COMBOS:
            entry["default"] = i.default
            entry |= {k: getattr(i, k) for k in ("min", "max", "options") if hasattr(i, k)}
        inputs.append(entry)
    return {
        "category": schema.category,
        "output_node": schema.is_output_node,
        "inputs": inputs,
        "outputs": [{"id": o.id, "type": o.io_type} for o in schema.outputs],
    }


def current():
    from facewright.nodes import all_nodes

    return {s.node_id: describe(s) for s in (node.GET_SCHEMA() for node in all_nodes())}


def breaks(old, new):
    """A sentence for each change from `old` to `new` nodes that breaks saved workflows."""
    found = []
    for node, was in old.items():
        if node not in new:
            found.append(f"{node} is gone. Keep its class, with is_deprecated=True.")
            continue
        now = new[node]
        found += [f"{node}: {what}" for what in _input_breaks(was["inputs"], now["inputs"])]
        for k, output in enumerate(was["outputs"]):
            if k >= len(now["outputs"]) or now["outputs"][k] != output:
                found.append(
                    f"{node}: output {k}, {output['id']} ({output['type']}), is gone, has moved or "
                    "is another. Links go by number."
                )
        if was["output_node"] and not now["output_node"]:
            found.append(f"{node}: is an output node no longer, so nothing would run it.")
    return found


def _input_breaks(old, new):
    ids, now = [i["id"] for i in new], {i["id"]: i for i in new}
    for was in old:
        if was["id"] not in now:
            yield f"input {was['id']} is gone. Keep it and ignore it."
    kept = [i["id"] for i in old if i["id"] in now]
    if ids[: len(kept)] != kept:
        yield f"inputs {', '.join(kept)} have to come first, in that order. Widgets go by position."
    for added in new:
        if added["id"] not in {i["id"] for i in old} and not added["optional"]:
            yield f"input {added['id']} is new and required. Make it optional."
    for was in old:
        if was["id"] in now:
            yield from _changes(was, now[was["id"]])


def _changes(was, now):
    name = was["id"]
    if was["type"] != now["type"]:
        yield f"input {name} was {was['type']} and is {now['type']}."
    if was["optional"] and not now["optional"]:
        yield f"input {name} is required now."
    if was.get("default") != now.get("default"):
        yield (
            f"input {name} was {was.get('default')!r} where nobody set it and is "
            f"{now.get('default')!r}. The same file would give another picture."
        )
    low, high = (was.get("min"), now.get("min")), (was.get("max"), now.get("max"))
    if low[1] is not None and (low[0] is None or low[1] > low[0]):
        yield f"input {name} starts at {low[1]}, no longer at {low[0]}."
    if high[1] is not None and (high[0] is None or high[1] < high[0]):
        yield f"input {name} ends at {high[1]}, no longer at {high[0]}."
    options = list(was.get("options") or ())
    if list(now.get("options") or ())[: len(options)] != options:
        yield f"the options of {name}, {', '.join(options)}, have to come first, in that order."


def released():
    """Nodes of every released version, by version."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(RELEASED.glob("*.json"))}


def main():
    now = json.loads(json.dumps(current()))
    wrong = [f"{v}: {what}" for v, old in released().items() for what in breaks(old, now)]
    if wrong:
        sys.exit("\n".join([*wrong, RULES]))
    SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
