"""Make the simulated tape beside this file again: ``python data/simulated/make.py``."""

from __future__ import annotations

from pathlib import Path

from toxmid.simulate import Simulation, simulate

TABLES = ("trades", "quotes", "book", "liquidations", "truth")


def tape() -> Simulation:
    """Twenty minutes in which a seller without news sets off a cascade of liquidations."""
    return simulate("flush", seed=0, duration=1200.0, levels=20)


def main() -> None:
    """Write one parquet file per table."""
    simulation = tape()
    for name in TABLES:
        table = getattr(simulation, name).drop("ts_event", strict=False)  # equals ts: nobody in there has latency
        table.write_parquet(Path(__file__).with_name(f"{name}.parquet"), compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
