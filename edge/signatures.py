"""Signed bundles: minisign's signatures (Ed25519, RFC 8032) of a zip, checked against the key the robot trusts."""

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.errors import ConfigError, ManifestError

__all__ = ["check_signature"]

_PREHASHED, _PLAIN = b"ED", b"Ed"
_KEY_BYTES, _SIGNATURE_BYTES = 2 + 8 + 32, 2 + 8 + 64


def check_signature(file: Path, content: bytes, key_file: Path) -> str:
    """Check what is in `file` against `FILE.minisig` and a minisign public key; return the signature's trusted comment.

    content: of the file, read once by who will use it: the file itself may be exchanged after the check. Both of
    minisign's forms are taken: of the content itself and of its BLAKE2b-512.
    Raises: ConfigError for a key that is none, ManifestError for a missing, foreign or wrong signature.
    """
    key = _decoded(key_file, 1, _KEY_BYTES)
    if key is None or key[:2] != _PLAIN:
        raise ConfigError(f"{key_file} is no minisign public key", "give the .pub file that `minisign -G` wrote")
    signed = file.with_name(file.name + ".minisig")
    signature = _decoded(signed, 1, _SIGNATURE_BYTES)
    overall = _decoded(signed, 3, 64)
    if signature is None or overall is None:
        raise ManifestError(f"{file.name} has no signature {signed.name}", "sign it: minisign -Sm FILE")
    if signature[2:10] != key[2:10]:
        raise ManifestError(f"{file.name} is signed with another key than {key_file.name}", "sign it with that key")
    if signature[:2] == _PREHASHED:
        content = hashlib.blake2b(content).digest()
    comment = signed.read_text(errors="replace").splitlines()[2].removeprefix("trusted comment: ")
    public = Ed25519PublicKey.from_public_bytes(key[10:])
    try:
        public.verify(signature[10:], content)
        public.verify(overall, signature[10:] + comment.encode())
    except InvalidSignature as exc:
        raise ManifestError(
            f"{file.name} is not what was signed", "fetch it again; do not install what somebody changed"
        ) from exc
    return comment


def _decoded(path: Path, line: int, size: int) -> bytes | None:
    """The base64 in a line of a minisign file, None where it is missing or of another length."""
    try:
        data = base64.b64decode(path.read_text(errors="replace").splitlines()[line], validate=True)
    except (OSError, ValueError, IndexError):
        return None
    return data if len(data) == size else None
