"""Why a bundle or an update is refused. The class name is what telemetry, logs and metrics report.

``BundleError``: the files themselves are wrong. ``RefusalError``: they may be fine but must not be trusted.
"""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle directory is not what its manifest or architecture says; the message names file or tensor."""


class MissingFileError(BundleError):
    """A file that the manifest or the TUF metadata names is not there."""


class ManifestError(BundleError):
    """The manifest does not decode, contradicts its place or carries a value out of range."""


class SizeLimitError(BundleError):
    """A file is larger than the limit or of another size than the manifest says."""


class HashMismatchError(BundleError):
    """A file's sha256 is not the manifest's."""


class PickleRefusedError(BundleError):
    """A pickle-based file (``.pt``, ``.pth``, ...): loading one can run code, so none is ever opened."""


class TensorFormatError(BundleError):
    """The weights file is not valid safetensors."""


class MissingTensorError(BundleError):
    """A tensor of the architecture is not in the file."""


class UnknownTensorError(BundleError):
    """The file has a tensor that the architecture or the manifest does not know."""


class ShapeMismatchError(BundleError):
    """A tensor has another shape than the architecture or the manifest says."""


class DtypeError(BundleError):
    """A tensor is not of a dtype that is served, or has another dtype than the manifest says."""


class NonFiniteError(BundleError):
    """A tensor holds NaN or infinity."""


class UnknownArchitectureError(BundleError):
    """The manifest's architecture id is not in this runtime's registry."""


class RuntimeTooOldError(BundleError):
    """The bundle needs a newer runtime than this one."""


class DeltaError(BundleError):
    """A delta file is damaged, belongs to another parent, or does not give the weights that it promises."""


class KindNotServedError(BundleError):
    """The bundle is sound, but this runtime has no models of its kind to serve."""


class SpecError(BundleError):
    """What a bundle is to be made from (spec, rules, options) is incomplete or contradicts itself."""


class RefusalError(Exception):
    """An update is refused before anything of it is served; the earlier version goes on serving."""


class UnsafePathError(RefusalError):
    """A file or bundle name holds characters outside ``[A-Za-z0-9._/-]`` or leaves its directory."""


class InboxFullError(RefusalError):
    """The inbox holds its bounded number of files or bytes."""


class FileTooLargeError(RefusalError):
    """A file put into the inbox exceeds the size limit."""


class NoTrustedRootError(RefusalError):
    """No pinned TUF root is configured, or it is unreadable: nothing can be verified."""


class RollbackError(RefusalError):
    """Metadata has a lower version than the one already trusted."""


class ExpiredMetadataError(RefusalError):
    """Metadata is past its expiry date."""


class UnsignedMetadataError(RefusalError):
    """Metadata lacks a threshold of signatures by trusted keys."""


class LengthOrHashMismatchError(RefusalError):
    """A file is not the one that signed metadata names."""


class MissingTargetError(RefusalError):
    """Signed targets metadata does not name the requested bundle."""


class InvalidMetadataError(RefusalError):
    """Metadata does not decode or breaks the TUF rules in another way."""


class CustomMismatchError(RefusalError):
    """The manifest contradicts the signed custom metadata (kind, name, version, encoder_sha256)."""


class VersionConflictError(RefusalError):
    """Another bundle of the same kind, name and version is already installed."""


class MixedPairError(RefusalError):
    """A decoder was trained against an encoder that is not loaded; encoder and decoder never mix."""


class MixAndMatchError(RefusalError):
    """Metadata files of different publications were put together."""


class RootChainError(RefusalError):
    """A newer root does not follow the trusted one: a version between is missing or is not what it says."""


class EndlessDataError(LengthOrHashMismatchError):
    """A file is longer than the signed metadata, or the limit of its role, says."""


class SlowTransferError(RefusalError):
    """A file arrives more slowly than the site waits for."""


class SupersededTransferError(RefusalError):
    """Another transfer of the same file into the inbox has begun; the later one counts."""


class NotAssignedError(RefusalError):
    """The signed director does not assign the bundle to this site."""


class IncompatiblePairError(RefusalError):
    """The signed director does not name this encoder and these weights as a pair."""


class MissingParentError(RefusalError):
    """Of an update only the delta is here, and no bundle with the weights that it applies to."""


class NothingLeftError(RefusalError):
    """Withdrawing what the signed director assigns no longer would leave no encoder with a decoder."""


class StorageError(RefusalError):
    """The update could not be written to disk."""


class StorageFullError(StorageError):
    """The disk or its quota is full."""
