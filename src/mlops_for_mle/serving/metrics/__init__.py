"""What the server counts, for Prometheus and for the page."""
