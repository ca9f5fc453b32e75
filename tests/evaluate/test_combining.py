"""Encompassing by sums: they add up, and give what statsmodels gives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from toxmid.evaluate.combining import Moments, combine


def clusters(n: int = 30, rows: int = 50) -> tuple[list[Moments], np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(n), rows)
    x = rng.normal(size=(n * rows, 2)) + rng.normal(size=(n, 2))[group]
    y = 0.7 * x[:, 0] + rng.normal(size=n)[group] + rng.normal(size=n * rows)
    return [Moments.of(y[group == g], x[group == g]) for g in range(n)], y, x, group


def test_against_statsmodels() -> None:
    parts, y, x, group = clusters()
    ours = combine(parts, ["good", "idle"], group={"where": "here"})
    cov = {"groups": group, "use_correction": True}
    theirs = sm.OLS(y, x).fit(cov_type="cluster", cov_kwds=cov)
    n, k = x.shape
    np.testing.assert_allclose(ours["b"], theirs.params)
    np.testing.assert_allclose(ours["se"], theirs.bse / np.sqrt((n - 1) / (n - k)))
    assert ours["where"].to_list() == ["here", "here"]
    assert ours["p"][0] < 0.01 < ours["p"][1]


def test_alone_and_gain() -> None:
    parts, y, x, _ = clusters()
    table = combine(parts, ["good", "idle"], group={})
    assert table["alone"][1] == pytest.approx(x[:, 1] @ y / (x[:, 1] @ x[:, 1]))
    without = ((y - x[:, 1] * table["alone"][1]) ** 2).sum()
    with_it = ((y - x @ table["b"].to_numpy()) ** 2).sum()
    assert table["gain"][0] == pytest.approx(1.0 - with_it / without)


def test_sums_add_up() -> None:
    parts, y, x, _ = clusters(2)
    both, whole = parts[0] + parts[1], Moments.of(y, x)
    np.testing.assert_allclose(both.xx, whole.xx)
    np.testing.assert_allclose(both.xy, whole.xy)
    assert both.yy == pytest.approx(whole.yy)
    assert both.rows == whole.rows


def test_a_silent_estimate_takes_no_part() -> None:
    _, y, x, _ = clusters()
    silent = [Moments.of(y[i : i + 50], np.stack([x[i : i + 50, 0], np.zeros(50)], axis=1)) for i in range(0, 1500, 50)]
    table = combine(silent, ["good", "silent"], group={})
    assert table["b"][0] == pytest.approx(table["alone"][0])
    assert table.row(1)[1:6] == (None,) * 5


def test_one_cluster_has_no_error() -> None:
    table = combine(clusters()[0][:1], ["good", "idle"], group={})
    assert table["b"].null_count() == 0
    assert table.select(pl.col("se", "p").null_count()).row(0) == (2, 2)


def test_nothing_gives_an_empty_say() -> None:
    table = combine([], ["good"], group={})
    assert table["b"].to_list() == [None]
