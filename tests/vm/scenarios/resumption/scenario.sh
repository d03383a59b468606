#!/bin/bash
# Session resumption (RFC 5723) between cygnet (west) and libreswan 5 (east), each as the one that comes back with a ticket;
# after a time without a network, and after cygnet was killed.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
cut() { printf '%s\n' 'table ip cut { chain c { type filter hook forward priority 0; drop; }; }' | on router nft -f -; }
mend() { on router nft delete table ip cut; }
shows() { cy west status | tee /out/said; grep -q "$1" /out/said; }
# It is found out that the peer is out of reach, and the network comes back.
lose() { cut; within 30 not shows 'IKE SA #.* established'; mend; }

LW="session-resumption=yes"
cy_site session-resumption=yes dpddelay=2 retransmit-timeout=4 retransmit-interval=500
cy_start west >/out/west-start.log 2>&1; FIRST=$CYGNET
check "cygnet runs on west" cy west status
lw_site $LW
lw_begin

check "cygnet begins" cy west up net
check "libreswan has given a ticket" shows 'a ticket to resume it'
check "traffic crosses" crosses
# libreswan computes AUTH over its first message alone: the first attempt in the RFC's way is refused and followed by a
# full exchange, and cygnet knows. An attempt while the network is away uses no ticket up.
tries=0
until [ $tries = 5 ] || shows ', resumed'; do
  tries=$((tries + 1))
  check "loss $tries is found out" lose
  check "it is up again after loss $tries" within 60 shows 'IKE SA #.* established'
  within 5 shows 'a ticket to resume it'
done
check "the session is resumed" shows ', resumed'
check "libreswan says so too" grep -q 'authenticated peer using authby=session-resume' /out/east-pluto.log
check "traffic crosses the resumed one" crosses
check "it is ended" cy west down net
check "nothing is left" within 10 none_left

# And the other way round. libreswan keeps its ticket when it suspends a connection, and is kept from saying Delete.
resumed_by_peer() { shows 'as responder' && shows ', resumed'; }
check "libreswan begins" lw_ctl east up net
check "it has a ticket of ours" shows 'the peer has a ticket'
check "traffic crosses it" crosses
check "libreswan does not say Delete" lw_ctl east whack --impair send-no-delete
suspend() { lw_ctl east whack --suspend --name net; }
check "it suspends the connection" suspend
check "it comes back" lw_ctl east up net
check "with its ticket" within 5 resumed_by_peer
check "and traffic crosses" crosses
check "it suspends the connection again" suspend
kill -9 $FIRST; wait $FIRST 2>/dev/null
on west rm -f /run/cygnet/control.sock
check "cygnet starts again" cy_start west
check "it comes back to the one that was killed" lw_ctl east up net
check "with the ticket of that" within 5 resumed_by_peer
check "and traffic crosses once more" crosses
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
cell resumption libreswan
grep -h -i -E 'resum|ticket' /out/east-pluto.log | tail -n 60
grep -h -i -E 'resum|ticket' /out/west-cygnet.log | tail -n 40
finish
