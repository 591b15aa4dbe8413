"""From the table of observations to a logged candidate model."""
