from __future__ import annotations

from io import StringIO

from rich.console import Console

from pipeline.console import ConsoleObserver
from pipeline.runner import STAGES


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
