"""An accelerator that is not there: torch's spare backend, computing on the CPU.

It is as strict as the strictest of the real ones. Like Apple's MPS it has no float64; like any GPU
it refuses to mix its tensors with the CPU's; like DirectML it goes by torch's own name of the
backend, `privateuseone`, for which `torch.autocast` raises. To install it changes torch for the
rest of the process, so that tests do it in processes of their own:

    python tests/pretended_device.py restore picture.png -o out

runs a command of facewright on it.
"""

import sys
import traceback
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

TYPE = "privateuseone"
DEVICE = torch.device(TYPE, 0)
WIDE = (torch.float64, torch.complex128)
refused: list[str] = []
"""What was refused, with the line that asked for it: code that swallows errors is found out."""
computed: list[int] = [0]
"""How many operations ran on the device."""
_KEEP: list = []


class Held(Tensor):
    """A tensor of the device; its numbers are a CPU tensor's."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        held = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        held.inner = inner
        return held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    # Like torch.tensor below, it makes storage of its own.
    def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
        made = torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)
        return made.requires_grad_(requires_grad)

    # So do lists in an index, which are tensors here before torch comes to them.
    def __getitem__(self, index):
        return super().__getitem__(_indices(index))

    def __setitem__(self, index, value):
        super().__setitem__(_indices(index), value)

    def tolist(self):
        return self.detach().cpu().tolist()

    def numpy(self, *, force=False):
        if not force:
            _refuse(TypeError, f"can't convert {DEVICE} tensor to numpy; copy it to the CPU first")
        return self.detach().cpu().numpy()

    def __repr__(self):
        return f"{TYPE}({self.inner})"

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)  # as `map_location="cpu"` reads it


def _is_wide(args) -> bool:
    return any(isinstance(x, Tensor) and x.dtype in WIDE for x in args)


def _inner(value):
    return value.inner if isinstance(value, Held) else value


def _indices(index):
    if isinstance(index, tuple):
        return tuple(_indices(part) for part in index)
    return torch.tensor(index) if isinstance(index, list | range) else index


def _refuse(kind: type[Exception], message: str) -> None:
    ours = [f for f in traceback.extract_stack() if "facewright" in f.filename]
    ours = [f for f in ours if "pretended_device" not in f.filename] or traceback.extract_stack()
    refused.append(f"{ours[-1].filename}:{ours[-1].lineno} {ours[-1].line}: {message}")
    # Said at once: raised within a backward pass it ends the process.
    sys.stderr.write(f"refused: {refused[-1]}\n")
    raise kind(message)


_MAY_MIX = ("aten.copy_", "aten._to_copy", "aten.index", "aten._index_put", "aten.set_")
"""Operations that take tensors of both places on a real device, too."""


def _run(func, args, kwargs):
    held = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Held)]
    plain = [
        leaf
        for leaf in tree_leaves((args, kwargs))
        if isinstance(leaf, Tensor) and not isinstance(leaf, Held) and leaf.ndim
    ]
    name = str(func)
    if held and plain and not name.startswith(_MAY_MIX):
        message = f"Expected all tensors to be on the same device, but found {TYPE} and cpu"
        _refuse(RuntimeError, f"{message} ({name})")
    wrap = bool(held)
    device = kwargs.get("device")
    if device is not None:
        wrap = torch.device(device).type == TYPE
        kwargs = {**kwargs, "device": torch.device("cpu") if wrap else device}
    if name.startswith("aten.copy_"):
        wrap = isinstance(args[0], Held)
    if wrap and kwargs.get("generator") is not None:
        _refuse(RuntimeError, f"Expected a '{TYPE}' device type for generator but found 'cpu'")
    if held and not wrap and (kwargs.get("dtype") in WIDE or _is_wide(args[:1])):
        _refuse(TypeError, f"{TYPE} cannot convert to float64 on the way; move first ({name})")
    computed[0] += wrap
    known = {id(tensor.inner): tensor for tensor in held}
    out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))

    def place(value):
        if not isinstance(value, Tensor):
            return value
        if id(value) in known:  # done in place
            return known[id(value)]
        if not wrap:
            return value
        if value.dtype in WIDE:
            _refuse(TypeError, f"{TYPE} does not support {value.dtype}. Please use float32 instead")
        return Held(value)

    return tree_map(place, out)


class _Module(backend_registration._DummyBackendModule):
    """What `torch.privateuseone` is. It knows nothing of autocast."""

    def _lazy_init(self):
        pass

    def synchronize(self, device=None):
        pass

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


def install() -> torch.device:
    """Register it, once in a process; there is no way back."""
    if _KEEP:
        return DEVICE
    # "Renamed" to the name it has, as torch counts a backend without a name for none.
    # torch does not keep these alive, and asks them all the same.
    hook = backend_registration._DummyPrivateUse1Hook()
    guard = backend_registration._DummyDeviceGuard()
    _KEEP.extend((hook, guard))
    backend_registration._setup_privateuseone_for_python_backend(TYPE, _Module(), hook, guard)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    _KEEP.append(library)
    plain_tensor, plain_as_tensor = torch.tensor, torch.as_tensor

    # Both make storage of their own, which a backend written in Python does not have.
    def tensor(data, *, dtype=None, device=None, requires_grad=False):
        made = plain_tensor(data, dtype=dtype)
        made = made if device is None else made.to(device)
        return made.requires_grad_() if requires_grad else made

    def as_tensor(data, dtype=None, device=None):
        made = data if isinstance(data, Tensor) else plain_as_tensor(data)
        return made.to(device=made.device if device is None else device, dtype=dtype or made.dtype)

    torch.tensor, torch.as_tensor = tensor, as_tensor
    return DEVICE


@contextmanager
def strict():
    """Fail in the end where anything was refused, also where the code went on without it."""
    refused.clear()
    computed[0] = 0
    yield
    if refused:
        raise AssertionError("\n".join(refused))


def pytest_configure(config) -> None:
    """As a plugin of pytest (-p pretended_device), to try any other test on it."""
    install()


def main() -> None:
    """A command of facewright on the device; exits with 99 where anything was refused."""
    import os

    install()
    os.environ.setdefault("FACEWRIGHT_DEVICE", TYPE)
    from facewright.headless.cli import app

    try:
        app(sys.argv[1:], prog_name="facewright")
    finally:
        sys.stderr.write(f"{computed[0]} operations on {TYPE}\n")
        for line in refused:
            sys.stderr.write(f"refused: {line}\n")
        if refused:
            sys.exit(99)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a worker process of the command
    install()
