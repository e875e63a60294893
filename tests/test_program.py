"""Ctrl-C, and the signal by which a cluster stops a job."""

import os
import signal
import threading
from io import StringIO

import pytest
from rich.console import Console

from restore_dit.program import stop_when_interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number):
    asked = threading.Event()
    said = StringIO()
    before = signal.getsignal(number)

    def training() -> None:
        with stop_when_interrupted(asked.set, Console(file=said)):
            os.kill(os.getpid(), number)
            assert asked.wait(5)
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        training()
    assert signal.getsignal(number) == before
    assert said.getvalue().count("stopping") == 1
