"""Wiring of the pipelines monitoring and retrain."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline, node

from mlops_for_mle.pipelines.monitoring.checks import judge
from mlops_for_mle.pipelines.monitoring.counting import count_window
from mlops_for_mle.pipelines.monitoring.reference import describe_reference
from mlops_for_mle.pipelines.monitoring.report import summarise, write_report
from mlops_for_mle.pipelines.monitoring.retraining import (
    admit_champion,
    choose_rows,
    conclude_decision,
    decide_on_retraining,
    labelled_rows,
)


def create_pipeline() -> Pipeline:
    """The deployed release and its predictions to a recorded run, a report and a decision."""
    history = ["monitoring_runs", "monitoring_history", "params:retraining"]
    return Pipeline(
        [
            _node(describe_reference, ["deployed_release", "params:monitoring"], "reference"),
            _node(count_window, ["reference", "prediction_log"], "window"),
            _node(judge, ["reference", "window"], "monitoring_runs"),
            _node(write_report, ["monitoring_runs", "reference", "window"], "monitoring_report"),
            _node(summarise, ["monitoring_runs"], "summary"),
            _node(decide_on_retraining, history, "retraining_decision"),
        ],
        tags="monitoring",
    )


def create_retraining_pipeline(
    training: Pipeline, registry: Pipeline, deployment: Pipeline
) -> Pipeline:
    """An open decision to a new candidate, on through the gates, and to the decision's end.

    Training is given other rows here, and deployment the champion only where the candidate has
    become it.
    """
    logged = ["open_decision", "prediction_log", "params:contract"]
    options = ["params:contract", "params:retraining", "params:data_checks.minimum_rows_per_class"]
    chosen_from = ["open_decision", "labelled_rows", "observations@window", *options]
    ended = ["open_decision", "champion@release", "deployments"]
    nodes = [
        _node(labelled_rows, logged, "labelled_rows"),
        _node(choose_rows, chosen_from, "retraining_rows"),
        _node(admit_champion, ["open_decision", "champion@release"], "admitted_champion"),
        _node(conclude_decision, ended, "retraining_outcome"),
    ]
    return (
        Pipeline(nodes, tags="retraining")
        + Pipeline(training, inputs={"observations@window": "retraining_rows"})
        + registry
        + Pipeline(deployment, inputs={"champion@release": "admitted_champion"})
    )


def _node(function: Callable[..., Any], inputs: list[str], output: str) -> Node:
    return node(function, inputs, output, name=function.__name__)
