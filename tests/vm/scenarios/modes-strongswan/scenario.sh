#!/bin/bash
# Cygnet (west) and strongSwan 6 (east): the modes and options of child SAs, each end as initiator, on both planes of
# cygnet where both have them.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
check "charon runs on east" ss_start east
W=192.0.2.1 E=198.51.100.1
IKE_SS=aes256gcm16-prfsha256-x25519 IKE_CY=aes_gcm256-sha2_256-dh31

gone() { ! on east ip xfrm state | grep -q 'proto' && [ -z "$(cy_packets west net)" ] && ! on west ip xfrm state | grep -q 'proto'; }
# The SAs of a node have this in `ip xfrm state`, all of them:  all_sas NODE TEXT
all_sas() {
  local n; n=$(on $1 ip xfrm state | grep -c '^src'); echo "$n SAs"; on $1 ip xfrm state | grep -v '0x'
  [ "$n" -gt 0 ] && [ "$(on $1 ip xfrm state | grep -c -- "$2")" = "$n" ]
}
# Octets of the shortest ESP packet from an address on the wire, outer header included, and that there are some.
shortest() { tcpdump -n -v -r /out/$1 "src host $2 and ip proto 50" 2>/dev/null | sed -n 's/.*length \([0-9]*\)).*/\1/p' | sort -n | head -n 1; }

# run TITLE PLANE LOCAL(WEST) REMOTE(EAST) "cygnet lines" "esp_proposals of strongSwan and lines of its child" [extra check while up]
run() {
  local title="$1, $2" plane=$2 l=$3 r=$4 subnets= from=${3%/*} to=${4%/*}; local -a lines; IFS=';' read -ra lines <<<"$5"
  from=${from/%.0/.1} to=${to/%.0/.1}
  [ $l = $W ] || subnets="leftsubnet=$l rightsubnet=$r"
  ss_conf east $E $W @east.example @west.example $r $l $IKE_SS "$6"
  cy_conf west left=$W leftid=@west.example right=$E rightid=@east.example $subnets dataplane=$plane ike=$IKE_CY "${lines[@]}"
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy west reload >/out/west-reload.log 2>&1 || cy_start west || { check "$title: cygnet runs" false; cat /out/west-reload.log; return; }
  for who in cygnet strongSwan; do
    capture router to-west wire.pcap
    if [ $who = cygnet ]; then check "$title: cygnet initiates" cy west up net
    else check "$title: strongSwan initiates" ss_ctl east --initiate --child net --timeout 20; fi || { capture_end; tail -n 5 /out/west-cygnet.log; cy west down net; continue; }
    check "$title: packets cross" on west ping -q -c 20 -i 0.01 -W 3 -s 100 -I $from $to
    check "$title: and the other way" on east ping -q -c 20 -i 0.01 -W 3 -s 100 -I $to $from
    check "$title: both ends count the same" within 3 same_counts west east 40
    capture_end
    check "$title: nothing crosses in clear" only_protected wire.pcap
    [ -z "$7" ] || check "$title: $7" $7
    if [ $who = cygnet ]; then check "$title: cygnet ends it" cy west down net
    else check "$title: strongSwan ends it" ss_ctl east --terminate --ike net --timeout 10; fi
    check "$title: nothing is left of it" within 5 gone
  done
}
NETS="10.1.0.0/24 10.2.0.0/24" INNER="10.1.0.1/32 10.2.0.1/32"
in_mode() { all_sas east "mode $1" && cy west status | grep -q "$1 mode"; }
transport_mode() { in_mode transport; }
beet_mode() { in_mode beet; }
esn_used() { all_sas east 'flag.*esn' && cy west status | grep -q -- '-ESN'; }
esn_unused() { ! on east ip xfrm state | grep -q esn && ! cy west status | grep -q -- '-ESN'; }
padded() { local a b; a=$(shortest wire.pcap $W) b=$(shortest wire.pcap $E); echo "shortest: ours $a, theirs $b"; [ "$a" -gt 1000 ] && [ "$b" -gt 1400 ]; }
unpadded() { local a b; a=$(shortest wire.pcap $W) b=$(shortest wire.pcap $E); echo "shortest: ours $a, theirs $b"; [ "$a" -gt 1000 ] && [ "$b" -lt 300 ]; }

for plane in kernel userspace; do
  run "transport mode" $plane $W $E "type=transport;esp=aes_gcm256" "aes256gcm16
        mode = transport" transport_mode
  [ $plane = kernel ] || cell transport strongswan
done
for plane in kernel userspace; do
  run "BEET mode" $plane $INNER "type=beet;esp=aes_gcm256" "aes256gcm16
        mode = beet" beet_mode
  [ $plane = kernel ] || cell beet strongswan
done
for plane in kernel userspace; do
  run "ESN" $plane $NETS "esn=yes;esp=aes_gcm256" "aes256gcm16-esn-noesn" esn_used
  run "ESN where the peer has it only" $plane $NETS "esn=either;esp=aes_gcm256" "aes256gcm16-esn" esn_used
  run "no ESN" $plane $NETS "esn=no;esp=aes_gcm256" "aes256gcm16-esn-noesn" esn_unused
  [ $plane = kernel ] || cell esn strongswan
done
for plane in kernel userspace; do
  run "TFC padding" $plane $NETS "tfc=1000;esp=aes_gcm256" "aes256gcm16
        tfc_padding = mtu" padded
  run "TFC padding refused" $plane $NETS "tfc=1000;send-esp-tfc-padding-not-supported=yes;esp=aes_gcm256" "aes256gcm16
        tfc_padding = mtu" unpadded
  [ $plane = kernel ] || cell tfc strongswan
done
ah_used() { all_sas east 'proto ah' && cy west status | grep -q ' AH, HMAC_SHA2_256_128' && ! tcpdump -n -r /out/wire.pcap 'ip proto 50' 2>/dev/null | grep -q . && tcpdump -n -r /out/wire.pcap 'ip proto 51' 2>/dev/null | grep -q .; }
CHILD_PROTOCOL=ah
for plane in kernel userspace; do
  run "AH" $plane $NETS "ah=sha2_256;esn=no" "sha256" ah_used
  run "AH with ESN" $plane $NETS "ah=sha2_256" "sha256-esn" ah_used
  run "AH in transport mode" $plane $W $E "type=transport;phase2=ah;phase2alg=sha2_256" "sha256-noesn
        mode = transport" ah_used
  [ $plane = kernel ] || cell ah strongswan
done
CHILD_PROTOCOL=
# What compresses well is short on the wire.
compressed() {
  on west ip -s xfrm state | grep -A1 'proto comp'; all_sas_of east comp 2 && cy west status | grep -q ', compressed' || return 1
  capture router to-west comp.pcap
  on west ping -q -c 5 -i 0.01 -W 3 -s 1000 -p 00 -I $from $to && on east ping -q -c 5 -i 0.01 -W 3 -s 1000 -p 00 -I $to $from || return 1
  sleep 2; capture_end
  local a b; a=$(longest comp.pcap $W) b=$(longest comp.pcap $E); echo "longest: ours $a, theirs $b"; [ "$a" -gt 0 ] && [ "$a" -lt 400 ] && [ "$b" -gt 0 ] && [ "$b" -lt 400 ]
}
all_sas_of() { [ "$(on $1 ip xfrm state | grep -c "proto $2")" = $3 ]; }
longest() { tcpdump -n -v -r /out/$1 "src host $2 and ip proto 50" 2>/dev/null | sed -n 's/.*length \([0-9]*\)).*/\1/p' | sort -n | tail -n 1; }
uncompressed() { all_sas_of east comp 0 && ! cy west status | grep -q compressed && ! on west ip xfrm state | grep -q 'proto comp'; }
for plane in kernel userspace; do
  run "IPComp" $plane $NETS "compress=yes;esp=aes_gcm256" "aes256gcm16
        ipcomp = yes" compressed
  run "IPComp in transport mode" $plane $W $E "type=transport;compress=yes;esp=aes_gcm256" "aes256gcm16
        mode = transport
        ipcomp = yes" compressed
  run "IPComp that the peer does not want" $plane $NETS "compress=yes;esp=aes_gcm256" "aes256gcm16" uncompressed
done
cell ipcomp strongswan
tail -n 30 /out/west-cygnet.log
finish
