#!/bin/bash
# Redirection to another gateway (RFC 5685): cygnet (west) is sent by libreswan and strongSwan (east), and sends them, to
# strongSwan on north, which speaks for whom it stands in. In answer to IKE_SA_INIT, in IKE_AUTH and in the middle of a
# session. strongSwan itself sends in the middle of a session only: for the rest it wants a plugin that nobody has.
# libreswan sent away in IKE_AUTH forgets its IKE SA without a Delete: of that one ours stays for two minutes.
. /vm/lib.sh; . /vm/peers.sh
routed north; step "nodes"
capture router to-west wire.pcap
NORTH=203.0.113.1

# north instead of east, and instead of west
put north /etc/swanctl/conf.d/net.conf <<END
connections {
  east { version = 2
    local_addrs = $NORTH
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha256-ecp256
    local { auth = psk
      id = @east.example }
    remote { auth = psk
      id = @west.example }
    children { east { local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16 } } }
  west { version = 2
    local_addrs = $NORTH
    remote_addrs = 198.51.100.1
    proposals = aes256gcm16-prfsha256-ecp256
    local { auth = psk
      id = @west.example }
    remote { auth = psk
      id = @east.example }
    children { west { local_ts = 10.1.0.0/24
        remote_ts = 10.2.0.0/24
        esp_proposals = aes256gcm16 } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
ss_start north >/out/north-start.log 2>&1; check "charon runs on north" on north test -S /run/charon.vici
now_is() { printf 'addr flush dev inside\naddr add %s/24 dev inside\n' $1 | ip -n north -batch -; }

sas() { cy west status --json | python3 -c '
import json, sys
for sa in json.load(sys.stdin)["ike_sas"]:
    if sa["state"] == "established": print(sa["remote"].split(":")[0], sa["redirected_from"])'; }
we_are_at() { sas; sas | grep -qx "$1 $2"; }
north_has() { ss_ctl north --list-sas --ike $1 | grep -q "INSTALLED"; }
# Of whom strongSwan on north has been told that he was sent by ADDRESS.
sent_by() { within 3 grep -q "client got redirected from $1" /out/north-charon.log && : >/out/north-charon.log; }
# goes TITLE: cygnet has gone from east to north
goes() {
  check "$1: cygnet is with north" within 5 we_are_at $NORTH 198.51.100.1
  check "$1: and has said whence" sent_by 198.51.100.1
  check "$1: traffic crosses" within 3 crosses north
  check "$1: east has nothing" within 5 not sh -c "ip netns exec east ip xfrm state | grep -q 'proto esp'"
  check "$1: it is taken down" cy west down net
  check "$1: north has nothing" within 5 not north_has east
}
# comes TITLE WHO: the peer on east has gone from cygnet to north
comes() {
  check "$1: the peer is with north" within 10 north_has west
  check "$1: and has said whence" sent_by 192.0.2.1
  check "$1: cygnet has no child SA" within 5 not we_have
  check "$1: traffic crosses" within 3 reaches
}
we_have() { cy west status --json | grep -q spi_in || on west ip xfrm state | grep -q 'proto esp'; }
reaches() { sealed north ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1; }

# --- cygnet is sent
now_is 10.2.0.1
cy_site dataplane=kernel accept-redirect=yes
check "cygnet runs on west" cy_start west
LW_SETUP="global-redirect=yes global-redirect-to=$NORTH" lw_site
lw_begin
check "libreswan, IKE_SA_INIT: cygnet follows" cy west up net; goes "libreswan, IKE_SA_INIT"
lw_ctl east whack --global-redirect no >/out/east-whack.log 2>&1
cy_site dataplane=kernel accept-redirect=no
lw_site send-redirect=yes redirect-to=$NORTH
check "libreswan, IKE_AUTH, cygnet follows nobody: it stays" cy west up net
check "libreswan, IKE_AUTH, cygnet follows nobody: traffic crosses" crosses
cy west down net; within 5 none_left
cy_site dataplane=kernel accept-redirect=yes
check "libreswan, IKE_AUTH: cygnet follows" cy west up net; goes "libreswan, IKE_AUTH"
lw_site
check "libreswan, session: cygnet begins" cy west up net
check "libreswan, session: traffic crosses" crosses
check "libreswan, session: it sends cygnet away" lw_ctl east whack --name net --redirect-to $NORTH; goes "libreswan, session"

# --- libreswan is sent
now_is 10.1.0.1
lw_site accept-redirect=yes
CY_SETUP="global-redirect=yes global-redirect-to=$NORTH" cy_site dataplane=kernel
lw_ctl east up net >/out/east-up.log 2>&1; comes "libreswan, sent at IKE_SA_INIT"; lw_ctl east down net >>/out/east-up.log 2>&1; lw_site accept-redirect=yes
cy_site dataplane=kernel send-redirect=yes redirect-to=$NORTH
lw_ctl east up net >>/out/east-up.log 2>&1; comes "libreswan, sent at IKE_AUTH"; lw_ctl east down net >>/out/east-up.log 2>&1; lw_site accept-redirect=yes
cy_site dataplane=kernel
check "libreswan, sent in a session: it begins" lw_ctl east up net
check "libreswan, sent in a session: traffic crosses" crosses
check "libreswan, sent in a session: it is told" cy west redirect net $NORTH
comes "libreswan, sent in a session"
cell redirect libreswan
peer_ends

# --- strongSwan sends cygnet, and is sent
now_is 10.2.0.1; ss_ctl north --terminate --ike west >/out/north-terminate.log 2>&1
cy_site dataplane=kernel accept-redirect=yes
ss_site; ss_begin
check "strongSwan, session: cygnet begins" cy west up net
check "strongSwan, session: it sends cygnet away" ss_ctl east --redirect --ike net --gateway $NORTH; goes "strongSwan, session"
now_is 10.1.0.1
CY_SETUP="global-redirect=yes global-redirect-to=$NORTH" cy_site dataplane=kernel
check "strongSwan, sent at IKE_SA_INIT: it follows" ss_up; comes "strongSwan, sent at IKE_SA_INIT"; ss_down >/out/east-down.log 2>&1
cy_site dataplane=userspace send-redirect=yes redirect-to=$NORTH
# Its command speaks of failure, and it follows all the same.
ss_up >/out/east-up.log 2>&1; comes "strongSwan, sent at IKE_AUTH"; ss_down >>/out/east-down.log 2>&1
cy_site dataplane=userspace
check "strongSwan, sent in a session: it begins" ss_up
check "strongSwan, sent in a session: traffic crosses" crosses
check "strongSwan, sent in a session: it is told" cy west redirect net $NORTH
comes "strongSwan, sent in a session"
cell redirect strongswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 80 /out/west-cygnet.log
finish
