"""Any table, query or file of rows to a table or file of predictions."""
