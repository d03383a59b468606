#!/bin/bash
# Cygnet (west) on the kernel's plane with strongSwan 6.1 (east): IP-TFS (RFC 9347), each end as initiator,
# of IPv4 and IPv6, without fragments, renewed by either end, by a trap, and with a peer that does not want it.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
W=192.0.2.1 E=198.51.100.1
IKE_SS=aes256gcm16-prfsha256-ecp256

# iproute2 has the number of the mode only.
modes() { on $1 ip xfrm state | sed -n 's/.* mode \([a-z0-9]*\).*/\1/p' | sed 's/^5$/iptfs/' | sort | uniq -c; }
all_in() { for n in west east; do echo "$n: $(modes $n | tr '\n' ' ')"; done; for n in west east; do [ "$(modes $n | awk '{ print $2 }')" = $1 ] || return 1; done; }
iptfs() { all_in iptfs && cy west status | grep -q 'iptfs mode'; }
tunnel() { all_in tunnel && cy west status | grep -q 'tunnel mode'; }
none() { ! on east ip xfrm state | grep -q 'proto esp' && ! on west ip xfrm state | grep -q 'proto esp'; }
# ESP packets from an address on the wire.
esp_from() { tcpdump -n -r /out/$1 "src host $2 and ip proto 50" 2>/dev/null | wc -l; }
largest_from() { tcpdump -n -v -r /out/$1 "src host $2 and ip proto 50" 2>/dev/null | sed -n 's/.*length \([0-9]*\)).*/\1/p' | sort -n | tail -n 1; }
pings() { on $1 ping -q -c 20 -i 0.01 -W 5 -s $4 -I $2 $3; }
both_ways() { pings west 10.1.0.1 10.2.0.1 $1 && pings east 10.2.0.1 10.1.0.1 $1; }
both_ways6() { pings west 2001:db8:1::1 2001:db8:2::1 $1 && pings east 2001:db8:2::1 2001:db8:1::1 $1; }
# What is aggregated leaves as a list of buffers, and virtual wires bring it so: of ten or more the kernel at the other end
# drops it (7.3.4; XfrmInBufferError). Other wires bring one buffer.
for wire in west:eth0 east:eth0 router:to-west router:to-east; do on ${wire%:*} ethtool -K ${wire#*:} tx-scatter-gather-fraglist off; done
# Small packets at once go together:  aggregated NODE FROM TO OUTER
aggregated() {
  local n f=many-$SECONDS.pcap; capture router to-west $f
  on $1 ping -q -l 40 -S 262144 -c 40 -i 0.2 -W 5 -s 40 -I $2 $3; local ok=$?
  sleep 2; capture_end
  n=$(esp_from $f $4); echo "40 packets in $n of ESP"; [ $ok = 0 ] && [ "$n" -gt 0 ] && [ "$n" -le 6 ]
}
# A packet larger than the path goes in several.
fragmented() {
  local a b f file=large-$SECONDS.pcap; capture router to-west $file
  pings west 10.1.0.1 10.2.0.1 2000 && pings east 10.2.0.1 10.1.0.1 2000; local ok=$?; sleep 2; capture_end
  a=$(largest_from $file $W) b=$(largest_from $file $E)
  f=$(tcpdump -n -v -r /out/$file 'ip[6:2] & 0x3fff != 0' 2>/dev/null | grep -c 'ESP\|esp')
  echo "largest: ours $a, theirs $b; IP fragments: $f"; [ $ok = 0 ] && [ "${a:-0}" -gt 0 ] && [ "$a" -le 1500 ] && [ "${b:-0}" -gt 0 ] && [ "$b" -le 1500 ] && [ "$f" = 0 ]
}

traffic() {
  check "$1: IPv4, both ways" both_ways 64
  check "$1: IPv6, both ways" both_ways6 64
}
cy_site6() { cy_conf west left=$W leftid=@west.example leftsubnet=10.1.0.0/24,2001:db8:1::/64 right=$E rightid=@east.example \
    rightsubnet=10.2.0.0/24,2001:db8:2::/64 dataplane=kernel ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256 iptfs-init-delay=50ms "$@"
  ! on west test -S /run/cygnet/control.sock || cy west reload >/out/west-reload.log 2>&1; }
ss_site6() { ss_conf east $E $W @east.example @west.example 10.2.0.0/24,2001:db8:2::/64 10.1.0.0/24,2001:db8:1::/64 $IKE_SS "aes256gcm16
        $1"
  ! on east test -S /run/charon.vici || ss_ctl east --load-all >/out/east-load.log 2>&1; }

ss_site6 "mode = iptfs"; cy_site6 iptfs=yes
ss_begin "iptfs {
    init_delay = 50000
  }"
ss_ctl east --load-all >/out/east-load.log 2>&1
check "cygnet runs on west" cy_start west; cy west status | head -n 20
for who in cygnet strongSwan; do
  if [ $who = cygnet ]; then check "$who initiates" cy west up net; else check "$who initiates" ss_up; fi
  check "$who initiates: IP-TFS at both ends" within 3 iptfs
  traffic "$who initiates"
  check "$who initiates: what we send is aggregated" aggregated west 10.1.0.1 10.2.0.1 $W
  check "$who initiates: what strongSwan's end sends is aggregated" aggregated east 10.2.0.1 10.1.0.1 $E
  check "$who initiates: large packets are fragmented by IP-TFS" fragmented
  if [ $who = cygnet ]; then check "strongSwan renews it" ss_ctl east --rekey --child net
  else check "cygnet renews it" cy west rekey net; fi
  sleep 2
  check "$who initiates: IP-TFS after the renewal" within 8 iptfs
  traffic "$who initiates: renewed"
  if [ $who = cygnet ]; then check "cygnet ends it" cy west down net; else check "strongSwan ends it" ss_down; fi
  check "nothing is left of it" within 8 none
done
step "strongSwan does not want it"
ss_site6 "mode = tunnel"
for who in cygnet strongSwan; do
  if [ $who = cygnet ]; then check "$who initiates" cy west up net; else check "$who initiates" ss_up; fi
  check "$who initiates: tunnel mode at both ends" within 3 tunnel
  traffic "$who initiates"
  if [ $who = cygnet ]; then check "cygnet ends it" cy west down net; else check "strongSwan ends it" ss_down; fi
  check "nothing is left of it" within 8 none
done
ss_site6 "mode = iptfs"
step "no fragments"
cy_site6 iptfs=yes iptfs-fragmentation=no
check "no fragments: cygnet initiates" cy west up net
check "no fragments: IP-TFS at both ends" within 3 iptfs
check "no fragments: strongSwan is told" grep -q 'USE_AGGFRAG\|N(AGGFRAG' /out/east-charon.log
traffic "no fragments"
# Within one ESP packet or not at all: what is larger than the path is answered with ICMP.
check "no fragments: large packets do not go in several" not pings west 10.1.0.1 10.2.0.1 2000
check "no fragments: cygnet ends it" cy west down net
check "nothing is left of it" within 8 none
step "by a trap"
AUTO=ondemand cy_site6 iptfs=yes
check "by a trap: it waits" within 5 sh -c "nsenter --net=/run/netns/west ip xfrm policy | grep -q 'mode 5'"
check "by a trap: a packet brings it up" within 10 pings west 10.1.0.1 10.2.0.1 64
check "by a trap: IP-TFS at both ends" within 3 iptfs
traffic "by a trap"
check "by a trap: cygnet ends it" cy west down net
cell iptfs strongswan
tail -n 30 /out/west-cygnet.log
finish
