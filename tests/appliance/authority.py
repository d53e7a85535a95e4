"""Throw-away certificates, made with openssl."""

import subprocess
from pathlib import Path


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A certificate authority in a folder of its own; one that is there already (`ca.pem`, `ca.key`) is used."""

    def __init__(self, folder, name):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        if not self.certificate.exists():
            _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, subject, purpose, names=""):
        """A leaf for `subject`; gives (certificate, key). `names` is openssl's subjectAltName."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        lines = [f"extendedKeyUsage={purpose}"] + ([f"subjectAltName={names}"] if names else [])
        extensions.write_text("\n".join(lines) + "\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", f"/CN={subject}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                 "-days", "2", "-extfile", extensions, "-out", certificate)
        return certificate, key


def secure_boot_pair(folder, name):
    """A self-signed RSA certificate and its key for signing what firmware starts; gives (certificate, key)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-keyout", key, "-out", certificate)
    return certificate, key
