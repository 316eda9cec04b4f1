"""Every error Harrier raises on purpose, each with its cause, its cure and the exit code of the command.

EdgeError
 +-- ConfigError            2  the configuration, a URI or a command line is wrong
 |    +-- MissingBackendError  an optional package is not installed
 +-- ModelError             3  the model cannot be used
 |    +-- ManifestError        the bundle's manifest, labels or files contradict each other
 |    +-- CatalogueError       a catalogue entry could not be fetched or verified
 |    +-- EngineError          the engine cannot load or run the file
 |         +-- EngineLostError  4  its process, device or server does not answer just now; it may come back
 +-- DeviceError            4  something outside the process is missing, busy or silent
 |    +-- AcceleratorError     the model needs an accelerator that is not here
 |    +-- SourceError          a frame source failed
 |    |    +-- SourceOpenError     it could not be opened
 |    |    +-- SourceTimeoutError  no frame arrived in time
 |    |    +-- EndOfStreamError    it ended, as files do
 |    +-- PublishError         a publisher could not be opened or written
 |    +-- WireError            bytes that arrived are not a message
 |         +-- WireVersionError   they are of another version or table of the protocol
 |         +-- WireLengthError    there are too few or too many of them
 |         +-- WireChecksumError  they were damaged on their way
 +-- InterruptedWorkError 130  Ctrl-C ended work that was to give a result

Exit codes: 0 ok, 1 a defect in Harrier, 2 configuration, 3 model, 4 device, 5 accuracy gate
(`edge.evaluation.gates.AccuracyError`), 6 a budget of `harrier bench` was not kept or a soak found a problem,
130 interrupted, as a shell reports it.
Foreign exceptions are translated into these at the border where they arise, with `from exc`.
"""

__all__ = [
    "AcceleratorError",
    "CatalogueError",
    "ConfigError",
    "DeviceError",
    "EdgeError",
    "EndOfStreamError",
    "EngineError",
    "EngineLostError",
    "InterruptedWorkError",
    "ManifestError",
    "MissingBackendError",
    "ModelError",
    "PublishError",
    "SourceError",
    "SourceOpenError",
    "SourceTimeoutError",
    "WireChecksumError",
    "WireError",
    "WireLengthError",
    "WireVersionError",
]


class EdgeError(Exception):
    """An error a person can act on: one line that names the cause, then the cure."""

    exit_code = 1

    def __init__(self, cause: str, cure: str) -> None:
        self.cause = " ".join(cause.split())
        self.cure = " ".join(cure.split())
        super().__init__(f"{self.cause}: {self.cure}")


class ConfigError(EdgeError):
    """The configuration file, a URI or the command line is wrong."""

    exit_code = 2


class MissingBackendError(ConfigError):
    """An optional package is not installed; the cure is its exact install line."""


class ModelError(EdgeError):
    """The model cannot be used as it is."""

    exit_code = 3


class ManifestError(ModelError):
    """A bundle's manifest, labels, decoder and files contradict each other."""


class CatalogueError(ModelError):
    """A catalogue entry could not be fetched or its hash is wrong."""


class EngineError(ModelError):
    """The engine cannot load or run the model file."""


class EngineLostError(EngineError):
    """What runs the model (its process, device or server) hangs, died or is being started again; it may come back."""

    exit_code = 4


class DeviceError(EdgeError):
    """Something outside the process is missing, busy or silent."""

    exit_code = 4


class AcceleratorError(DeviceError):
    """The model was compiled for an accelerator that is not present."""


class SourceError(DeviceError):
    """A frame source failed."""


class SourceOpenError(SourceError):
    """A frame source could not be opened."""


class SourceTimeoutError(SourceError):
    """No frame arrived within the time allowed."""


class EndOfStreamError(SourceError):
    """The source ended in the ordinary way; no more frames will come."""


class PublishError(DeviceError):
    """A publisher could not be opened or written."""


class WireError(DeviceError):
    """Bytes that arrived are not a message of the expected format."""


class WireVersionError(WireError):
    """The sender speaks another version, or another table, of the protocol."""


class WireLengthError(WireError):
    """A message has too few or too many bytes."""


class WireChecksumError(WireError):
    """The checksum does not fit the bytes."""


class InterruptedWorkError(EdgeError):
    """Ctrl-C ended work that was to give a result, such as a measurement; exit code 0 would claim that it did."""

    exit_code = 130
