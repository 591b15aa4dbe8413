"""What the ordinary routes read and write in the database."""
