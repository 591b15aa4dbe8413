"""Scoring of rows outside the API: as they arrive in a table, and in batches of any size.

``scorer`` knows the deployed release and turns rows into predictions; it knows no transport.
``prediction_store`` writes what was scored, once for each row. Everything else brings rows.
"""
