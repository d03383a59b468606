#!/bin/bash
# Security labels (RFC 9478): cygnet (west, both planes) and strongSwan (east), each end as initiator, with the same label, renewed
# by either end, and with another one or none at one end. Then with libreswan, which begins with a label only where SELinux asks
# for one. The label is agreed upon and no more (label-mode=simple): what a kernel would make of it takes SELinux.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
LABEL=system_u:object_r:ipsec_spd_t:s0

ours() { cy_site dataplane=$PLANE label-mode=simple ${1:+sec-label=$1}; }
theirs() { ss_site "" "label_mode = simple${1:+
        label = $1}"; }
strongSwan_shows() { ss_ctl east --list-sas --raw | tee /dev/stderr | grep -q "label=$(printf %s $LABEL | od -An -v -tx1 | tr -d ' \n')"; }
# A connection with a label has an instance for each child SA.
libreswan_shows() { lw_ctl east whack --connectionstatus | tee /dev/stderr | grep -q "^\"net\"\[[0-9]*\]\[[0-9]*\].*sec_label:$LABEL"; }
strongSwan_rekeys() { ss_ctl east --rekey --child net; }
# Both ends show it, and cygnet one child SA, another one than before.
labelled() {
  local id
  id=$(cy west status --json | python3 -c '
import json, sys
[net] = json.load(sys.stdin)["connections"]
print(*[child["id"] for child in net["children"] if child["label"] == sys.argv[1]])' $LABEL)
  echo "child SAs with it: $id; before: $BEFORE"
  [[ "$id" =~ ^[0-9]+$ ]] && [ "$id" != "$BEFORE" ] && ${PEER_NAME}_shows
}
# works TITLE END...: traffic under the label, also when these ends have renewed it
works() {
  local title=$1 who; shift
  BEFORE=; check "$title: it is shown at both ends" within 3 labelled
  check "$title: traffic crosses" crosses
  for who; do
    BEFORE=$(cy west status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["connections"][0]["children"][0]["id"])')
    if [ $who = cygnet ]; then check "$title: cygnet renews" cy west rekey net; else check "$title: the peer renews" ${who}_rekeys; fi
    check "$title: the successor has it" within 5 labelled
    check "$title: traffic crosses the successor" crosses
  done
  cy west down net >/out/west-down.log 2>&1; check "$title: nothing is left" within 5 none_left
}
# refused TITLE REASON COMMAND...: no child SA, and cygnet says why
refused() {
  local title=$1 reason=$2 before; before=$(grep -c "$2" /out/west-cygnet.log); shift 2
  check "$title: it is refused" not "$@"
  check "$title: no child SA" sh -c '! ip -n east xfrm state | grep -q "spi 0x[^0]" && ! ip -n west xfrm state | grep -q "spi 0x[^0]"'
  check "$title: cygnet says $reason" [ "$(grep -c $reason /out/west-cygnet.log)" -gt $before ]
  cy west down net >/out/west-down.log 2>&1; ss_down >/out/east-down.log 2>&1; within 5 none_left
}

PLANE=kernel PEER_NAME=strongSwan
ours $LABEL; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
theirs $LABEL; ss_begin "delete_rekeyed_delay = 0"
for PLANE in kernel userspace; do
  ours $LABEL
  check "strongSwan, $PLANE: cygnet begins" cy west up net; works "strongSwan, $PLANE, cygnet begins" cygnet strongSwan
  check "strongSwan, $PLANE: it begins" ss_up; works "strongSwan, $PLANE, it begins" cygnet strongSwan
done
theirs system_u:object_r:other_t:s0
refused "another label, cygnet begins" ts_unacceptable cy west up net
refused "another label, strongSwan begins" label_unacceptable ss_up
theirs
refused "no label at strongSwan, cygnet begins" ts_unacceptable cy west up net
refused "no label at strongSwan, it begins" label_unacceptable ss_up
cell labels strongswan
peer_ends

PEER_NAME=libreswan
lw_site sec-label=$LABEL; lw_begin
for PLANE in kernel userspace; do
  ours $LABEL
  check "libreswan, $PLANE: cygnet begins" cy west up net; works "libreswan, $PLANE, cygnet begins" cygnet
done
ours; refused "no label at cygnet, with libreswan" ts_unacceptable cy west up net
cell labels libreswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 40 /out/west-cygnet.log
finish
