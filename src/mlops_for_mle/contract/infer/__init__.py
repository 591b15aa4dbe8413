"""Proposes the contract of a table from its rows: `kedro contract infer`."""
