#!/bin/bash
# Route-based connections: cygnet (west) makes, adopts and shares xfrm interfaces and leads routes into them; on east strongSwan,
# then libreswan, with interfaces of their own. Whatever is claimed is seen by ip(8), in the counters, or on the wire.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

ours() { cy_site dataplane=kernel ipsec-interface=1 "$@"; on west test -S /run/cygnet/control.sock || cy_start west; }
shows() { local what=$1; shift; "$@" | tee /out/said; grep -qE -e "$what" /out/said; }
count() { local n; n=$(on west ip xfrm $1 | grep -cF -e "$2"); echo "$n times $2"; [ "$n" = $3 ]; }
device() { shows "xfrm if_id 0x$2( |$)" on west ip -d link show ipsec$1; }
no_device() { ! on west ip link show ipsec$1; }
leaves_by() { shows "dev $1 " on west ip route get "${@:2}"; }
tx_errors() { on west cat /sys/class/net/ipsec1/statistics/tx_errors; }
no_sas() { ! on east ip xfrm state | grep -q 'proto esp' && ! on west ip xfrm state | grep -q 'proto esp'; }
ending_well() {
  check "$1: it ends" cy west down net
  check "$1: no SA is left" within 10 no_sas
  check "$1: no device" within 5 no_device 1
  check "$1: no route" not shows ipsec1 on west ip route
  check "$1: no rule (S1.8)" not shows 'lookup 50' on west ip rule
}

# What belongs to the interface is protected or dropped:  guarantees TITLE
guarantees() {
  local errors
  check "$1: the device is there, if_id 1 (S0.1, S0.4)" device 1 1
  check "$1: and says whose it is" shows 'alias cygnet' on west ip link show ipsec1
  check "$1: both SAs belong to it (S0.9)" count state 'if_id 0x1' 2
  check "$1: all three policies too" count "policy list nosock" 'if_id 0x1' 3
  check "$1: their packets get its number for a mark (S0.3)" count state 'output-mark 0x1/0xffffffff' 2
  check "$1: the network is routed into it" leaves_by ipsec1 10.2.0.1
  check "$1: the peer is outside and needs no rule (S1.8)" not shows 'lookup 50' on west ip rule
  check "$1: traffic crosses" crosses
  errors=$(tx_errors)
  on west ip route add 10.77.0.0/24 dev ipsec1
  check "$1: what no policy is for does not pass" not on west ping -q -c 3 -i 0.05 -W 1 -I 10.1.0.1 10.77.0.1
  check "$1: but is dropped by the device (S0.8)" [ $(( $(tx_errors) - errors )) -ge 3 ]
  on west ip route del 10.77.0.0/24 dev ipsec1
}

# --- strongSwan
on east ip link add ipsec9 type xfrm if_id 9; on east ip link set ipsec9 up
on east ip route add 10.1.0.0/24 dev ipsec9 src 10.2.0.1
ss_site "if_id_in = 9
    if_id_out = 9"
ss_begin
ours >/out/west-begin.log 2>&1; check "cygnet runs" on west test -S /run/cygnet/control.sock
check "nothing is made for a connection that waits" no_device 1
check "strongSwan: cygnet brings it up" cy west up net
guarantees strongSwan
ending_well strongSwan
check "strongSwan initiates" ss_up
check "strongSwan: traffic crosses then too" crosses
check "strongSwan ends it" ss_down
check "strongSwan: no device is left" within 10 no_device 1
cell interface strongswan

AUTO=ondemand; ours leftinterface-ip=10.1.0.99/24
check "on demand: the device waits for packets" within 5 device 1 1
check "its address is on it (S1.2)" shows '10.1.0.99/24' on west ip addr show ipsec1
check "and is what packets of this host leave with" shows 'src 10.1.0.99' on west ip route get 10.2.0.1
check "on demand: a packet brings it up" within 10 on west ping -q -c 1 -W 1 10.2.0.1
check "on demand: traffic crosses" crosses
step "killed"
kill -9 $CYGNET; wait $CYGNET 2>/dev/null; on west rm -f /run/cygnet/control.sock
check "killed: the device is still there" device 1 1
ss_ctl east --terminate --ike net --force >/dev/null 2>&1
cy_start west; check "cygnet runs again" on west test -S /run/cygnet/control.sock
check "it takes the device over" within 10 shows 'taken over from an earlier run' cat /out/west-cygnet.log
check "there is one" [ "$(on west ip -d link show type xfrm | grep -c 'xfrm if_id')" = 1 ]
check "a packet brings it up again" within 20 on west ping -q -c 1 -W 1 10.2.0.1
check "after the restart: traffic crosses" crosses
kill -9 $CYGNET; wait $CYGNET 2>/dev/null; on west rm -f /run/cygnet/control.sock
ss_ctl east --terminate --ike net --force >/dev/null 2>&1
AUTO=add ours
check "what nobody wants any more goes: the device" within 20 no_device 1
check "and its routes" within 5 not shows ipsec1 on west ip route
AUTO=add

step "both families, marks"
# Both families by one interface, and marks of our choice: what is outside the mask stays as it was.
NETS="leftsubnet=10.1.0.0/24,2001:db8:1::/64 rightsubnet=10.2.0.0/24,2001:db8:2::/64"
cy_conf west left=192.0.2.1 leftid=@west.example right=198.51.100.1 rightid=@east.example $NETS dataplane=kernel \
  ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256 ipsec-interface=0 mark-out=0x10/0xf0 mark-in=0x200/0xf00
cy west reload >/out/west-reload.log 2>&1
on east ip -6 route add 2001:db8:1::/64 dev ipsec9
ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24,2001:db8:2::/64 10.1.0.0/24,2001:db8:1::/64 \
  aes256gcm16-prfsha256-ecp256 aes256gcm16 "if_id_in = 9
    if_id_out = 9"
ss_ctl east --load-all >/out/east-load.log 2>&1
on west nft -f - <<'END'
table inet marks {
  chain sent { type filter hook output priority 0; ip protocol esp meta mark 0x15 counter; }
  chain got { type filter hook input priority 0; iifname "ipsec0" meta mark 0x200 counter; }
}
END
marked() { on west nft list chain inet marks $1 | tee /out/said; [ "$(sed -n 's/.*counter packets \([0-9]*\).*/\1/p' /out/said)" -ge 10 ]; }
check "both families: cygnet brings it up" cy west up net
check "ipsec0 has the if_id 16384 (S0.1)" device 0 4000
check "IPv4 crosses" sealed west ping -q -c 10 -i 0.02 -W 3 -m 5 -I 10.1.0.1 10.2.0.1
check "and IPv6 by the same interface (S0.6)" sealed west ping -q -c 10 -i 0.02 -W 3 -I 2001:db8:1::1 2001:db8:2::1
check "packets to the peer get the mark for out, and keep the rest of theirs (S1.3, S1.5, S1.6)" marked sent
check "packets from it get the mark for in (S0.12, S1.5)" marked got
check "which is no lookup key (S0.12)" not shows 'mark' on west ip xfrm policy
on west nft delete table inet marks; on east ip -6 route del 2001:db8:1::/64 dev ipsec9
cy west down net >/dev/null; within 10 no_sas
ss_site "if_id_in = 9
    if_id_out = 9"; ours

step "made by others"
on west ip link add ipsec1 type xfrm if_id 1
check "made by others: used (S1.1)" cy west up net
check "made by others: traffic crosses" crosses
cy west down net >/dev/null; within 10 no_sas
check "made by others: and left (S1.1)" device 1 1
on west ip link del ipsec1
on west ip link add ipsec1 type dummy
check "a dummy of the name is no interface" not cy west up net
check "and that is what is said" shows 'there is a device ipsec1 already, and it is of kind dummy' cy west status
on west ip link del ipsec1
on west ip link add lan5 type xfrm if_id 1
check "nor can there be two of one if_id" not cy west up net
check "which is said too" shows 'the device lan5 has if_id 0x1 already' cy west status
CY_SETUP=ipsec-interface-managed=no ours
on west ip link set lan5 up
check "but not managed it is found by its if_id (S0.2)" cy west up net
check "and led into" leaves_by lan5 10.2.0.1
check "not managed: traffic crosses" crosses
cy west down net >/dev/null; within 10 no_sas
on west ip link del lan5
ours

step "the peer inside"
# Host to host, and everything: the peer's address lies inside what is routed into the device (S1.9).
inside() {  # inside TITLE LOCAL-TS REMOTE-TS  ROUTED-ADDRESS
  ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example $3 $2 aes256gcm16-prfsha256-ecp256 aes256gcm16
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=$2 right=198.51.100.1 rightid=@east.example rightsubnet=$3 \
    dataplane=kernel ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256 ipsec-interface=1
  cy west reload >/out/west-reload.log 2>&1
  check "$1: cygnet brings it up" cy west up net
  check "$1: the peer is led into the device (S1.9)" leaves_by ipsec1 198.51.100.1
  check "$1: but ESP to it not (S1.12)" leaves_by eth0 198.51.100.1 mark 1
  check "$1: nor IKE (S1.15)" leaves_by eth0 198.51.100.1 mark 0x10000000
  check "$1: by a rule" shows '^100:.*to 198.51.100.1 fwmark 0x1 lookup 50' on west ip rule
  check "$1: and a route past the device" shows '198.51.100.1 via 192.0.2.254 dev eth0' on west ip route show table 50
  check "$1: the default route is what it was" shows '^default via 192.0.2.254 dev eth0' on west ip route
  capture west ipsec1 inside.pcap
  check "$1: traffic crosses" sealed west ping -q -c 10 -i 0.02 -W 3 $4
  check "$1: the IKE SA is rekeyed" cy west rekey net --ike
  check "$1: and the child SA" cy west rekey net
  check "$1: traffic crosses still" sealed west ping -q -c 10 -i 0.02 -W 3 $4
  capture_end; capture router to-west wire2.pcap
  check "$1: no IKE went into the device" [ -z "$(tcpdump -n -r /out/inside.pcap 'udp port 500 or udp port 4500' 2>/dev/null)" ]
}
on east ip route del 10.1.0.0/24 dev ipsec9; on east ip link del ipsec9
inside "host to host" 192.0.2.1/32 198.51.100.1/32 "-I 192.0.2.1 198.51.100.1"
ending_well "host to host"
inside "everything" 10.1.0.0/24 0.0.0.0/0 "-I 10.1.0.1 198.51.100.1"
check "everything: in two halves" [ "$(on west ip route | grep -cE '^(0.0.0.0|128.0.0.0)/1 dev ipsec1 ')" = 2 ]
on router ip addr add 192.0.2.253/24 dev to-west
on west ip route replace default via 192.0.2.253
check "everything: another default route is followed (S3.9)" within 5 shows '198.51.100.1 via 192.0.2.253' on west ip route show table 50
check "everything: traffic crosses" sealed west ping -q -c 5 -i 0.02 -W 3 -I 10.1.0.1 198.51.100.1
on west ip route replace default via 192.0.2.254
ending_well "everything"

step "libreswan"
peer_ends
# --- libreswan, on an interface too
LW_SETUP= lw_site ipsec-interface=2
lw_begin
ours
CELL_CHECKS=$CHECKS CELL_FAILED=$FAILED
check "libreswan: cygnet brings it up" cy west up net
guarantees libreswan
check "libreswan: on an interface of its own" shows 'xfrm if_id 0x2' on east ip -d link show ipsec2
ending_well libreswan
check "libreswan initiates" lw_ctl east up net
check "libreswan: traffic crosses then too" crosses
check "libreswan ends it" lw_ctl east down net
cell interface libreswan
peer_ends
kill $CYGNET; wait $CYGNET 2>/dev/null
check "at its end cygnet leaves nothing" not shows 'ipsec1|proto 67' on west sh -c 'ip link; ip rule; ip route show table all'
check "nothing crossed the wire in clear" only_protected wire.pcap
check "nor later" only_protected wire2.pcap
counters west
finish
