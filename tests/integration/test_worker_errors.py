"""An error that a user can fix comes out of a worker as it went in: its class, its status and its one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from restore_dit.data.exchange.limits import TooLarge
from restore_dit.errors import StorageUnavailable, UserError, user_error_behind

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120), pytest.mark.usefixtures("ray_cluster")]

ERRORS = [
    UserError("tile a: damaged", status=2),
    StorageUnavailable("s3://bucket: the server is overloaded"),
    TooLarge("a.nc: 9 dates; at most 8 are accepted"),
]


def fail(error: Exception) -> None:
    raise error


class Failing(Datasource):
    """A source for Ray Data whose only task fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        error = self.error

        def read() -> list[Any]:
            raise error

        return [ReadTask(read, BlockMetadata(num_rows=1, size_bytes=None, exec_stats=None))]


def of_a_task(error: Exception) -> None:
    ray.get(ray.remote(fail).remote(error))


def of_a_task_of_a_task(error: Exception) -> None:
    def outer() -> None:
        ray.get(ray.remote(lambda: fail(error)).remote())

    ray.get(ray.remote(outer).remote())


def of_a_read_of_ray_data(error: Exception) -> None:
    list(ray.data.read_datasource(Failing(error), override_num_blocks=1).iter_batches())


@pytest.mark.parametrize("raised", [of_a_task, of_a_task_of_a_task, of_a_read_of_ray_data])
def test_an_error_of_a_user_keeps_class_status_and_message(raised: Callable[[Exception], None]) -> None:
    for error in ERRORS:
        with pytest.raises(UserError) as arrived:
            raised(error)
        found = user_error_behind(arrived.value)
        assert type(found) is type(error)
        assert (str(found), found.status) == (str(error), error.status)


@pytest.mark.parametrize("raised", [of_a_task, of_a_read_of_ray_data])
def test_another_error_is_none_of_a_user_whatever_it_says(raised: Callable[[Exception], None]) -> None:
    with pytest.raises(ValueError, match="UserError") as arrived:
        raised(ValueError("restore_dit.errors.UserError: not one"))
    assert user_error_behind(arrived.value) is None
