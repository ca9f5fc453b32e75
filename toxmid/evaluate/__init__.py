"""Honest tables: how well every estimator of the maker's mid does, where a truth is known and where it is not.

`evaluate_simulated`
    Against the hidden mid of simulated markets.
`evaluate_inputs`
    What every further input is worth, in the same markets.
`evaluate_referenced`
    A real tape against another venue's price.
`evaluate_forecasts`
    A real tape with no truth but what came later.
"""

from toxmid.evaluate.forecasts import ForecastEvaluation, evaluate_forecasts
from toxmid.evaluate.inputs import LADDER, Inputs
from toxmid.evaluate.ladder import InputsEvaluation, evaluate_inputs
from toxmid.evaluate.referenced import ReferencedEvaluation, evaluate_referenced
from toxmid.evaluate.results import Evaluation, Table
from toxmid.evaluate.rivals import ESTIMATORS, RIVALS, MicroPrice, Rivals
from toxmid.evaluate.simulated import SimulatedEvaluation, evaluate_simulated
from toxmid.evaluate.witnesses import WITNESSES

__all__ = [
    "ESTIMATORS",
    "LADDER",
    "RIVALS",
    "WITNESSES",
    "Evaluation",
    "ForecastEvaluation",
    "Inputs",
    "InputsEvaluation",
    "MicroPrice",
    "ReferencedEvaluation",
    "Rivals",
    "SimulatedEvaluation",
    "Table",
    "evaluate_forecasts",
    "evaluate_inputs",
    "evaluate_referenced",
    "evaluate_simulated",
]
