#!/bin/bash
# `cygnet explain` on a machine with a fault, beside what becomes of real packets there: each of the classic faults is
# made with ip(8), explained, and then a packet is sent. The cause must be the one that was made, and the counter that is
# said to move must be one that moves.
. /vm/lib.sh
modprobe -a esp4 esp6 xfrm_user xfrm_interface ip_vti 2>/dev/null
pair; step "nodes"
W=192.0.2.1 E=192.0.2.2 KEY='aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f00000000 128'

# Both ends anew. SA and policy of west get what is given:  tunnel [lines of the SAs] [lines of the policies]
tunnel() {
  local n
  for n in west east; do
    ip -n $n xfrm state flush; ip -n $n xfrm policy flush; ip -n $n xfrm policy setdefault in accept fwd accept out accept
    ip -n $n link del ipsec1 2>/dev/null; ip -n $n link del vti1 2>/dev/null
    ip -n $n route flush root 10.0.0.0/8 proto boot 2>/dev/null
    on $n sh -c 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done'
  done
  ip -n west route replace 10.2.0.0/24 via $E; ip -n east route replace 10.1.0.0/24 via $W
  for n in west east; do
    ip -n $n xfrm state add src $W dst $E proto esp spi 0x1001 reqid 1 mode tunnel $KEY $([ $n = west ] && echo "$1")
    ip -n $n xfrm state add src $E dst $W proto esp spi 0x1002 reqid 1 mode tunnel $KEY $([ $n = west ] && echo "$1")
  done
  policies west $W $E 10.1.0.0/24 10.2.0.0/24 "$2"; policies east $E $W 10.2.0.0/24 10.1.0.0/24
}
policies() { # NODE LOCAL REMOTE NET NET [more]
  ip -n $1 xfrm policy add src $4 dst $5 dir out priority 100 $6 tmpl src $2 dst $3 proto esp reqid 1 mode tunnel
  ip -n $1 xfrm policy add src $5 dst $4 dir in priority 100 $6 tmpl src $3 dst $2 proto esp reqid 1 mode tunnel
  ip -n $1 xfrm policy add src $5 dst $4 dir fwd priority 100 $6 tmpl src $3 dst $2 proto esp reqid 1 mode tunnel
}
verdict() { sed -n "s/^    \"$1\": \"\\(.*\\)\",\\?/\\1/p" /out/explained; }
explained() { # NODE ARGUMENTS...: the answer, in /out/explained
  local n=$1; shift
  on $n /t/cygnet explain "$@" --json >/out/explained 2>/out/explain.err; on $n /t/cygnet explain "$@" >/out/explained.txt
}
moved() { # NODE COUNTER COMMAND...: it moves while the command runs
  local n=$1 c=$2 a; shift 2; a=$(value $n $c); "$@" >/dev/null 2>&1; [ "$(value $n $c)" -gt "$a" ]
}
value() {
  case $2 in
    Xfrm*) on $1 awk -v c=$2 '$1 == c { print $2 }' /proc/net/xfrm_stat ;;
    IPReversePathFilter) on $1 awk '/^TcpExt:/ { if (!n) { for (i = 1; i <= NF; i++) if ($i == "IPReversePathFilter") n = i } else print $n }' /proc/net/netstat ;;
    *) on $1 cat /sys/class/net/${2%:*}/statistics/${2#*:} ;;
  esac
}
ping_one() { on west ping -q -c 1 -W 1 -I 10.1.0.1 "$@" 10.2.0.1; }
# fault WHAT CAUSE NODE COUNTER "explain's arguments" [what is done]
fault() {
  local what=$1 cause=$2 node=$3 counter=$4 args=$5; shift 5; [ $# -gt 0 ] || set -- ping_one
  explained $node $args
  check "$what: the cause is $cause" [ "$(verdict cause)" = "$cause" ]
  case $counter in XfrmAny|-) ;; Xfrm*) check "$what: it says what is counted" grep -q "\"$counter\"" /out/explained ;; esac
  [ "$counter" = - ] || check "$what: $counter moves" moved $node $counter "$@"
  check "$what: nothing arrives" not "$@"
  sed 's/^/#   /' /out/explained.txt
}

tunnel; explained west out 10.1.0.1 10.2.0.1
check "without a fault it leaves protected" [ "$(verdict fate)" = protected ]
explained east in 10.1.0.1 10.2.0.1 -i eth0
check "and is accepted" [ "$(verdict fate)" = accepted ]
check "and so it is" sealed west ping -q -c 2 -i 0.2 -W 1 -I 10.1.0.1 10.2.0.1
sed 's/^/#   /' /out/explained.txt

tunnel "" ""; ip -n west xfrm policy flush; policies west $W $E 10.1.0.0/24 10.2.0.0/24
ip -n west xfrm state flush
ip -n west xfrm state add src $W dst $E proto esp spi 0x1001 reqid 2 mode tunnel $KEY
fault "reqid" reqid_mismatch west XfrmOutNoStates "out 10.1.0.1 10.2.0.1"

tunnel "mark 0x5 mask 0xff"
fault "mark" mark_mismatch west XfrmOutNoStates "out 10.1.0.1 10.2.0.1"

tunnel
ip -n west xfrm policy flush
ip -n west xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir out priority 100 action block
policies west $W $E 10.1.0.0/24 10.2.0.0/24
fault "older policy" older_policy_wins west XfrmOutPolBlock "out 10.1.0.1 10.2.0.1"

tunnel; ip -n west xfrm policy flush; ip -n west xfrm policy setdefault out block
fault "default" default_blocks west - "out 10.1.0.1 10.2.0.1"
ip -n west xfrm policy setdefault out accept

# A larval SA for another address of the same policy.
tunnel; ip -n west xfrm state flush
bg west acquire ip xfrm monitor acquire; MONITOR=$BG; sleep 0.5
on west ping -q -c 1 -W 1 -I 10.1.0.1 10.2.0.9 >/dev/null 2>&1
check "a larval SA is there" [ "$(sa_count west)" = 1 ]
fault "larval SA" larval_mutes west XfrmOutNoStates "out 10.1.0.1 10.2.0.1"
check "and it is still the only one" [ "$(sa_count west)" = 1 ]
kill $MONITOR

tunnel
explained west out 10.1.0.1 10.2.0.1 -p icmp --sport 8
FITS=$(sed -n 's/.*packets up to \([0-9]*\) octets fit.*/\1/p' /out/explained.txt)
check "the largest packet that fits does" ping_one -M do -s $((FITS - 28))
fault "MTU" too_big west - "out 10.1.0.1 10.2.0.1 --size $((FITS + 1))" ping_one -M do -s $((FITS - 27))

# Route-based: xfrm interfaces with if_id 7 at both ends.
interface() {
  tunnel
  for n in west east; do
    ip -n $n xfrm policy flush; ip -n $n xfrm state flush
    ip -n $n link add ipsec1 type xfrm if_id 7; ip -n $n link set ipsec1 up
    ip -n $n xfrm state add src $W dst $E proto esp spi 0x1001 reqid 1 mode tunnel $KEY if_id 7 $([ $n = west ] && echo "$1")
    ip -n $n xfrm state add src $E dst $W proto esp spi 0x1002 reqid 1 mode tunnel $KEY if_id 7 $([ $n = west ] && echo "$1")
  done
  policies west $W $E 0.0.0.0/0 0.0.0.0/0 "if_id 7"; policies east $E $W 0.0.0.0/0 0.0.0.0/0 "if_id 7"
  ip -n west route replace 10.2.0.0/24 dev ipsec1; ip -n east route replace 10.1.0.0/24 dev ipsec1
}
interface; explained west out 10.1.0.1 10.2.0.1
check "by an interface it leaves protected" [ "$(verdict fate)" = protected ]
explained east in 10.1.0.1 10.2.0.1 -i ipsec1
check "and is accepted out of it" [ "$(verdict fate)" = accepted ]
check "and so it is by interface" sealed west ping -q -c 2 -i 0.2 -W 1 -I 10.1.0.1 10.2.0.1

# The peer inside the remote network: everything, the peer's address too, leads into the interface.
ip -n west route replace 192.0.2.2/32 dev ipsec1
fault "peer inside, no rule" outer_route_loops west ipsec1:collisions "out 10.1.0.1 10.2.0.1"
ip -n west route del 192.0.2.2/32 dev ipsec1

interface; ip -n west xfrm state flush
ip -n west xfrm state add src $W dst $E proto esp spi 0x1001 reqid 1 mode tunnel $KEY if_id 8
fault "if_id" if_id_mismatch west XfrmOutNoStates "out 10.1.0.1 10.2.0.1"

# In clear, and the way back is another one. What has come out of an SA is not asked for it.
tunnel; ip -n west xfrm policy flush; ip -n east xfrm policy flush
ip -n east route replace 10.1.0.0/24 dev inside
on east sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/rp_filter'
fault "rp_filter" reverse_path_filter east IPReversePathFilter "in 10.1.0.1 10.2.0.1 -i eth0"

# VTI with key 5 at both ends.
vti() {
  tunnel
  for n in west east; do ip -n $n xfrm policy flush; done
  ip -n west link add vti1 type vti local $W remote $E key 5; ip -n east link add vti1 type vti local $E remote $W key 5
  for n in west east; do ip -n $n link set vti1 up; on $n sh -c 'echo 1 >/proc/sys/net/ipv4/conf/vti1/disable_policy'; done
  policies west $W $E 0.0.0.0/0 0.0.0.0/0 "mark 5"; policies east $E $W 0.0.0.0/0 0.0.0.0/0 "mark 5"
  ip -n west route replace 10.2.0.0/24 dev vti1; ip -n east route replace 10.1.0.0/24 dev vti1
}
vti; explained west out 10.1.0.1 10.2.0.1
check "by a VTI it leaves protected" [ "$(verdict fate)" = protected ]
check "and so it is by VTI" sealed west ping -q -c 2 -i 0.2 -W 1 -I 10.1.0.1 10.2.0.1
# Behind the device the policies are asked again, of a packet that nothing says has come out of an SA: that is well until
# a policy for all marks takes it for clear text.
vti; on east sh -c 'echo 0 >/proc/sys/net/ipv4/conf/vti1/disable_policy'
explained east in 10.1.0.1 10.2.0.1 -i vti1
check "by a VTI without disable_policy it is accepted" [ "$(verdict fate)" = accepted ]
check "and so it is without disable_policy" sealed west ping -q -c 2 -i 0.2 -W 1 -I 10.1.0.1 10.2.0.1
ip -n east xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir in priority 200 tmpl src $W dst $E proto esp reqid 1 mode tunnel
fault "VTI without disable_policy" missing_disable_policy east XfrmInTmplMismatch "in 10.1.0.1 10.2.0.1 -i vti1"
finish
