"""The models that are served: one model directory, or a folder of them, by name."""

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
    """A caller names a model that is not served."""


@dataclass(frozen=True)
class Registry:
    """A folder at any URI. It is looked at anew for every list, so that a model that is put there is served."""

    uri: str
    default: str | None = None

    @cached_property
    def _folder(self) -> Location:
        return locate_model(self.uri)

    @property
    def names(self) -> list[str]:
        """Sorted. A model directory by itself has the name of its run where it is one's, else its own."""
        if exists(self._folder.join(WEIGHTS)):
            return [self._single_name]
        return [name for name in list_names(self._folder) if exists(self._place(name).join(WEIGHTS))]

    def default_name(self) -> str:
        """The model of a request that names none.

        Raises:
            UserError: there is no model, or the configured one is none of them.
        """
        names = self.names
        if not names:
            raise UserError(f"{self.uri}: no model directory there, and no folder of such")
        if self.default is not None and self.default not in names:
            raise UserError(f"{self.uri}: no model {self.default}; there are {', '.join(names[:10])}")
        return self.default or names[0]

    def load(self, name: str) -> Model:
        """The model of this name.

        Raises:
            NoSuchModel: there is none.
            UserError: it is damaged.
        """
        from restore_dit.reconstruction.model_directory import load_model  # not for those that only describe it

        return load_model(self._found(name))

    def describe(self, name: str) -> ModelDescription:
        """What a model of this name is, without its weights.

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
        """A run's own folder has the model in `model/`."""
        direct = self._folder.join(name)
        return direct if exists(direct.join(WEIGHTS)) else direct.join("model")

    @property
    def _single_name(self) -> str:
        parts = [part for part in self._folder.path.split("/") if part]
        return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]
