#!/bin/bash
# Reauthentication under traffic: cygnet (west) with strongSwan, then with libreswan (east). Each end does it by itself, and
# strongSwan because cygnet says how long it may wait (AUTH_LIFETIME, RFC 4478; strongSwan 6 as responder does not say it).
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

said() { grep -c "$1" /out/west-cygnet.log; }
# begun ROLE: IKE SAs that cygnet has established so far as initiator or responder
begun() { said "event=\"ike_established\" role=\"$1\""; }
# unharmed MOST: packets both ways for 14 s, of which so many may be lost beside those that come before their keys
unharmed() {
  local early sent received
  early=$(too_early); on west ping -q -c 700 -i 0.02 -W 5 -I 10.1.0.1 10.2.0.1 | tee /out/ping.log
  sent=$(awk '/transmitted/ { print $1 }' /out/ping.log); received=$(awk '/transmitted/ { print $4 }' /out/ping.log)
  early=$(( $(too_early) - early )); echo "$sent sent, $received back, $early before their keys"
  echo "# $sent sent, $received back, $early before their keys" >>/out/losses
  [ "$sent" = 700 ] && [ $(( sent - received - early )) -le $1 ] && [ $early -le 20 ]
}
too_early() { on west awk '$1 == "XfrmAcquireError" { print $2 }' /proc/net/xfrm_stat; }
# anew TITLE ROLE LOST COMMAND...: COMMAND brings it up; as ROLE cygnet then has two further IKE SAs at least
anew() {
  local title=$1 role=$2 lost=$3 before; shift 3
  check "$title: it is brought up" "$@" || return
  before=$(begun $role); : >/out/losses
  check "$title: at most $lost packets are lost" unharmed $lost
  cat /out/losses
  check "$title: authenticated anew" [ $(( $(begun $role) - before )) -ge 2 ]
  cy west status | sed -n '/IKE SA/p'
}
# The peer first: libreswan brings up again what it was told to bring up and what another one ended.
ends() { ${1}_down >/out/east-down.log 2>&1; cy west down net >/out/west-down.log 2>&1; check "$2: nothing is left" within 15 none_left; }
lw_up() { lw_ctl east up net; }
lw_down() { lw_ctl east down net; }
OWN="reauth=yes ikelifetime=7s rekeymargin=2s rekeyfuzz=0%"

cy_site; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
ss_site; ss_begin
for plane in kernel userspace; do
  cy_site dataplane=$plane $OWN
  anew "strongSwan, $plane, cygnet does" initiator 0 cy west up net; ends ss "strongSwan, $plane, cygnet does"
done
cy_site; ss_site "reauth_time = 5s
over_time = 20s
rand_time = 0"
# Who begins anew deletes the old SAs at once, and what is under way on them is lost.
anew "strongSwan does" responder 20 ss_up; ends ss "strongSwan does"
cell reauthentication strongswan
ss_site "rekey_time = 1h
over_time = 4s
rand_time = 0"
cy_site $OWN
anew "cygnet says when, to strongSwan" responder 20 ss_up; ends ss "cygnet says when"
check "strongSwan has heeded it" grep -q 'received AUTH_LIFETIME of .*scheduling reauthentication' /out/east-charon.log
cell auth-lifetime strongswan
peer_ends

lw_site; lw_begin
for plane in kernel userspace; do
  cy_site dataplane=$plane $OWN
  anew "libreswan, $plane, cygnet does" initiator 0 cy west up net; ends lw "libreswan, $plane, cygnet does"
done
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
# It ends the old SAs before there are new ones; without a trap cygnet sends in clear meanwhile.
cy_site; lw_site reauth=yes ikelifetime=7s rekeymargin=2s rekeyfuzz=0%
anew "libreswan does" responder 60 lw_up; ends lw "libreswan does"
cell reauthentication libreswan
tail -n 60 /out/west-cygnet.log
finish
