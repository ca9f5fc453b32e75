"""The progress line: what it says, how often, and when it keeps silent."""

from __future__ import annotations

import io
import os
import re

import pytest

from toxmid.progress import Progress, format_count, format_seconds


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A text stream that counts writes and says that somebody watches."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)

    def lines(self) -> list[str]:
        """The successive states of the line, without the control codes."""
        return [re.sub(r"\r|\x1b\[K", "", text) for text in self.writes if text != "\n"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((200, 24)))


def test_line_tells_share_rows_rate_and_time_left(clock: Clock) -> None:
    progress = Progress(1_000_000, label="replay", stream=Terminal(), clock=clock)
    clock.now += 2.0
    progress.advance(250_000)
    assert progress.line() == "replay   25 % " + "█" * 6 + "░" * 18 + "  250k of 1.00M rows  125k rows/s  6.0 s left"


def test_no_rate_before_there_is_a_meaningful_one(clock: Clock) -> None:
    progress = Progress(1000, stream=Terminal(), clock=clock)
    clock.now += 0.01
    progress.advance(999)
    assert "rows/s" not in progress.line()
    assert "left" not in progress.line()


def test_unknown_total_shows_neither_share_nor_time_left(clock: Clock) -> None:
    progress = Progress(None, unit="events", stream=Terminal(), clock=clock)
    clock.now += 4.0
    progress.advance(8_000)
    assert progress.line() == "8.00k events  2.00k events/s"


def test_more_rows_than_announced_never_pass_100_percent(clock: Clock) -> None:
    progress = Progress(10, stream=Terminal(), clock=clock)
    clock.now += 1.0
    progress.advance(15)
    assert progress.line().startswith("100 % " + "█" * 24)
    assert progress.line().endswith("0.00 s left")


def test_writes_at_most_five_times_a_second(clock: Clock) -> None:
    terminal = Terminal()
    progress = Progress(10_000, stream=terminal, clock=clock)
    for _ in range(10_000):
        clock.now += 0.001
        progress.advance()
    assert 45 <= len(terminal.lines()) <= 51


def test_summary_replaces_the_bar(clock: Clock) -> None:
    terminal = Terminal()
    with Progress(86_400, label="replay", stream=terminal, clock=clock) as progress:
        clock.now += 8.0
        progress.advance(86_400)
    assert terminal.lines()[-1] == "replay: 86.4k rows in 8.0 s (10.8k rows/s)"
    assert terminal.writes[-1] == "\n"
    clock.now += 50.0
    progress.close()
    assert progress.summary() == "replay: 86.4k rows in 8.0 s (10.8k rows/s)"
    assert terminal.writes.count("\n") == 1


def test_an_error_ends_the_line_without_a_summary(clock: Clock) -> None:
    terminal = Terminal()

    def fail_half_way() -> None:
        with Progress(10, stream=terminal, clock=clock) as progress:
            progress.advance(3)
            raise ValueError("bad row")

    with pytest.raises(ValueError, match="bad row"):
        fail_half_way()
    assert terminal.writes[-1] == "\n"
    assert not any(" in " in line for line in terminal.lines())


@pytest.mark.parametrize("quiet", [True, False])
def test_silent_when_quiet_or_not_a_terminal(clock: Clock, quiet: bool) -> None:
    stream: io.StringIO = Terminal() if quiet else io.StringIO()
    with Progress(10, stream=stream, quiet=quiet, clock=clock) as progress:
        clock.now += 1.0
        progress.advance(10)
    assert stream.getvalue() == ""
    assert progress.summary() == "10 rows in 1.0 s (10 rows/s)"


def test_line_is_cut_to_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((30, 24)))
    terminal = Terminal()
    Progress(10, label="a label that is longer than the terminal", stream=terminal, clock=clock).advance()
    assert [len(line) for line in terminal.lines()] == [29]


def test_plain_glyphs_where_the_encoding_has_no_blocks(clock: Clock) -> None:
    terminal = Terminal()
    terminal.encoding = "latin-1"
    progress = Progress(2, stream=terminal, clock=clock)
    progress.advance()
    assert " 50 % ############............" in progress.line()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.6, "1.00k"), (9_996, "10.0k"), (99_960, "100k"), (999_960, "1.00M")],
)
def test_counts_never_grow_past_four_characters_of_digits(number: float, text: str) -> None:
    assert format_count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.00 s"), (59.9, "59.9 s"), (59.97, "1 min 0 s"), (3599.7, "1 h 00 min"), (86_400, "1 d 00 h")],
)
def test_times_carry_at_unit_borders(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
