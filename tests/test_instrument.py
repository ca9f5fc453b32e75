"""Instrument: who wins (user, table, data), what is assumed, and the decimal grid."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxmid.errors import ParameterError
from toxmid.instrument import Instrument, decimal_grid


@pytest.mark.parametrize(
    ("venue", "symbol", "expected"),
    [
        ("binance-delivery", "BTCUSD_PERP", (True, 100.0, "known", 1.0)),
        ("binance-delivery", "BTCUSD_251226", (True, 100.0, "known", 1.0)),
        ("binance-delivery", "AAVEUSD_PERP", (True, 10.0, "assumed", 1.0)),
        ("bitmex", "XBTUSD", (True, 1.0, "known", 1.0)),
        ("bitmex", "XBTZ25", (True, 1.0, "known", 1.0)),
        ("bitmex", "ETHUSD", (False, 1.0, "assumed", None)),
        ("deribit", "BTC-PERPETUAL", (True, 1.0, "known", 10.0)),
        ("deribit", "ETH-27DEC24", (True, 1.0, "known", 1.0)),
        ("deribit", "BTC-27DEC24-60000-C", (False, 1.0, "known", None)),
        ("deribit", "SOL_USDC-PERPETUAL", (False, 1.0, "known", None)),
        ("okex-swap", "BTC-USD-SWAP", (True, 100.0, "known", 1.0)),
        ("okex-swap", "ETH-USDT-SWAP", (False, 0.1, "known", None)),
        ("okex-swap", "AVAX-USDT-SWAP", (False, 1.0, "assumed", None)),
        ("huobi-dm-swap", "BTC-USD", (True, 100.0, "known", 1.0)),
        ("huobi-dm-swap", "ETH-USD", (True, 10.0, "assumed", 1.0)),
        ("huobi-dm", "BTC_CQ", (True, 100.0, "known", 1.0)),
        ("bybit", "BTCUSD", (True, 1.0, "known", 1.0)),
        ("bybit", "BTCUSDZ25", (True, 1.0, "known", 1.0)),
        ("bybit", "BTCUSDT", (False, 1.0, "known", None)),
        ("bybit", "BTCPERP", (False, 1.0, "known", None)),
        ("cryptofacilities", "PI_XBTUSD", (True, 1.0, "known", 1.0)),
        ("cryptofacilities", "PF_XBTUSD", (False, 1.0, "known", None)),
        ("binance-futures", "BTCUSDT", (False, 1.0, "known", None)),
        ("coinbase", "AAVE-USD", (False, 1.0, "known", None)),
    ],
)
def test_table_of_venues(venue, symbol, expected):
    instrument = Instrument.resolve(venue=venue, symbol=symbol)
    source = instrument.origin["contract_value"]
    assert (instrument.inverse, instrument.contract_value, source, instrument.lot) == expected
    assert instrument.origin["inverse"] == "known"


def test_nothing_known_says_unknown():
    instrument = Instrument.resolve(venue="an-exchange", symbol="ABC")
    assert instrument.quotes_base_coin
    assert instrument.origin["inverse"] == instrument.origin["contract_value"] == instrument.origin["tick"] == "unknown"
    assert instrument.origin["venue"] == "known"


def test_user_wins_over_table_and_table_over_data():
    found = {"contract_value": 7.0, "tick": 0.1, "lot": 3.0}
    table = Instrument.resolve(venue="binance-delivery", symbol="BTCUSD_PERP", found=found)
    assert (table.contract_value, table.lot, table.tick, table.origin["tick"]) == (100.0, 1.0, 0.1, "found")
    given_ = Instrument.resolve(
        Instrument(contract_value=5.0), venue="binance-delivery", symbol="BTCUSD_PERP", found=found
    )
    assert (given_.contract_value, given_.origin["contract_value"], given_.inverse) == (5.0, "given", True)


def test_data_win_over_an_assumption():
    instrument = Instrument.resolve(venue="binance-delivery", symbol="DOTUSD_PERP", found={"contract_value": 10.0})
    assert instrument.origin["contract_value"] == "found"


def test_user_may_overrule_the_kind_of_contract():
    linear = Instrument.resolve(Instrument(origin={"inverse": "given"}), venue="bitmex", symbol="XBTUSD")
    assert linear.quotes_base_coin
    inverse = Instrument.resolve(Instrument(inverse=True), venue="bybit", symbol="BTCUSDT")
    assert (inverse.contract_value, inverse.origin["contract_value"]) == (100.0, "assumed")


def test_given_venue_and_symbol_are_looked_up():
    assert Instrument.resolve(Instrument(venue="deribit", symbol="BTC-PERPETUAL")).inverse


@pytest.mark.parametrize("field", ["tick", "lot", "contract_value"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_numbers_must_be_positive(field, value):
    with pytest.raises(ParameterError, match=field):
        Instrument(**{field: value})


@pytest.mark.parametrize("kwargs", [{"inverse": 1}, {"origin": {"tic": "given"}}, {"origin": {"tick": "guessed"}}])
def test_other_nonsense_is_refused(kwargs):
    with pytest.raises(ParameterError):
        Instrument(**kwargs)


def test_value_semantics():
    one, two = (Instrument.resolve(venue="bitmex", symbol="XBTUSD") for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
    assert Instrument.from_dict(one.to_dict()) == one
    with pytest.raises(TypeError):
        one.origin["tick"] = "given"  # type: ignore[index]
    with pytest.raises(ParameterError, match="tik"):
        Instrument.from_dict({"tik": 1})


def test_replace_marks_what_changed_as_given():
    instrument = Instrument.resolve(venue="binance-delivery", symbol="DOTUSD_PERP").replace(contract_value=10.0)
    assert instrument.origin["contract_value"] == "given"
    assert instrument.origin["inverse"] == "known"
    assert instrument.replace(tick=0.001, origin={"tick": "found"}).origin["tick"] == "found"


def test_base_size():
    inverse = Instrument(contract_value=10.0, inverse=True)
    np.testing.assert_array_equal(inverse.base_size([1, 4], [20.0, 10.0]), [0.5, 4.0])
    linear = Instrument(contract_value=0.25)
    assert linear.base_size(4, 123.0) == 1.0
    assert not linear.quotes_base_coin


@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=50),
    st.integers(0, 6),
)
def test_decimal_grid_is_the_greatest_common_divisor(steps, decimals):
    values = [float(f"{step}e-{decimals}") for step in steps]
    grid = decimal_grid(values)
    assert grid == float(f"{np.gcd.reduce(np.array(steps))}e-{decimals}")


@pytest.mark.parametrize("values", [[], [0.0, -1.0, float("nan")], [1 / 3], [0.1 + 0.2]])
def test_no_grid(values):
    assert decimal_grid(values) is None
