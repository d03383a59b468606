#!/bin/bash
# A peer that is silent (RFC 7296 section 2.4): cygnet (west) with strongSwan, libreswan and OpenIKED (east). Each end asks
# the other whether it is there; then the peer is cut off, or killed, and cygnet does what dpdaction= says until it is back.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

cut() { printf '%s\n' 'table ip cut { chain c { type filter hook forward priority 0; drop; }; }' | on router nft -f -; }
mend() { on router nft delete table ip cut; }
# is STATE: whether the connection is in it
is() { cy west status --json | python3 -c '
import json, sys
[net] = json.load(sys.stdin)["connections"]
print(net["state"], net["reason"], net["last_failure"])
sys.exit(net["state"] != sys.argv[1])' $1; }
# INFORMATIONAL messages so far:  told ADDRESS requests|responses
told() {
  local flag='= 0'; [ $2 = requests ] || flag='!= 0'
  tcpdump -n -r /out/wire.pcap "src host $1 and ((port 500 and udp[26] = 37 and udp[27] & 0x20 $flag) or
    (port 4500 and udp[8:4] = 0 and udp[30] = 37 and udp[31] & 0x20 $flag))" 2>/dev/null | wc -l
}
# asks ASKER ASKED LEAST COMMAND...: while COMMAND runs, one end asks at least so often, and the other one answers each; what is
# under way at the beginning may count as an answer too many
asks() {
  local from=$1 to=$2 least=$3 asked answered; shift 3
  answered=$(told $to responses) asked=$(told $from requests)
  "$@" >/dev/null 2>&1
  asked=$(( $(told $from requests) - asked ))
  [ $asked -ge $least ] && within 3 each_answered
}
each_answered() { local n=$(( $(told $to responses) - answered )); echo "$asked asked, $n answered"; [ $n -ge $asked ]; }
found_dead() { grep -c 'no response to INFORMATIONAL' /out/west-cygnet.log; }
# lost TITLE STATE: the peer is cut off; cygnet finds out, says so, and takes what is under it away
lost() {
  cut
  check "$1: cygnet finds out and is $2" within 10 is $2
  check "$1: it says why" [ "$(found_dead)" -gt $DEAD ]
  check "$1: no SA is left" not sh -c "ip -n west xfrm state | grep 'proto esp.*spi 0x[^0]'"
  check "$1: none in user space" [ -z "$(cy_packets west net)" ]
}
quick() { DEAD=$(found_dead); cy_site dpddelay=1 retransmit-timeout=2 retransmit-interval=300 dataplane=$PLANE "$@"; }
comes_up() { check "$1: cygnet begins" cy west up net; check "$1: traffic crosses" crosses; }
one_echo() { on west ping -q -c 1 -W 1 -I 10.1.0.1 10.2.0.1; }
heals() { check "$1: it is up again" within 10 is up; check "$1: traffic crosses again" crosses; }
killed() {
  local pids; pids=$(ip netns pids east); kill -9 $pids; wait $PEER 2>/dev/null
  on east sh -c 'rm -f /run/charon.* /run/pluto/*; ip xfrm state flush; ip xfrm policy flush'
}

# liveness PREFIX-OF-ITS-FUNCTIONS PLANE TITLE: each asks, and cygnet begins anew. (OpenIKED learns from PF_KEY when an SA
# was used last, of which Linux tells nothing; so it asks after 300 s without a message of IKE, which is not waited for here.)
liveness() {
  local title=$3 out="ping -q -c 14 -i 0.5 -I 10.2.0.1 10.1.0.77"
  PLANE=$2; $1_begin; quick dpdaction=restart
  check "$title: cygnet begins" within 10 cy west up net
  # It hears nothing, while what it sends has no answer: nobody has that address.
  [ $1 = iked ] || check "$title: the peer asks, and cygnet answers" asks 198.51.100.1 192.0.2.1 2 on east $out
  check "$title: cygnet asks, and the peer answers" asks 192.0.2.1 198.51.100.1 3 sleep 5
  check "$title: traffic crosses" crosses
  check "$title: nobody was found dead" [ "$(found_dead)" = "$DEAD" ]
  cut; check "$title, cut off: cygnet tries again" within 10 is connecting
  check "$title, cut off: it says why" [ "$(found_dead)" -gt "$DEAD" ]
  mend; heals "$title, cut off"
  DEAD=$(found_dead); killed; check "$title, killed: cygnet tries again" within 10 is connecting
  check "$title, killed: it says why" [ "$(found_dead)" -gt "$DEAD" ]
  $1_begin; heals "$title, killed"
}

cy_site dataplane=kernel
cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
ss_site "dpd_delay = 3s"
liveness ss kernel strongSwan
cell liveness strongswan

# --- the other actions, keyingtries= and inactivity=: what cygnet does by itself, seen with one peer
quick dpdaction=clear; comes_up "clear"
lost "clear" waiting
mend; sleep 3; check "clear: cygnet does not begin by itself" is waiting
quick dpdaction=trap; comes_up "trap"
lost "trap" trapped
mend; sleep 2; check "trap: cygnet waits for a packet" is trapped
check "trap: a packet brings it up" within 10 one_echo
heals "trap"
AUTO=ondemand quick keyingtries=2 dpdaction=restart
check "keyingtries: cygnet begins" cy west up net
cut; check "keyingtries: it gives up" within 20 is trapped
tries() { grep -c 'no response to IKE_SA_INIT' /out/west-cygnet.log; }
TRIES=$(tries); sleep 4; check "keyingtries: and is silent" [ "$(tries)" = $TRIES ]
mend; check "keyingtries: a packet brings it up" within 10 one_echo
for PLANE in kernel userspace; do
  AUTO=ondemand cy_site inactivity=2 dataplane=$PLANE
  check "inactivity, $PLANE: a packet brings it up" within 10 one_echo
  check "inactivity, $PLANE: traffic holds it" on west ping -q -c 10 -i 0.5 -W 3 -I 10.1.0.1 10.2.0.1
  check "inactivity, $PLANE: it is up" is up
  check "inactivity, $PLANE: silence ends it" within 5 is trapped
  check "inactivity, $PLANE: the peer was told" within 3 sh -c "! ip -n east xfrm state | grep -q 'proto esp'"
  check "inactivity, $PLANE: a packet brings it back" within 10 one_echo
done
cy west down net >/out/west-down.log 2>&1
peer_ends

lw_site dpddelay=3
liveness lw userspace libreswan
cell liveness libreswan
cy west down net >/out/west-down.log 2>&1
peer_ends

CY_ESP=aes256-sha2_512
iked_site passive
liveness iked kernel OpenIKED
cell liveness openiked
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 60 /out/west-cygnet.log
finish
