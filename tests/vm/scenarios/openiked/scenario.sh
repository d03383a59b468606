#!/bin/bash
# OpenIKED 7 (east) and cygnet (west, both planes), each end as initiator: ESP of its own and in UDP, SAs renewed under traffic by
# either end with forward secrecy, fragments, a NAT that changes its mapping, transport mode, AH.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
CHILD="auth hmac-sha2-512 enc aes-256" CY_ESP=aes256-sha2_512

is_up() { [ -n "$(cy_packets west net)" ]; }
# both TITLE CHECK...: each end begins, and CHECK holds; EXTRA: keywords of cygnet
both() {
  local title=$1; shift
  iked_anew passive; ours
  check "$title: cygnet begins" within 10 cy west up net; check "$title, cygnet begins: $*" "$@"
  check "$title: cygnet ends it" cy west down net; check "$title: nothing is left" within 5 none_left
  iked_anew active
  check "$title: OpenIKED begins" within 20 is_up; check "$title, OpenIKED begins: $*" "$@"
  check "$title: cygnet ends that too" cy west down net; check "$title: nothing is left" within 5 none_left
}
ours() { cy_site dataplane=$PLANE $EXTRA; }
# What passes the router is counted there: a capture is late.
printf '%s\n' 'table ip seen {' 'counter native {}' 'counter in-udp {}' 'counter with-ah {}' 'chain c { type filter hook forward priority 0;' \
  'ip protocol esp counter name native' 'udp dport 4500 @th,64,32 != 0 counter name in-udp' 'ip protocol ah counter name with-ah' '}' '}' | on router nft -f -
seen() { on router nft list counter ip seen $1 | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }
# carried COUNTER: traffic both ways, all of it so protected
carried() { local n; n=$(seen $1); crosses && n=$(( $(seen $1) - n )) && echo "$n packets passed" && [ $n -ge 40 ]; }
native() { carried native; }
in_udp() { carried in-udp; }

cy_site; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
for PLANE in kernel userspace; do EXTRA= both "$PLANE, ESP of its own" native; done
cell native-esp openiked
for PLANE in kernel userspace; do EXTRA=encapsulation=yes both "$PLANE, ESP in UDP" in_udp; done
cell udp-esp openiked

# --- renewed
# What came before its keys, at west, and what came when they had been deleted, at east.
too_early() { on west awk '$1 == "XfrmAcquireError" { print $2 }' /proc/net/xfrm_stat; }
too_late() { on east awk '$1 == "XfrmInNoStates" { print $2 }' /proc/net/xfrm_stat; }
said() { grep -c "$1" /out/west-cygnet.log; }
# unharmed MOST: packets both ways for 14 s, none of which is lost but those, at most so many of the late ones: OpenIKED
# deletes the old keys as soon as it has renewed them, while packets are under way
unharmed() {
  local early late sent received
  early=$(too_early) late=$(too_late); on west ping -q -c 700 -i 0.02 -W 5 -I 10.1.0.1 10.2.0.1 | tee /out/ping.log
  sent=$(awk '/transmitted/ { print $1 }' /out/ping.log) received=$(awk '/transmitted/ { print $4 }' /out/ping.log)
  early=$(( $(too_early) - early )) late=$(( $(too_late) - late ))
  echo "$sent sent, $received back, $early before their keys, $late after their end" | tee -a /out/losses
  [ "$sent" = 700 ] && [ $(( sent - received )) = $(( early + late )) ] && [ $early -le 10 ] && [ $late -le $1 ]
}
# renewed TITLE MOST
renewed() {
  local children ikes secret
  children=$(said 'child SA established') ikes=$(said 'IKE SA rekeyed') secret=$(said 'child SA established.*ECP_256')
  check "$1: cygnet begins" within 10 cy west up net
  check "$1: no packet is lost but those without keys" unharmed $2; sed "s/^/# /" /out/losses; : >/out/losses
  check "$1: child SAs were renewed" [ $(( $(said 'child SA established') - children )) -ge 3 ]
  check "$1: with forward secrecy" [ $(( $(said 'child SA established.*ECP_256') - secret )) -ge 2 ]
  check "$1: the IKE SA was renewed" [ $(( $(said 'IKE SA rekeyed') - ikes )) -ge 1 ]
  cy west down net >/out/west-down.log 2>&1
}
CY_ESP=aes256-sha2_512-dh19 IKED_CHILD="$CHILD group ecp256"
for PLANE in kernel userspace; do
  iked_anew passive; EXTRA="salifetime=8s ikelifetime=11s rekeymargin=3s rekeyfuzz=0%" ours
  renewed "$PLANE, cygnet renews" 0
  iked_anew passive "ikelifetime 9 lifetime 6"; EXTRA= ours
  renewed "$PLANE, OpenIKED renews" 12
done
cell "rekey-child rekey-ike pfs" openiked
CY_ESP=aes256-sha2_512 IKED_CHILD=$CHILD PLANE=kernel

# --- fragments
fragments() { tcpdump -n -r /out/wire.pcap "src host $1 and ((port 500 and udp[24] = 53) or (port 4500 and udp[28] = 53))" 2>/dev/null | wc -l; }
was_fragmented() {
  local from=192.0.2.1; [ "$WAY" = passive ] || from=198.51.100.1
  cy west status | grep ', fragmentation' && echo "$(fragments 192.0.2.1) of cygnet, $(fragments 198.51.100.1) of OpenIKED" && [ $(fragments $from) -ge 2 ]
}
# Many proposals make a request long.
for enc in aes-128 aes-192 aes-256 3des; do for auth in hmac-sha2-512 hmac-sha2-384 hmac-sha1; do MANY="${MANY:+$MANY childsa }auth $auth enc $enc"; done; done
IKED_SET="set fragmentation" IKED_CHILD=$MANY
for WAY in passive active; do
  iked_anew $WAY; CY_ESP=aes256-sha2_512,aes256-sha2_384,aes128-sha2_512,aes128-sha2_384,aes192-sha2_512,aes_gcm256 EXTRA=fragment-size=300 ours
  if [ $WAY = passive ]; then check "fragments: cygnet begins" within 10 cy west up net; else check "fragments: OpenIKED begins" within 20 is_up; fi
  check "fragments: who begins has sent some" within 3 was_fragmented
  check "fragments: traffic crosses" crosses
  cy west down net >/out/west-down.log 2>&1
done
cell fragmentation openiked
IKED_SET= IKED_CHILD=$CHILD

# --- a NAT in front of OpenIKED
printf '%s\n' 'table ip nat { chain out { type nat hook postrouting priority 100;' 'oifname "to-west" meta l4proto udp masquerade random' '}' '}' | on router nft -f -
SEEN_EAST=192.0.2.254
place() { cy west status --json | python3 -c '
import json, sys
print(*[sa["remote"] for sa in json.load(sys.stdin)["ike_sas"] if sa["state"] == "established" and sa["nat_remote"]])'; }
behind_nat() { place; [[ "$(place)" = 192.0.2.254:* ]]; }
moved() { echo "$PLACE, now $(place)"; behind_nat && [ "$(place)" != "$PLACE" ]; }
for PLANE in kernel userspace; do
  EXTRA= ours; iked_anew active
  check "NAT, $PLANE: OpenIKED begins" within 20 is_up
  check "NAT, $PLANE: cygnet knows" behind_nat
  check "NAT, $PLANE: traffic crosses" in_udp
  PLACE=$(place); on router conntrack -F >/out/conntrack.log 2>&1
  check "NAT, $PLANE: through a new mapping" on east ping -q -c 3 -i 0.2 -W 3 -I 10.2.0.1 10.1.0.1
  check "NAT, $PLANE: cygnet follows" within 5 moved
  check "NAT, $PLANE: traffic crosses again" in_udp
  cy west down net >/out/west-down.log 2>&1
done
cell "nat nat-mapping" openiked
on router nft delete table ip nat

# --- NATs in front of both: west is 203.0.113.1 to the world, east is 203.0.113.2
printf '%s\n' 'table ip nat {' \
  'chain in { type nat hook prerouting priority -100;' \
  'ip daddr 203.0.113.1 dnat to 192.0.2.1' 'ip daddr 203.0.113.2 dnat to 198.51.100.1' '}' \
  'chain out { type nat hook postrouting priority 100;' \
  'ip saddr 192.0.2.1 meta l4proto udp snat to 203.0.113.1:20000-29999 random' \
  'ip saddr 198.51.100.1 meta l4proto udp snat to 203.0.113.2:30000-39999 random' '}' '}' | on router nft -f -
SEEN_WEST=203.0.113.1 SEEN_EAST=203.0.113.2
both_behind() {
  cy west status --json | python3 -c '
import json, sys
[sa] = [sa for sa in json.load(sys.stdin)["ike_sas"] if sa["state"] == "established"]
print(sa["local"], sa["remote"])
sys.exit(not (sa["nat_local"] and sa["nat_remote"]))' && in_udp
}
for PLANE in kernel userspace; do on router conntrack -F >/out/conntrack.log 2>&1; EXTRA= both "NATs at both ends, $PLANE" both_behind; done
cell nat-both openiked
on router nft delete table ip nat; SEEN_WEST=192.0.2.1 SEEN_EAST=198.51.100.1
# --- modes
ours() { cy_conf west left=192.0.2.1 leftid=@west.example right=198.51.100.1 rightid=@east.example ike=aes_gcm256-sha2_256-dh19 dataplane=$PLANE $EXTRA; cy west reload; }
IKED_FLOW="transport esp from 198.51.100.1 to 192.0.2.1"
between() {
  local a; a=$(esp_packets east); on west ping -q -c 10 -i 0.01 -W 3 198.51.100.1 && on east ping -q -c 10 -i 0.01 -W 3 192.0.2.1 || return
  a=$(( $(esp_packets east) - a )); echo "$a packets in SAs"; [ $a -ge 40 ] && on east ip xfrm state | grep -q 'mode transport'
}
for PLANE in kernel userspace; do EXTRA="type=transport esp=aes256-sha2_512" both "$PLANE, transport mode" between; done
cell transport openiked

# --- AH. OpenIKED offers encryption in its proposals for AH, for which there is no place (RFC 7296 section 3.3.3), so it does not
# begin. And what PF_KEY makes on Linux wants AH in IPv4 padded to 8 octets, not 4 (RFC 4302 section 3.3.3.2.1): HMAC-SHA1 is as
# long either way.
IKED_FLOW="ah from 10.2.0.0/24 to 10.1.0.0/24" IKED_CHILD="auth hmac-sha1"
no_ah() { ! on east ip xfrm state | grep -q 'proto ah spi 0x[^0]' && ! on west ip xfrm state | grep -q 'proto ah spi 0x[^0]'; }
ours() {
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 ike=aes_gcm256-sha2_256-dh19 dataplane=$PLANE ah=sha1
  cy west reload >/out/west-reload.log 2>&1
}
for PLANE in kernel userspace; do
  iked_anew passive; ours
  check "AH, $PLANE: cygnet begins" within 10 cy west up net
  check "AH, $PLANE: traffic crosses" carried with-ah
  check "AH, $PLANE: cygnet ends it" cy west down net; check "AH, $PLANE: nothing is left" within 5 no_ah
done
iked_anew active
check "AH: what OpenIKED proposes is refused, and why is said" within 10 grep -q "no proposal chosen: .*the peer's AUTH_HMAC_SHA1_96/ENCR_" /out/west-cygnet.log
cell ah openiked
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 40 /out/west-cygnet.log; tail -n 40 /out/east-iked.log
finish
