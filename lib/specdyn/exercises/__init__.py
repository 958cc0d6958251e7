"""Self-checks for the exercises of each chapter: they take a reader's answer and say what is wrong with it."""

from specdyn.exercises import (
    foundations,
    grokking,
    linear_mode_connectivity,
    lottery_tickets,
    memorization,
    one_lens,
    rank_minimisation,
    weight_decay,
    your_own_network,
)
from specdyn.exercises.verdict import Verdict, judge

__all__ = [
    "Verdict",
    "foundations",
    "grokking",
    "judge",
    "linear_mode_connectivity",
    "lottery_tickets",
    "memorization",
    "one_lens",
    "rank_minimisation",
    "weight_decay",
    "your_own_network",
]
