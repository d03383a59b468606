#!/bin/bash
# IKE messages in fragments (RFC 7383): cygnet (west) with strongSwan and then libreswan (east), each end as initiator.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"

# Fragments that one end has sent, by the next payload field: fragments ADDRESS FILE
fragments() { tcpdump -nr /out/$2 "src host $1 and ((port 500 and udp[24] = 53) or (port 4500 and udp[28] = 53))" 2>/dev/null | wc -l; }
sent() { local n; n=$(fragments $1 $2); echo "$n fragments of $1"; [ "$n" -ge $3 ]; }
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }
agreed() { cy west status | grep -q ', fragmentation'; }

# Many proposals make a request long.
LONG=aes_gcm256,aes_gcm128,aes256-sha2_512,aes256-sha2_256,aes128-sha2_512,aes128-sha2_256
cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
  rightsubnet=10.2.0.0/24 dataplane=kernel ike=aes_gcm256-sha2_256-dh19 esp=$LONG fragment-size=300
check "cygnet runs on west" cy_start west

# Each end initiates once, and ends what it began, or the peer would begin anew:  both PEER INITIATE END
both() {
  local peer=$1 who file
  for who in cygnet $peer; do
    file=$peer-$who.pcap
    capture router to-west $file 'port 500 or port 4500'
    if [ $who = cygnet ]; then check "$peer: cygnet initiates" cy west up net
    else check "$peer: $peer initiates" $2; fi
    check "$peer: traffic crosses" sealed west ping -q -c 5 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
    check "$peer: cygnet says that fragmentation is agreed on" agreed
    if [ $who = cygnet ]; then check "$peer: cygnet ends it" cy west down net
    else check "$peer: $peer ends it" $3; fi
    check "$peer: nothing is left of it" within 5 gone
    capture_end
    if [ $who = cygnet ]; then check "$peer: cygnet has sent fragments" sent 192.0.2.1 $file 2
    else check "$peer: $peer has sent fragments" sent 198.51.100.1 $file 2; fi
  done
}

ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24 10.1.0.0/24 aes256gcm16-prfsha256-ecp256 \
  aes256gcm16,aes128gcm16,aes256-sha512,aes256-sha256,aes128-sha512,aes128-sha256
ss_start east "fragment_size = 300" >/out/swanctl.log 2>&1; CHARON=$BG
check "charon runs on east" grep -q 'loaded 1 connections, 0 unloaded\|successfully loaded' /out/swanctl.log
strongswan_up() { ss_ctl east --initiate --child net --timeout 20; }
strongswan_down() { ss_ctl east --terminate --ike net --timeout 20; }
both strongswan strongswan_up strongswan_down
check "strongSwan has put a request together" grep -q 'reassembled fragmented IKE message' /out/east-charon.log
cell fragmentation strongswan
kill $CHARON; wait $CHARON 2>/dev/null; step "charon is gone"

put east /etc/ipsec.conf <<END
config setup
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
    esp=$LONG,aes_ctr256-sha2_512,aes_ctr128-sha2_512,aes256-sha1,aes128-sha1,aes_ctr256-sha2_256
    auto=add
END
printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
check "pluto runs on east" lw_start east
within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'
libreswan_up() { lw_ctl east up net; }
libreswan_down() { lw_ctl east down net; }
both libreswan libreswan_up libreswan_down
cell fragmentation libreswan
tail -n 30 /out/west-cygnet.log
finish
