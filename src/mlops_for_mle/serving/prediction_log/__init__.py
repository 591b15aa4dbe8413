"""The prediction log: spooled on the local disk, shipped to the database exactly once."""
