"""Signatures of model files: that a file is, byte for byte, what the holder of a private key signed.

The format is OpenSSF Model Signing's, one file `model.onnx.sig`; the package `model-signing` writes and checks it.
Its own hashing opens the model by its path, and what is then run would be read a second time. So it is given the
digest of the bytes in memory instead (`_Held`): what is proven is what is run, whatever happens to the path meanwhile.
"""

import importlib
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from imaging_ft.config import reason
from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.model_file import Checksum, ModelFile, check_self_contained

SUFFIX = ".sig"
_ALONE = Lock()
"""Held while a file is proven: the package's configuration and the process's stdout are changed meanwhile."""
_CURVES = "an elliptic curve key in PEM (P-256, P-384 or P-521)"


@dataclass(frozen=True)
class PublicKey:
    """A key that is trusted: what its holder signed is proven with it."""

    path: Path
    _verifier: Any
    """A `model_signing.verifying.Config`."""

    @classmethod
    def read(cls, path: Path) -> "PublicKey":
        """Return the key in a PEM file; raises BundleError where there is none, or the package isn't installed."""
        config = _library("verifying").Config()
        try:
            return cls(path, config.use_elliptic_key_verifier(public_key=path))
        except OSError as error:
            raise BundleError(f"{path}: the public key can't be read: {reason(error)}") from error
        except Exception as error:  # cryptography raises several kinds, without a common base
            raise BundleError(
                f"{path}: not the public half of {_CURVES}; make it with openssl pkey -in private.pem -pubout"
            ) from error

    def prove(self, file: ModelFile) -> None:
        """Raise BundleError unless these bytes are what was signed with the private half of this key."""
        signature = file.beside(SUFFIX)
        if not signature.is_file():
            raise BundleError(f"{file.path}: not signed: no {signature.name} beside it; make it with imaging-ft sign")
        held = _Held(file)
        try:
            with _ALONE, redirect_stdout(sys.stderr):  # it prints that a signature is old; stdout is for results
                self._verifier.set_hashing_config(held).verify(file.path, signature)
        except Exception as error:  # of json, pydantic, cryptography and the package itself
            raise BundleError(f"{file.path}: {self._refusal(error, signature, held)}") from error
        if not held.compared:  # another version of the package, that hashes by itself: whatever the path holds
            raise BundleError(
                f"{file.path}: nothing was proven: this model-signing doesn't compare the bytes it is given"
            )
        check_self_contained(file.parse(), where=str(file.path))

    def _refusal(self, error: Exception, signature: Path, held: "_Held") -> str:
        """Return why a signature proves nothing; once it was compared with the bytes, it is itself genuine."""
        if held.compared:
            return f"not what was signed: it was altered, or {signature.name} is another file's; fetch both again"
        if isinstance(error, OSError):
            return f"{signature.name} can't be read: {reason(error)}"
        if type(error).__name__ == "InvalidSignature" or "Key mismatch" in str(error):
            return f"{signature.name} is not by the key {self.path}, or was altered; use the signer's public key"
        return f"{signature.name} is damaged, or no signature by a key ({reason(error)}); fetch it again"


def check_signature(path: Path, public_key: Path) -> None:
    """Raise BundleError, in one line, where a file isn't signed with a key's private half.

    That is: no signature beside it, another file's, another key's, or damaged; the file altered, or its weights in
    other files; no public key in `public_key`; or the package `model-signing` not installed.
    """
    PublicKey.read(public_key).prove(ModelFile.read(path))


def verified_bytes(path: Path, public_key: Path) -> bytes:
    """Return a file's bytes once exactly these are proven to be what was signed; raises as `check_signature` does.

    Run what is returned, and never the path again: another file may lie there by then.
    """
    key = PublicKey.read(public_key)
    file = ModelFile.read(path)
    key.prove(file)
    return file.data


def sign_model(path: Path, private_key: Path, *, out: Path | None = None, password: str | None = None) -> Path:
    """Sign a bundle with an elliptic key, and return the signature's path: `out`, or `<file>.sig` beside the file.

    An earlier signature is replaced. One that lies elsewhere has to be put beside the file before it proves anything.
    Raises BundleError where the file is no bundle, has its weights in other files, or isn't the one that its checksum
    is of; InputError where the key or its password is wrong, or the signature can't be written.
    """
    signer = _signer(private_key, password)
    file = ModelFile.read(path)
    model = file.parse()
    file.bundle(model)
    check_self_contained(model, where=str(path))
    if file.checksum() is Checksum.DIFFERS:
        raise BundleError(
            f"{path}: not signed: it isn't the file that {path.name}.sha256 is of; export it again, or if you know who"
            " altered it and why, write its checksum anew"
        )
    signature = out or file.beside(SUFFIX)
    unfinished = signature.with_name(f".{signature.name}.{os.getpid()}.part")
    try:
        signer.set_hashing_config(_Held(file)).sign(path, unfinished)
        unfinished.replace(signature)
    except OSError as error:
        raise InputError(f"{signature}: can't be written: {reason(error)}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return signature


def withdraw(path: Path) -> bool:
    """Remove the signature beside a file that was written anew, and return whether there was one."""
    signature = path.with_name(path.name + SUFFIX)
    found = signature.is_file()
    signature.unlink(missing_ok=True)
    return found


def _signer(private_key: Path, password: str | None) -> Any:
    """Return a `model_signing.signing.Config` with a private key."""
    config = _library("signing").Config()
    secret = None if password is None else password.encode()  # it is annotated as text, but wants bytes
    try:
        return config.use_elliptic_key_signer(private_key=private_key, password=secret)
    except OSError as error:
        raise InputError(f"{private_key}: the private key can't be read: {reason(error)}") from error
    except TypeError as error:
        how = "encrypted; name its password's variable with" if secret is None else "not encrypted; leave out"
        raise InputError(f"{private_key}: the private key is {how} --password-env") from error
    except Exception as error:  # cryptography raises several kinds, without a common base
        wrong = "" if secret is None else ", or the password is wrong"
        raise InputError(f"{private_key}: not the private half of {_CURVES}{wrong}") from error


class _Held:
    """Stands in for `model_signing.hashing.Config`: the digest of bytes in memory, whatever the path holds by now.

    Nor can a signature have a file left out, as the package's own may: such a one would fit every file.
    """

    def __init__(self, file: ModelFile) -> None:
        self.compared = False
        self._manifest = _manifest(file)

    def hash(self, model_path: object, *, files_to_hash: object = None) -> Any:  # noqa: ARG002 - the package's own
        """Return the manifest of the bytes; the package asks for it once the signature is found genuine."""
        self.compared = True
        return self._manifest

    def add_ignored_paths(self, *, model_path: object, paths: object) -> None:
        """Leave nothing out."""


def _manifest(file: ModelFile) -> Any:
    """Return the package's manifest of a model that is one file: a single entry of the name `.`."""
    manifest, hashing = _library("manifest"), _library("_hashing.hashing")
    digest = hashing.Digest("sha256", bytes.fromhex(file.sha256))
    how = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    item = manifest.FileManifestItem(path=PurePosixPath("."), digest=digest)
    return manifest.Manifest(file.path.name, [item], how)


def _library(module: str) -> Any:
    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise BundleError(
            f"signatures need the package model-signing ({reason(error)}): pip install 'imaging-ft[sign]'"
        ) from error
