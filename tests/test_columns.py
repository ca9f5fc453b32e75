"""Every column of the output tables is described, in the order in which it stands there."""

from __future__ import annotations

import pytest

from toxmid import _core, columns


@pytest.mark.parametrize(
    ("described", "fields"), [(columns.BARS, _core.BAR_FIELDS), (columns.EVENTS, _core.EPISODE_FIELDS)]
)
def test_descriptions(described: tuple[columns.Column, ...], fields: list[tuple[str, str]]) -> None:
    assert [column.name for column in described] == [name for name, _ in fields]
    assert all(column.unit or column.meaning for column in described)
