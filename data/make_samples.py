"""Writes the sample files of this folder: a few hand-made rows in every format that toxmid reads.

The rows are invented. They are laid out as the vendors lay theirs out, traps included (see README.md), and they are few
enough to be checked by eye. Run ``python data/make_samples.py`` to write them again; the same bytes come out.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

HERE = Path(__file__).resolve().parent

TARDIS = {
    "binance-delivery_trades_2025-10-10_AVAXUSD_PERP": """\
exchange,symbol,timestamp,local_timestamp,id,side,price,amount
binance-delivery,AVAXUSD_PERP,1760130960000000,1760130960005100,1001,buy,20,4
binance-delivery,AVAXUSD_PERP,1760130960000000,1760130960005103,1002,buy,20.01,10
binance-delivery,AVAXUSD_PERP,1760130961500000,1760130961505800,1003,sell,19.98,250
binance-delivery,AVAXUSD_PERP,1760130961500000,1760130961505800,1003,sell,19.98,250
binance-delivery,AVAXUSD_PERP,1760130962000000,1760130962006000,1004,unknown,19.99,1
""",
    "coinbase_trades_2025-10-10_AVAX-USD": """\
exchange,symbol,timestamp,local_timestamp,id,side,price,amount
coinbase,AVAX-USD,1760130960100000,1760130960140000,501,buy,20.03,1.5
coinbase,AVAX-USD,1760130961600000,1760130961640200,502,sell,20.01,0.25
""",
    "binance-delivery_liquidations_2025-10-10_AVAXUSD_PERP": """\
exchange,symbol,timestamp,local_timestamp,id,side,price,amount
binance-delivery,AVAXUSD_PERP,1760130961500000,1760130961700000,,sell,19.9,200
binance-delivery,AVAXUSD_PERP,1760130961500000,1760130961700000,,sell,19.9,200
binance-delivery,AVAXUSD_PERP,1760130963500000,1760130963700000,,buy,20.1,30
""",
    "deribit_incremental_book_L2_2020-04-01_BTC-PERPETUAL": """\
exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,bid,6400,6400
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,bid,6399.5,120
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,ask,6400.5,12801
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,ask,6402,1190
deribit,BTC-PERPETUAL,1585699200300000,1585699200410000,false,ask,6400.5,0
deribit,BTC-PERPETUAL,1585699200300000,1585699200410000,false,ask,6401,640
""",
    "huobi-dm-swap_quotes_2020-05-01_BTC-USD": """\
exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount
huobi-dm-swap,BTC-USD,1588291201099000,1588291201234268,5000,8000.1,8000,400
huobi-dm-swap,BTC-USD,1588291201133000,1588291201454126,,,8000,410
""",
    "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT": """\
exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,\
asks[1].price,asks[1].amount,bids[1].price,bids[1].amount,asks[2].price,asks[2].amount,bids[2].price,bids[2].amount,\
asks[3].price,asks[3].amount,bids[3].price,bids[3].amount,asks[4].price,asks[4].amount,bids[4].price,bids[4].amount
binance-futures,BTCUSDT,1598918403696000,1598918403810979,101,1,100,2,102,3,99,4,103,5,98,6,104,7,97,8,105,9,96,10
binance-futures,BTCUSDT,1598918403796000,1598918403910979,101,1.5,100,2,102,3,99,4,103,5,98,6,104,7,97,8,,,96,10
""",
    "binance-futures_derivative_ticker_2025-10-10_AVAXUSDT": """\
exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,\
last_price,index_price,mark_price
binance-futures,AVAXUSDT,1760130960000000,1760130960004000,1760140800000000,0.0001,,120000,20,20.02,20.01
binance-futures,AVAXUSDT,1760130961000000,1760130961004000,1760140800000000,0.0001,,120000,19.99,20.01,20
""",
}

# As in the archive: spot without header, in microseconds since 2025; futures in milliseconds, with header if recent.
BINANCE = {
    "BTCUSDC-aggTrades-2025-10-04": """\
184359103,120000.79000000,0.00084000,243254795,243254804,1759536000061015,False,True
184359104,120000.78000000,0.50000000,243254805,243254805,1759536000061015,True,True
184359105,120000.79000000,0.01461000,243254806,243254806,1759536001061015,False,True
""",
    "BTCUSDT-trades-2024-08-05": """\
3001,54000.01000000,0.10000000,5400.00100000,1722816000012,True,True
3002,54000.02000000,0.20000000,10800.00400000,1722816000013,False,True
""",
    "AVAXUSDT-aggTrades-2025-10-10": """\
agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker
71,20.010,3,900,902,1760130960001,false
72,20.000,12,903,903,1760130960444,true
""",
    "AVAXUSDT-trades-2025-10-10": """\
id,price,qty,quote_qty,time,is_buyer_maker
900,20.010,1,20.010,1760130960001,false
901,20.000,12,240.000,1760130960444,true
""",
    "BTCUSD_PERP-aggTrades-2024-08-05": """\
agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker
11,50000.0,5,100,101,1722816000100,true
12,50000.1,1,102,102,1722816000900,false
""",
    "AVAXUSD_PERP-trades-2025-10-10": """\
id,price,qty,base_qty,time,is_buyer_maker
501,20.000,4,2.00000000,1760130960000,false
502,25.000,10,4.00000000,1760130961000,true
""",
    "AVAXUSDT-bookTicker-2024-03-01": """\
update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time
1,40.000,15,40.001,7,1709251200011,1709251200015
2,40.000,14,40.001,7,1709251200012,1709251200016
""",
    "BTCUSD_PERP-liquidationSnapshot-2024-08-05": """\
time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,\
accumulated_fill_quantity
1722816001000,SELL,LIMIT,IOC,100,49500.0,50000.0,FILLED,40,100
1722816001000,SELL,LIMIT,IOC,100,49500.0,50000.0,FILLED,40,100
1722816002500,BUY,LIMIT,IOC,25,50500.0,50000.0,FILLED,25,25
1722816002500,BUY,LIMIT,IOC,25,50500.0,50000.0,FILLED,25,25
""",
}


def _stream(name: str, **data: Any) -> dict[str, Any]:
    return {"stream": name, "data": data}


def _depth(symbol: str, u: int, pu: int, b: list[list[str]], a: list[list[str]], **more: Any) -> dict[str, Any]:
    event = {"e": "depthUpdate", "E": 1723161257440, "T": 1723161257432, "s": symbol}
    return _stream(f"{symbol.lower()}@depth@0ms", **event, **more, U=pu + 1, u=u, pu=pu, b=b, a=a)


def _trade(symbol: str, at: int, **fields: Any) -> dict[str, Any]:
    event = {"e": "trade", "E": at + 8, "T": at, "s": symbol}
    return _stream(f"{symbol.lower()}@trade", **event, **({"X": "MARKET"} | fields))


# COIN-M, nanoseconds, a local clock 1.26 s behind. The snapshot (last update 105) arrives after update 107, which must
# be applied to it, and before a late copy of update 104, which must not.
COIN_M = [
    (1723161256172216566, _depth("BTCUSD_PERP", 104, 101, [["50000.0", "7"]], [], ps="BTCUSD")),
    (1723161256182216566, _depth("BTCUSD_PERP", 107, 104, [["49999.9", "0"]], [["50000.1", "9"]], ps="BTCUSD")),
    (
        1723161256192216566,
        {
            "lastUpdateId": 105,
            "E": 1723161257440,
            "T": 1723161257435,
            "symbol": "BTCUSD_PERP",
            "pair": "BTCUSD",
            "bids": [["50000.0", "5"], ["49999.9", "10"]],
            "asks": [["50000.1", "1"], ["50000.2", "20"]],
        },
    ),
    (1723161256193000000, _depth("BTCUSD_PERP", 104, 101, [["50000.0", "7"]], [], ps="BTCUSD")),
    (
        1723161256200000000,
        _stream(
            "btcusd_perp@bookTicker",
            u=107,
            e="bookTicker",
            s="BTCUSD_PERP",
            ps="BTCUSD",
            b="50000.0",
            B="5",
            a="50000.1",
            A="9",
            T=1723161257450,
            E=1723161257451,
        ),
    ),
    (1723161256419684465, _trade("BTCUSD_PERP", 1723161257679, t=849714402, p="50000.0", q="4", m=False)),
    (1723161256500000000, _depth("BTCUSD_PERP", 109, 107, [["50000.0", "0"]], [], ps="BTCUSD")),
]

# USD-M of 2023: microseconds, a funding stream, and a print of the insurance fund far from the market.
USD_M = [
    (1680652873999999, _trade("BTCUSDT", 1680652873990, t=1, p="28150.1", q="0.010", m=True)),
    (1680652874000000, _stream("btcusdt@markPrice@1s", e="markPriceUpdate", E=1680652874000, s="BTCUSDT", p="28151.2")),
    (1680652874100000, _trade("BTCUSDT", 1680652874090, t=2, p="28722.5", q="3.000", m=False, X="INSURANCE_FUND")),
    (
        1680652874200000,
        _stream(
            "btcusdt@forceOrder",
            e="forceOrder",
            E=1680652874195,
            o={
                "s": "BTCUSDT",
                "S": "SELL",
                "o": "LIMIT",
                "f": "IOC",
                "q": "0.5",
                "p": "28000",
                "ap": "28150",
                "X": "FILLED",
            }
            | {"l": "0.2", "z": "0.5", "T": 1680652874190},
        ),
    ),
    (1680652874300000, _trade("BTCUSDT", 1680652874290, t=3, p="28150.2", q="0.020", m=False)),
]

CANONICAL = pl.DataFrame(
    {
        "ts": [1760130960005100000, 1760130960005103000, 1760130961505800000],
        "price": [20.0, 20.01, 19.98],
        "size": [2.0, 5.0, 125.0],
        "side": ["buy", "buy", "sell"],
    }
).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))


def _gzip(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def _zip(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # The date of the entry is fixed, so that the same bytes come out every time.
        archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _recording(messages: list[tuple[int, dict[str, Any]]]) -> str:
    return "".join(f"{local} {json.dumps(message, separators=(',', ':'))}\n" for local, message in messages)


def write(folder: Path) -> None:
    """Write all samples into a folder."""
    files = {f"tardis/{name}.csv.gz": _gzip(text) for name, text in TARDIS.items()}
    files |= {f"binance/{name}.zip": _zip(f"{name}.csv", text) for name, text in BINANCE.items()}
    files |= {
        "recording/cm_btcusd_perp_20240808.gz": _gzip(_recording(COIN_M)),
        "recording/usdm_btcusdt_20230405.gz": _gzip(_recording(USD_M)),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "canonical").mkdir(exist_ok=True)
    CANONICAL.write_parquet(folder / "canonical" / "trades.parquet")
    CANONICAL.write_ipc(folder / "canonical" / "trades.arrow")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
