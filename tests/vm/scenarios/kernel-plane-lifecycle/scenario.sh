#!/bin/bash
# Cygnet with the kernel's ESP through its life: an ACQUIRE brings the tunnel up, nothing passes in
# clear before, during and after kill -9, a restart doubles nothing, a polite end leaves nothing.
# The peer is strongSwan on the kernel's ESP.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
# The router knows the inner networks: what is not protected arrives, and is seen.
printf 'route add 10.1.0.0/24 via 192.0.2.1\nroute add 10.2.0.0/24 via 198.51.100.1\nroute add 2001:db8:1::/64 via 2001:db8:a::1\nroute add 2001:db8:2::/64 via 2001:db8:b::1\n' | ip -n router -batch -
IN_WEST=10.1.0.0/24,2001:db8:1::/64 IN_EAST=10.2.0.0/24,2001:db8:2::/64
ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example $IN_EAST $IN_WEST default default
AUTO=ondemand cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=$IN_WEST right=198.51.100.1 rightid=@east.example \
  rightsubnet=$IN_EAST dataplane=kernel

# What is in clear on the wire of west while somebody sends in both directions.
through() { # one echo, IPv4 and IPv6
  on west ping -q -c 1 -W 1 -I 10.1.0.1 10.2.0.1 && on west ping -q -c 1 -W 1 -I 2001:db8:1::1 2001:db8:2::1
}
probes_seen() { [ "$(tcpdump -n -r /out/probe.pcap 'src host 10.2.0.77 or src host 2001:db8:2::77' 2>/dev/null | grep -c .)" = 2 ]; }
probe() {  # probe WHEN
  capture router to-west probe.pcap
  through >/dev/null 2>&1
  # As somebody on the way would: packets of the inner networks, in clear, inwards. Received ones are
  # answered, so the answer would be seen; it would not be protected either.
  on router sysctl -qw net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1
  on router python3 -c '
import socket
for family, source, target in ((socket.AF_INET, "10.2.0.77", "10.1.0.1"), (socket.AF_INET6, "2001:db8:2::77", "2001:db8:1::1")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6, 19 if family == socket.AF_INET else 75, 1)
    s.bind((source, 9)); s.sendto(b"in clear?", (target, 7777))'
  # The capture lags behind on a busy host; what the probe causes comes right behind it.
  within 5 probes_seen; sleep 0.3; capture_end
  check "$1: nothing leaves west in clear" not sh -c "tcpdump -n -r /out/probe.pcap 'src net 10.1.0.0/24 or src net 2001:db8:1::/64' 2>/dev/null | grep ."
  check "$1: the probe was sent" probes_seen
  check "$1: and did not arrive" [ ! -s /out/arrived ]
}
put west /tmp/listen.py <<'END'
import socket, threading
def listen(family, address):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, 7777))
    while True:
        print(s.recvfrom(100), file=open("/out/arrived", "a"), flush=True)
for end in ((socket.AF_INET, "10.1.0.1"), (socket.AF_INET6, "2001:db8:1::1")):
    threading.Thread(target=listen, args=end).start()
END
bg west listen python3 /tmp/listen.py; LISTEN=$BG; sleep 0.5
on router sysctl -qw net.ipv4.ip_nonlocal_bind=1
policies() { on west ip xfrm policy list nosock | grep -c '^src'; }
states() { on west ip xfrm state | grep -c 'proto esp'; }

cy_start west; check "cygnet runs on west" [ $? = 0 ]
within 5 sh -c 'ip -n west xfrm policy list nosock | grep -q "dst 10.2.0.0/24"'
probe "with a trap and no peer"

check "charon runs on east" ss_start east
check "a packet brings the tunnel up" within 20 through
check "cygnet says so" within 5 sh -c "nsenter --net=/run/netns/west --mount=/nodes/west/mnt /t/cygnet status --json | grep -q '\"state\": *\"up\"'"
check "traffic is counted" sealed west ping -q -c 5 -i 0.05 -W 2 -I 10.1.0.1 10.2.0.1
# What `cygnet xfrm` adds to what `ip xfrm` shows: names; and keys are its own to hide.
cy west xfrm state >/out/state; cy west xfrm state --keys net >/out/state-keys; cy west xfrm policy net >/out/policy; cy west xfrm stat >/out/stat
on west ip xfrm state >/out/ip-state
plain() { tr -s ' \t' ' ' <"$1" | sed 's/^ //; s/ $//' | grep -v '^anti-replay\|^lastused\|^connection'; }
check "cygnet xfrm state names connection and peer" [ "$(grep -c 'connection net peer .*east.example' /out/state)" = 2 ]
check "and hides the keys" sh -c "! grep -q '0x[0-9a-f]\{32\}' /out/state && grep -q 'Keys hidden' /out/state"
check "but for who asks; all else is as ip has it" [ "$(plain /out/state-keys)" = "$(plain /out/ip-state)" ]
check "policies have names too" [ "$(grep -c 'connection net' /out/policy)" = 6 ]
check "a counter that moved says since when" grep -q 'since the daemon started' /out/stat

UP=$(policies); SAS=$(states); echo "# $UP policies, $SAS SAs"
check "two SAs" [ "$SAS" = 2 ]

kill -KILL $CYGNET; wait $CYGNET 2>/dev/null
ss_ctl east --terminate --ike net --timeout 1 >/dev/null 2>&1
probe "after kill -9"

cy_start west; check "cygnet runs again" [ $? = 0 ]
probe "after the restart"
check "the tunnel comes up again" within 20 through
check "as many policies as before" [ "$(policies)" = "$UP" ]
check "as many SAs as before" within 5 sh -c "[ \$(ip -n west xfrm state | grep -c 'proto esp') = $SAS ]"
check "the new SAs carry the traffic" sealed west ping -q -c 5 -i 0.05 -W 2 -I 2001:db8:1::1 2001:db8:2::1

check "SIGTERM ends cygnet" sh -c "kill $CYGNET && while kill -0 $CYGNET 2>/dev/null; do sleep 0.1; done"
wait $CYGNET; check "with status 0" [ $? = 0 ]
check "no SA stays" [ "$(states)" = 0 ]
check "no policy stays" [ "$(policies)" = 0 ]
check "the peer was told" within 5 sh -c '[ -z "$(ip -n east xfrm state)" ]'
kill $LISTEN
counters west
finish
