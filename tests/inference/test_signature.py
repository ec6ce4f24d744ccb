"""Signatures: what is proven is what is run; whatever is altered, swapped or damaged is one line."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

pytest.importorskip("model_signing", reason="needs pip install 'imaging-ft[sign]'")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from model_signing import hashing, signing, verifying

from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.model_file import ModelFile
from imaging_ft.inference.signature import PublicKey, check_signature, sign_model, verified_bytes
from tests.inference.nets import LINEAR, make

TAIL = LINEAR["pool, flatten, gemm"]


@dataclass(frozen=True)
class Keys:
    """The two halves of a key, as PEM files."""

    private: Path
    public: Path


def keys(folder: Path, name: str, *, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> Keys:
    """Write a key pair, by default a new one on P-256."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    found = Keys(folder / f"{name}.pem", folder / f"{name}.pub.pem")
    form = serialization.PrivateFormat.PKCS8
    found.private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    found.public.write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    return found


@dataclass(frozen=True)
class Signed:
    """A signed bundle, and the keys that it was signed with."""

    path: Path
    keys: Keys

    @property
    def signature(self) -> Path:
        return self.path.with_name(f"{self.path.name}.sig")


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    path = make(TAIL, tmp_path / "model.onnx").path
    pair = keys(tmp_path, "ours")
    assert sign_model(path, pair.private) == path.with_name("model.onnx.sig")
    return Signed(path, pair)


def refused(signed: Signed, *parts: str, public: Path | None = None) -> None:
    """Assert that a file isn't proven, in one line that names it."""
    with pytest.raises(BundleError) as caught:
        verified_bytes(signed.path, public or signed.keys.public)
    assert "\n" not in str(caught.value)
    for part in (str(signed.path), *parts):
        assert part in str(caught.value)


def test_what_is_proven_is_what_is_returned(signed: Signed) -> None:
    assert verified_bytes(signed.path, signed.keys.public) == signed.path.read_bytes()
    check_signature(signed.path, signed.keys.public)
    assert sorted(path.name for path in signed.path.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.sig",
        "ours.pem",
        "ours.pub.pem",
    ]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_a_threshold(path: Path) -> None:
    model = onnx.load(path)
    for item in model.metadata_props:
        if item.key == "imaging_ft.thresholds":
            item.value = item.value.replace("0.5", "0.9")
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("alter", [flip, change_a_threshold], ids=["one bit", "metadata"])
def test_an_altered_file_is_refused(alter: Callable[[Path], None], signed: Signed) -> None:
    alter(signed.path)
    refused(signed, "not what was signed", "model.onnx.sig")


def test_a_file_swapped_after_it_was_read_changes_nothing(signed: Signed) -> None:
    key, genuine = PublicKey.read(signed.keys.public), ModelFile.read(signed.path)
    flip(signed.path)
    key.prove(genuine)
    altered = ModelFile.read(signed.path)
    signed.path.write_bytes(genuine.data)
    with pytest.raises(BundleError, match="not what was signed"):
        key.prove(altered)


def test_another_files_signature_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = make(TAIL, tmp_path / "other.onnx", channels=3).path
    shutil.copy(sign_model(other, signed.keys.private), signed.signature)
    refused(signed, "not what was signed")


def test_a_signature_that_leaves_the_file_out_fits_no_file(signed: Signed) -> None:
    nothing = hashing.Config().set_ignored_paths(paths=["."])
    config = signing.Config().use_elliptic_key_signer(private_key=signed.keys.private)
    config.set_hashing_config(nothing).sign(signed.path, signed.signature)
    refused(signed, "not what was signed")


def test_another_key_is_refused(signed: Signed, tmp_path: Path) -> None:
    theirs = keys(tmp_path, "theirs")
    refused(signed, "model.onnx.sig is not by the key", "theirs.pub.pem", public=theirs.public)
    sign_model(signed.path, theirs.private)
    refused(signed, "model.onnx.sig is not by the key", "ours.pub.pem")
    check_signature(signed.path, theirs.public)


def without_hint(text: str) -> str:
    values = json.loads(text)
    del values["verificationMaterial"]["publicKey"]["hint"]
    return json.dumps(values)


def test_the_name_of_the_key_in_a_signature_is_not_believed(signed: Signed, tmp_path: Path) -> None:
    theirs = keys(tmp_path, "theirs")
    ours = json.loads(signed.signature.read_text())["verificationMaterial"]
    sign_model(signed.path, theirs.private)
    values = json.loads(signed.signature.read_text())
    signed.signature.write_text(json.dumps(values | {"verificationMaterial": ours}))
    refused(signed, "is not by the key")
    signed.signature.write_text(without_hint(json.dumps(values)))
    refused(signed, "is not by the key")


def test_an_old_signature_is_taken_and_said_so_on_stderr(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    signed.signature.write_text(without_hint(signed.signature.read_text()))
    check_signature(signed.path, signed.keys.public)
    said = capsys.readouterr()
    assert said.out == ""
    assert "older" in said.err


def change_what_is_signed(text: str) -> str:
    values = json.loads(text)
    payload = base64.b64decode(values["dsseEnvelope"]["payload"]).replace(b"model.onnx", b"madel.onnx")
    values["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    return json.dumps(values)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda text: text[: len(text) // 2], "model.onnx.sig is damaged"),
        (lambda text: "", "model.onnx.sig is damaged"),
        (lambda text: "[]", "model.onnx.sig is damaged"),
        (lambda text: "{}", "model.onnx.sig is damaged"),
        (lambda text: "[" * 100_000, "model.onnx.sig is damaged"),
        (lambda text: text.replace("dsseEnvelope", "messageSignature"), "model.onnx.sig is damaged"),
        (lambda text: json.dumps({**json.loads(text), "mediaType": "text/plain"}), "model.onnx.sig is damaged"),
        (change_what_is_signed, "model.onnx.sig is not by the key"),
    ],
    ids=["truncated", "empty", "a list", "no keys", "deep", "of another kind", "of another type", "changed inside"],
)
def test_a_damaged_signature_is_refused(damage: Callable[[str], str], part: str, signed: Signed) -> None:
    signed.signature.write_text(damage(signed.signature.read_text()))
    refused(signed, part)


def test_a_file_without_a_signature_is_refused(signed: Signed) -> None:
    signed.signature.unlink()
    refused(signed, "not signed: no model.onnx.sig beside it")
    signed.signature.mkdir()
    refused(signed, "not signed: no model.onnx.sig beside it")


@pytest.mark.parametrize("wrong", ["private", "rsa", "curve", "text", "missing"])
def test_a_wrong_key_is_named(wrong: str, signed: Signed, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pem"
    private = path
    if wrong == "private":
        path, private = signed.keys.private, signed.keys.public
    elif wrong == "rsa":
        pair = keys(tmp_path, "rsa", key=rsa.generate_private_key(65537, 2048))
        path, private = pair.public, pair.private
    elif wrong == "curve":
        pair = keys(tmp_path, "curve", key=ec.generate_private_key(ec.SECP256K1()))
        path, private = pair.public, pair.private
    elif wrong == "text":
        path.write_text("no key")
    why = "can't be read: No such file" if wrong == "missing" else "half of an elliptic curve key in PEM"
    with pytest.raises(BundleError, match=rf"{path.name}: .*{why}"):
        check_signature(signed.path, path)
    with pytest.raises(InputError, match=rf"{private.name}: .*{why}"):
        sign_model(signed.path, private)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_larger_curves_sign_too(curve: ec.EllipticCurve, signed: Signed, tmp_path: Path) -> None:
    pair = keys(tmp_path, "larger", key=ec.generate_private_key(curve))
    sign_model(signed.path, pair.private)
    check_signature(signed.path, pair.public)


def test_an_encrypted_key_needs_its_password_and_a_plain_one_none(signed: Signed, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = keys(tmp_path, "locked", key=key).public
    locked = tmp_path / "locked.pem"
    how = serialization.BestAvailableEncryption("grün".encode())
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    with pytest.raises(InputError, match=r"is encrypted; .* --password-env"):
        sign_model(signed.path, locked)
    with pytest.raises(InputError, match=r"or the password is wrong"):
        sign_model(signed.path, locked, password="red")
    with pytest.raises(InputError, match=r"is not encrypted; leave out --password-env"):
        sign_model(signed.path, signed.keys.private, password="red")
    sign_model(signed.path, locked, password="grün")
    check_signature(signed.path, public)


def test_a_file_may_be_renamed_with_its_signature_and_linked_to(signed: Signed, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(signed.path, folder / "renamed.onnx")
    shutil.copy(signed.signature, folder / "renamed.onnx.sig")
    check_signature(folder / "renamed.onnx", signed.keys.public)
    (folder / "linked.onnx").symlink_to(signed.path)
    (folder / "linked.onnx.sig").symlink_to(signed.signature)
    check_signature(folder / "linked.onnx", signed.keys.public)


def model_signing(*arguments: object) -> int:
    """Run the package's own command."""
    words = [str(argument) for argument in arguments]
    command = [sys.executable, "-c", "from model_signing._cli import main; main()", *words]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def test_the_packages_own_command_and_ours_take_each_others_signatures(signed: Signed) -> None:
    verify = ("verify", "key", signed.path, "--signature", signed.signature, "--public_key", signed.keys.public)
    assert model_signing(*verify) == 0
    signed.signature.unlink()
    assert (
        model_signing("sign", "key", signed.path, "--signature", signed.signature, "--private_key", signed.keys.private)
        == 0
    )
    check_signature(signed.path, signed.keys.public)
    flip(signed.path)
    assert model_signing(*verify) != 0


def outside(path: Path) -> None:
    """Move a bundle's weights into a file beside it."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_weights_in_another_file_are_neither_signed_nor_proven(signed: Signed) -> None:
    outside(signed.path)
    with pytest.raises(BundleError, match=r"its weights '\w+' lie in another file") as caught:
        sign_model(signed.path, signed.keys.private)
    assert "\n" not in str(caught.value)
    signing.Config().use_elliptic_key_signer(private_key=signed.keys.private).sign(signed.path, signed.signature)
    refused(signed, "lie in another file")


def test_what_is_no_bundle_or_not_what_was_exported_is_not_signed(signed: Signed, tmp_path: Path) -> None:
    signed.signature.unlink()
    model = onnx.load(signed.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    with pytest.raises(BundleError, match="not a bundle"):
        sign_model(tmp_path / "plain.onnx", signed.keys.private)
    (tmp_path / "model.onnx.sha256").write_text(f"{'0' * 64}  model.onnx\n")
    with pytest.raises(BundleError, match=r"not signed: it isn't the file that model.onnx.sha256 is of"):
        sign_model(signed.path, signed.keys.private)
    with pytest.raises(BundleError, match="no such model file"):
        sign_model(tmp_path / "none.onnx", signed.keys.private)
    assert not list(tmp_path.glob("*.sig"))
    assert not list(tmp_path.glob(".*"))


def test_a_signature_may_be_written_elsewhere_and_proves_once_it_lies_beside_the_file(signed: Signed) -> None:
    signed.signature.unlink()
    out = signed.path.parent / "signatures" / "a.sig"
    with pytest.raises(InputError, match=r"a.sig: can't be written: "):
        sign_model(signed.path, signed.keys.private, out=out)
    out.parent.mkdir()
    assert sign_model(signed.path, signed.keys.private, out=out) == out
    refused(signed, "not signed")
    shutil.copy(out, signed.signature)
    check_signature(signed.path, signed.keys.public)


def test_a_package_that_does_not_compare_the_bytes_proves_nothing(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying.Config, "verify", lambda *_: None)
    refused(signed, "nothing was proven")


def test_a_signature_that_cannot_be_written_is_one_line(signed: Signed) -> None:
    signed.signature.unlink()
    signed.signature.mkdir()
    with pytest.raises(InputError, match=r"model.onnx.sig: can't be written: "):
        sign_model(signed.path, signed.keys.private)
    assert not list(signed.path.parent.glob(".*"))


def test_without_the_package_the_extra_is_named(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.setitem(sys.modules, module, None)
    for call in (
        lambda: check_signature(signed.path, signed.keys.public),
        lambda: sign_model(signed.path, signed.keys.private),
    ):
        with pytest.raises(BundleError, match=r"pip install 'imaging-ft\[sign\]'") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_module_loads_no_cryptography() -> None:
    program = (
        "import sys, imaging_ft.inference.signature, imaging_ft.inference.verify, imaging_ft.inference.about;"
        "print(sorted({'model_signing', 'cryptography', 'sigstore', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
