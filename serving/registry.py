"""The models that are served, by name: a single model directory, or a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from restore_dit.data.storage import Location, exists, list_names
from restore_dit.errors import UserError
from restore_dit.reconstruction.model_description import ModelDescription, describe_model, locate_model

if TYPE_CHECKING:
    from restore_dit.reconstruction.model_directory import Model

WEIGHTS = "model.safetensors"


class NoSuchModel(UserError):
    """A caller named a model that is not served."""


@dataclass(frozen=True)
class Registry:
    """A folder at any URI. It is listed anew each time, so a model added later is served without a restart."""

    uri: str
    default: str | None = None

    @cached_property
    def _folder(self) -> Location:
        return locate_model(self.uri)

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted. A single model directory is named after its run if it lies in one, otherwise
        after itself."""
        if exists(self._folder.join(WEIGHTS)):
            return [self._single_name]
        return [name for name in list_names(self._folder) if exists(self._place(name).join(WEIGHTS))]

    def default_name(self) -> str:
        """Name of the model for requests that name none.

        Raises:
            UserError: there is no model, or the configured default does not exist.
        """
        names = self.names
        if not names:
            raise UserError(f"{self.uri}: neither a model directory nor a folder of model directories")
        if self.default is not None and self.default not in names:
            raise UserError(f"{self.uri}: no model {self.default}; available: {', '.join(names[:10])}")
        return self.default or names[0]

    def load(self, name: str) -> Model:
        """Loads the model with this name.

        Raises:
            NoSuchModel: there is none.
            UserError: it is damaged.
        """
        from restore_dit.reconstruction.model_directory import load_model  # slow to import, not needed to describe

        return load_model(self._found(name))

    def describe(self, name: str) -> ModelDescription:
        """Description of the model with this name, without loading its weights.

        Raises:
            NoSuchModel: there is none.
            UserError: it is damaged.
        """
        return describe_model(self._found(name))

    def _found(self, name: str) -> Location:
        if name not in self.names:
            raise NoSuchModel(f"no model {name[:60]!r}; GET /v1/models lists them")
        if name == self._single_name and exists(self._folder.join(WEIGHTS)):
            return self._folder
        return self._place(name)

    def _place(self, name: str) -> Location:
        """The model directory: the folder itself, or `model/` in the folder of a run."""
        direct = self._folder.join(name)
        return direct if exists(direct.join(WEIGHTS)) else direct.join("model")

    @property
    def _single_name(self) -> str:
        parts = [part for part in self._folder.path.split("/") if part]
        return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]
