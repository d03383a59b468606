#!/bin/bash
# Several child SAs under one IKE SA: cygnet (west, both planes) with strongSwan (east), each end as initiator. One of them
# is deleted and the other goes on.
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
# works TITLE: two child SAs under one IKE SA, of which cygnet deletes one, and then the other
works() {
  check "$1: two child SAs under one IKE SA" has 1 2
  check "$1: traffic crosses the first" crosses
  check "$1: traffic crosses the second" crosses_more
}
ends() {
  check "$1: the second one is taken down" "${@:2}"
  check "$1: the first one stays" within 5 has 1 1
  check "$1: and carries traffic" crosses
  check "$1: the second one does not" not crosses_more
}
gone() { cy west down more >/out/west-down.log 2>&1; check "$1: all is taken down" cy west down net; check "$1: nothing is left" within 5 none_left; }
both_up() { cy west up net && cy west up more; }

for plane in kernel userspace; do
  ours dataplane=$plane
  if [ $plane = kernel ]; then
    check "cygnet runs on west" cy_start west
    ss_site "" "}
      more {
        local_ts = 10.2.1.0/24
        remote_ts = 10.1.1.0/24
        esp_proposals = aes256gcm16,aes256gcm16-ecp256"
    ss_begin
  fi
  check "strongSwan, $plane: cygnet begins" both_up; works "strongSwan, $plane, cygnet begins"
  ends "strongSwan, $plane, cygnet begins" cy west down more; gone "strongSwan, $plane, cygnet begins"
  check "strongSwan, $plane: the peer begins" ss_up net; check "strongSwan, $plane: the second one" ss_up more
  works "strongSwan, $plane, the peer begins"
  ends "strongSwan, $plane, the peer begins" ss_ctl east --terminate --child more --timeout 10; gone "strongSwan, $plane, the peer begins"
done
cell further-children strongswan
capture_end
# The second one's network has no trap: without its child SA its packets go in clear.
check "nothing else crossed the wire in clear" sh -c "! tcpdump -n -r /out/wire.pcap 'src net 10.0.0.0/8 and not src net 10.1.1.0/24 and not src net 10.2.1.0/24' 2>/dev/null | grep ."
tail -n 60 /out/west-cygnet.log
finish
