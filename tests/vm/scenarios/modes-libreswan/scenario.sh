#!/bin/bash
# Cygnet (west) and libreswan 5 (east): the modes and options of child SAs that both have, each end as initiator, on
# both planes of cygnet where both have them.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
W=192.0.2.1 E=198.51.100.1 IKE=aes_gcm256-sha2_256-dh19

lw_conf() {
  local line
  { printf 'config setup\nconn net\n    keyexchange=ikev2\n    authby=secret\n    auto=add\n    ike=%s\n' $IKE
    printf '    left=%s\n    leftid=@east.example\n    right=%s\n    rightid=@west.example\n' $E $W
    for line; do printf '    %s\n' "$line"; done; } | put east /etc/ipsec.conf
}
lw_conf esp=aes_gcm256
printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
check "pluto runs on east" lw_start east
gone() { ! on east ip xfrm state | grep -q 'proto' && [ -z "$(cy_packets west net)" ] && ! on west ip xfrm state | grep -q 'proto'; }
all_sas() {
  local n; n=$(on $1 ip xfrm state | grep -c '^src'); echo "$n SAs"; on $1 ip xfrm state | grep -v '0x'
  [ "$n" -gt 0 ] && [ "$(on $1 ip xfrm state | grep -c -- "$2")" = "$n" ]
}
lengths() { tcpdump -n -v -r /out/$1 "src host $2 and ip proto 50" 2>/dev/null | sed -n 's/.*length \([0-9]*\)).*/\1/p' | sort -n; }
counted() { echo "ours $(cy_packets west net), libreswan's kernel $(esp_packets east)"; [ "$(cy_packets west net)" = "40 40" ] && [ "$(esp_packets east)" -ge 80 ]; }

# run TITLE PLANE LOCAL(WEST) REMOTE(EAST) "cygnet lines" "libreswan lines" CHECK
run() {
  local title="$1, $2" plane=$2 l=$3 r=$4 from=${3%/*} to=${4%/*}; local -a ours theirs nets=()
  from=${from/%.0/.1} to=${to/%.0/.1}; IFS=';' read -ra ours <<<"$5"; IFS=';' read -ra theirs <<<"$6"
  [ $l = $W ] || nets=("$r" "$l")
  lw_conf ${nets:+leftsubnet=$r rightsubnet=$l} "${theirs[@]}"
  lw_ctl east whack --delete --name net; lw_ctl east add net >/out/east-add.log 2>&1
  cy_conf west left=$W leftid=@west.example right=$E rightid=@east.example ${nets:+leftsubnet=$l rightsubnet=$r} dataplane=$plane ike=$IKE "${ours[@]}"
  cy west reload >/out/west-reload.log 2>&1 || cy_start west || { check "$title: cygnet runs" false; cat /out/west-reload.log; return; }
  for who in cygnet libreswan; do
    capture router to-west wire.pcap
    if [ $who = cygnet ]; then check "$title: cygnet initiates" cy west up net
    else check "$title: libreswan initiates" lw_ctl east up net; fi || { capture_end; tail -n 5 /out/west-cygnet.log; tail -n 8 /out/east-pluto.log; cy west down net; continue; }
    check "$title: packets cross" on west ping -q -c 20 -i 0.01 -W 3 -s 100 -I $from $to
    check "$title: and the other way" on east ping -q -c 20 -i 0.01 -W 3 -s 100 -I $to $from
    check "$title: both ends count the same" within 3 counted
    capture_end
    check "$title: nothing crosses in clear" only_protected wire.pcap
    check "$title: $7" $7
    if [ $who = cygnet ]; then check "$title: cygnet ends it" cy west down net
    else check "$title: libreswan ends it" lw_ctl east down net; fi
    check "$title: nothing is left of it" within 5 gone
  done
}
NETS="10.1.0.0/24 10.2.0.0/24"
transport_mode() { all_sas east 'mode transport' && cy west status | grep -q "transport mode"; }
esn_used() { all_sas east 'flag.*esn' && cy west status | grep -q -- '-ESN'; }
esn_unused() { ! on east ip xfrm state | grep -q 'flag.*esn' && ! cy west status | grep -q -- '-ESN'; }
padded() { local a b; a=$(lengths wire.pcap $W | head -n 1) b=$(lengths wire.pcap $E | head -n 1); echo "shortest: ours $a, theirs $b"; [ "$a" -gt 1000 ] && [ "$b" -gt 900 ]; }
unpadded() { local a b; a=$(lengths wire.pcap $W | head -n 1) b=$(lengths wire.pcap $E | head -n 1); echo "shortest: ours $a, theirs $b"; [ "$a" -lt 300 ] && [ "$b" -lt 300 ]; }
ah_used() { all_sas east 'proto ah' && cy west status | grep -q ' AH, HMAC_SHA2_256_128' && ! tcpdump -n -r /out/wire.pcap 'ip proto 50' 2>/dev/null | grep -q . && tcpdump -n -r /out/wire.pcap 'ip proto 51' 2>/dev/null | grep -q .; }
compressed() {
  [ "$(on east ip xfrm state | grep -c 'proto comp')" = 2 ] && cy west status | grep -q ', compressed' || return 1
  capture router to-west comp.pcap
  on west ping -q -c 5 -i 0.01 -W 3 -s 1000 -p 00 -I $from $to && on east ping -q -c 5 -i 0.01 -W 3 -s 1000 -p 00 -I $to $from || return 1
  sleep 2; capture_end
  local a b; a=$(lengths comp.pcap $W | tail -n 1) b=$(lengths comp.pcap $E | tail -n 1); echo "longest: ours $a, theirs $b"; [ "$a" -gt 0 ] && [ "$a" -lt 400 ] && [ "$b" -gt 0 ] && [ "$b" -lt 400 ]
}
uncompressed() { ! on east ip xfrm state | grep -q 'proto comp' && ! cy west status | grep -q compressed && ! on west ip xfrm state | grep -q 'proto comp'; }

for plane in kernel userspace; do
  run "transport mode" $plane $W $E "type=transport;esp=aes_gcm256" "type=transport;esp=aes_gcm256" transport_mode
  [ $plane = kernel ] || cell transport libreswan
done
for plane in kernel userspace; do
  run "ESN" $plane $NETS "esn=yes;esp=aes_gcm256" "esn=either;esp=aes_gcm256" esn_used
  run "no ESN" $plane $NETS "esn=either;esp=aes_gcm256" "esn=no;esp=aes_gcm256" esn_unused
  [ $plane = kernel ] || cell esn libreswan
done
for plane in kernel userspace; do
  run "TFC padding" $plane $NETS "tfc=1000;esp=aes_gcm256" "tfc=900;esp=aes_gcm256" padded
  run "TFC padding refused" $plane $NETS "tfc=1000;send-esp-tfc-padding-not-supported=yes;esp=aes_gcm256" "tfc=900;send-no-esp-tfc=yes;esp=aes_gcm256" unpadded
  [ $plane = kernel ] || cell tfc libreswan
done
for plane in kernel userspace; do
  run "AH" $plane $NETS "ah=sha2_256" "phase2=ah;phase2alg=sha2_256" ah_used
  run "AH in transport mode" $plane $W $E "type=transport;ah=sha2_256" "type=transport;phase2=ah;phase2alg=sha2_256" ah_used
  [ $plane = kernel ] || cell ah libreswan
done
for plane in kernel userspace; do
  run "IPComp" $plane $NETS "compress=yes;esp=aes_gcm256" "compress=yes;esp=aes_gcm256" compressed
  run "IPComp that the peer does not want" $plane $NETS "compress=yes;esp=aes_gcm256" "compress=no;esp=aes_gcm256" uncompressed
done
cell ipcomp libreswan
tail -n 30 /out/west-cygnet.log; tail -n 30 /out/east-pluto.log
finish
