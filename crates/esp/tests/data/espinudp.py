"""Keeps a UDP socket on port 4500 whose ESP packets the kernel takes out (UDP_ENCAP, RFC 3948)."""

import socket

UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 4500))
s.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
while True:
    s.recv(2000)
