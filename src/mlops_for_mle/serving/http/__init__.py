"""HTTP: the protocol, the hot routes' short way, bodies, limits and how errors are worded."""
