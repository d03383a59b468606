#!/bin/bash
# IKE SAs without a child SA in IKE_AUTH (RFC 6023): cygnet (west) with strongSwan at either end, and with libreswan,
# which only answers such requests (its own are for labelled connections).
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

# is yes|no: the IKE SA was made without a child SA
is() {
  cy west status --json | python3 -c '
import json, sys
sas = [sa for sa in json.load(sys.stdin)["ike_sas"] if sa["state"] == "established"]
print(sas)
sys.exit(not (len(sas) == 1 and sas[0]["childless"] == (sys.argv[1] == "yes")))' $1
}
# said TEXT FILE: the peer has it in its log since the last trial
said() { tail -c +$((SEEN + 1)) "$2" | grep -q "$1"; }
# works TITLE yes|no COMMAND...: it makes the tunnel, with the IKE SA on its own or not
works() {
  local title=$1 childless=$2; shift 2
  SEEN=$(stat -c %s /out/east-charon.log 2>/dev/null || echo 0)
  check "$title: it is made" "$@" || return
  check "$title: childless: $childless" is $childless
  check "$title: traffic crosses" crosses
}
ends() { check "$1: it is taken down" cy west down net; check "$1: nothing is left" within 5 none_left; }

cy_site dataplane=kernel childless=prefer
check "cygnet runs on west" cy_start west
ss_site "childless = allow"
ss_begin
works "strongSwan allows, cygnet prefers" yes cy west up net
check "strongSwan has seen IKE_AUTH without SA" said 'parsed IKE_AUTH request 1 \[ IDi .*AUTH.* \]$' /out/east-charon.log
check "strongSwan has seen IKE_AUTH without selectors" not said 'parsed IKE_AUTH request 1 .*TSi' /out/east-charon.log
check "strongSwan has made it by CREATE_CHILD_SA" said 'parsed CREATE_CHILD_SA request 2 \[.* SA .*TSi' /out/east-charon.log
ends "strongSwan allows, cygnet prefers"
ss_site "childless = never"
works "strongSwan never, cygnet prefers" no cy west up net
ends "strongSwan never, cygnet prefers"
cy_site dataplane=kernel childless=force
check "strongSwan never, cygnet insists: nothing comes of it" not cy west up net
check "strongSwan never, cygnet insists: and cygnet says why" sh -c "nsenter --net=/run/netns/west --mount=/nodes/west/mnt /t/cygnet status --json | grep -q childless_unsupported"
cy west down net
cy_site dataplane=userspace childless=allow
ss_site "childless = prefer"
works "strongSwan prefers" yes ss_up
check "strongSwan has sent IKE_AUTH without SA" not said 'generating IKE_AUTH request 1 .*TSi' /out/east-charon.log
ends "strongSwan prefers"
ss_site "childless = force"
works "strongSwan insists" yes ss_up
ends "strongSwan insists"
cy_site dataplane=kernel childless=never
check "strongSwan insists in vain" not ss_up
check "and nothing is left" within 5 none_left
cell childless strongswan
peer_ends

cy_site dataplane=kernel childless=prefer
lw_site
lw_begin
works "libreswan answers" yes cy west up net
check "libreswan says so" grep -q 'creating childless SA' /out/east-pluto.log
ends "libreswan answers"
cell childless libreswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 30 /out/west-cygnet.log
finish
