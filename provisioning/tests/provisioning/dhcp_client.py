"""Asks for an address as firmware does, and prints what it is offered as JSON ({} when nobody answers).

Usage: dhcp_client.py INTERFACE MAC ARCHITECTURE VENDOR_CLASS ipxe|firmware SECONDS
"""

import json
import os
import socket
import struct
import sys

interface, mac, architecture, vendor, kind, seconds = sys.argv[1:]
hardware = bytes.fromhex(mac.replace(":", ""))
transaction = os.urandom(4)


def option(code, value):
    return bytes([code, len(value)]) + value


packet = struct.pack("!BBBB4sHH4s4s4s4s", 1, 1, 6, 0, transaction, 0, 0x8000, *[bytes(4)] * 4)
packet += hardware + bytes(10) + bytes(64) + bytes(128) + b"\x63\x82\x53\x63"
packet += option(53, b"\x01") + option(55, bytes([1, 3, 6, 15, 42, 60, 66, 67, 175]))
packet += option(93, struct.pack("!H", int(architecture))) + option(94, b"\x01\x02\x01") + option(60, vendor.encode())
if kind == "ipxe":
    packet += option(175, b"\x19\x01\x01")
packet += b"\xff"

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
server.bind(("0.0.0.0", 68))
server.settimeout(float(seconds))
server.sendto(packet, ("255.255.255.255", 67))

offer = {}
try:
    while not offer:
        answer = server.recv(4096)
        if answer[0] != 2 or answer[4:8] != transaction:
            continue
        offer["address"] = socket.inet_ntoa(answer[16:20])
        offer["server"] = socket.inet_ntoa(answer[20:24])
        offer["file"] = answer[108:236].split(b"\0")[0].decode()
        at = 240
        while at < len(answer) and answer[at] != 255:
            if answer[at] == 0:
                at += 1
                continue
            value = answer[at + 2 : at + 2 + answer[at + 1]]
            if answer[at] == 67:
                offer["file"] = value.split(b"\0")[0].decode()
            if answer[at] == 60:
                offer["class"] = value.decode()
            if answer[at] == 12:
                offer["name"] = value.decode()
            at += 2 + answer[at + 1]
except TimeoutError:
    pass
print(json.dumps(offer))
