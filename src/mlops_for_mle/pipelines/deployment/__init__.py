"""From the champion to a verified release that servers follow."""
