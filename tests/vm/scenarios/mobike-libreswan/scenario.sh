#!/bin/bash
# MOBIKE (RFC 4555) with libreswan (east), each end as initiator; the initiator's address changes while packets flow.
# libreswan takes part as responder only for clients that may come from anywhere (right=%any).
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
for n in west east; do on $n sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries'; done
readdress() { printf 'addr add %s/24 dev eth0\naddr del %s/24 dev eth0\n' "$3" "$2" | ip -n $1 -batch -; gateway $1 ${4:-192.0.2.254} 2>/dev/null; }
spis() { on east ip xfrm state | grep -o 'spi 0x[0-9a-f]*' | sort | tr '\n' ' '; }
same_spis() { echo "$SPIS / $(spis)"; [ -n "$SPIS" ] && [ "$(spis)" = "$SPIS" ]; }
agreed() { cy west status --json | grep -q '"mobike": true'; }
# at ADDRESS: libreswan's kernel sends there
at() { on east ip xfrm state | grep -q "dst $1\$" && on east ip xfrm state | grep -q "src $1 dst"; }
has() { cy west status | grep -q "to $1:"; }
flow() { FLOW=$((${FLOW:-0} + 1)); bg west ping-$FLOW ping -i 0.02 -c 400 -W 2 -I 10.1.0.1 10.2.0.1; PING=$BG; sleep 2; }
flowed() {
  while kill -0 $PING 2>/dev/null; do sleep 0.2; done; tail -n 3 /out/west-ping-$FLOW.log
  awk '/packets transmitted/ { ok = $1 == 400 && $4 >= 400 - LOST } END { exit !ok }' LOST=$1 /out/west-ping-$FLOW.log
}

for plane in kernel userspace; do
  SEEN_WEST=%any; cy_site dataplane=$plane mobike=yes; lw_site mobike=yes
  if [ $plane = kernel ]; then check "cygnet runs on west" cy_start west; lw_begin; fi
  check "$plane: cygnet initiates" cy west up net
  check "$plane: both have MOBIKE" agreed
  check "$plane: traffic crosses" crosses
  SPIS=$(spis); flow; readdress west 192.0.2.1 192.0.2.11
  check "$plane: cygnet moves: libreswan follows" within 5 at 192.0.2.11
  check "$plane: cygnet moves: the echoes go on" flowed 60
  check "$plane: cygnet moves: the same SAs" same_spis
  check "$plane: cygnet moves: traffic crosses" crosses
  check "$plane: cygnet ends it" cy west down net
  check "$plane: nothing is left" within 5 none_left
  readdress west 192.0.2.11 192.0.2.1

  # --- libreswan initiates and moves
  SEEN_WEST=192.0.2.1; SEEN_EAST=%any cy_site dataplane=$plane mobike=yes
  lw_site mobike=yes; on east sed -i 's/^    left=198.*/    left=%defaultroute/' /etc/ipsec.conf; lw_ctl east replace net >/out/east-replace.log 2>&1; lw_knows east
  check "$plane: libreswan initiates" lw_ctl east up net
  check "$plane: both have MOBIKE" agreed
  check "$plane: traffic crosses" crosses
  SPIS=$(spis); flow; readdress east 198.51.100.1 198.51.100.11 198.51.100.254
  check "$plane: libreswan moves: cygnet has the new address" within 10 has 198.51.100.11
  check "$plane: libreswan moves: the echoes go on" flowed 120
  check "$plane: libreswan moves: the same SAs" same_spis
  check "$plane: libreswan moves: traffic crosses" crosses
  lw_ctl east down net >/out/east-down.log 2>&1
  check "$plane: nothing is left" within 5 none_left
  readdress east 198.51.100.11 198.51.100.1 198.51.100.254
  on east ipsec whack --listen >/out/east-listen.log 2>&1
done
cell mobike libreswan
capture_end
check "nothing crossed the wire in clear" sh -c "tcpdump -n -r /out/wire.pcap 'src net 10.0.0.0/8 and dst net 10.0.0.0/8' 2>/dev/null | tee /dev/stderr | wc -l | grep -qx 0"
tail -n 60 /out/west-cygnet.log
finish
