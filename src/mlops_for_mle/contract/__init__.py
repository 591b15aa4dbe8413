"""What is known of a table: its contract, the rules of its values, their encoding, its tables."""

from mlops_for_mle.contract.model import Configuration, Contract, Feature, Target, TargetClass

__all__ = ["Configuration", "Contract", "Feature", "Target", "TargetClass"]
