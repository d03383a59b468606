#!/bin/bash
# One IKE SA for an identity: cygnet (west) with strongSwan, then with libreswan (east). The peer is killed and comes back while
# its old IKE SA lives, with INITIAL_CONTACT and without, under each uniqueids= of cygnet; cygnet is killed and comes back; and the
# same identity comes from two addresses.
. /vm/lib.sh; . /vm/peers.sh
routed north; step "nodes"
capture router to-west wire.pcap
lw_up() { lw_ctl east up net; }
lw_down() { lw_ctl east down net; }
# The peer first: libreswan brings up again what it was told to bring up and what another one ended.
ends() { ${1}_down >/out/east-down.log 2>&1; cy west down net >/out/west-down.log 2>&1; check "$2: nothing is left" within 15 none_left; }

cy_site; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
ss_site; ss_begin
ikes() { cy west status --json | python3 -c '
import json, sys
print(len([sa for sa in json.load(sys.stdin)["ike_sas"] if sa["state"] == "established"]))'; }
has() { local n; n=$(ikes); echo "$n IKE SAs"; [ $n = $1 ]; }
killed() {
  kill -9 $(ip netns pids east); wait $PEER 2>/dev/null
  on east sh -c 'rm -f /run/charon.* /run/pluto/*; ip xfrm state flush; ip xfrm policy flush'
}
# returns TITLE PEER UNIQUEIDS AT-FIRST IN-THE-END: the peer is killed and begins again; how many IKE SAs cygnet has then
returns() {
  local title="$1, uniqueids=$3"
  CY_SETUP="uniqueids=$3" cy_site
  check "$title: the peer begins" ${2}_up
  killed; ${2}_begin
  check "$title: cygnet has the old IKE SA" has 1
  check "$title: the peer is back" ${2}_up
  check "$title: $4 IKE SAs at first" has $4
  check "$title: traffic crosses the new one" crosses
  check "$title: $5 in the end" within 3 has $5
  ends $2 "$title"
}
ss_site "unique = no"
returns "strongSwan, INITIAL_CONTACT" ss yes 1 1
returns "strongSwan, INITIAL_CONTACT" ss no 1 1
returns "strongSwan, INITIAL_CONTACT" ss never 2 2
ss_site "unique = never"
returns "strongSwan, no INITIAL_CONTACT" ss replace 2 1
returns "strongSwan, no INITIAL_CONTACT" ss no 2 2
ss_site
# Now cygnet is killed and begins again, and strongSwan gives up the old IKE SA.
one_at_strongswan() { ss_ctl east --list-sas | tee /dev/stderr | grep -c ESTABLISHED | grep -qx 1; }
title="INITIAL_CONTACT of cygnet"
cy_site; check "$title: cygnet begins" cy west up net
kill -9 $CYGNET; wait $CYGNET 2>/dev/null; cp /out/west-cygnet.log /out/west-cygnet-killed.log; on west rm -f /run/cygnet/control.sock
cy_start west >/out/west-start.log 2>&1
check "$title: cygnet begins again" cy west up net
check "$title: strongSwan has given up the old one" within 3 one_at_strongswan
check "$title: traffic crosses" crosses
ends ss "$title"

# The same identity from two addresses: north's gateway says that it is east. Neither says that it has no other IKE SA.
ss_site "unique = never"
from_anywhere() {
  CY_SETUP="uniqueids=$1" cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=%any rightid=@east.example \
    rightsubnet=10.2.0.0/24 ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256
  cy west reload
}
on east cat /etc/swanctl/conf.d/net.conf | sed 's/local_addrs = .*/local_addrs = 203.0.113.1/' | put north /etc/swanctl/conf.d/net.conf
ss_start north >/out/north-start.log 2>&1; NORTH=$BG; check "charon runs on north" on north test -S /run/charon.vici
for unique in keep yes; do
  check "uniqueids=$unique: reload" from_anywhere $unique
  check "uniqueids=$unique: east begins" ss_up
  if [ $unique = keep ]; then
    check "uniqueids=keep: north is refused" not ss_ctl north --initiate --child net --timeout 5
    check "uniqueids=keep: east goes on" crosses
  else
    check "uniqueids=yes: north begins" ss_ctl north --initiate --child net --timeout 20
    check "uniqueids=yes: and is the only one" within 5 has 1
  fi
  for node in east north; do ss_ctl $node --terminate --ike net --timeout 10; done >/out/terminate.log 2>&1
  check "uniqueids=$unique: nothing is left" within 5 none_left
done
kill $NORTH; wait $NORTH 2>/dev/null
cell uniqueness strongswan
peer_ends

# (What cygnet says of its first contact is nothing to libreswan, which has one child SA for a connection in any case.)
lw_site initial-contact=yes; lw_begin
returns "libreswan, INITIAL_CONTACT" lw yes 1 1
returns "libreswan, INITIAL_CONTACT" lw no 1 1
returns "libreswan, INITIAL_CONTACT" lw never 2 2
cell uniqueness libreswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 60 /out/west-cygnet.log
finish
