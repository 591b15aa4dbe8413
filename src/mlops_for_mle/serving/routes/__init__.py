"""The routes of the API; each only translates between HTTP and the parts that do the work."""
