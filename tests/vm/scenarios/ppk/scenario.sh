#!/bin/bash
# Post-quantum pre-shared keys in IKE_AUTH (RFC 8784): cygnet (west) with strongSwan 6 and libreswan 5, each end as
# initiator, with and without a key that both have. (libreswan 5.2 has the way by IKE_INTERMEDIATE, too, but under a
# notification type that it has chosen itself, 50209 instead of 16445.)
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
PPK='a post-quantum pre-shared key of a test, of at least 32 octets'

# conf POLICY [NAME]: the connection, with a PPK of that name
conf() {
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=kernel ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256 ppk=$1
  printf ': PSK "%s"\n: PPKS "%s" "%s"\n' "$SECRET" "${2:-one}" "$PPK" | put west /etc/ipsec.secrets
  [ -z "${STARTED:-}" ] || cy west reload
}
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }
shows() { cy west status | tee /out/said; grep -q ', ppk' /out/said; }
# works TITLE PPK|no cygnet|peer COMMAND...: the command makes the tunnel, with or without a PPK
works() {
  local title=$1 ppk=$2; shift 2
  check "$title: it is made" "$@"
  case $ppk in
    PPK) check "$title: the PPK is used" shows ;;
    no) check "$title: no PPK is used" not shows ;;
  esac
  check "$title: traffic crosses" sealed west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
  # libreswan brings up again what it has begun itself.
  if [ "$*" = "lw_ctl east up net" ]; then check "$title: it is taken down" lw_ctl east down net
  else check "$title: it is taken down" cy west down net; fi
  check "$title: nothing is left" within 5 gone
}

conf propose
check "cygnet runs on west" cy_start west; STARTED=1

# ss NAME yes|no: strongSwan with a PPK of that name, which it needs or not
ss() {
  put east /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = 198.51.100.1
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha256-ecp256
    ppk_id = $1
    ppk_required = $2
    local { auth = psk
      id = @east.example }
    remote { auth = psk
      id = @west.example }
    children { net {
        local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256gcm16 } } } }
secrets {
  ike-1 { secret = "$SECRET" }
  ppk-1 { secret = "$PPK"
    id = $1 } }
END
  ss_ctl east --load-all >/out/east-load.log 2>&1
}
ss_up() { ss_ctl east --initiate --child net --timeout 20; }
ss_start east >/dev/null 2>&1; rc=$? CHARON=$BG; check "charon runs on east" [ $rc = 0 ]
ss one no
works "strongSwan: cygnet proposes" PPK cy west up net
check "strongSwan says so too" grep -q 'using PPK' /out/east-charon.log
works "strongSwan: it proposes" PPK ss_up
conf insist; ss one yes
works "strongSwan: both insist, cygnet begins" PPK cy west up net
works "strongSwan: both insist, it begins" PPK ss_up
conf propose two; ss one no
# With a ppk_id strongSwan takes no other one, and falls back only as initiator; cygnet does with libreswan below.
check "strongSwan: unknown keys, cygnet begins in vain" not cy west up net
cy west down net
works "strongSwan: unknown keys, it begins" no ss_up
conf insist two
check "strongSwan: cygnet insists in vain" not cy west up net
check "strongSwan: cygnet insists as responder" not ss_up
cy west down net; within 5 gone
ss one yes; conf never
check "strongSwan insists in vain" not ss_up
cell ppk strongswan
kill $CHARON; wait $CHARON; on east ip xfrm policy flush

# lw POLICY intermediate=yes|no
lw() {
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
    esp=aes_gcm256
    ppk=$1
    intermediate=$2
    auto=add
END
  printf '@west.example @east.example : PSK "%s"\n@west.example @east.example : PPKS "one" "%s"\n' "$SECRET" "$PPK" | put east /etc/ipsec.secrets
}
lw_known() { within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'; }
for way in no yes; do
  lw propose $way; conf propose
  lw_start east >/dev/null 2>&1; rc=$? PLUTO=$BG; check "pluto runs on east (intermediate=$way)" [ $rc = 0 ]
  lw_known
  # With intermediate=yes libreswan has an IKE_INTERMEDIATE exchange without purpose, which must be authenticated all
  # the same; as responder it counts one in that has not taken place.
  works "libreswan, intermediate=$way: it proposes" PPK lw_ctl east up net
  [ $way = no ] || check "libreswan had its exchange" grep -q 'sent IKE_INTERMEDIATE request' /out/east-pluto.log
  if [ $way = no ]; then
    works "libreswan: cygnet proposes" PPK cy west up net
    conf insist
    works "libreswan: cygnet insists" PPK cy west up net
    conf propose two
    works "libreswan: unknown keys, cygnet begins" no cy west up net
  fi
  cp /out/east-pluto.log /out/pluto-$way.log
  kill $PLUTO; wait $PLUTO; on east ip xfrm policy flush; on east rm -rf /run/pluto
done
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
cell ppk libreswan
grep -h -i ppk /out/pluto-*.log | tail -n 20
grep -h 'PPK' /out/east-charon.log | tail -n 20
grep ppk /out/west-cygnet.log | tail -n 5
finish
