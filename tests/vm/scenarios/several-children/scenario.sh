#!/bin/bash
# Several child SAs under one IKE SA: cygnet (west, both planes) with strongSwan and with libreswan (east), each end as
# initiator. One of them is deleted and the other goes on.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
ip -n west addr add 10.1.1.1/24 dev inside; ip -n east addr add 10.2.1.1/24 dev inside
printf '\nconn more\n    also=net\n    leftsubnet=10.1.1.0/24\n    rightsubnet=10.2.1.0/24\n' >/out/more
ours() { cy_site "$@"; on west sh -c 'cat /out/more >>/etc/ipsec.conf'; ! on west test -S /run/cygnet/control.sock || cy west reload >/out/west-reload.log 2>&1; }

# has IKE-SAS CHILD-SAS
has() { cy west status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
ikes = [sa["id"] for sa in status["ike_sas"] if sa["state"] == "established"]
children = [(c["name"], child["ike"]) for c in status["connections"] for child in c["children"]]
print(ikes, children)
sys.exit([len(ikes), len(children)] != [int(n) for n in sys.argv[1:]] or {ike for _, ike in children} != set(ikes))' $1 $2; }
crosses_more() {
  local a; a=$(esp_packets east)
  on west ping -q -c 10 -i 0.01 -W 3 -I 10.1.1.1 10.2.1.1 || return
  a=$(( $(esp_packets east) - a )); echo "$a packets in SAs"; [ $a -ge 20 ]
}
# lives TITLE COMMAND...: two child SAs under one IKE SA, of which COMMAND deletes one
lives() {
  local title=$1; shift
  check "$title: two child SAs under one IKE SA" has 1 2
  check "$title: traffic crosses the first" crosses
  check "$title: traffic crosses the second" crosses_more
  check "$title: the second one is taken down" "$@"
  check "$title: the first one stays" within 5 has 1 1
  check "$title: and carries traffic" crosses
  check "$title: the second one does not" not crosses_more
}
both_up() { cy west up net && cy west up more; }
lw_up() { lw_ctl east up ${1:-net}; }
lw_down() { lw_ctl east down net; }
ss_less() { ss_ctl east --terminate --child more --timeout 10; }
lw_less() { lw_ctl east down more; }
# each PREFIX-OF-THE-PEER'S-FUNCTIONS TITLE
each() {
  check "$2: cygnet begins" both_up; lives "$2, cygnet begins" cy west down more
  check "$2: cygnet ends all" cy west down net; check "$2: nothing is left" within 5 none_left
  check "$2: the peer begins" ${1}_up net; check "$2: with the second one" ${1}_up more; lives "$2, the peer begins" ${1}_less
  check "$2: the peer ends all" ${1}_down; cy west down more >/out/west-down.log 2>&1; check "$2: nothing is left" within 5 none_left
}

ours; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
ss_site "" "}
      more {
        local_ts = 10.2.1.0/24
        remote_ts = 10.1.1.0/24
        esp_proposals = aes256gcm16,aes256gcm16-ecp256"
ss_begin
for plane in kernel userspace; do ours dataplane=$plane; each ss "strongSwan, $plane"; done
cell further-children strongswan
peer_ends

# libreswan takes no keyword twice, by also= neither.
lw_site
on east sh -c 'sed -n "/^conn net/,\$ { s/conn net/conn more/; s/10.2.0.0/10.2.1.0/; s/10.1.0.0/10.1.1.0/; p }" /etc/ipsec.conf >/run/more && cat /run/more >>/etc/ipsec.conf'
lw_begin; check "pluto knows both" lw_knows east more
for plane in kernel userspace; do ours dataplane=$plane; each lw "libreswan, $plane"; done
cell further-children libreswan
capture_end
# The second one's network has no trap: without its child SA its packets go in clear.
check "nothing else crossed the wire in clear" sh -c "! tcpdump -n -r /out/wire.pcap 'src net 10.0.0.0/8 and not src net 10.1.1.0/24 and not src net 10.2.1.0/24' 2>/dev/null | grep ."
tail -n 60 /out/west-cygnet.log
finish
