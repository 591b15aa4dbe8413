"""Wiring of the pipelines monitoring and retrain."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline, node

from mlops_for_mle.pipelines.monitoring.checks import (
    check_calibration,
    check_data_quality,
    check_drift,
    check_performance,
)
from mlops_for_mle.pipelines.monitoring.judgement import judge
from mlops_for_mle.pipelines.monitoring.record import summarise
from mlops_for_mle.pipelines.monitoring.reference import describe_reference
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.pipelines.monitoring.retraining import (
    admit_champion,
    choose_rows,
    conclude_decision,
    decide_on_retraining,
)
from mlops_for_mle.pipelines.monitoring.window import count_window


def create_pipeline() -> Pipeline:
    """The deployed release and its predictions to a recorded run, a report and a decision."""
    options, counted = "params:monitoring", ["reference", "window", "params:monitoring"]
    found = ["performance_checks", "drift_checks", "quality_checks", "calibration_checks"]
    nodes = [
        _node(describe_reference, ["deployed_release", options], "reference"),
        _node(
            count_window, ["reference", "prediction_log", options, "params:retraining"], "window"
        ),
        _node(check_performance, counted, "performance_checks"),
        _node(check_drift, counted, "drift_checks"),
        _node(check_data_quality, counted, "quality_checks"),
        _node(check_calibration, counted, "calibration_checks"),
        _node(judge, ["reference", "window", *found, options], "monitoring_runs"),
        _node(write_report, ["monitoring_runs", *counted], "monitoring_report"),
        _node(summarise, ["monitoring_runs"], "summary"),
        _node(
            decide_on_retraining,
            ["monitoring_runs", "monitoring_history", "params:retraining"],
            "retraining_decision",
        ),
    ]
    return Pipeline(nodes, tags="monitoring")


def create_retraining_pipeline(
    training: Pipeline, registry: Pipeline, deployment: Pipeline
) -> Pipeline:
    """An open decision to a new candidate, on through the gates, and to the decision's end.

    Args:
        training: Is given other rows here.
        registry: Tags the candidate's version with what the gates say.
        deployment: Is given the champion only where the candidate has become it.
    """
    chosen_from = ["open_decision", "prediction_log", "observations@window"]
    options = ["params:contract", "params:retraining", "params:data_checks.minimum_rows_per_class"]
    admitted = ["open_decision", "champion@verdict", "deployed_at", "champion@release"]
    ended = ["open_decision", "champion@verdict", "deployments"]
    nodes = [
        _node(choose_rows, [*chosen_from, *options], "retraining_rows"),
        _node(admit_champion, admitted, "admitted_champion"),
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
