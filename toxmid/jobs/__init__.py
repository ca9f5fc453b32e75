"""Many symbol-days: files paired by market and day, run beside each other, resumed where they were killed.

The days of one market are a chain, each going on from the state of the one before; chains have nothing to do with each
other, so processes or the workers of a Dask cluster share them. Together the parts of a chain hold the same bits as one
replay over all of its files.
"""

from toxmid.jobs.part import Part, Settings
from toxmid.jobs.run import run_jobs, scan_parts, summarise
from toxmid.jobs.whole import load_market
from toxmid.pairing import Job, pair_files

__all__ = ["Job", "Part", "Settings", "load_market", "pair_files", "run_jobs", "scan_parts", "summarise"]
