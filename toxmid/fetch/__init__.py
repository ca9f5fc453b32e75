"""Tapes from the archives of vendors, into a folder that the readers and `toxmid.jobs.pair_files` understand.

What is there and whole is not fetched again, what was cut goes on where it ended, and what a vendor signs is checked.
"""

from toxmid.fetch.binance import BINANCE_ARCHIVE, fetch_binance
from toxmid.fetch.download import Fetched
from toxmid.fetch.tardis import fetch_tardis

__all__ = ["BINANCE_ARCHIVE", "Fetched", "fetch_binance", "fetch_tardis"]
