"""The published mesh-client, unmodified, through all it can do. Arguments: sandbox.json or empty, URL of a peer or empty."""

import os
import sys

from sandbox_file import Sandbox

sandbox = Sandbox(sys.argv[1], sys.argv[2])
peer = bool(sys.argv[2])

with sandbox.client("X26ABC1") as alice, sandbox.client("X26ABC2") as bob:
    alice.handshake()
    alice.ping()
    assert bob.list_messages() == []

    message = alice.send_message(
        "X26ABC2", b"Hello Bob", workflow_id="PY", subject="s", filename="f.txt", local_id="l-1",
        content_type="text/plain", checksum="abc",
    )
    assert bob.list_messages() == [message]
    assert bob.count_messages() == 1
    got = bob.retrieve_message(message)
    assert got.read() == b"Hello Bob"
    assert (got.sender, got.recipient, got.workflow_id) == ("X26ABC1", "X26ABC2", "PY")
    assert (got.subject, got.filename, got.local_id) == ("s", "f.txt", "l-1")
    assert got.message_type == "DATA" and got.content_type.startswith("text/plain")
    tracked = alice.track_message(message_id=message)
    assert tracked["status"].lower() == "accepted", tracked
    got.acknowledge()
    assert bob.list_messages() == [] and bob.count_messages() == 0
    assert alice.track_message(message_id=message)["status"].lower() == "acknowledged"
    print("send, list, count, retrieve, track, acknowledge")

    body = os.urandom(100_000) + b"0" * 100_000
    for compress in (False, True):
        message = alice.send_message("X26ABC2", body, max_chunk_size=20_000, compress=compress, workflow_id="CHUNKED")
        assert bob.list_messages(workflow_filter="CHUNKED") == [message]
        got = bob.retrieve_message(message)
        assert got.mex_header("total-chunks") == "10", got.mex_header("total-chunks")
        assert got.read() == body
        got.acknowledge()
    print("10 chunks, plain and gzip")

    sent = [alice.send_message("X26ABC2", f"{n}".encode(), workflow_id="MANY" if n % 2 else "FEW") for n in range(25)]
    assert list(bob.iterate_message_ids(batch_size=10)) == sent
    assert list(bob.iterate_message_ids(workflow_filter="MANY", batch_size=10)) == sent[1::2]
    for number, got in enumerate(bob.iterate_all_messages()):
        with got:
            assert got.read() == f"{number}".encode()
    assert bob.list_messages() == []
    print("iterate inbox with paging and filter")

    found = alice.lookup_endpoint("X26", "TEST_WORKFLOW")
    results = found["results"]
    assert [result.get("mailbox_id") or result.get("address") for result in results] == ["X26ABC2"], found
    print("endpoint lookup")

    from mesh_client import MeshError

    try:
        alice.send_message("NOSUCHBOX", b"x", workflow_id="PY")
        raise SystemExit("an unregistered recipient was accepted")
    except MeshError as error:
        assert "nregistered" in str(error), error
    print("an error is an error")
