#!/bin/bash
# MOBIKE (RFC 4555) with strongSwan and its kernel's ESP (east), both of Cygnet's planes (west), each end as initiator:
# addresses change while packets flow, a NAT appears, changes its mapping and vanishes. The SAs stay the same. Also by AH, in
# BEET mode, and with IPComp.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
WEST=192.0.2.1 EAST=198.51.100.1 IN_WEST=10.1.0.0/24 IN_EAST=10.2.0.0/24
for n in west east; do on $n sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries'; done
# Who comes from 192.0.2.77 is behind a NAT.
printf '%s\n' 'table ip nat {' 'chain out {' 'type nat hook postrouting priority 100;' \
  'ip saddr 192.0.2.77 masquerade random' '}' '}' | on router nft -f -
capture router to-west wire.pcap
check "charon runs on east" ss_start east

readdress() { printf 'addr add %s/24 dev eth0\naddr del %s/24 dev eth0\n' "$3" "$2" | ip -n $1 -batch -; }
spis() { ss_ctl east --list-sas --raw | grep -o 'spi-\(in\|out\)=[0-9a-f]*' | sort | tr '\n' ' '; }
same_spis() { echo "$SPIS / $(spis)"; [ -n "$SPIS" ] && [ "$(spis)" = "$SPIS" ]; }
# at ADDRESS [PORT]: where strongSwan has west
at() { ss_ctl east --list-sas --raw | tee /out/sas | grep -q "remote-host=$1 "; }
# has ADDRESS: where cygnet has strongSwan
has() { cy west status | grep -q "to $1:"; }
encap() { ss_ctl east --list-sas --raw | grep -q 'encap=yes'; }
# Echoes all the while: of 400 in 8 seconds those may be lost that are under way while addresses change; a message
# of IKE that is lost with them costs half a second, 25 echoes.
flow() { FLOW=$((${FLOW:-0} + 1)); bg west ping-$FLOW ping -i 0.02 -c 400 -W 2 -I 10.1.0.1 10.2.0.1; PING=$BG; sleep 2; }
flowed() {
  while kill -0 $PING 2>/dev/null; do sleep 0.2; done; tail -n 3 /out/west-ping-$FLOW.log
  awk '/packets transmitted/ { ok = $1 == 400 && $4 >= 400 - LOST } END { exit !ok }' LOST=${1:-40} /out/west-ping-$FLOW.log
}
crosses() { on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1 && on east ping -q -c 20 -i 0.01 -W 3 -I 10.2.0.1 10.1.0.1; }

for plane in userspace kernel; do
  WEST=192.0.2.1
  # --- cygnet initiates and moves
  ss_conf east $EAST %any @east.example @west.example $IN_EAST $IN_WEST aes256gcm16-prfsha256-x25519 aes256gcm16 "mobike = yes"
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy_conf west left=$WEST leftid=@west.example leftsubnet=$IN_WEST right=$EAST rightid=@east.example rightsubnet=$IN_EAST \
    dataplane=$plane mobike=yes
  if [ $plane = userspace ]; then cy_start west; else cy west reload >/out/west-reload.log 2>&1; fi
  check "$plane: cygnet initiates" cy west up net
  check "$plane: packets cross" crosses
  SPIS=$(spis)
  # move TITLE FROM TO SEEN-AS: while echoes flow
  move() {
    flow; readdress west $2 $3
    check "$plane: $1: strongSwan has the new address" within 5 at $4
    check "$plane: $1: the echoes go on" flowed
    check "$plane: $1: the same SAs" same_spis
    check "$plane: $1: packets cross" crosses
  }
  move "another address" 192.0.2.1 192.0.2.11 192.0.2.11
  check "$plane: native ESP" not encap
  cell mobike strongswan
  move "behind a NAT" 192.0.2.11 192.0.2.77 198.51.100.254
  check "$plane: now ESP is in UDP" within 3 encap
  cell nat strongswan
  flow; on router conntrack -F >/dev/null 2>&1
  check "$plane: a new mapping: the echoes go on" flowed
  check "$plane: a new mapping: the same SAs" same_spis
  cell nat-mapping strongswan
  move "in the open again" 192.0.2.77 192.0.2.1 192.0.2.1
  check "$plane: native ESP again" within 3 not encap
  check "$plane: cygnet ends it" cy west down net

  # --- strongSwan initiates and moves; cygnet is the responder
  ss_conf east %any $WEST @east.example @west.example $IN_EAST $IN_WEST aes256gcm16-prfsha256-x25519 aes256gcm16 "mobike = yes"
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy_conf west left=$WEST leftid=@west.example leftsubnet=$IN_WEST right=%any rightid=@east.example rightsubnet=$IN_EAST \
    dataplane=$plane mobike=yes
  cy west reload >/out/west-reload.log 2>&1
  check "$plane: strongSwan initiates" ss_ctl east --initiate --child net --timeout 20
  check "$plane: packets cross" crosses
  SPIS=$(spis)
  flow; readdress east $EAST 198.51.100.11
  check "$plane: strongSwan moves: cygnet has the new address" within 10 has 198.51.100.11
  # strongSwan takes half a second before it moves.
  check "$plane: strongSwan moves: the echoes go on" flowed 60
  check "$plane: strongSwan moves: the same SAs" same_spis
  check "$plane: strongSwan moves: packets cross" crosses
  cy west status >/out/status-$plane
  check "$plane: strongSwan ends it" ss_ctl east --terminate --ike net --timeout 10
  check "$plane: nothing is left of it" within 5 sh -c "[ -z \"\$(ip netns exec east ip xfrm state)\" ]"
  readdress east 198.51.100.11 $EAST
  cell mobike strongswan
done

# --- AH, BEET mode and IPComp move as ESP in tunnel mode does.
# also TITLE PLANE "subnets of cygnet" "cygnet lines" "esp_proposals of strongSwan and lines of its child" SAS: so many SAs at each end
also() {
  local title="$2: $1" l=${3% *} r=${3#* }; local -a lines; IFS=';' read -ra lines <<<"$4"
  ss_conf east $EAST %any @east.example @west.example $r $l aes256gcm16-prfsha256-x25519 "$5" "mobike = yes"
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy_conf west left=192.0.2.1 leftid=@west.example right=$EAST rightid=@east.example leftsubnet=$l rightsubnet=$r \
    dataplane=$2 mobike=yes "${lines[@]}"
  cy west reload >/out/west-reload.log 2>&1
  check "$title: cygnet initiates" cy west up net
  check "$title: packets cross" crosses
  SPIS=$(spis); seen_by_east >/out/before
  for to in 192.0.2.11 192.0.2.1; do
    [ $to = 192.0.2.1 ] && from=192.0.2.11 || from=192.0.2.1
    flow; readdress west $from $to
    check "$title: to $to: strongSwan has the new address" within 5 at $to
    check "$title: to $to: the echoes go on" flowed
    check "$title: to $to: the same SAs" same_spis
    check "$title: to $to: packets cross" crosses
    check "$title: to $to: they are of the same kind" same_kinds
  done
  [ $2 = userspace ] || on west ip xfrm state | grep -v 0x
  check "$title: cygnet ends it" cy west down net
  check "$title: nothing is left of it" within 5 sh -c "[ -z \"\$(ip netns exec west ip xfrm state; ip netns exec east ip xfrm state)\" ]"
}
seen_by_east() { on east ip xfrm state | sed -n 's/.*proto \([a-z]*\) .* mode \([a-z]*\).*/\1 \2/p' | sort; }
same_kinds() { seen_by_east | tee /out/after; cmp /out/before /out/after; }
for plane in userspace kernel; do
  CHILD_PROTOCOL=ah
  also AH $plane "$IN_WEST $IN_EAST" "ah=sha2_256" "sha256-esn"
  CHILD_PROTOCOL=
  also "BEET mode" $plane "10.1.0.1/32 10.2.0.1/32" "type=beet" "aes256gcm16
        mode = beet"
  also IPComp $plane "$IN_WEST $IN_EAST" "compress=yes" "aes256gcm16
        ipcomp = yes"
  cell mobike strongswan
done
capture_end
# What ICMP says of the tunnel's own packets, while an address is missing, is no traffic of the tunnel.
check "nothing crossed the wire in clear" sh -c "tcpdump -n -r /out/wire.pcap 'src net 10.0.0.0/8 and dst net 10.0.0.0/8' 2>/dev/null | tee /dev/stderr | wc -l | grep -qx 0"
counters west
finish
