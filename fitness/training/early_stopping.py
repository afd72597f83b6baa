"""Early stopping: end a fine-tune that no longer improves on held-out text, at its best weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CHECKS = 10  # of a whole fine-tune, at even distances


class EarlyStopping:
    """Scores a model in training at regular steps; called after each step, decides on stopping."""

    def __init__(
        self, model: "PreTrainedModel", loss: Callable[[], float], *, steps: int, patience: int
    ) -> None:
        """Stop after `patience` checks in a row without a lower `loss()`."""
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._model, self._loss = model, loss
        self._every, self._steps, self._patience = max(1, steps // CHECKS), steps, patience
        self._best, self._strikes, self.best_step = float("inf"), 0, 0
        self._best_weights: list[Tensor] = []
        self.checks: list[tuple[int, float]] = []  # steps taken, and the loss then

    def __call__(self, done: int) -> bool:
        """True to stop after `done` steps; the model is left in the mode that it was in."""
        if done % self._every and done != self._steps:
            return False
        training = self._model.training
        self._model.eval()
        loss = self._loss()
        self._model.train(training)  # a model that stays whole beside a sharded one is not in it
        self.checks.append((done, loss))
        if loss < self._best:
            self._best, self._strikes, self.best_step = loss, 0, done
            self._best_weights = [weight.detach().clone() for weight in self._trained]
        else:
            self._strikes += 1
        return self._strikes >= self._patience

    def go_back(self) -> None:
        """Restore the weights of the best check."""
        pairs = zip(self._trained, self._best_weights, strict=bool(self._best_weights))
        for weight, best in pairs:
            weight.data.copy_(best)
