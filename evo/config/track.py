"""The section `track`: trackers that follow the run, each with its settings."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field

from evo.config.base_section import Section


def _no_credentials(address: str) -> str:
    """An address without user and password, which would be recorded in the run folder."""
    if "@" in urlsplit(address).netloc:
        raise ValueError(
            "has a user or a password, which a run folder would record; give them by the tracker's "
            "own variables of the environment"
        )
    return address


Address = Annotated[str, Field(min_length=1), AfterValidator(_no_credentials)]
Project = Annotated[str, Field(min_length=1)]
Settings = Section | Mapping[str, Any]


class Mlflow(Section):
    """Runs of an MLflow server or database."""

    uri: Address | None = Field(
        default=None,
        description="Tracking server or database, as `http://host:5000` or `sqlite:///mlflow.db`. "
        "Default: as MLflow itself, from MLFLOW_TRACKING_URI.",
    )
    experiment: Project = Field(default="evomix", description="Experiment of the runs.")


class Wandb(Section):
    """Runs of Weights & Biases."""

    project: Project = Field(default="evomix", description="Project of the runs.")
    entity: str | None = Field(default=None, description="User or team. Default: yours.")
    mode: Literal["online", "offline"] = Field(
        default="online",
        description="`offline` writes to WANDB_DIR, for `wandb sync` later. `online` needs "
        "`wandb login` or WANDB_API_KEY.",
    )


class Tensorboard(Section):
    """Event files for TensorBoard."""

    folder: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of the event files, relative to the working directory; the run's are "
        "in a folder with its name. Default: `tensorboard` in the run folder.",
    )


class Trackio(Section):
    """Runs of Trackio."""

    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = Field(
        default="evomix", description="Project of the runs."
    )
    space: str | None = Field(
        default=None,
        min_length=1,
        description="Hugging Face Space that takes them. Default: TRACKIO_SPACE_ID, else this "
        "machine.",
    )


class Track(Section):
    """Trackers by name; `{}` is one with its default settings.

    Other names are those of installed packages, by entry points of the group `evomix.trackers`.
    """

    model_config = ConfigDict(extra="allow")

    mlflow: Mlflow | None = Field(default=None, description="MLflow (extra `mlflow`).")
    wandb: Wandb | None = Field(default=None, description="Weights & Biases (extra `wandb`).")
    tensorboard: Tensorboard | None = Field(
        default=None, description="TensorBoard (extra `tensorboard`)."
    )
    trackio: Trackio | None = Field(default=None, description="Trackio (extra `trackio`).")

    @property
    def chosen(self) -> dict[str, Settings]:
        """Settings of the trackers that are named, by name; plain values of other packages'."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        named = {name: settings for name, settings in found.items() if settings is not None}
        return {**named, **(self.model_extra or {})}

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, by name."""
        return self.model_dump(mode="json", exclude_none=True)
