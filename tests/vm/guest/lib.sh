# Helpers for scenarios inside the VM:  . /vm/lib.sh
#
#   node west                      a network namespace with its own mount and UTS namespace:
#                                  private /etc and /var (overlays), /run (tmpfs), /sys
#   on west CMD...                 run there            bg west NAME CMD...   in the background,
#                                                       output in /out/west-NAME.log
#   put west /etc/x [mode] <<EOF   write a file there
#   link west:eth0:192.0.2.1/24 east:eth0:192.0.2.2/24          a veth pair (several addresses: a,b)
#   lan west:eth0:A east:eth0:B north:eth0:C                    a bridge (in the VM's own namespace)
#   pair | routed                  ready-made topologies, see below
#   check "what" CMD...            one result line;  not CMD...  turns a status round
#   within 10 CMD...               repeat until it works
#   finish                         last line of a scenario: status 0 if every check held
#   cell FEATURES PEERS            what was checked since the last one shows FEATURES with PEERS (matrix/table.rs)
#   step TEXT                      a line with the time since the VM's start
#   ss_start N / ss_ctl N ...      strongSwan's charon and swanctl
#   lw_start N / lw_ctl N ...      libreswan's pluto and ipsec
#   iked_start N / iked_ctl N ...  OpenIKED
#   cy_start N / cy N ...          cygnet's daemon and its other commands
#   capture N IF FILE [FILTER]     tcpdump into /out/FILE;  capture_end stops all captures
#   sealed N CMD...                CMD works on N, and N's SAs counted packets meanwhile
#   counters N                     SAs with counters, policies, non-zero lines of xfrm_stat
[ -n "${BASH_VERSION:-}" ] || { echo "lib.sh wants bash"; exit 2; }
CHECKS=0 FAILED=0 CAPTURES=

up() { local u; read -r u _ </proc/uptime; echo "$u"; }
step() { printf '# [%6ss] %s\n' "$(up)" "$*"; }
not() { ! "$@"; }
check() {
  local what=$1 log rc; shift; CHECKS=$((CHECKS + 1))
  log=$("$@" 2>&1); rc=$?
  if [ $rc = 0 ]; then printf 'ok %d - %s\n' $CHECKS "$what"
  else FAILED=$((FAILED + 1)); printf 'not ok %d - %s\n' $CHECKS "$what"; printf '%s\n' "$log" | tail -n 15 | sed 's/^/#   /'; fi
  return $rc
}
cell() {
  local feature peer version result=passed
  [ $CHECKS -gt $CELL_CHECKS ] && [ $FAILED = $CELL_FAILED ] || result=failed
  CELL_CHECKS=$CHECKS CELL_FAILED=$FAILED
  for peer in $2; do
    case $peer in
      strongswan) version="strongSwan $(dpkg-query -W -f '${Version}' strongswan-swanctl 2>/dev/null)" ;;
      libreswan) version=$(ipsec --version 2>/dev/null | head -n 1) ;;
      openiked) version="OpenIKED $(dpkg-query -W -f '${Version}' openiked 2>/dev/null)" ;;
    esac
    for feature in $1; do printf '# cell|%s|%s|%s on Linux %s|%s\n' "$feature" "$peer" "$version" "$(uname -r)" $result; done
  done
}
CELL_CHECKS=0 CELL_FAILED=0
skip() { CHECKS=$((CHECKS + 1)); printf 'ok %d - %s # SKIP %s\n' $CHECKS "$1" "${2:-}"; }
# Seconds of an idle machine: an emulated one whose host is busy gets five times as long.
within() { local end=$(( ${EPOCHSECONDS} + $1 * 5 )); shift; until "$@" >/dev/null 2>&1; do [ $EPOCHSECONDS -lt $end ] || { "$@"; return; }; sleep 0.1; done; }
finish() { capture_end; step "done"; printf '1..%d\n' $CHECKS; [ $FAILED = 0 ] || printf '# %d of %d failed\n' $FAILED $CHECKS; [ $FAILED = 0 ]; exit; }

node() {
  local n; modprobe -q overlay
  mountpoint -q /nodes || { mount -t tmpfs nodes /nodes; mount --make-private /nodes; }
  for n; do
    ip netns add "$n"; mkdir -p /nodes/$n/{etc,etcw,var,varw,run}; : >/nodes/$n/mnt; : >/nodes/$n/uts
    nsenter --net=/run/netns/$n unshare --mount=/nodes/$n/mnt --uts=/nodes/$n/uts --propagation private sh -ec '
      hostname "$1"; d=/nodes/$1
      mount -t overlay -o lowerdir=/etc,upperdir=$d/etc,workdir=$d/etcw etc /etc
      mount -t overlay -o lowerdir=/var,upperdir=$d/var,workdir=$d/varw var /var
      mount -t tmpfs -o mode=755 run /run; mkdir -p /run/lock /run/pluto
      mount -t sysfs sys /sys; ip link set lo up' sh "$n" || { echo "no node $n"; exit 99; }
  done
}
on() { local n=$1; shift; nsenter --net=/run/netns/$n --mount=/nodes/$n/mnt --uts=/nodes/$n/uts -- "$@"; }
# In the background nsenter stands alone, not as a function: so $BG is the program's own process.
bg() {
  local n=$1 l=$2; shift 2
  nsenter --net=/run/netns/$n --mount=/nodes/$n/mnt --uts=/nodes/$n/uts -- "$@" >/out/$n-$l.log 2>&1 </dev/null & BG=$!
}
put() { on "$1" sh -c 'mkdir -p "${1%/*}" && cat >"$1" && chmod "${2:-600}" "$1"' sh "$2" "${3:-600}"; }
addr_lines() { local a; for a in ${2//,/ }; do case $a in *:*) echo "addr add $a dev $1 nodad" ;; *) echo "addr add $a dev $1" ;; esac; done; echo "link set $1 up"; }
split() { IFS=: read -r N I A <<<"$1"; }        # node:if:addresses (IPv6 keeps its colons, it comes last)
link() {
  local n1 i1 a1; split "$1"; n1=$N i1=$I a1=$A; split "$2"
  ip link add "$i1" netns "$n1" type veth peer name "$I" netns "$N"
  addr_lines $i1 "$a1" | ip -n $n1 -batch -; addr_lines $I "$A" | ip -n $N -batch -
}
lan() {
  local e k=0 br=br$((++LANS)); ip link add $br type bridge; ip link set $br up
  for e; do split "$e"; k=$((k + 1)); ip link add $br-$k type veth peer name "$I" netns "$N"
    ip link set $br-$k master $br up; addr_lines $I "$A" | ip -n $N -batch -; done
}
LANS=0

# west and east on one wire; behind each a network, on a dummy interface.
pair() {
  node west east; link west:eth0:192.0.2.1/24,2001:db8:0::1/64 east:eth0:192.0.2.2/24,2001:db8:0::2/64
  inner west 1; inner east 2
}
inner() {
  { echo "link add inside type dummy"; addr_lines inside 10.$2.0.1/24,2001:db8:$2::1/64; } | ip -n $1 -batch -
  on $1 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
}
# Gateways at 192.0.2.1 (west), 198.51.100.1 (east), 203.0.113.1 (north), each on its own wire to a
# router that sees what passes between them: a capture on a gateway also sees what the kernel has
# decapsulated. North is made on demand:  routed [north]
routed() {
  node west east router $1
  link west:eth0:192.0.2.1/24,2001:db8:a::1/64 router:to-west:192.0.2.254/24,2001:db8:a::fe/64
  link east:eth0:198.51.100.1/24,2001:db8:b::1/64 router:to-east:198.51.100.254/24,2001:db8:b::fe/64
  inner west 1; inner east 2; gateway west 192.0.2.254 2001:db8:a::fe; gateway east 198.51.100.254 2001:db8:b::fe
  [ -z "$1" ] || { link north:eth0:203.0.113.1/24,2001:db8:c::1/64 router:to-north:203.0.113.254/24,2001:db8:c::fe/64
    inner north 3; gateway north 203.0.113.254 2001:db8:c::fe; }
  on router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
}
gateway() { printf 'route add default via %s\n' "$2" "$3" | ip -n $1 -batch -; }

capture() {
  local n=$1 i=$2 f=$3; shift 3
  bg $n "$f" tcpdump -i "$i" -n -U -s 0 -Z root -w "/out/$f" "$@"; CAPTURES="$CAPTURES $BG"
  within 10 grep -q 'listening on' "/out/$n-$f.log"
}
# TERM: background jobs of a script ignore INT
capture_end() { [ -z "$CAPTURES" ] || { sleep 0.3; kill $CAPTURES 2>/dev/null; wait $CAPTURES 2>/dev/null; }; CAPTURES=; }
# Keys stay out of what is printed: these machines make them up, others' may not.
counters() {
  echo "## $1: states"; on $1 ip -s xfrm state | sed -E 's/(0x[0-9a-f]{8})[0-9a-f]+/\1.../'
  echo "## $1: policies"; on $1 ip xfrm policy list nosock; echo "## $1: xfrm_stat"; on $1 awk '$2' /proc/net/xfrm_stat
}
# ESP packets sent by a node so far; "ping works" alone proves nothing where a route leads to the
# peer in clear:  sealed NODE CMD...  holds if CMD works and the counters of the SAs moved.
esp_packets() { on $1 ip -s xfrm state | awk '/^[ \t]*[0-9]+\(bytes\), [0-9]+\(packets\)/ { sub(/\(.*/, "", $2); n += $2 } END { print n + 0 }'; }
sealed() { local n=$1 a; shift; a=$(esp_packets $n); on $n "$@" && [ "$(esp_packets $n)" -gt "$a" ] || { echo "SA packet counters stand at $a"; return 1; }; }
sa_count() { on $1 ip xfrm state count 2>/dev/null | sed -n 's/.*SAD count \([0-9]*\).*/\1/p'; }

# strongSwan.  Only the plugins named, in the daemon and in swanctl: what Debian loads by default
# includes af-alg, which makes the kernel load and test every cipher it has (6 s in an emulated CPU).
SS_PLUGINS='random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints revocation kernel-netlink resolve socket-default vici updown eap-identity eap-mschapv2 eap-tls counters'
ss_start() {  # ss_start NODE [lines for the charon section]
  put $1 /etc/strongswan.conf 644 <<EOF
charon {
  load = $SS_PLUGINS
  filelog { log { path = /out/$1-charon.log
    time_format = %T
    default = 1
    ike = 2
    cfg = 2
    knl = 2
    flush_line = yes } }
  $2
}
swanctl { load = random openssl pem pkcs1 pkcs8 x509 }
pki { load = random openssl pem pkcs1 pkcs8 x509 pubkey }
EOF
  on $1 rm -f /run/charon.vici      # one left by an earlier charon looks ready and is not
  bg $1 charon-stdout ${SS_CHARON:-/usr/lib/ipsec/charon}
  within 20 on $1 test -S /run/charon.vici && { ! on $1 test -d /etc/swanctl/conf.d || ss_ctl $1 --load-all; }
}
ss_ctl() { local n=$1; shift; on $n swanctl "$@"; }

# libreswan.  The key database has to exist first; it lives in the node's own /var.
lw_start() {  # lw_start NODE [pluto options]; /etc/ipsec.conf and /etc/ipsec.secrets are there already
  local n=$1; shift
  on $n sh -c 'mkdir -p /var/lib/ipsec/nss /run/pluto /etc/ipsec.d; [ -e /var/lib/ipsec/nss/cert9.db ] || ipsec initnss' >/out/$n-nss.log 2>&1
  bg $n pluto /usr/libexec/ipsec/pluto --config /etc/ipsec.conf --nofork --stderrlog "$@"
  within 20 on $n ipsec whack --status
}
lw_ctl() { local n=$1; shift; on $n ipsec "$@"; }

# OpenIKED wants a key of its own even where everything is pre-shared.
iked_start() {  # iked_start NODE; /etc/iked.conf is there already
  local n=$1; shift
  on $n sh -c 'mkdir -p /run/iked; d=/etc/iked; mkdir -p $d/private $d/pubkeys/ipv4 $d/pubkeys/fqdn $d/certs $d/ca $d/crls
    [ -e $d/private/local.key ] || openssl ecparam -genkey -name prime256v1 -noout -out $d/private/local.key 2>/dev/null
    chmod 600 $d/private/local.key; openssl ec -in $d/private/local.key -pubout -out $d/local.pub 2>/dev/null'
  bg $n iked /usr/sbin/iked -d -v "$@"
  within 20 on $n ikectl show sa
}
iked_ctl() { local n=$1; shift; on $n ikectl "$@"; }

# Cygnet: /t/cygnet is the binary under test. The node's own /etc/ipsec.conf and /etc/ipsec.secrets.
cy_start() {  # cy_start NODE [options]; CYGNET is its process, unless a subshell (check) calls this
  local n=$1; shift
  modprobe -q tun; mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
  bg $n cygnet /t/cygnet daemon --log info,cygnet_engine=debug "$@"; CYGNET=$BG
  within 20 on $n test -S /run/cygnet/control.sock || { cat /out/$n-cygnet.log; return 1; }
}
cy() { local n=$1; shift; on $n /t/cygnet "$@"; }
# Packets in and out of a connection's child SA, as cygnet counts them:  cy_packets NODE CONNECTION
cy_packets() {
  cy $1 status --json | python3 -c '
import json, sys
for c in json.load(sys.stdin)["connections"]:
    if c["name"] == sys.argv[1]:
        for child in c["children"]:
            print(*[(child[way] or {}).get("packets", "-") for way in ("inbound", "outbound")])' $2
}
# The same of a strongSwan child:  ss_packets NODE CHILD
ss_packets() { ss_ctl $1 --list-sas --raw | sed -n 's/.*'$2'-[0-9]* {.*packets-in=\([0-9]*\).*packets-out=\([0-9]*\).*/\1 \2/p'; }
# Nothing but IKE, ESP, AH, what a host says that does not take them, and what keeps a link alive may be in a capture of the
# wire. Of a datagram in fragments only the first one shows what it is.
only_protected() {  # only_protected FILE
  local clear; clear=$(tcpdump -n -r /out/$1 'not (arp or tcp port 4500 or udp port 500 or udp port 4500 or (icmp[0] = 3 and (icmp[17] = 50 or (icmp[17] = 17 and (icmp[28:2] = 4500 or icmp[30:2] = 500 or icmp[30:2] = 4500)))) or ip proto 50 or ip6 proto 50 or ip proto 51 or ip6 proto 51 or (ip[6:2] & 0x1fff != 0) or icmp6 or (ip6[6] = 0 and ip6[48] = 143))' 2>/dev/null
    tcpdump -n -r /out/$1 'icmp6 and (ip6[40] = 128 or ip6[40] = 129)' 2>/dev/null)
  [ -z "$clear" ] || { echo "$clear" | head; return 1; }
  # An empty capture proves nothing.
  tcpdump -n -r /out/$1 'port 4500 or ip proto 50 or ip6 proto 50 or ip proto 51 or ip6 proto 51' 2>/dev/null | grep -q .
}
