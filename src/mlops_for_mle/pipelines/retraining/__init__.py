"""From monitoring to a new model: whether to retrain, and on which rows."""
