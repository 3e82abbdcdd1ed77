"""Why an engine cannot be had."""


class EngineError(Exception):
    """An engine cannot be had or started here; the message is one line that says why."""


class EngineMissingError(EngineError):
    """The machine lacks Java or Maven, which is no fault of the project."""
