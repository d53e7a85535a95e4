"""A small MESH client over mutual TLS, standard library alone; also a program, so that it can run in another network.

    mesh.py send    ... --from A --to B BODY       prints the message's identifier
    mesh.py inbox   ... --from A                   prints the identifiers, one a line
    mesh.py fetch   ... --from A ID                prints the body
    mesh.py load    ... --from A --to B            sends and lists until its input ends, then prints figures as JSON

Every client takes --host, --port, --name (in the certificate), --ca, --certificate, --key, --shared-key, --password;
--source is the address it comes from, where a firewall lets in clients of some networks alone.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import select
import socket
import ssl
import sys
import threading
import time
import uuid

WORKFLOW = "VERTEBRA_TEST"
WAIT_MAX_S = 30


class Client:
    """One mailbox on one connection that is kept while the node keeps it."""

    def __init__(self, arguments):
        self.mailbox = getattr(arguments, "from")
        self.arguments = arguments
        self.context = ssl.create_default_context(cafile=arguments.ca)
        self.context.load_cert_chain(arguments.certificate, arguments.key)
        self.connection = None

    def token(self):
        nonce = str(uuid.uuid4())
        stamp = time.strftime("%Y%m%d%H%M", time.gmtime())
        text = f"{self.mailbox}:{nonce}:1:{self.arguments.password}:{stamp}"
        digest = hmac.new(self.arguments.shared_key.encode(), text.encode(), hashlib.sha256).hexdigest()
        return f"NHSMESH {self.mailbox}:{nonce}:1:{stamp}:{digest}"

    def call(self, method, rest, headers=(), body=None, keep=True):
        """Gives (status, body). Raises OSError or HTTPException when there is no answer."""
        if self.connection is None:
            source = (self.arguments.source, 0) if self.arguments.source else None
            plain = socket.create_connection((self.arguments.host, self.arguments.port), WAIT_MAX_S, source)
            self.connection = http.client.HTTPConnection(self.arguments.name)
            self.connection.sock = self.context.wrap_socket(plain, server_hostname=self.arguments.name)
        every = {"Authorization": self.token(), "Accept": "application/vnd.mesh.v2+json", **dict(headers)}
        if not keep:
            every["Connection"] = "close"
        try:
            self.connection.request(method, f"/messageexchange/{self.mailbox}/{rest}", body=body, headers=every)
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.will_close or not keep:
            self.close()
        return answer.status, content

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send(self, body, keep=True):
        headers = {"Mex-To": self.arguments.to, "Mex-WorkflowID": WORKFLOW, "Content-Type": "application/octet-stream"}
        return self.call("POST", "outbox", headers, body, keep)


def load(arguments):
    """Several clients, half of them on kept connections, until standard input ends. A request that got no answer or a
    server error has failed; there are no retries."""
    stop = threading.Event()
    lock = threading.Lock()
    figures = {"requests": 0, "failed": 0, "refused": 0, "seconds_longest": 0.0, "failures": []}

    def client(number):
        mailbox = Client(arguments)
        while not stop.is_set():
            began = time.monotonic()
            failure, refused = None, False
            try:
                if number % 4 < 2:
                    status, _ = mailbox.send(b"load", keep=number % 2 == 0)
                else:
                    status, _ = mailbox.call("GET", "inbox", keep=number % 2 == 0)
                if status >= 500 or status == 429:
                    failure = f"status {status}"
            except ConnectionRefusedError as error:
                failure, refused = repr(error), True
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
            took = time.monotonic() - began
            with lock:
                figures["requests"] += 1
                figures["seconds_longest"] = max(figures["seconds_longest"], round(took, 3))
                if failure:
                    figures["failed"] += 1
                    figures["refused"] += refused
                    figures["failures"] = (figures["failures"] + [failure])[-5:]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients)]
    for thread in threads:
        thread.start()
    print("running", flush=True)
    select.select([sys.stdin], [], [])
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(figures))
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["send", "inbox", "fetch", "load"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--source")
    for name in ("name", "ca", "certificate", "key", "shared-key", "password", "from"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--to")
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.what == "load":
        return load(arguments)
    mailbox = Client(arguments)
    if arguments.what == "send":
        status, body = mailbox.send(arguments.rest[0].encode())
        answer = json.loads(body)
        if status != 202:
            print(f"{status} {body.decode(errors='replace')}", file=sys.stderr)
            return 1
        print(answer["message_id"])
    elif arguments.what == "inbox":
        status, body = mailbox.call("GET", "inbox")
        if status != 200:
            print(f"{status} {body.decode(errors='replace')}", file=sys.stderr)
            return 1
        print("\n".join(json.loads(body)["messages"]))
    else:
        status, body = mailbox.call("GET", f"inbox/{arguments.rest[0]}")
        if status != 200:
            print(f"{status} {body.decode(errors='replace')}", file=sys.stderr)
            return 1
        sys.stdout.buffer.write(body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
