"""Keeps UDP sockets on port 4500 whose ESP packets the kernel takes out (UDP_ENCAP, RFC 3948)."""

import signal
import socket

UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2

sockets = []
for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 4500))
    s.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
    sockets.append(s)
signal.pause()
