"""Options that say where a workflow runs, and what opens the door there."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import DiffusionMachine, exists, is_file, path_option, say, wrong_usage


def _secret(given: str) -> str:
    """Parser of options whose value may lie in a file: who lists processes sees command lines."""
    if not given.startswith("@"):
        return given
    from ...core.errors import FacewrightError, os_sentence
    from ...core.files.writing import expand_path

    try:
        found = is_file(exists(expand_path(given[1:])))
        return found.read_text(encoding="utf-8").strip() if found else ""
    except FacewrightError as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        raise typer.BadParameter(os_sentence(error)) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{given[1:]} is no text.") from None


@dataclass(frozen=True)
class Where:
    """Where a workflow runs."""

    name: str
    server: Any = None
    """`remote.address.Server`; None: this process."""
    specs: Callable[[str], Any] = lambda kind: None
    api_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Door(DiffusionMachine):
    """This machine, or a ComfyUI elsewhere and what opens its door."""

    server: Annotated[
        str | None,
        typer.Option(
            help="Address of a ComfyUI to run it in, such as https://user:password@host:8188."
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(
            parser=_secret,
            metavar="'NAME: VALUE'|@FILE",
            help="With --server: sent along with every request. @FILE has one header a line. May "
            "be given several times.",
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        path_option(
            "With --server: certificates (PEM) to trust besides the system's, such as one that "
            "its owner signed.",
            callback=is_file,
        ),
    ] = None
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="With --server: trust any certificate. Whoever is in between can read along.",
        ),
    ] = False

    def check_door(self, *, elsewhere: bool) -> None:
        """Options that make no sense beside others are wrong usage."""
        if self.server is None and (self.header or self.ca_file or self.insecure):
            raise typer.BadParameter("--header, --ca-file and --insecure belong to --server.")
        if self.models is not None and elsewhere:
            raise typer.BadParameter(
                "ComfyUI has models folders of its own; --models is for runs in this process."
            )
        if self.device is not None and elsewhere:
            raise typer.BadParameter(
                "ComfyUI chooses its device itself (its options --cpu and --cuda-device, which "
                "--comfy-args passes on); --device is for runs in this process."
            )

        if self.dtype is not None and elsewhere:
            raise typer.BadParameter(
                "ComfyUI chooses its number formats itself (its options --fp32-unet, --fp16-unet, "
                "--fp32-vae and the like, which --comfy-args passes on); --dtype is for runs in "
                "this process."
            )

    def address(self) -> Any:
        """That of --server, with what opens its door; None without."""
        from ..remote.address import Server

        if self.server is None:
            return None
        with wrong_usage():
            at = Server.of(
                self.server, _lines(self.header), ca_file=self.ca_file, insecure=self.insecure
            )
        if (self.ca_file or self.insecure) and not at.url.startswith("https://"):
            raise typer.BadParameter(
                "--ca-file and --insecure are for addresses that begin with https://."
            )
        return at


@dataclass(frozen=True, kw_only=True)
class Place(Door):
    """Where the workflow runs."""

    api_key: Annotated[
        str | None,
        typer.Option(
            parser=_secret,
            metavar="KEY|@FILE",
            help="With --server or --comfy: a comfy.org key for nodes that use paid services.",
        ),
    ] = None
    comfy: Annotated[
        bool,
        typer.Option(
            "--comfy",
            help="Start the ComfyUI of this machine for it (COMFYUI_PATH or comfy-cli's), and stop "
            "it afterwards.",
        ),
    ] = False
    comfy_args: Annotated[
        str, typer.Option(help='With --comfy: more for its command line, such as "--lowvram".')
    ] = ""
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Run here even where a ComfyUI is found.")
    ] = False

    def check(self) -> None:
        """Options that make no sense beside others are wrong usage."""
        elsewhere = self.server is not None or self.comfy
        if (self.server is not None) + self.comfy + self.embedded > 1:
            raise typer.BadParameter("--server, --comfy and --embedded exclude each other.")
        if self.comfy_args and not self.comfy:
            raise typer.BadParameter("--comfy-args is for the ComfyUI that --comfy starts.")
        if self.api_key is not None and not elsewhere:
            raise typer.BadParameter("--api-key belongs to --server or --comfy.")
        self.check_door(elsewhere=elsewhere)

    def arguments(self) -> list[str]:
        """Of the ComfyUI to start."""
        from ...core.errors import shorten

        try:
            return shlex.split(self.comfy_args)
        except ValueError as error:
            raise typer.BadParameter(
                f"{shorten(self.comfy_args)!r} cannot be taken apart ({error}).",
                param_hint="--comfy-args",
            ) from error

    @contextmanager
    def entered(self, source: Any) -> Iterator[Where]:
        """The place, for as long as the workflow runs there."""
        from ..remote.address import Server
        from ..remote.server import DEFAULT_SERVER, answers, server_specs
        from ..runner import input_specs

        if self.comfy:
            from ..remote.launch import started_comfyui
            from ..workflows.workflow import node_kinds

            with started_comfyui(node_kinds(source), self.arguments(), say) as address:
                at = Server.of(address)
                yield Where("the ComfyUI started for it", at, server_specs(at), self.api_key)
            return
        at = self.address()
        here = self.embedded or self.device is not None or self.dtype is not None
        if at is None and not here and answers(DEFAULT_SERVER):
            at = Server.of(DEFAULT_SERVER)
        if at is not None:
            yield Where(str(at), at, server_specs(at), self.api_key)
        else:
            yield Where("this process", None, input_specs)


def _lines(headers: Sequence[str] | None) -> list[str]:
    return [line for given in headers or () for line in given.splitlines() if line.strip()]
