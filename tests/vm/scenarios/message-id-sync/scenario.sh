#!/bin/bash
# Synchronisation of Message IDs (RFC 6311): cygnet (west) as the member that takes over, strongSwan 6 as its peer.
# strongSwan can only as initiator of the IKE SA, and it answers and does not ask.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

ours() { # ours IKE-PROPOSAL
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=kernel ike=$1 esp=aes_gcm256 pfs=no
}
theirs() { ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24 10.1.0.0/24 $1 aes256gcm16; }
ours aes_gcm256-sha2_256-dh19; theirs aes256gcm16-prfsha256-ecp256
check "cygnet runs on west" cy_start west
ss_begin

agreed() { cy west status | tee /out/said; grep -q ', message id sync' /out/said; }
spi() { cy west status --json | grep -o '"spi_in": *"[0-9a-f]*"' | head -1; }
renewed() { [ -n "$(spi)" ] && [ "$(spi)" != "$before" ]; }
said() { grep -c '"event":"synchronised"\|Message IDs synchronised' /out/west-cygnet.log; }
synchronised() { [ "$(said)" -gt "$count" ]; }
check "strongSwan begins: the tunnel is up" ss_ctl east --initiate --child net
check "both ends have agreed on synchronisation" agreed
no_counters() { ! grep -q ', replay counter sync' /out/said; }
check "of Message IDs only: strongSwan does not say that it can do more" no_counters
before=$(spi); count=$(said)
check "west takes over" cy west synchronise net
check "strongSwan has answered" within 10 synchronised
check "the child SA is renewed under the new Message IDs" within 10 renewed
check "traffic crosses" sealed west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
before=$(spi)
check "strongSwan's next request is under the new Message IDs, too" ss_ctl east --rekey --child net
check "the child SA is renewed again" within 10 renewed
check "traffic crosses again" sealed west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
check "it is taken down" cy west down net

step "a slow answer"
# A request that is not answered in time is followed by others, and then all of them are answered. With an AEAD strongSwan gives
# the IKE SA up instead: its initialization vectors do not let it answer twice with Message ID zero.
ours aes256-sha2_256-dh19; theirs aes256-sha256-ecp256
cy west reload >/out/west-reload.log 2>&1; ss_ctl east --load-all >/out/east-load.log 2>&1
check "strongSwan begins: the tunnel is up" ss_ctl east --initiate --child net
answers() { grep -c "responder requested MID sync" /out/east-charon.log; }
once=$(($(answers) + 1))
before=$(spi); count=$(said)
kill -STOP $PEER
check "west takes over while strongSwan sleeps" cy west synchronise net
sleep 5; kill -CONT $PEER
check "strongSwan has answered" within 10 synchronised
more_than_once() { [ "$(answers)" -gt $once ]; }
check "it was asked more than once" within 10 more_than_once
check "the child SA is renewed under the new Message IDs" within 10 renewed
before=$(spi)
check "strongSwan's next request is under the new Message IDs, too" ss_ctl east --rekey --child net
check "the child SA is renewed again" within 10 renewed
check "traffic crosses" sealed west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
cell message-id-sync strongswan
check "it is taken down" cy west down net
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
grep 'MID sync\|MSG_ID' /out/east-charon.log
finish
