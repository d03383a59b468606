#!/bin/bash
# Both ends behind NATs, which change addresses and ports: cygnet (west, both planes) with strongSwan and libreswan
# (east), each end as initiator. Then without NATs and ESP in UDP all the same, because one end insists.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west west.pcap; capture router to-east east.pcap
# West is 203.0.113.1 to the world, east is 203.0.113.2.
nat() {
  printf '%s\n' 'table ip nat {' \
    'chain in { type nat hook prerouting priority -100;' \
    'ip daddr 203.0.113.1 dnat to 192.0.2.1' 'ip daddr 203.0.113.2 dnat to 198.51.100.1' '}' \
    'chain out { type nat hook postrouting priority 100;' \
    'ip saddr 192.0.2.1 meta l4proto udp snat to 203.0.113.1:20000-29999 random' \
    'ip saddr 198.51.100.1 meta l4proto udp snat to 203.0.113.2:30000-39999 random' '}' '}' | on router nft -f -
  SEEN_WEST=203.0.113.1 SEEN_EAST=203.0.113.2
}
no_nat() { on router nft flush ruleset; on router conntrack -F; SEEN_WEST=192.0.2.1 SEEN_EAST=198.51.100.1; }

# sees LOCAL REMOTE: whether cygnet has found a NAT in front of itself and of the peer, and ESP is in UDP
sees() {
  cy west status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
[sa] = [sa for sa in status["ike_sas"] if sa["state"] == "established"]
[child] = status["connections"][0]["children"]
said = [str(what) for what in (sa["nat_local"], sa["nat_remote"], child["encapsulation"] == "udp")]
print(sa["local"], sa["remote"], *said)
sys.exit(said != [*sys.argv[1:], "True"])' $1 $2
}
works() {  # works TITLE LOCAL REMOTE
  check "$1: NAT here $2, there $3, ESP in UDP" sees $2 $3
  check "$1: traffic crosses" crosses
}
ends() { check "$1: nothing is left" within 5 none_left; }
# both TITLE COMMAND: each end begins, COMMAND being the peer's way
both() {
  local title=$1 peer=$2; shift 2
  on router conntrack -F >/out/conntrack.log 2>&1
  check "$title, cygnet begins" cy west up net; works "$title, cygnet begins" "$@"
  check "$title, cygnet ends it" cy west down net; ends "$title, cygnet begins"
  on router conntrack -F >/out/conntrack.log 2>&1
  check "$title, the peer begins" ${peer}_up; works "$title, the peer begins" "$@"
  check "$title, the peer ends it" ${peer}_down; ends "$title, the peer begins"
}
lw_up() { lw_ctl east up net; }
lw_down() { lw_ctl east down net; }

nat
cy_site dataplane=kernel
check "cygnet runs on west" cy_start west
ss_site; ss_begin
both "strongSwan, kernel" ss True True
cy_site dataplane=userspace
both "strongSwan, user space" ss True True
cell nat-both strongswan
no_nat
cy_site dataplane=kernel encapsulation=yes; ss_site
both "strongSwan, insisted on by cygnet" ss False False
cell udp-esp strongswan
peer_ends

nat
cy_site dataplane=kernel
lw_site; lw_begin
both "libreswan, kernel" lw True True
cy_site dataplane=userspace
both "libreswan, user space" lw True True
cell nat-both libreswan
no_nat
cy_site dataplane=kernel encapsulation=yes; lw_site
both "libreswan, insisted on by cygnet" lw False False
cy_site dataplane=userspace; lw_site encapsulation=yes
both "libreswan, insisted on by libreswan" lw False True
cell udp-esp libreswan
capture_end
check "nothing crossed west's wire in clear" only_protected west.pcap
check "nothing crossed east's wire in clear" only_protected east.pcap
check "no ESP was outside of UDP" sh -c "! tcpdump -n -r /out/west.pcap 'ip proto 50' 2>/dev/null | grep -q ."
cy west status | sed -n '/^IKE/,$p'
tail -n 30 /out/west-cygnet.log
finish
