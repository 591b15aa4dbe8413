"""Proposes a contract from rows: pure functions, which read and write nothing.

``profile`` says what each column holds, ``flags`` which columns a model should not be given,
``proposal`` puts a contract together, and ``document`` writes it down for a person to review.
"""
