#!/bin/bash
# Clients behind one NAT: strongSwan (west) and libreswan (north), cygnet as the gateway (east, both planes). In tunnel
# mode with networks of their own, while the NAT changes its mappings (nobody has MOBIKE); with the same network; and in
# transport mode, where a NAT spoils the checksums of TCP (there strongSwan is on both).
. /vm/lib.sh; . /vm/peers.sh
routed north; step "nodes"
capture router to-east wire.pcap
printf '%s\n' 'table ip nat {' 'chain out {' 'type nat hook postrouting priority 100;' \
  'oifname "to-east" meta l4proto udp masquerade random' '}' '}' | on router nft -f -

# gateway PLANE MODE WEST NORTH: the gateway's connections; WEST and NORTH: the lines that say what for, ; between them
gateway() {
  local plane=$1 mode=$2
  { printf '%s\n' 'config setup'
    for who in west north; do
      printf '%s\n' "conn $who" "    authby=secret" "    auto=add" "    dataplane=$plane" "    type=$mode" "    left=198.51.100.1" \
        "    leftid=@east.example" "    right=%any" "    rightid=@$who.example" "    ike=aes_gcm256-sha2_256-dh19" "    esp=aes_gcm256"
      [ $who = west ] && tr ';' '\n' <<<"$3" || tr ';' '\n' <<<"$4"
    done; } | put east /etc/ipsec.conf 644
  printf ': PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
  ! on east test -S /run/cygnet/control.sock || cy east reload >/out/east-reload.log 2>&1
}
swan() {  # swan NODE ADDRESS LINES-OF-THE-CHILD
  put $1 /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = $2
    remote_addrs = 198.51.100.1
    proposals = aes256gcm16-prfsha256-ecp256
    local { auth = psk
      id = @$1.example }
    remote { auth = psk
      id = @east.example }
    children { net {
        esp_proposals = aes256gcm16
        $3 } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
  ! on $1 test -S /run/charon.vici || ss_ctl $1 --load-all >/out/$1-load.log 2>&1
}
libre() {  # libre KEYWORDS...
  { printf '%s\n' "config setup" "conn net" "    keyexchange=ikev2" "    authby=secret" "    left=203.0.113.1" \
      "    leftid=@north.example" "    right=198.51.100.1" "    rightid=@east.example" \
      "    ike=aes_gcm256-sha2_256-dh19" "    esp=aes_gcm256" "    auto=add"
    printf '    %s\n' "$@"; } | put north /etc/ipsec.conf
  printf '@north.example @east.example : PSK "%s"\n' "$SECRET" | put north /etc/ipsec.secrets
  ! on north test -S /run/pluto/pluto.ctl || { lw_ctl north replace net >/out/north-replace.log 2>&1; lw_knows north; }
}
both_begin() {
  check "$1: strongSwan begins" ss_ctl west --initiate --child net --timeout 20
  check "$1: libreswan begins" lw_ctl north up net
}
both_end() {
  ss_ctl west --terminate --ike net --timeout 10 >/out/west-down.log 2>&1; lw_ctl north down net >/out/north-down.log 2>&1
  check "$1: nothing is left" within 5 gone
}
gone() { ! cy east status --json | grep -q spi_in && ! on east ip xfrm state | grep -q 'proto esp'; }
# Where cygnet has a client:  place NAME
place() { cy east status --json | python3 -c '
import json, sys
for sa in json.load(sys.stdin)["ike_sas"]:
    if sa["state"] == "established" and sa["remote_id"] == "@" + sys.argv[1] + ".example": print(sa["remote"], sa["nat_remote"])' $1; }
behind_one() { place west; place north; [[ "$(place west)" = 198.51.100.254:*True && "$(place north)" = 198.51.100.254:*True && "$(place west)" != "$(place north)" ]]; }
ping_to() { on east ping -q -c 10 -i 0.01 -W 3 -I 10.2.0.1 $1; }
# The gateway reaches each client, whose kernel counts it, and it does so all at once.
reaches_both() {
  local w n; w=$(esp_packets west) n=$(esp_packets north)
  ping_to 10.1.0.1 >/out/ping-west & w1=$!
  ping_to 10.3.0.1 >/out/ping-north || return; wait $w1 || return
  w=$(( $(esp_packets west) - w )) n=$(( $(esp_packets north) - n )); echo "$w and $n packets in the clients' SAs"
  [ $w -ge 20 ] && [ $n -ge 20 ]
}
from_clients() { on west ping -q -c 3 -i 0.2 -W 3 -I 10.1.0.1 10.2.0.1 && on north ping -q -c 3 -i 0.2 -W 3 -I 10.3.0.1 10.2.0.1; }
moved() { [ "$(place west)" != "$WEST" ] && [ "$(place north)" != "$NORTH" ] && behind_one; }
SUBNETS="    leftsubnet=10.2.0.0/24;    rightsubnet"

gateway kernel tunnel "$SUBNETS=10.1.0.0/24" "$SUBNETS=10.3.0.0/24"
check "cygnet runs on east" cy_start east
swan west 192.0.2.1 "local_ts = 10.1.0.0/24
remote_ts = 10.2.0.0/24"
ss_start west >/out/west-start.log 2>&1; check "charon runs on west" on west test -S /run/charon.vici
libre leftsubnet=10.3.0.0/24 rightsubnet=10.2.0.0/24
lw_start north >/out/north-start.log 2>&1; PLUTO=$BG; check "pluto runs on north" lw_knows north
for plane in kernel userspace; do
  [ $plane = kernel ] || gateway $plane tunnel "$SUBNETS=10.1.0.0/24" "$SUBNETS=10.3.0.0/24"
  both_begin "$plane"
  check "$plane: both are behind one NAT" behind_one
  check "$plane: the gateway reaches both" reaches_both
  WEST=$(place west) NORTH=$(place north) SPIS=$(cy east status | grep -E '^ +(in|out) ' | cut -d: -f1)
  on router conntrack -F >/out/conntrack.log 2>&1
  check "$plane: new mappings: the clients reach the gateway" from_clients
  check "$plane: new mappings: cygnet follows" within 3 moved
  check "$plane: new mappings: the gateway reaches both" reaches_both
  check "$plane: new mappings: the SAs are the same" [ "$(cy east status | grep -E '^ +(in|out) ' | cut -d: -f1)" = "$SPIS" ]
  both_end "$plane"
done
cell "nat nat-mapping" "strongswan libreswan"

# --- the same network behind both: who comes last has it, and when he goes, the other one has it again
ip -n north addr add 10.1.0.1/24 dev inside
for plane in kernel userspace; do
  gateway $plane tunnel "$SUBNETS=10.1.0.0/24" "$SUBNETS=10.1.0.0/24"
  libre leftsubnet=10.1.0.0/24 rightsubnet=10.2.0.0/24
  both_begin "$plane, one network"
  has() { local a; a=$(esp_packets $1); ping_to 10.1.0.1; a=$(( $(esp_packets $1) - a )); echo "$a packets at $1"; [ $a -ge 20 ]; }
  check "$plane, one network: who came last has it" has north
  lw_ctl north down net >/out/north-down.log 2>&1
  check "$plane, one network: when he goes, the other one has it" within 3 has west
  both_end "$plane, one network"
done

# --- transport mode: TCP to a port of the gateway each
for port in 5001 5002; do bg east echo-$port socat TCP-LISTEN:$port,bind=198.51.100.1,reuseaddr,fork EXEC:cat; done
on west sh -c 'head -c 300000 /dev/urandom >/tmp/sent'; cp /tmp/sent /out/sent
echoed() {  # echoed NODE PORT: 300 kB there and back, all of it under SAs
  local a; a=$(esp_packets $1)
  on $1 socat -t 5 - TCP:198.51.100.1:$2 </out/sent >/out/echoed-$1; cmp /out/sent /out/echoed-$1 || return
  a=$(( $(esp_packets $1) - a )); echo "$a packets"; [ $a -ge 400 ]
}
checksums_hold() { for n in west north east; do on $n nstat -az TcpInCsumErrors UdpInCsumErrors | awk '$2 > 0 && !/^#/ { print; bad = 1 } END { exit bad }' || return; done; }
# libreswan does not substitute addresses (RFC 7296 section 2.23.1) and refuses what is said of the NAT's: strongSwan for both.
kill $PLUTO; wait $PLUTO 2>/dev/null; on north ip xfrm policy flush; on north rm -f /etc/ipsec.conf
for who in west north; do
  [ $who = west ] && local=192.0.2.1 port=5001 || local=203.0.113.1 port=5002
  swan $who $local "mode = transport
local_ts = dynamic[tcp]
remote_ts = dynamic[tcp/$port]"
done
ss_start north >/out/north-start.log 2>&1; check "charon runs on north" on north test -S /run/charon.vici
for plane in kernel userspace; do
  gateway $plane transport "    leftprotoport=tcp/5001;    rightprotoport=tcp" "    leftprotoport=tcp/5002;    rightprotoport=tcp"
  for who in west north; do check "$plane, transport mode: $who begins" ss_ctl $who --initiate --child net --timeout 20; done
  check "$plane, transport mode: both are behind one NAT" behind_one
  check "$plane, transport mode: TCP with one" echoed west 5001
  check "$plane, transport mode: TCP with the other" echoed north 5002
  check "$plane, transport mode: checksums hold" checksums_hold
  for who in west north; do check "$plane, transport mode: $who ends it" ss_ctl $who --terminate --ike net --timeout 10; done
  check "$plane, transport mode: nothing is left" within 5 gone
done
cell nat-transport strongswan
capture_end
# (What the router says of mappings that it has forgotten is no traffic of the tunnel.)
check "nothing crossed the wire in clear" sh -c "! tcpdump -n -r /out/wire.pcap 'tcp or (src net 10.0.0.0/8 and dst net 10.0.0.0/8)' 2>/dev/null | grep ."
tail -n 100 /out/east-cygnet.log
finish
