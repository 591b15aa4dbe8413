"""The commands a person would run, as processes of their own in a throw-away project."""
