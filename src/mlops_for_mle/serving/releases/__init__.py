"""The release in service: followed, loaded, probed, cached and swapped."""
