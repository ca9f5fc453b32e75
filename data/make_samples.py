"""Writes the sample files of this folder: a few hand-made rows in every format that toxmid reads.

The rows are invented. They are laid out as the vendors lay theirs out, traps included (see README.md), and they are few
enough to be checked by eye. Run ``python data/make_samples.py`` to write them again; the same bytes come out.
"""

from __future__ import annotations

import datetime as dt
import gzip
import importlib
import io
import json
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
    "deribit_options_chain_2020-04-01_OPTIONS": """\
exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,\
bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho
deribit,BTC-26JUN20-6000-C,1585699200100000,1585699200150000,call,6000,1593158400000000,,,,,,,,,,62.5,SYN.BTC-26JUN20,\
,0.61,0.0001,11.2,-6.5,8.4
deribit,BTC-26JUN20-7000-P,1585699200200000,1585699200250000,put,7000,1593158400000000,120,0.2,0.19,5,60,0.21,7,65,\
0.2,62.25,SYN.BTC-26JUN20,6450,-0.5,0.0001,11.5,-6.1,-10
""",
    "bitmex_trades_2020-03-01_XBTUSD": """\
exchange,symbol,timestamp,local_timestamp,id,side,price,amount
bitmex,XBTUSD,1583020803145000,1583020803307160,aa-01,sell,8500,17000
bitmex,XBTUSD,1583020803276000,1583020803336743,aa-02,buy,8500.5,1
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


# What is no tape of events: a row of the next day, an empty ratio, a time with a space before it, bids that stand
# still.
FIGURES = {
    "AVAXUSDT-metrics-2025-10-10": """\
create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,\
sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio
2025-10-10 00:05:00,AVAXUSDT,120000,2400000,1.5,,1.4,0.9
2025-10-10 00:10:00,AVAXUSDT,119000.5,2380010,1.5,1.2,1.4,
2025-10-11 00:00:00,AVAXUSDT,60000,1080000,1.5,1.2,1.4,0.8
""",
    "AVAXUSD_PERP-metrics-2025-10-10": """\
create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,\
sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio
2025-10-10 00:05:00,AVAXUSD_PERP,240000,120000,1.5,1.2,1.4,0.9
""",
    "AVAXUSDT-fundingRate-2025-10": """\
calc_time,funding_interval_hours,last_funding_rate
1760054400000,8,0.00010000
1760083200000,4,-0.00125000
""",
    "BTCUSD_PERP-fundingRate-2025-10": """\
calc_time,funding_interval_hours,last_funding_rate
1760054400007,8,0.00010000
""",
    "AVAXUSDT-bookDepth-2025-10-10": """\
timestamp,percentage,depth,notional,weighted_avg_price
2025-10-10 00:00:07,-2,900,17800,19.777777
2025-10-10 00:00:07,-1,400,7960,19.9
2025-10-10 00:00:07,1,500,10050,20.1
2025-10-10 00:00:37,-2,900,17800,19.777777
2025-10-10 00:00:37,-1,400,7960,19.9
2025-10-10 00:00:37,1,510,10251,20.1
 2025-10-10 00:01:07,-2,905,17898,19.776795
2025-10-10 00:01:07,-1,400,7960,19.9
2025-10-10 00:01:07,1,490,9849,20.1
""",
}

# The second trade was a liquidation of the maker, the third of both; the fourth is the leg of a combo, the fifth a
# block.
DERIBIT = """\
trade_seq,trade_id,timestamp,tick_direction,price,mark_price,instrument_name,index_price,direction,contracts,amount,\
liquidation,combo_id,combo_trade_id,block_trade_id
1,901,1585699200100,0,6400,6400.2,BTC-PERPETUAL,6401,buy,64,640,,,,
2,902,1585699200200,1,6399.5,6400.1,BTC-PERPETUAL,6401,buy,10,100,M,,,
3,903,1585699200300,2,6390,6399.9,BTC-PERPETUAL,6400.5,sell,1,10,MT,,,
4,904,1585699200400,2,6350,6399.8,BTC-PERPETUAL,6400.5,sell,1,10,,BTC-FS-26JUN20_PERP,77,
5,905,1585699200500,2,6300,6399.8,BTC-PERPETUAL,6400.5,sell,1000,10000,,,,BLOCK-5
"""


def _deribit_messages() -> str:
    """The same trades as notifications and as an answer, those fields left out that a trade does not have."""
    names, *rows = (line.split(",") for line in DERIBIT.splitlines())
    numbers = {"trade_seq", "timestamp", "tick_direction", "price", "mark_price", "index_price", "contracts", "amount"}
    trades = [
        {name: float(text) if name in numbers else text for name, text in zip(names, row, strict=True) if text}
        for row in rows
    ]
    for trade in trades:
        trade["timestamp"] = int(trade["timestamp"])
    channel = {"channel": "trades.BTC-PERPETUAL.raw"}
    lines = [
        {"jsonrpc": "2.0", "method": "subscription", "params": channel | {"data": trades[:1]}},
        trades[1],
        {"jsonrpc": "2.0", "id": 1, "result": {"trades": trades[2:], "has_more": False}},
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


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

# Seconds with a fraction for derivatives, milliseconds for spot; the inverse symbol counts contracts of one dollar.
BYBIT = {
    "BTCUSD2025-10-10": """\
timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional
1760130960.1234,BTCUSD,Buy,500,100000.0,PlusTick,aa-1,500000,0.005,500
1760130960.5,BTCUSD,Sell,1000,100000.0,ZeroMinusTick,aa-2,1000000,0.01,1000
""",
    "AVAXUSDT_2025-10-10": """\
id,timestamp,price,volume,side,rpi
1,1760130960123,20.01,3.5,buy,0
2,1760130960124,20.00,1,sell,1
""",
}
BYBIT_BOOK = """\
{"topic":"orderbook.500.AVAXUSDT","type":"snapshot","ts":1760130960100,"data":{"s":"AVAXUSDT",\
"b":[["20.00","5"],["19.99","7"]],"a":[["20.01","4"]],"u":1,"seq":10}}
{"topic":"orderbook.500.AVAXUSDT","type":"delta","ts":1760130960200,"data":{"s":"AVAXUSDT",\
"b":[["20.00","0"]],"a":[],"u":2,"seq":11}}
{"topic":"orderbook.500.AVAXUSDT","type":"delta","ts":1760130960300,"data":{"s":"AVAXUSDT","b":[],"a":[],"u":3,"seq":12}}
"""

OKX = {
    "ETH-USDT-SWAP-trades-2025-10-10": """\
instrument_name,trade_id,side,price,size,created_time
ETH-USDT-SWAP,31,sell,4000.0,25.0,1760130960123
ETH-USDT-SWAP,32,buy,4000.1,1.0,1760130960124
""",
    "BTC-USDT-trades-2023-04-19": """\
trade_id/id,side/side,size/size,price/price,created_time/time
71,buy,0.5,30000.0,1681862400100
72,sell,0.25,29999.9,1681862400200
""",
}

HYPERLIQUID_2023 = """\
time,user,coin,side,px,sz,crossed
2023-03-01T00:00:01Z,0xaa,ETH,Ask,1600.5,2,true
2023-03-01T00:00:01Z,0xbb,ETH,Bid,1600.5,2,false
2023-03-01T00:00:07Z,0xbb,ETH,Bid,1600.6,0.5,true
"""

# The first is the passive fill above, and written twice; of the last there is no fill.
HYPERLIQUID_LIQUIDATIONS_2023 = """\
time,user,liquidated_ntl_pos,liquidated_account_value,leverage_type
2023-03-01T00:00:01Z,0xbb,3195.5,12.25,Cross
2023-03-01T00:00:01Z,0xbb,3195.5,12.25,Cross
2023-03-01T00:00:05Z,0xcc,100,0.5,Isolated
"""


def _fill(user: str, side: str, tid: int, crossed: bool, **more: Any) -> list[Any]:
    fill = {"coin": "ETH", "px": "4000.0", "sz": "1.5", "side": side, "time": 1760130960100, "dir": "Close Long"}
    return [user, fill | {"hash": "0x0", "oid": tid, "crossed": crossed, "tid": tid} | more]


_LIQUIDATED = {"liquidatedUser": "0xBB", "markPx": "4001.0", "method": "market"}
_BLOCK = {"local_time": "2025-10-10T21:16:00.250000001", "block_time": "2025-10-10T21:16:00.100", "block_number": 1}

# The third trade is a liquidation: both legs carry the mark, the user whom it names was forced. The last is ADL.
HYPERLIQUID_FILLS = [
    _BLOCK | {"events": [_fill("0xaa", "A", 1, True), _fill("0xcc", "B", 1, False)]},
    _BLOCK | {"events": []},
    _BLOCK
    | {
        "events": [
            _fill("0xcc", "B", 3, False, liquidation=_LIQUIDATED),
            _fill("0xbb", "A", 3, True, liquidation=_LIQUIDATED),
            _fill("0xdd", "B", 4, True, dir="Auto-Deleveraging"),
        ]
    },
]

# A new bid, an execution against it, a hidden execution, a cross, a halt; the book after each. No newline at the end.
LOBSTER = {
    "ABCD_2012-06-21_34200000_57600000_message_2.csv": """\
34200.017459617,1,11,100,2238200,1
34200.189607670,4,11,30,2238200,1
34200.189607671,5,0,10,2239000,-1
34201.000000001,6,-1,500,2238500,-1
34202.000000000,7,0,0,-1,-1""",
    "ABCD_2012-06-21_34200000_57600000_orderbook_2.csv": """\
2239500,100,2238200,100,9999999999,0,2230000,40
2239500,100,2238200,70,9999999999,0,2230000,40
2239500,100,2238200,70,9999999999,0,2230000,40
2239500,100,2238200,70,2240000,5,2230000,40
2239500,100,2238200,70,2240000,5,2230000,40
""",
}

_RECORD = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"
_RECV = 1_703_545_200_000_000_000
_TEN = ("bid_px_{:02}", "ask_px_{:02}", "bid_sz_{:02}", "ask_sz_{:02}", "bid_ct_{:02}", "ask_ct_{:02}")


def _ten(bids: int) -> list[str]:
    """Ten levels, of which so many have a bid."""
    levels = []
    for n in range(10):
        bid = f"{4800.25 - 0.25 * n:.9f}" if n < bids else ""
        levels += [bid, f"{4800.5 + 0.25 * n:.9f}", str((24 + n) * (n < bids)), str(11 + n), "1", "1"]
    return levels


DATABENTO = {
    "trades": f"""\
{_RECORD},symbol
{_RECV + 2},{_RECV + 1},0,1,17077,T,A,0,4800.250000000,5,129,1,1,ESH4
{_RECV + 4},{_RECV + 3},0,1,17077,T,B,0,4800.500000000,2,129,1,2,ESH4
{_RECV + 6},{_RECV + 5},0,1,17077,T,N,0,4800.500000000,1,129,1,3,ESH4
""",
    "mbp-1": f"""\
{_RECORD},bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol
{_RECV + 2},{_RECV + 1},1,1,17077,A,A,0,4800.500000000,7,128,1,1,4800.250000000,4800.500000000,24,11,15,9,ESH4
{_RECV + 4},{_RECV + 3},1,1,17077,T,B,0,4800.500000000,2,129,1,2,4800.250000000,,24,0,15,0,ESH4
""",
    "tbbo": f"""\
{_RECORD},bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol
{_RECV + 2},{_RECV + 1},1,1,17077,T,A,0,4800.250000000,5,129,1,1,4800.250000000,4800.500000000,24,11,15,9,ESH4
{_RECV + 4},{_RECV + 3},1,1,17077,T,B,0,4800.500000000,2,129,1,2,4800.250000000,4800.500000000,19,11,14,9,ESH4
""",
    "mbp-10": "".join(
        ",".join(fields) + "\n"
        for fields in (
            (_RECORD, *(name.format(n) for n in range(10) for name in _TEN), "symbol"),
            (f"{_RECV + 2},{_RECV + 1},10,1,17077,A,A,0,4800.500000000,7,128,1,1", *_ten(10), "ESH4"),
            # The bids beyond the third are not there: no price, no size.
            (f"{_RECV + 4},{_RECV + 3},10,1,17077,C,B,0,4799.500000000,9,128,1,2", *_ten(3), "ESH4"),
        )
    ),
    "mbo": f"""\
ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,ts_in_delta,sequence,symbol
{_RECV},{_RECV},160,1,17077,R,N,,0,0,0,40,0,0,ESH4
{_RECV},{_RECV},160,1,17077,A,B,4800.000000000,3,0,1,40,0,1,ESH4
{_RECV},{_RECV},160,1,17077,A,B,4800.000000000,4,0,2,40,0,2,ESH4
{_RECV},{_RECV},160,1,17077,A,A,4800.250000000,6,0,3,168,0,3,ESH4
{_RECV + 10},{_RECV + 9},160,1,17077,T,B,4800.250000000,2,0,0,0,0,4,ESH4
{_RECV + 10},{_RECV + 9},160,1,17077,F,A,4800.250000000,2,0,3,0,0,4,ESH4
{_RECV + 10},{_RECV + 9},160,1,17077,C,A,4800.250000000,2,0,3,128,0,4,ESH4
{_RECV + 20},{_RECV + 19},160,1,17077,M,B,4799.750000000,5,0,1,128,0,5,ESH4
{_RECV + 30},{_RECV + 29},160,1,17077,C,B,4800.000000000,9,0,99,128,0,6,ESH4
""",
}

RECORDER = {
    "liquidations.csv": """\
BTC,SELL,LIMIT,IOC,0.010,99000.0,99700.5,FILLED,0.004,0.010,1737908829829,990.0
BTC,SELL,LIMIT,IOC,0.010,99000.0,99700.5,FILLED,0.004,0.010,1737908829829,990.0
ETH,BUY,LIMIT,IOC,1.5,3100,3090.25,FILLED,1.5,1.5,1737908832305,4650.0
""",
    "trades.csv": """\
1737897220002, BTCUSDT, 2541757614, 99943.5, 0.25, 1737897219873, False
1737897220003, ETHUSDT, 71, 3090.4, 20.5, 1737897219999, True
1737897220012, BTCUSDT, 2541757622, 99947.2, 1.002, 1737897219999, True""",
}

# A layout of nobody's, and its description.
DELIMITED = {
    "trades.txt": """\
when|what|contracts|paid
2025-10-10T21:16:00.000Z|took ask|4|20.0
2025-10-10T21:16:01.500Z|took bid|10|25.0
""",
    "trades.toml": """\
kind = "trades"
time = "iso"
separator = "|"
venue = "binance-delivery"
symbol = "AVAXUSD_PERP"

[columns]
ts = "when"
price = "paid"
size = "contracts"
side = "what"

[side]
"took ask" = "buy"
"took bid" = "sell"
""",
}

T_DEPTH = """\
symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu
BTCUSDT,1667346579146,9,9,b,snap,20000.00,1.770,-1
BTCUSDT,1667346579146,9,9,a,snap,20000.10,0.001,-1
BTCUSDT,1667346579200,10,12,a,set,20000.10,0.000,9
"""

_EVENT = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "i8"),
        ("local_ts", "i8"),
        ("px", "f8"),
        ("qty", "f8"),
        ("order_id", "u8"),
        ("ival", "i8"),
        ("fval", "f8"),
    ]
)


def _events() -> np.ndarray[Any, np.dtype[Any]]:
    """A snapshot, a trade, an event of the exchange's clock alone, and a clear of the bids down to 99."""
    both, exchange, buy, sell = (1 << 30) | (1 << 31), 1 << 31, 1 << 29, 1 << 28
    depth, trade, clear, snapshot = 1, 2, 3, 4
    flags = [
        (both | buy | snapshot, 100.0, 5.0),
        (both | buy | snapshot, 98.0, 6.0),
        (both | sell | snapshot, 101.0, 7.0),
        (both | sell | trade, 100.0, 2.0),
        (exchange | buy | depth, 100.0, 3.0),
        (both | buy | depth, 99.0, 1.0),
        (both | buy | clear, 99.0, 0.0),
        (both | buy | depth, 97.0, 4.0),
    ]
    start = 1_700_000_000_000_000_000
    return np.array(
        [(ev, start + 10 * i, start + 10 * i + 5, px, qty, 0, 0, 0.0) for i, (ev, px, qty) in enumerate(flags)], _EVENT
    )


def _dbn() -> bytes:
    """The trades of Databento's CSV in its binary encoding, as its own library writes it."""
    dbn: Any = importlib.import_module("databento_dbn")
    day = dt.date(2023, 12, 25)
    interval = SimpleNamespace(start_date=day, end_date=day + dt.timedelta(days=1), symbol="17077")
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=_RECV,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.TRADES,
        symbols=["ESH4"],
        mappings=[SimpleNamespace(raw_symbol="ESH4", intervals=[interval])],
    )
    sides = ((dbn.Side.ASK, 4800.25, 5), (dbn.Side.BID, 4800.5, 2), (dbn.Side.NONE, 4800.5, 1))
    records = [
        dbn.TradeMsg(
            publisher_id=1,
            instrument_id=17077,
            ts_event=_RECV + 2 * n - 1,
            price=round(price * 1e9),
            size=size,
            action=dbn.Action.TRADE,
            side=side,
            depth=0,
            ts_recv=_RECV + 2 * n,
            flags=129,
            ts_in_delta=1,
            sequence=n,
        )
        for n, (side, price, size) in enumerate(sides, 1)
    ]
    return bytes(metadata) + b"".join(map(bytes, records))


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
        "binance/BTCUSDT_T_DEPTH_2022-11-01.csv": T_DEPTH.encode(),
        "bybit/2025-10-10_AVAXUSDT_ob500.data.zip": _zip("2025-10-10_AVAXUSDT_ob500.data", BYBIT_BOOK),
        "hyperliquid/trades_2023.csv": HYPERLIQUID_2023.encode(),
        "hyperliquid/liquidations_2023.csv": HYPERLIQUID_LIQUIDATIONS_2023.encode(),
        "hyperliquid/node_fills_20251010.gz": _gzip("".join(f"{json.dumps(block)}\n" for block in HYPERLIQUID_FILLS)),
    }
    files |= {f"binance/{name}.zip": _zip(f"{name}.csv", text) for name, text in FIGURES.items()}
    files |= {
        "deribit/trades_2020-04-01_BTC-PERPETUAL.csv": DERIBIT.encode(),
        "deribit/trades_2020-04-01_BTC-PERPETUAL.jsonl.gz": _gzip(_deribit_messages()),
    }
    files |= {f"bybit/{name}.csv.gz": _gzip(text) for name, text in BYBIT.items()}
    files |= {f"okx/{name}.zip": _zip(f"{name}.csv", text) for name, text in OKX.items()}
    files |= {f"lobster/{name}": text.encode() for name, text in LOBSTER.items()}
    files |= {f"databento/{name}.csv.gz": _gzip(text) for name, text in DATABENTO.items()}
    files |= {f"recorder/{name}": text.encode() for name, text in RECORDER.items()}
    files |= {f"delimited/{name}": text.encode() for name, text in DELIMITED.items()}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "canonical").mkdir(exist_ok=True)
    CANONICAL.write_parquet(folder / "canonical" / "trades.parquet")
    CANONICAL.write_ipc(folder / "canonical" / "trades.arrow")
    CANONICAL.write_ipc_stream(folder / "canonical" / "trades.arrows")
    (folder / "hftbacktest").mkdir(exist_ok=True)
    np.savez_compressed(folder / "hftbacktest" / "events.npz", data=_events())
    np.save(folder / "hftbacktest" / "events.npy", _events())
    (folder / "databento" / "trades.dbn").write_bytes(_dbn())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
