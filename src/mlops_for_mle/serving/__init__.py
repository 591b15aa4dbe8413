"""The prediction API: answers by the release that the table ``deployments`` names (README.md)."""
