"""What stands in front of all routes: API keys, request ids, protective headers, traces."""
