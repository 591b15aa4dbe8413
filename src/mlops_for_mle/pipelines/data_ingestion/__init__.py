"""From a source to validated rows in the table of observations."""
