"""Scoring of the rows that arrive in a Kafka topic.

At least once with an idempotent sink: a batch is scored, written in one transaction under the
positions of its messages, its bad messages go to the dead-letter topic, and only then are its
offsets committed. Whatever breaks in between is done again, and changes nothing the second time.
"""
