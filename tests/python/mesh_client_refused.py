"""The published mesh-client with another mailbox's certificate. Argument: sandbox.json."""

import sys

import requests
from sandbox_file import Sandbox

sandbox = Sandbox(sys.argv[1], "")
wrong = sandbox.mailboxes["X26ABC2"][1]
with sandbox.client("X26ABC1", cert=wrong) as mallory:
    try:
        mallory.list_messages()
    except requests.HTTPError as error:
        assert error.response.status_code == 403, error
        print("refused with 403")
        sys.exit(0)
sys.exit("another mailbox's certificate was taken")
