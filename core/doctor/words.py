"""The doctor's report as plain lines, for a terminal and for the node."""

from collections.abc import Iterator, Mapping
from typing import Any

COMMERCIAL = {
    "yes": "commercial use: yes",
    "no": "commercial use: no",
    "depends": "commercial use: see its terms",
}


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The whole report, what has to be done first at the top."""
    return [
        *workflow_lines(report),
        *warning_lines(report),
        "",
        *weight_lines(report),
        "",
        *restorer_lines(report),
        "",
        *detector_lines(report),
        "",
        *machine_lines(report),
    ]


def workflow_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What the workflow lacks, or that it lacks nothing."""
    workflow = report["workflow"]
    if workflow is None:
        return
    if workflow["ok"]:
        yield f"This workflow has all it needs ({len(workflow['files'])} weight files)."
    else:
        yield "This workflow lacks:"
        yield from (f"  - {sentence}" for sentence in workflow["lacks"])
    for file in workflow["files"]:
        if file["path"] and not file["problem"]:
            terms = f" ({COMMERCIAL[file['commercial']]})" if file["commercial"] else ""
            yield f"  {file['title']}: {file['name']} is {file['path']}{terms}"
    yield from (f"  {sentence}" for sentence in workflow["notes"])
    for node in workflow["nodes"]:
        if not node["problem"]:
            where = node["found_in"] or "ComfyUI"
            yield f"  {node['class']} is a node of {where}: run this file there (--server)."


def warning_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Conflicts and files that differ."""
    yield from (f"Warning: {sentence}" for sentence in report["warnings"])


def weight_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A paragraph for each weight file."""
    yield "Weights"
    for entry in report["weights"]:
        yield f"  {entry['what']}: {state(entry)}. {COMMERCIAL[entry['commercial']]}"
        yield f"    terms: {entry['licence']}"
        if not entry["found"]:
            yield f"    {' or '.join(entry['names'])} in models/{entry['folder']}"
            yield f"    from {entry['source']}"
        for copy in entry["copies"]:
            yield from (f"    {line}" for line in copy_lines(copy))


def restorer_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What each choice of `facewright restore --weights` lacks."""
    yield "Restorers"
    for entry in report["restorers"]:
        lacks = ", ".join(entry["lacks"])
        yield f"  {entry['name']}: {f'lacks {lacks}' if lacks else 'ready'}"


def detector_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Which face detector "auto" takes, and what the others lack."""
    about = report["detectors"]
    yield f"Face detectors (auto: {about['auto'] or 'none'}). {about['why']}"
    for entry in about["all"]:
        if entry["lacks"]:
            lacks = f"{entry['lacks'].removesuffix('.')}. {entry['where']}"
            yield f"  {entry['name']}: not ready: {lacks}".rstrip()
        else:
            yield f"  {entry['name']}: ready; {entry['about']}"


def state(entry: Mapping[str, Any]) -> str:
    """ "found", "not found", or what is wrong in two words."""
    if not entry["found"]:
        return "not found"
    if all(copy["problem"] for copy in entry["copies"]):
        return "found, but cannot be used"
    return "found" if len(entry["copies"]) == 1 else f"found ({len(entry['copies'])} files)"


def copy_lines(copy: Mapping[str, Any]) -> Iterator[str]:
    """Where a file lies, its hash, and why it cannot be used; of a folder how many it holds."""
    files = copy["files"]
    several = "" if len(files) == 1 else f", {len(files)} files"
    yield f"{copy['path']} ({size(copy['bytes'])}{several})"
    if len(files) == 1 and files[0]["sha256"]:
        yield f"sha256 {files[0]['sha256']}"
    if copy["limits"]:
        yield f"one person from cosine {copy['limits']}"
    if copy["problem"]:
        yield f"cannot be used: {copy['problem']}"


def machine_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Versions, devices, number formats, optional packages."""
    about = report["versions"]
    comfyui = about["comfyui"]
    where = f"ComfyUI {comfyui['version'] or '?'} in {comfyui['path']}" if comfyui else "no ComfyUI"
    yield (
        f"facewright {about['facewright']}, torch {about['torch']}, numpy {about['numpy']}, "
        f"Python {about['python']}, {where}"
    )
    for device in report["devices"]:
        memory = f", {size(device['memory_bytes'])}" if device["memory_bytes"] else ""
        halves = [name for name in ("bfloat16", "float16") if device[name]]
        quick = f"quick in {' and '.join(halves)}" if halves else "no quick 16-bit formats"
        yield f"  {device['device']}: {device['name']}{memory}, {quick}"
    formats = report["dtypes"]
    yield (
        f"  computed on {formats['device']}: model in {formats['diffusion']}, VAE in "
        f"{formats['vae']}, embedder in {formats['embedder']}. {formats['why']}"
    )
    yield "Optional packages"
    for package in report["packages"]:
        version = (package["version"] or "yes") if package["installed"] else "not installed"
        yield f"  {package['package']}: {version} ({package['enables']})"


def server_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What a ComfyUI elsewhere says of itself."""
    version = report["versions"]["comfyui"]["version"]
    yield f"ComfyUI {version or '?'} at {report['server']}"
    for device in report["devices"]:
        memory = f", {size(device['memory_bytes'])}" if device["memory_bytes"] else ""
        yield f"  {device['device']}: {device['name']}{memory}"
    yield "The node Doctor tells there whether files are whole, and which face detectors there are."


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
