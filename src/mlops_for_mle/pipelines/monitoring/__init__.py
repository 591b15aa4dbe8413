"""Compares what the deployed release is asked and answers with what it was trained on."""
