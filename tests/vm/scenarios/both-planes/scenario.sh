#!/bin/bash
# Both data planes at once on one address: west protects its traffic to east in the kernel and that
# to north in user space, native ESP first, then both on UDP port 4500.
. /vm/lib.sh; . /vm/peers.sh
routed north; step "nodes"
capture router to-west wire.pcap

conf() {  # conf ENCAPSULATION
  local yes=$1
  { printf 'config setup\n'
    printf '\nconn %%default\n    authby=secret\n    auto=add\n    left=192.0.2.1\n    leftid=@west.example\n    leftsubnet=10.1.0.0/24\n    encapsulation=%s\n' $yes
    printf '\nconn kernel\n    dataplane=kernel\n    right=198.51.100.1\n    rightid=@east.example\n    rightsubnet=10.2.0.0/24\n'
    printf '\nconn userspace\n    dataplane=userspace\n    right=203.0.113.1\n    rightid=@north.example\n    rightsubnet=10.3.0.0/24\n'
  } | put west /etc/ipsec.conf 644
  printf ': PSK "%s"\n' "$SECRET" | put west /etc/ipsec.secrets
  [ $yes = no ] || local encap="encap = yes"
  ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24 10.1.0.0/24 default default "${encap:-}"
  ss_conf north 203.0.113.1 192.0.2.1 @north.example @west.example 10.3.0.0/24 10.1.0.0/24 default default "${encap:-}"
  ss_ctl east --load-all >/out/east-load.log 2>&1; ss_ctl north --load-all >/out/north-load.log 2>&1
}
conf no
check "charon runs on east" ss_start east
check "charon runs on north" ss_start north
check "cygnet runs on west" cy_start west

round() {  # round TITLE
  check "$1: up in the kernel" cy west up kernel
  check "$1: up in user space" cy west up userspace
  # Both under load at the same time.
  on west ping -q -c 200 -i 0.005 -W 3 -I 10.1.0.1 10.2.0.1 >/out/ping-kernel.log 2>&1 & local k=$!
  on north ping -q -c 200 -i 0.005 -W 3 -I 10.3.0.1 10.1.0.1 >/out/ping-user.log 2>&1 & local u=$!
  wait $k; check "$1: the kernel's traffic crosses" [ $? = 0 ]
  wait $u; check "$1: user space's traffic crosses" [ $? = 0 ]
  check "$1: no packet was lost" lossless
  for pair in kernel:east userspace:north; do
    check "$1: ${pair%:*} and ${pair#*:} count the same" within 3 counts ${pair%:*} ${pair#*:}
  done
  check "$1: the kernel's SPIs and user space's are apart" apart
}
lossless() { cat /out/ping-kernel.log /out/ping-user.log; [ "$(cat /out/ping-*.log | grep -c ' 0% packet loss')" = 2 ]; }
counts() { echo "ours $(cy_packets west $1), theirs $(ss_packets $2 net)"; [ "$(cy_packets west $1)" = "200 200" ] && [ "$(ss_packets $2 net)" = "200 200" ]; }
apart() {
  cy west status --json | python3 -c '
import json, sys
spi = {c["name"]: int(c["children"][0]["spi_in"], 16) for c in json.load(sys.stdin)["connections"]}
print({name: hex(value) for name, value in spi.items()})
sys.exit(not (spi["userspace"] >= 0x80000000 > spi["kernel"] or spi["userspace"] < 0x80000000 <= spi["kernel"] or spi["userspace"] >> 28 != spi["kernel"] >> 28))'
}
round "native ESP"
check "user space's SA is not the kernel's (S3.11)" sh -c '! ip netns exec west ip xfrm state | grep -q 203.0.113.1'
for c in kernel userspace; do check "down $c" cy west down $c; done
conf yes; check "reload" cy west reload
round "in UDP on one port"
check "east's is in UDP" sh -c 'ip netns exec east ip xfrm state | grep -q espinudp'
check "north's is in UDP" sh -c 'ip netns exec north ip xfrm state | grep -q espinudp'
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
counters west
tail -n 30 /out/west-cygnet.log
finish
