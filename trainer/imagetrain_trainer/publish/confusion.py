"""What a confusion matrix tells: accuracy, recall by class, and the pairs that are confused most. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imagetrain_trainer.publish import measure

MAX_MATRIX_CLASSES = 100  # 10,000 counts are 30 KB of manifest; at 1,000 classes it would be megabytes of zeros
MAX_CONFUSIONS = 200


def describe_test(evaluation: measure.Evaluation, classes: Sequence[str]) -> dict[str, Any]:
    """Return the manifest's `test`.

    Keys: `samples`, `accuracy`, `loss` (nats), `recall` (by class; None for one without test samples), `top_confusions`
    ({label, predicted, count}, most first), and with at most 100 classes `confusion_matrix` (rows are true classes).
    """
    matrix = evaluation.confusion_matrix
    described: dict[str, Any] = {
        "samples": evaluation.samples,
        "accuracy": float(np.trace(matrix) / evaluation.samples),
        "loss": evaluation.loss,
        "recall": [int(row[index]) / int(row.sum()) if row.sum() else None for index, row in enumerate(matrix)],
        "top_confusions": _rank_confusions(matrix, classes),
    }
    if len(classes) <= MAX_MATRIX_CLASSES:
        described["confusion_matrix"] = matrix.tolist()
    return described


def _rank_confusions(matrix: "np.ndarray[Any, np.dtype[np.int64]]", classes: Sequence[str]) -> list[dict[str, Any]]:
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = [(int(wrong[row, column]), int(row), int(column)) for row, column in np.argwhere(wrong)]
    ranked = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:MAX_CONFUSIONS]
    return [{"label": classes[row], "predicted": classes[column], "count": count} for count, row, column in ranked]
