"""Finds predictions that are none of the classes which the contract knows."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.predictor import Predictions
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.http.problems import ProblemError

logger = logging.getLogger(__name__)


class ClassCheck:
    """Refuses what a model must not answer, though its release has answered its own example.

    A model that was trained on more classes than its contract has can pass every check that is
    made when it is loaded, as long as its example shows none of the others.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the answers of a release; a regression has no classes to check."""
        self._manifest = manifest
        known = sorted(manifest.contract.target.class_codes)
        self._known = frozenset(known)
        # Nearly always the classes are 0, 1, 2 and so on, which two quick looks can tell.
        self._is_range = bool(known) and known[-1] - known[0] == len(known) - 1
        self._is_logged = False

    def check(self, predictions: Predictions) -> None:
        """Look at the predictions of one request.

        Raises:
            ProblemError: 500, one of them is no class of the contract; the first time, the log
                says so too.
        """
        values: npt.NDArray[Any] = predictions.values
        if not self._known or (len(values) == 1 and values.item(0) in self._known):
            return
        ends = {values.min().item(), values.max().item()}
        if self._is_range and ends <= self._known:
            return
        found = ends if self._is_range else np.unique(values).tolist()
        unknown = sorted(value for value in found if value not in self._known)
        if not unknown:
            return
        detail = (
            f"Release {self._manifest.release} predicted {unknown[0]}, which is none of the "
            f"classes of contract {self._manifest.contract.name}"
        )
        if not self._is_logged:
            self._is_logged = True
            logger.error("%s: deploy another release", detail)
        raise ProblemError(500, detail)
