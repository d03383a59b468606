#!/bin/bash
# Cookies (RFC 7296 section 2.6): cygnet (west) asks strongSwan, libreswan and OpenIKED (east) for them, and brings those
# that strongSwan and libreswan ask for. (OpenIKED never asks.)
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

counter() { cy west status --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["ike_counters"].get(sys.argv[1], 0))' $1; }
# asked TITLE COMMAND...: the peer brings the cookie that cygnet asks it for
asked() {
  local title=$1 sent accepted; shift
  sent=$(counter cookies_sent) accepted=$(counter cookies_accepted)
  check "$title: the tunnel is made" "$@"
  sent=$(( $(counter cookies_sent) - sent )) accepted=$(( $(counter cookies_accepted) - accepted ))
  # Who begins with a group that is not ours begins twice.
  check "$title: a cookie was asked for ($sent)" [ $sent -ge 1 ]
  check "$title: as many were brought ($accepted)" [ $accepted = $sent ]
  check "$title: traffic crosses" crosses
}
half_open() { ss_ctl east --stats | tee /dev/stderr | grep -q '1 half-open'; }
# brought TITLE: cygnet's second IKE_SA_INIT has the cookie, twice the Message ID 0
brought() {
  check "$1: the tunnel is made" cy west up net
  check "$1: traffic crosses" crosses
  check "$1: it is taken down" cy west down net
  check "$1: nothing is left" within 5 none_left
}

CY_SETUP="ddos-mode=busy" cy_site dataplane=kernel
cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" on west test -S /run/cygnet/control.sock
ss_site; ss_begin "cookie_threshold_ip = 1"
asked "strongSwan is asked" ss_up
ss_down >/out/east-down.log 2>&1; check "strongSwan is asked: nothing is left" within 5 none_left
cy_site dataplane=kernel
# One attempt stays half open at strongSwan, since no IKE_AUTH comes through and cygnet is killed: that is one too many.
printf '%s\n' 'table ip loss {' 'chain on { type filter hook forward priority 0;' 'iifname "to-west" udp dport 500 @th,208,8 35 drop' '}' '}' | on router nft -f -
cy west up net >/out/west-up.log 2>&1 & UP=$!
check "strongSwan asks: one is half open" within 5 half_open
kill -9 $CYGNET; wait $CYGNET $UP 2>/dev/null; on router nft flush ruleset
on west rm -f /run/cygnet/control.sock; check "cygnet runs on west again" cy_start west
brought "strongSwan asks"
check "strongSwan asks: it did" grep -q 'generating IKE_SA_INIT response 0 \[ N(COOKIE) \]' /out/east-charon.log
check "strongSwan asks: it was given" grep -q 'parsed IKE_SA_INIT request 0 \[ N(COOKIE) SA' /out/east-charon.log
cell cookie strongswan
peer_ends

CY_SETUP="ddos-mode=busy" cy_site dataplane=kernel
lw_site; lw_begin
asked "libreswan is asked" lw_ctl east up net
lw_ctl east down net >/out/east-down.log 2>&1; check "libreswan is asked: nothing is left" within 5 none_left
cy_site dataplane=kernel
check "libreswan is made to ask" lw_ctl east whack --ddos-busy
brought "libreswan asks"
# With a cookie the notification comes first.
asks() { tcpdump -n -v -r /out/wire.pcap "udp port 500 and src host $1" 2>/dev/null | grep -A3 'ikev2_init' | grep -q '(n: .*type=16390(cookie)'; }
check "libreswan asks: it did" asks 198.51.100.1
check "libreswan asks: it was given" asks 192.0.2.1
cell cookie libreswan
peer_ends

CY_SETUP="ddos-mode=busy" CY_ESP=aes256-sha2_512 cy_site dataplane=kernel
iked_site active
iked_up() { iked_start east && within 20 has_child; }
has_child() { cy west status | grep -q 'child SA'; }
asked "OpenIKED is asked" iked_up
cell cookie openiked
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 30 /out/west-cygnet.log
finish
