"""Reads sandbox.json: where to connect and with what. A value is PEM or the path of a PEM file."""

import json
import os
import tempfile


class Sandbox:
    def __init__(self, path, url):
        self.mailboxes = {}
        if url:
            self.url, self.verify, self.key = url, None, b"TestKey"
            for name in ("X26ABC1", "X26ABC2", "X26ABC3"):
                self.mailboxes[name] = ("password", None)
            return
        folder = os.path.dirname(path)
        sandbox = json.load(open(path, encoding="utf-8"))
        self.url, self.key = sandbox["url"], sandbox["mesh"]["shared_key"].encode()
        self.verify = self._file(folder, sandbox["ca"])
        for box in sandbox["mesh"]["mailboxes"]:
            pair = tuple(self._file(folder, box[key]) for key in ("client_certificate", "client_key"))
            self.mailboxes[box["id"]] = (box["password"], pair)

    @staticmethod
    def _file(folder, value):
        if not value.startswith("-----BEGIN"):
            return os.path.join(folder, value)
        handle, path = tempfile.mkstemp(suffix=".pem")
        os.write(handle, value.encode())
        os.close(handle)
        return path

    def client(self, name, **options):
        from mesh_client import MeshClient

        password, cert = self.mailboxes[name]
        options.setdefault("cert", cert)
        return MeshClient(
            self.url, name, password, shared_key=self.key, verify=self.verify, max_retries=0, timeout=60, **options
        )
