#!/bin/bash
# Cygnet (west) against libreswan 5 (east), both on the kernel's ESP, then cygnet in user space; each end as initiator. Then
# successors of which libreswan is the responder: it sends on them at once, before cygnet has the keys.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
lw_site; lw_begin

counted() { echo "ours $(cy_packets west net), libreswan's kernel $(esp_packets east)"; [ "$(cy_packets west net)" = "40 40" ] && [ "$(esp_packets east)" = 80 ]; }
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }
native() { tcpdump -n -r /out/wire.pcap 'ip proto 50' 2>/dev/null | wc -l; }
on_the_wire() { local n=$(( $(native) - NATIVE )); echo "$n packets of ESP"; [ $n -ge 80 ]; }

for plane in kernel userspace; do
  cy_site dataplane=$plane
  [ $plane = userspace ] || { cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status; }
  for who in cygnet libreswan; do
    NATIVE=$(native)
    if [ $who = cygnet ]; then check "$plane: cygnet initiates" cy west up net
    else check "$plane: libreswan initiates" lw_ctl east up net; fi
    check "$plane: traffic crosses" on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
    check "$plane: and the other way" on east ping -q -c 20 -i 0.01 -W 3 -I 10.2.0.1 10.1.0.1
    lw_ctl east whack --trafficstatus
    check "$plane: both ends count the same" within 3 counted
    check "$plane: ESP is on the wire itself" within 3 on_the_wire
    if [ $who = cygnet ]; then check "$plane: cygnet ends it" cy west down net
    else check "$plane: libreswan ends it" lw_ctl east down net; fi
    check "$plane: nothing is left of it" within 5 gone
  done
done
cell "psk native-esp" libreswan

# What comes before its keys the kernel drops and counts; user space holds it.
too_early() { on west awk '$1 == "XfrmAcquireError" { print $2 }' /proc/net/xfrm_stat; }
held() { cy west status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["counters"].get("early", 0))'; }
for plane in kernel userspace; do
  cy_site dataplane=$plane
  check "successors, $plane: cygnet begins" cy west up net
  dropped=$(too_early) held=$(held)
  on east ping -q -c 800 -i 0.01 -W 5 -I 10.2.0.1 10.1.0.1 >/out/ping.log & ping=$!
  for n in 1 2 3 4; do sleep 1.5; check "successors, $plane: cygnet rekeys ($n)" cy west rekey net; done
  wait $ping; dropped=$(( $(too_early) - dropped )) held=$(( $(held) - held ))
  received=$(awk '/transmitted/ { print $4 }' /out/ping.log)
  echo "# $plane: of 800 packets of libreswan $received were answered; $dropped were dropped before their keys, $held held"
  check "successors, $plane: none is lost but those ($received answered)" [ $(( received + dropped )) = 800 ]
  [ $plane = kernel ] || check "successors, $plane: none is lost at all" [ $received = 800 ]
  check "successors, $plane: cygnet ends it" cy west down net
  check "successors, $plane: nothing is left of it" within 10 gone
done
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
counters east
tail -n 30 /out/west-cygnet.log
finish
