"""The project's pipelines: pure node functions, and wiring apart from them."""
