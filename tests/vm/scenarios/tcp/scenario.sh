#!/bin/bash
# IKE and ESP over TCP (RFC 9329) with libreswan 5, whose ESP in TCP is the kernel's: each end as the one that opens the
# streams, no UDP between them, streams that break in the middle, and libreswan's end restarted.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
put east /etc/ipsec.conf <<'END'
config setup
    listen-tcp=yes
conn net
    keyexchange=ikev2
    authby=secret
    left=198.51.100.1
    leftid=@east.example
    leftsubnet=10.2.0.0/24
    right=192.0.2.1
    rightid=@west.example
    rightsubnet=10.1.0.0/24
    ike=aes_gcm256-sha2_256-dh19
    esp=aes_gcm256
    enable-tcp=yes
    auto=add
END
printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
check "pluto runs on east" lw_start east
within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'
check "pluto listens on TCP" within 5 sh -c 'ip netns exec east ss -Hltn | grep -q :4500'
step "pluto"

counted() { echo "ours $(cy_packets west net), libreswan's kernel $(esp_packets east)"; [ "$(cy_packets west net)" = "40 40" ] && [ "$(esp_packets east)" = 80 ]; }
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }
stream() { on $1 ss -Htn state established | grep -E ':4500( |$)'; }
cy_shows() { cy west status | grep 'ESP in TCP'; }
through() { on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1 && on east ping -q -c 20 -i 0.01 -W 3 -I 10.2.0.1 10.1.0.1; }
cy_tcp() { # cy_tcp ENABLE-TCP
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 enable-tcp=$1 ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256
  sed 's/^config setup$/&\n    listen-tcp=yes/' /nodes/west/etc/ipsec.conf >/tmp/conf && put west /etc/ipsec.conf 644 </tmp/conf
}

cy_tcp yes
check "cygnet runs on west" cy_start west
for who in cygnet libreswan; do
  if [ $who = cygnet ]; then check "cygnet initiates" cy west up net
  else check "libreswan initiates" lw_ctl east up net; fi
  check "$who opens the stream: there is one" within 5 stream west
  check "$who opens the stream: traffic crosses, both ways" through
  check "$who opens the stream: both ends count the same" within 3 counted
  on east ip xfrm state | grep -E 'encap type'
  check "$who opens the stream: libreswan's kernel has ESP in TCP" sh -c "ip netns exec east ip xfrm state | grep -q 'encap type espintcp'"
  check "$who opens the stream: and so has cygnet" cy_shows
  if [ $who = cygnet ]; then
    check "the stream is reset in the middle" on west ss -K dport = 4500
    check "cygnet opens another" within 10 stream west
    check "traffic crosses again" within 20 on west ping -q -c 1 -W 1 -I 10.1.0.1 10.2.0.1
  fi
  if [ $who = cygnet ]; then check "cygnet ends it" cy west down net
  else check "libreswan ends it" lw_ctl east down net; fi
  check "nothing is left of it" within 5 gone
done

cy_tcp fallback
check "reload" cy west reload
on router nft add table inet t; on router nft 'add chain inet t f { type filter hook forward priority 0; }'
on router nft add rule inet t f meta l4proto udp drop
check "without UDP: cygnet falls back" cy west up net
check "without UDP: there is a stream" within 5 stream west
check "without UDP: traffic crosses, both ways" through
check "cygnet ends it" cy west down net
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
cell tcp libreswan
counters east
tail -n 60 /out/west-cygnet.log
on east cat /var/log/pluto.log 2>/dev/null | tail -n 40
finish
