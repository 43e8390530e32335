"""What every section of a training config is made of, and the error that names a wrong one."""

from pydantic import BaseModel, ConfigDict

from ..core.errors import FacewrightError


class ConfigError(FacewrightError):
    """The YAML file does not describe a run; the message names every wrong key."""


class Strict(BaseModel):
    """Base of every section: unknown keys are refused, values checked, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
