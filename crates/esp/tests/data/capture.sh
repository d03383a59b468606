#!/bin/bash
# Captures what the Linux kernel does with ESP, case by case of cases.txt. Runs as root in a virtual machine of
# tests/vm; see README.md.
#
#   host ---- west ==== ESP ==== east      host, or west itself in transport mode, pings east
. /vm/lib.sh
capture() {
  local n=$1 i=$2 f=$3; shift 3
  bg $n "$f" tcpdump -i "$i" -n -U --immediate-mode -s 0 -Z root -w "/out/$f" "$@"; CAPTURES="$CAPTURES $BG"
  within 10 grep -q 'listening on' "/out/$n-$f.log"
}
node host west east
link west:eth0:192.0.2.1/24,2001:db8:0::1/64 east:eth0:192.0.2.2/24,2001:db8:0::2/64
link host:eth0:10.1.0.2/24,2001:db8:1::2/64 west:lan:10.1.0.1/24,2001:db8:1::1/64
{ echo "link add inside type dummy"; addr_lines inside 10.2.0.1/24,2001:db8:2::1/64; echo "route add 10.1.0.0/24 via 192.0.2.1"; echo "route add 2001:db8:1::/64 via 2001:db8:0::1"; } | ip -n east -batch -
{ echo "route add 10.2.0.0/24 via 192.0.2.2"; echo "route add 2001:db8:2::/64 via 2001:db8:0::2"; } | ip -n west -batch -
{ echo "route add default via 10.1.0.1"; echo "route add default via 2001:db8:1::1"; } | ip -n host -batch -
on west sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit; for i in all default eth0 lan; do echo 0 >/proc/sys/net/ipv4/conf/$i/send_redirects; done'
bg west natt python3 /t/espinudp.py; bg east natt python3 /t/espinudp.py
on host ping -q -c1 10.1.0.1; on host ping -6 -q -c1 2001:db8:1::1; on west ping -q -c1 192.0.2.2; on west ping -6 -q -c1 2001:db8::2
on west modprobe esp4; on west modprobe esp6
E1=192.0.2.1 E2=192.0.2.2 G1=2001:db8:0::1 G2=2001:db8:0::2
alg() { # enc auth enckey authkey
 case $1 in gcm*) echo "aead rfc4106(gcm(aes)) 0x$3 128";; chacha20) echo "aead rfc7539esp(chacha20,poly1305) 0x$3 128";;
  cbc*) case $2 in sha256) t=128;; sha384) t=192;; sha512) t=256;; esac; echo "enc cbc(aes) 0x$3 auth-trunc hmac($2) 0x$4 $t";; esac; }
grep -v '^#' /t/cases.txt >/tmp/cases
while read -r name mode inner outer enc auth esn udp flags extra replay tfc mangle k1 a1 k2 a2 <&9; do
  step $name
  F="af-unspec"; [ $mode = transport ] && F=; [ $esn = 1 ] && F="$F esn"; [ "$flags" != - ] && F="$F $flags"
  [ -n "$F" ] && F="flag $F"
  [ $outer = 4 ] && { W=$E1 X=$E2; } || { W=$G1 X=$G2; }
  O="reqid 7 mode $mode replay-window 64 $F"; [ "$extra" != - ] && O="$O extra-flag $extra"
  [ $replay = wrap ] && O="$O replay-seq 0xfffffff0 replay-oseq 0xfffffffc replay-seq-hi 0 replay-oseq-hi 0"
  [ "$tfc" != - ] && O="$O tfcpad $tfc"
  [ $udp = 1 ] && { [ $outer = 4 ] && U="encap espinudp 4500 4500 0.0.0.0" || U="encap espinudp 4500 4500 ::"; } || U=
  { echo "xfrm state flush"; echo "xfrm policy flush"
    echo "xfrm state add src $W dst $X proto esp spi 0xc1000001 $O $(alg $enc $auth $k1 $a1) $U"
    echo "xfrm state add src $X dst $W proto esp spi 0xc2000002 $O $(alg $enc $auth $k2 $a2) $U"; } >/tmp/st
  if [ $mode = tunnel ]; then [ $inner = 4 ] && { P1=10.1.0.0/24 P2=10.2.0.0/24 T=10.2.0.1; } || { P1=2001:db8:1::/64 P2=2001:db8:2::/64 T=2001:db8:2::1; }; TT="src %s dst %s"; FROM=host
  else FROM=west; [ $inner = 4 ] && { P1=$E1 P2=$E2 T=$E2; } || { P1=$G1 P2=$G2 T=$G2; }; fi
  polp() { if [ $mode = transport ]; then if [ $inner = 4 ]; then echo "xfrm policy add src $2 dst $3 proto icmp dir $1 tmpl src $4 dst $5 proto esp reqid 7 mode $mode"; else
       for t in 128 129; do echo "xfrm policy add src $2 dst $3 proto ipv6-icmp type $t dir $1 tmpl src $4 dst $5 proto esp reqid 7 mode $mode"; done; fi
     else echo "xfrm policy add src $2 dst $3 dir $1 tmpl src $4 dst $5 proto esp reqid 7 mode $mode"; fi; }
  { cat /tmp/st; polp out $P1 $P2 $W $X; polp in $P2 $P1 $X $W; polp fwd $P2 $P1 $X $W; } | ip -n west -batch - || echo "WEST FAILED $name"
  { cat /tmp/st; polp out $P2 $P1 $X $W; polp in $P1 $P2 $W $X; polp fwd $P1 $P2 $W $X; } | ip -n east -batch - || echo "EAST FAILED $name"
  M=; case $mangle in ce) M="meta l4proto esp ip ecn set ce; meta l4proto esp ip6 ecn set ce"; [ $outer = 4 ] && M="meta l4proto esp ip ecn set ce" || M="meta l4proto esp ip6 ecn set ce";;
     cs1) [ $outer = 4 ] && M="meta l4proto esp ip dscp set cs1" || M="meta l4proto esp ip6 dscp set cs1";; esac
  on west nft flush ruleset; on east nft flush ruleset
  [ -n "$M" ] && printf 'table inet m {\n chain c { type filter hook postrouting priority 200;\n %s\n }\n}\n' "$M" | on west nft -f -
  printf 'table inet l {\n chain i { type filter hook input priority 100;\n meta l4proto esp accept\n udp dport 4500 accept\n icmpv6 type { 133,134,135,136 } accept\n log group 1 queue-threshold 1\n }\n chain o { type filter hook output priority 100;\n meta l4proto esp accept\n udp dport 4500 accept\n icmpv6 type { 133,134,135,136 } accept\n log group 2 queue-threshold 1\n }\n}\n' | on east nft -f - || echo NFT FAILED
  ip -n host route flush cache; ip -n host -6 route flush cache; ip -n west route flush cache; ip -n west -6 route flush cache
  capture east eth0 $name.esp.pcap "esp or udp port 4500 or (ip6 proto 50)"
  capture east nflog:1 $name.in.pcap
  capture east nflog:2 $name.out.pcap
  [ $mode = tunnel ] && capture host eth0 $name.host.pcap
  pg() { on $FROM ping -$inner -n -q -c1 -W2 "$@" $T >/dev/null || echo "ping failed $name $*"; }
  if [ "$replay" = wrap ]; then for s in 1 2 3 4 5 6 7 8; do pg -s $s; done
  else
  pg -s 0; pg -s 8 -Q 0x02; pg -s 13 -Q 0xb8; pg -s 56 -Q 0x29 -M do; pg -s 100 -Q 0x03 -M dont; pg -s 241 -M dont -Q 0x48
  [ $mode = tunnel ] && { [ $inner = 4 ] && B=1472 || B=1452; on $FROM ping -$inner -n -q -c1 -W1 -M do -Q 0xb9 -s $B $T; }
  fi
  sleep 0.2; capture_end
  on east ip -s xfrm state | grep -E 'spi|bytes\)' > /out/$name.counters
  on east awk '$2' /proc/net/xfrm_stat >>/out/$name.counters; on west awk '$2' /proc/net/xfrm_stat >>/out/$name.counters
done 9</tmp/cases
finish
