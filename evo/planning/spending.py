"""Cost of an evaluation to the budget: 1 is a full fine-tune, resumed from a rung it is less.

The FLOPs that the virtual clock goes by are in `fitness.cost`.
"""

from evo.config import SearchConfig


def continued_from(config: SearchConfig, seed: int, fidelity: float, split: str) -> float:
    """Fidelity from which an evaluation resumes training; 0 from the start.

    It resumes from the rung below, and only in the search, under the seed of the first evaluation.
    """
    if not config.form.trains or seed != config.seed or split != "selection":
        return 0.0
    return max((rung for rung in config.search.rungs if rung < fidelity), default=0.0)


def share(config: SearchConfig, portion: float, seed: int, fidelity: float, split: str) -> float:
    """Cost of an evaluation, as a share of a full fine-tune.

    `portion` is what the whole fine-tune of its individual takes, see `lineages.portion`.
    """
    return (fidelity - continued_from(config, seed, fidelity, split)) * portion
