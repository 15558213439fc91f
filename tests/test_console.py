from __future__ import annotations

from io import StringIO

from rich.console import Console

from pipeline.console import ConsoleObserver
from pipeline.runner import STAGES
from tests.helpers.settings import Compose


def test_a_terminal_shows_a_progress_bar_with_rate_and_remaining_time() -> None:
    screen = StringIO()
    observer = ConsoleObserver(Console(file=screen, force_terminal=True, width=120))
    progress = observer.stage_started(STAGES[0])
    assert progress is not None
    for done in range(1, 31):
        progress(done, 60)
    observer.failed(KeyboardInterrupt())
    shown = screen.getvalue()
    assert "download" in shown
    assert "30/60" in shown
    assert "images" in shown
    assert "/s" in shown
    assert "0:00:0" in shown


def test_a_file_has_no_progress_bar() -> None:
    assert ConsoleObserver(Console(file=StringIO())).stage_started(STAGES[0]) is None


def test_a_long_list_of_layers_is_named_by_its_first_and_last_layer(compose: Compose) -> None:
    screen = StringIO()
    ConsoleObserver(Console(file=screen, width=200)).resolved(compose("layer=[conv1,relu1,conv2,relu2,conv3]"))
    assert screen.getvalue().startswith(
        "Which layers and channels of digits_cnn (conv1 to conv3) matter for class 8? 20 "
    )
