"""From a candidate to a decision: does it become champion?"""
