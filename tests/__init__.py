"""The tests of the project."""

import inspect
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# Dynaconf asks for the module of each frame of the stack, which Python seeks among all modules:
# a third of a second for each command.
getmodule = inspect.getmodule
inspect.getmodule = lambda one, *file: None if inspect.isframe(one) else getmodule(one, *file)
