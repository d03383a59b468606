#!/bin/bash
# Cygnet (west) with its default proposals against peers (east) with theirs: strongSwan, libreswan, OpenIKED. None of
# them has ML-KEM, and two of them know nothing of additional key exchanges. Each end as initiator.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

# cy_default ESP: the connection, with what is proposed for IKE left to cygnet
cy_default() {
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=kernel esp=$1
}
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }
crosses() {  # crosses WHO
  check "$1: traffic crosses" sealed west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
  cy west status | grep -e AES_ -e CHACHA
}

cy_default aes_gcm256
check "cygnet runs on west" cy_start west
ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24 10.1.0.0/24 default aes256gcm16
ss_start east >/dev/null 2>&1; rc=$? CHARON=$BG; check "charon runs on east" [ $rc = 0 ]
check "strongSwan: cygnet initiates" cy west up net
crosses strongSwan
check "strongSwan: cygnet ends it" cy west down net
check "strongSwan: nothing is left" within 5 gone
check "strongSwan: the peer initiates" ss_ctl east --initiate --child net --timeout 20
crosses strongSwan
check "strongSwan: the peer ends it" ss_ctl east --terminate --ike net --timeout 10
check "strongSwan: nothing is left" within 5 gone
cell psk strongswan
kill $CHARON; wait $CHARON

put east /etc/ipsec.conf <<'END'
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
    auto=add
END
printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
lw_start east >/dev/null 2>&1; rc=$? PLUTO=$BG; check "pluto runs on east" [ $rc = 0 ]
within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'
check "libreswan: cygnet initiates" cy west up net
crosses libreswan
check "libreswan: cygnet ends it" cy west down net
check "libreswan: nothing is left" within 5 gone
check "libreswan: the peer initiates" lw_ctl east up net
crosses libreswan
check "libreswan: the peer ends it" lw_ctl east down net
check "libreswan: nothing is left" within 5 gone
cell psk libreswan
kill $PLUTO; wait $PLUTO; on east ip xfrm policy flush

# OpenIKED has no AES-GCM for child SAs here.
cy_default aes256-sha2_512
check "reload" cy west reload
for way in passive active; do
  put east /etc/iked.conf <<END
ikev2 "net" $way esp from 10.2.0.0/24 to 10.1.0.0/24 local 198.51.100.1 peer 192.0.2.1 \\
	childsa auth hmac-sha2-512 enc aes-256 srcid east.example dstid west.example psk "$SECRET"
END
  iked_start east >/dev/null 2>&1; rc=$? IKED=$BG; check "iked runs on east ($way)" [ $rc = 0 ]
  on east ip route replace 10.1.0.0/24 via 198.51.100.254 src 10.2.0.1
  if [ $way = passive ]; then check "OpenIKED: cygnet initiates" cy west up net
  else check "OpenIKED: the peer initiates" within 20 sh -c "nsenter --net=/run/netns/west --mount=/nodes/west/mnt /t/cygnet status | grep -q 'child SA'"; fi
  crosses OpenIKED
  [ $way = active ] || check "OpenIKED: cygnet ends it" cy west down net
  kill $IKED; wait $IKED
done
cell psk openiked
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 30 /out/west-cygnet.log
finish
