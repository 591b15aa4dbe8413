"""`kedro model explain`: why a release answers a row as it does."""

from rich.table import Table

from mlops_for_mle.errors import UserError
from mlops_for_mle.releases.explain import Explainer
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.metrics import metric_text
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.ranges import Ranges
from mlops_for_mle.serving.codec import Codec, Form


def explain_row(release: Release, given: bytes) -> Table:
    """The contributions to the answer, the largest first, between where they begin and lead to.

    Args:
        release: What answers.
        given: A row in JSON, read as the API reads it.

    Raises:
        ProblemError: The row does not fit the contract.
    """
    manifest, predictor = release.manifest, load(release)
    target, codec = manifest.contract.target, Codec(manifest)
    rows = codec.read(given)
    if rows.form is not Form.ONE:
        raise UserError(f"One row is explained at a time: {codec.row_words}.")
    matrix = codec.matrix([rows])
    (code,), _ = predictor.predict(matrix)
    found = Explainer(predictor, manifest.background).explain(matrix[0])
    ranges = Ranges(manifest.contract, manifest.training_ranges, manifest.precision)
    outside = ranges.outside(matrix)
    answer = target.labels[int(code)] if target.classes else metric_text(code)
    words = {"probability": "probability of ", "answer": "answered with ", "value": ""}
    title = f"{target.response_name}: {words[found.explained]}{answer}"
    drawn = Table("feature", "value", "contribution", title=title, title_justify="left")
    drawn.add_row("mean of training rows", "", metric_text(found.base))
    is_outside = [False] * len(rows.row) if outside is None else outside[0]
    explained = zip(rows.row, found.contributions.items(), is_outside, strict=True)
    for value, (name, one), is_strange in sorted(explained, key=lambda one: -abs(one[1][1])):
        told = f"{value} (outside the training data)" if is_strange else str(value)
        drawn.add_row(name, told, f"{one:+.4g}")
    drawn.add_section()
    drawn.add_row("this row", "", metric_text(found.value))
    return drawn
