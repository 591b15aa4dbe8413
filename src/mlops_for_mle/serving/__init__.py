"""The prediction API: answers by the release that the ``deployments`` table names.

Layers, each of which knows only those below it: ``routes`` translate HTTP, ``data_plane`` answers
rows, ``served_release`` is one loaded release, ``follower`` replaces it when a new one is deployed.
Nothing here imports Kedro, MLflow or pandas.
"""
