"""The project's parts against real servers, within this process."""
