"""Errors that a person can mend: shown as one sentence, without a traceback."""


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""


class ConfigurationError(UserError):
    """A parameter or environment variable is missing or has a value that is not allowed."""


class PrerequisiteError(UserError):
    """An earlier step has not run; the message names the command to run first."""


class SourceError(UserError):
    """The source of a batch cannot be read at all, so nothing of it was written."""


class ReleaseError(UserError):
    """A release is missing, incomplete, altered or does not answer its own example."""


class NotCalledForError(UserError):
    """What was asked for is not needed now; the message says why. No failure."""
