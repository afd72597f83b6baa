"""Importance of genes: association with a low loss, with the level that chance reaches."""

import numpy as np
import pandas as pd

from evo.history.tables import FULL, Columns, Facts, loss_columns, once, search_rows

CHANCE_SHUFFLES = 300
LEAST_RECIPES = 20  # distinct; with fewer, quadratics of some ten genes fit noise
LEAST_POINTS = 8  # with the gene active


@once
def importance(facts: Facts) -> pd.DataFrame:
    """Share of the rank variance of the first loss that each gene explains; strongest first.

    Columns: gene, n, explained, chance. `explained` is the share of rank variance that a
    quadratic in the gene's rank accounts for (so that an optimum inside the range counts), or the
    gene's categories; `chance` is the 95th percentile of the same after shuffling, 300 times:
    below it the gene cannot be told from noise. A recipe is one point, the mean over its seeds;
    failed ones rank last. Empty below LEAST_RECIPES distinct recipes. With some dozens of points
    bred by selection this is association, not cause; a model-based method (fANOVA) would claim
    more than they hold.
    """
    columns = Columns.of(facts)
    losses = loss_columns(facts)
    rows = search_rows(facts)
    rows = rows[(rows["fidelity"] == FULL) & (rows["status"] != "lost")].copy()
    genes = list(columns.genes.values())
    if losses:
        rows[losses[0]] = rows.groupby("individual")[losses[0]].transform("mean")
    rows = rows.loc[~rows[genes].astype(str).duplicated()]
    found = []
    enough = bool(losses) and len(rows) >= LEAST_RECIPES
    measured = enough and bool(rows[losses[0]].notna().any())
    for gene in genes if measured else ():
        known = rows[rows[gene].notna()]
        values = known[gene]
        if len(known) < LEAST_POINTS or values.astype(str).nunique() < 2:
            continue
        ranks = known[losses[0]].fillna(np.inf).rank().to_numpy(float)
        basis = _basis(_design(values))
        rng = np.random.default_rng(0)
        shuffled = [_explained(basis, rng.permutation(ranks)) for _ in range(CHANCE_SHUFFLES)]
        chance = float(np.quantile(shuffled, 0.95))
        found.append((gene, len(known), _explained(basis, ranks), chance))
    frame = pd.DataFrame(found, columns=["gene", "n", "explained", "chance"])
    return frame.sort_values("explained", ascending=False, ignore_index=True)


def _design(values: pd.Series) -> np.ndarray:
    """Regressors (n, k) with an intercept: rank and its square, or one column per category."""
    numeric = pd.to_numeric(values, errors="coerce")
    if numeric.notna().all() and not values.map(lambda v: isinstance(v, bool)).any():
        ranks = numeric.rank(pct=True).to_numpy(float)
        return np.column_stack([np.ones(len(ranks)), ranks, ranks**2])
    return pd.get_dummies(values.astype(str)).to_numpy(float)


def _basis(design: np.ndarray) -> np.ndarray:
    """Orthonormal columns (n, r) that span those of design (n, k), of which some may be alike."""
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return left[:, sizes > 1e-10 * sizes[0]]


def _explained(basis: np.ndarray, ranks: np.ndarray) -> float:
    """Share of the variance of ranks (n,) within the span of basis (n, r), which has a constant."""
    centred = ranks - ranks.mean()
    total = float(centred @ centred)
    if total == 0:
        return 0.0
    fit = basis.T @ centred
    return min(1.0, float(fit @ fit) / total)
