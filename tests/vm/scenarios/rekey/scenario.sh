#!/bin/bash
# SAs renewed under traffic on the kernel's ESP: cygnet (west) with strongSwan, then with libreswan
# (east), each end renewing child SAs and IKE SAs. No packet may be lost, but what a responder sends under a
# new SA before its initiator can have the keys: the kernel counts that.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap

IKE=aes_gcm256-sha2_256-dh19 ESP=aes_gcm256-dh19
ours() {  # ours KEY=VALUE...
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=kernel ike=$IKE esp=$ESP rekeyfuzz=0% "$@"
  cy west reload >/out/west-reload.log 2>&1 || cy_start west
}
# 30 s of packets both ways, each of which must come back.
unharmed() {
  local early sent received
  early=$(too_early); on west ping -q -c 1500 -i 0.02 -W 5 -I 10.1.0.1 10.2.0.1 | tee /out/ping.log
  sent=$(awk '/transmitted/ { print $1 }' /out/ping.log); received=$(awk '/transmitted/ { print $4 }' /out/ping.log)
  early=$(( $(too_early) - early )); echo "$sent sent, $received back, $early before their keys"
  [ "$sent" = 1500 ] && [ $(( sent - received )) = $early ] && [ $early -le 10 ]
}
too_early() { on west awk '$1 == "XfrmAcquireError" { print $2 }' /proc/net/xfrm_stat; }
said() { grep -c "$1" /out/west-cygnet.log; }
# under_traffic TITLE: what cygnet says meanwhile must hold successors.
under_traffic() {
  local children ikes
  children=$(said 'child SA established'); ikes=$(said 'IKE SA rekeyed')
  check "$1: cygnet brings it up" cy west up net || return
  check "$1: no packet is lost" unharmed
  check "$1: child SAs were renewed" [ $(( $(said 'child SA established') - children )) -ge 3 ]
  IKE_RENEWALS="$IKE_RENEWALS $(( $(said 'IKE SA rekeyed') - ikes ))"
  cy west status | sed 's/^/# /'
  check "$1: one pair of SAs is left in the end" within 10 one_pair
  check "$1: cygnet ends it" cy west down net
  check "$1: nothing is left of it" within 10 gone
}
# renewed PEER: both ends have renewed both kinds, the child SAs with a key exchange of their own.
renewed() {
  cell rekey-child $1
  check "$1: the IKE SA was renewed by either end" not grep -qE '(^| )0( |$)' <<<"$IKE_RENEWALS"
  cell rekey-ike $1
  check "$1: with forward secrecy" [ "$(grep -c 'child SA established.*ECP_256' /out/west-cygnet.log)" -ge 6 ]
  cell pfs $1
  IKE_RENEWALS=
}
IKE_RENEWALS=
one_pair() { [ "$(on west ip xfrm state | grep -c 'proto esp')" = 2 ]; }
gone() { ! on east ip xfrm state | grep -q 'proto esp' && ! on west ip xfrm state | grep -q 'proto esp'; }

check "charon runs on east" ss_start east
theirs() {  # theirs LINES-OF-THE-CONNECTION LINES-OF-THE-CHILD
  put east /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = 198.51.100.1
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha256-ecp256
    $1
    local { auth = psk
      id = @east.example }
    remote { auth = psk
      id = @west.example }
    children { net {
        local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16-ecp256
        $2 } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
  ss_ctl east --load-all >/out/east-load.log 2>&1
}
theirs "rekey_time = 0" "rekey_time = 0"
check "cygnet runs on west" ours salifetime=10s ikelifetime=13s rekeymargin=3s
under_traffic "cygnet renews, with strongSwan"
theirs "rekey_time = 9s
over_time = 20s
rand_time = 0" "rekey_time = 7s
life_time = 20s
rand_time = 0"
check "reload" ours
under_traffic "strongSwan renews"
renewed strongswan
ss_ctl east --list-sas
on east sh -c 'kill $(cat /run/charon.pid)'; within 10 not on east test -e /run/charon.pid

printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
libreswan() {  # libreswan KEYWORDS...
  { printf '%s\n' "config setup" "conn net" "    keyexchange=ikev2" "    authby=secret" "    left=198.51.100.1" \
      "    leftid=@east.example" "    leftsubnet=10.2.0.0/24" "    right=192.0.2.1" "    rightid=@west.example" \
      "    rightsubnet=10.1.0.0/24" "    ike=aes_gcm256-sha2_256-dh19" "    esp=aes_gcm256;dh19" "    rekeyfuzz=0%" "    auto=add"
    printf '    %s\n' "$@"; } | put east /etc/ipsec.conf
}
knows() { within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'; }
libreswan
check "pluto runs on east" lw_start east
knows; step "pluto"
check "reload" ours salifetime=10s ikelifetime=13s rekeymargin=3s
under_traffic "cygnet renews, with libreswan"
libreswan ikelifetime=14s salifetime=11s rekeymargin=4s
check "libreswan replaces its connection" lw_ctl east replace net
knows
check "reload" ours
under_traffic "libreswan renews"
renewed libreswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
counters west
tail -n 60 /out/west-cygnet.log
finish
