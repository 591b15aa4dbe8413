"""How Hypothesis draws its examples in the tests of training."""

from hypothesis import settings

settings.register_profile(
    "training", max_examples=20, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.load_profile("training")
