"""What people type: each command parses its options and calls one function elsewhere."""
