"""Delimited text described by TOML."""

from __future__ import annotations

import pytest

from toxmid.errors import DataError, FileError, ParameterError
from toxmid.instrument import Instrument
from toxmid.readers import open_tape, read_book, read_liquidations, read_trades

MAP = """
kind = "trades"
time = "ms"
separator = ";"
[columns]
ts = "t"
price = "px"
size = "qty"
side = "dir"
id = "n"
[side]
b = "buy"
s = "sell"
"?" = "unknown"
"""
ROWS = "1760130960123;20.5;3;b;1\n1760130960124;20.4;1;s;2\n1760130960124;20.4;1;s;2\n1760130960125;20.4;1;?;3\n"
HEADER = "t;px;qty;dir;n\n"


def test_trades(write):
    description = write("map.toml", MAP)
    tape = open_tape(write("x.txt", HEADER + ROWS), "trades", format=str(description))
    frame = tape.frame()
    assert frame.select("price", "size", "side", "id").rows() == [
        (20.5, 3.0, 1, "1"),
        (20.4, 1.0, -1, "2"),
        (20.4, 1.0, 0, "3"),
    ]
    assert frame["ts"].to_physical()[0] == 1760130960123000000
    assert tape.counts == {"rows_read": 4, "rows_used": 3, "duplicates": 1}


def test_without_header(write):
    description = write("map.toml", 'header = ["t", "px", "qty", "dir", "n"]\n' + MAP)
    assert read_trades(write("x.txt", ROWS), format=str(description))["price"].to_list() == [20.5, 20.4, 20.4]


def test_sample(samples):
    folder = samples / "delimited"
    frame = read_trades(folder / "trades.txt", format=str(folder / "trades.toml"))
    assert frame.select("price", "size", "side", "lots").rows() == [(20.0, 2.0, 1, 4), (25.0, 4.0, -1, 10)]


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("s", "1760130960.123456"),
        ("ms", "1760130960123"),
        ("us", "1760130960123456"),
        ("ns", "1760130960123456000"),
        ("iso", "2025-10-10T21:16:00.123456Z"),
    ],
)
def test_times(write, time, text):
    description = write("map.toml", MAP.replace('"ms"', f'"{time}"'))
    frame = read_trades(write("x.txt", f"{HEADER}{text};20;1;b;1\n"), format=str(description))
    expected = 1760130960123000000 if time == "ms" else 1760130960123456000
    assert frame["ts"].to_physical().to_list() == [expected]


def test_venue_says_what_a_contract_is_worth(write):
    description = write("map.toml", 'venue = "binance-delivery"\nsymbol = "BTCUSD_PERP"\n' + MAP)
    frame = read_trades(write("x.txt", HEADER + "1760130960123;50000;5;b;1\n"), format=str(description))
    assert frame.select("size", "lots").row(0) == (0.01, 5)
    given = Instrument(contract_value=10.0)
    assert read_trades(
        write("x.txt", HEADER + "1760130960123;50000;5;b;1\n"), format=str(description), instrument=given
    )["size"].to_list() == [0.001]


def test_book(write):
    description = write(
        "map.toml",
        """
kind = "book"
time = "iso"
[columns]
ts = "time"
ts_event = "exchange"
side = "side"
price = "price"
size = "size"
snapshot = "full"
[side]
B = "bid"
A = "ask"
[snapshot]
true = ["yes"]
false = ["no"]
""",
    )
    text = (
        "time,exchange,side,price,size,full\n"
        "2025-10-10T21:16:01Z,2025-10-10T21:16:00Z,B,1,2,yes\n"
        "2025-10-10T21:16:02Z,2025-10-10T21:16:01Z,A,2,0,no\n"
    )
    frame = read_book(write("x.csv", text), format=str(description))
    assert frame.select("side", "price", "size", "snapshot").rows() == [(1, 1.0, 2.0, True), (-1, 2.0, 0.0, False)]
    assert (frame["ts"] - frame["ts_event"]).dt.total_seconds().to_list() == [1, 1]


def test_errors_in_the_text_are_located(write):
    description = str(write("map.toml", MAP))
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_trades(write("x.txt", HEADER + ROWS.replace(";b;", ";buy;")), format=description)
    assert (caught.value.row, caught.value.column, caught.value.found) == (2, "dir", "buy")
    with pytest.raises(FileError, match="needs qty"):
        read_trades(write("x.txt", (HEADER + ROWS).replace("qty", "quantity")), format=description)
    with pytest.raises(DataError, match="holds no liquidations"):
        read_liquidations(write("x.txt", HEADER + ROWS), format=description)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "trades"', "", "kind is missing"),
        ('"ms"', '"minutes"', "time is missing or unknown"),
        ("separator", "seperator", "unknown key"),
        ('size = "qty"', "", r"lacks size"),
        ("price =", "prize =", "no column of trades"),
        ('"buy"', '"bought"', "not a side"),
        ('[side]\nb = "buy"\ns = "sell"\n"?" = "unknown"', "", r"\[side\] must say"),
        ("[columns]", "[columnz]", "unknown key"),
        ('";"', '""', "not a separator"),
        ('";"', '";;"', "not a separator"),
        ('";"', '"→"', "not a separator"),
        ('";"', "5", "separator is no text"),
        ('kind = "trades"', 'kind = "trades"\nvenue = 7', "venue is no text"),
        ('kind = "trades"', 'kind = "trades"\nsymbol = ["a"]', "symbol is no text"),
        ('kind = "trades"', 'kind = "trades"\nheader = "tpqd"', "header is no list of names"),
        ('kind = "trades"', 'kind = "trades"\nheader = [1, 2]', "header is no list of names"),
        ('"px"', "5", "not the name of a column"),
        ('"px"', '["px"]', "not the name of a column"),
        ('"px"', '"qty"', "one column of the file for two"),
        ('"buy"', "{x = 1}", "not a side"),
    ],
)
def test_errors_in_the_description(write, old, new, message):
    assert old in MAP
    description = write("map.toml", MAP.replace(old, new))
    with pytest.raises(ParameterError, match=message) as caught:
        read_trades(write("x.txt", HEADER + ROWS), format=str(description))
    assert caught.value.file == str(description)


def test_description_that_is_no_toml(write, tmp_path):
    data = write("x.txt", HEADER + ROWS)
    with pytest.raises(FileError, match="not TOML"):
        read_trades(data, format=str(write("map.toml", "kind =")))
    with pytest.raises(FileError, match="cannot be read"):
        read_trades(data, format=str(tmp_path / "nothing.toml"))


def test_a_folder_of_described_files(write, tmp_path):
    folder = tmp_path / "days"
    folder.mkdir()
    for day in (1, 2):
        (folder / f"{day}.csv").write_text(HEADER + f"176013096012{day};20;1;b;{day}\n")
    frame = read_trades(folder, format=str(write("map.toml", MAP)))
    assert frame["id"].to_list() == ["1", "2"]
