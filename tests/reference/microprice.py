"""The micro-price as the expected sum of all future moves of a chain of states, by looking ever farther ahead."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

State = tuple[int, int]  # spread, imbalance
Look = tuple[float, float, float, float]  # mid, spread in bps, sizes at bid and ask; NaN where unknown


def state_of(look: Look, edges: Sequence[float]) -> State | None:
    _, spread, bid, ask = look
    if any(math.isnan(value) for value in look) or bid + ask == 0:
        return None
    return sum(spread >= edge for edge in edges), min(int(bid / (bid + ask) * 5), 4)


def expected_moves(looks: Sequence[Look], edges: Sequence[float], steps: int = 20_000) -> dict[State, float]:
    """bps by state: E[m_T - m_0] for a T so late that the state is forgotten. Every step is seen in the mirror, too."""
    seen: dict[State, list[tuple[State, float]]] = defaultdict(list)
    for now, then in pairwise(looks):
        before, after = state_of(now, edges), state_of(then, edges)
        if before is not None and after is not None:
            move = 1e4 * math.log(then[0] / now[0])
            seen[before].append((after, move))
            seen[before[0], 4 - before[1]].append(((after[0], 4 - after[1]), -move))
    # What is expected of the next k moves, from what is expected of the next k - 1.
    ahead = dict.fromkeys(seen, 0.0)
    chances = {}
    for before, moves in seen.items():
        counts = Counter(after for after, _ in moves)
        mean = math.fsum(move for _, move in moves) / len(moves)
        chances[before] = mean, [(after, count / len(moves)) for after, count in counts.items()]
    for _ in range(steps):
        further = {
            before: move + math.fsum(chance * ahead.get(after, 0.0) for after, chance in onward)
            for before, (move, onward) in chances.items()
        }
        if max(abs(further[state] - ahead[state]) for state in ahead) < 1e-12:
            break
        ahead = further
    return ahead
