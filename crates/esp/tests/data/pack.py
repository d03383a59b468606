"""Merges the captures and counters of one run of capture.sh: pack.py RESULTS_DIR DEST_DIR.

NAME.pcap (link type raw IP) holds pairs of packets: the ESP packet as it was on the wire, then the clear packet: what the
receiver delivered (to east) or what the sender was given (to west). The last pair of tunnels is a packet that was too
big, as it met the tunnel, and the ICMP error for it.
"""

import re
import struct
import sys
from pathlib import Path

RAW, ETHERNET, NFLOG = 101, 1, 239
NFLOG_PAYLOAD = 9


def read(path):
    data = path.read_bytes()
    link = struct.unpack("<I", data[20:24])[0]
    at = 24
    while at < len(data):
        sec, usec, length, _ = struct.unpack("<IIII", data[at : at + 16])
        packet = data[at + 16 : at + 16 + length]
        at += 16 + length
        if link == ETHERNET:
            packet = packet[14:]
        elif link == NFLOG:
            rest, packet = packet[4:], b""
            while len(rest) >= 4:
                size, kind = struct.unpack("<HH", rest[:4])
                if kind == NFLOG_PAYLOAD:
                    packet = rest[4:size]
                rest = rest[(size + 3) & ~3 :]
        yield sec, usec, packet


def is_echo(packet):
    if packet[0] >> 4 == 4:
        return packet[9] == 1 and packet[20] in (0, 8)
    return packet[6] == 58 and packet[40] in (128, 129)


def is_too_big(packet):
    if packet[0] >> 4 == 4:
        return packet[9] == 1 and packet[20:22] == b"\x03\x04"
    return packet[6] == 58 and packet[40] == 2


def spi(packet):
    at = 20 if packet[0] >> 4 == 4 else 40
    if packet[9 if at == 20 else 6] == 17:
        at += 8
    return packet[at : at + 4].hex()


def counted(path):
    """Bytes of the SAs to west (sealed by east) and to east (opened by east), by `ip -s xfrm state` on east."""
    lines = path.read_text().split("\n")
    found, current = {}, None
    for line in lines:
        if m := re.search(r"spi 0x([0-9a-f]+)", line):
            current = m[1]
        elif m := re.fullmatch(r"\s*(\d+)\(bytes\), (\d+)\(packets\)", line):
            found[current] = m[1]
    return found["c2000002"], found["c1000001"]


def main(source, dest):
    counters = open(dest / "counters.txt", "w")
    counters.write("# bytes that the kernel counted: name, sealed, opened\n")
    for esp in sorted(source.glob("*.esp.pcap")):
        name = esp.name.removesuffix(".esp.pcap")
        clear = {
            "c1000001": [p for p in read(source / f"{name}.in.pcap") if is_echo(p[2])],
            "c2000002": [p for p in read(source / f"{name}.out.pcap") if is_echo(p[2])],
        }
        records = []
        for record in read(esp):
            records += [record, clear[spi(record[2])].pop(0)]
        assert not any(clear.values()), name
        host = source / f"{name}.host.pcap"
        if host.exists():
            seen = list(read(host))
            for error in (r for r in seen if is_too_big(r[2])):
                quoted = error[2][28:] if error[2][0] >> 4 == 4 else error[2][48:]
                # Between host and tunnel the gateway may have decremented the hop limit: take what met the tunnel.
                at = 8 if quoted[0] >> 4 == 6 else 0
                big = next(r for r in seen if r[2][at : len(quoted)] == quoted[at:])
                records += [(*big[:2], quoted + big[2][len(quoted) :]), error]
        counters.write(f"{name} {' '.join(counted(source / f'{name}.counters'))}\n")
        with open(dest / f"{name}.pcap", "wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW))
            for sec, usec, packet in records:
                out.write(struct.pack("<IIII", sec, usec, len(packet), len(packet)) + packet)


main(Path(sys.argv[1]), Path(sys.argv[2]))
