#!/bin/bash
# The user-space plane (west) against the kernel's own ESP and AH (east), keyed by hand: packet formats,
# sequence numbers and counters of every suite, over IPv4 and IPv6, native and in UDP.
#
# ./prepare DIR puts crates/dataplane/examples/manual.rs, built, into the directory that the VM gets.
. /vm/lib.sh
modprobe tun; [ -e /dev/net/tun ] || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }
pair; step "two nodes"
on west sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0

hex() { [ $1 = 0 ] || printf "%0$1d" 0 | sed "s/0/$2/g"; }
# words ENCR[:INTEG] KEY INTEGRITY-KEY: the words of ip xfrm for IKEv2's numbers, for eval
words() {
  case ${1%:*} in
    3) echo "enc 'cbc(des3_ede)' 0x$2" ;;
    11) echo "enc 'ecb(cipher_null)' ''" ;;
    12) echo "enc 'cbc(aes)' 0x$2" ;;
    13) echo "enc 'rfc3686(ctr(aes))' 0x$2" ;;
    14) echo "aead 'rfc4309(ccm(aes))' 0x$2 64" ;;
    15) echo "aead 'rfc4309(ccm(aes))' 0x$2 96" ;;
    16) echo "aead 'rfc4309(ccm(aes))' 0x$2 128" ;;
    18) echo "aead 'rfc4106(gcm(aes))' 0x$2 64" ;;
    19) echo "aead 'rfc4106(gcm(aes))' 0x$2 96" ;;
    20) echo "aead 'rfc4106(gcm(aes))' 0x$2 128" ;;
    21) echo "aead 'rfc4543(gcm(aes))' 0x$2 128" ;;
    23) echo "enc 'cbc(camellia)' 0x$2" ;;
    28) echo "aead 'rfc7539esp(chacha20,poly1305)' 0x$2 128" ;;
  esac
  case $1 in
    *:2) echo "auth-trunc 'hmac(sha1)' 0x$3 96" ;;
    *:5) echo "auth-trunc 'xcbc(aes)' 0x$3 96" ;;
    *:8) echo "auth-trunc 'cmac(aes)' 0x$3 96" ;;
    *:12) echo "auth-trunc 'hmac(sha256)' 0x$3 128" ;;
    *:13) echo "auth-trunc 'hmac(sha384)' 0x$3 192" ;;
    *:14) echo "auth-trunc 'hmac(sha512)' 0x$3 256" ;;
  esac
}
# Hexadecimal digits of an integrity key.
integrity_len() { case $1 in *:2) echo 40 ;; *:5 | *:8) echo 32 ;; *:12) echo 64 ;; *:13) echo 96 ;; *:14) echo 128 ;; esac; }

# run TITLE CIPHER KEYLEN FAMILY UDP MODE [esn|ipcomp|align4]; MODE beet4 and beet6 say the family inside, CIPHER ah:INTEG is AH
run() {
  local title=$1 cipher=$2 len=$3 family=$4 udp=$5 mode=$6 esn=${7:-} W E encap= flags= K1 K2 I=
  W=192.0.2.1 E=192.0.2.2; [ $family = 4 ] || { W=2001:db8:0::1 E=2001:db8:0::2; }
  local proto=esp keyed="cipher=$cipher" comma=,; [ ${cipher%:*} != ah ] || proto=ah keyed="ah=${cipher#*:}" comma=
  K1=$(hex $len 3) K2=$(hex $len 7); [ $cipher = ${cipher#*:} ] || I=$(hex $(integrity_len $cipher) 5)
  on east ip xfrm state flush; on east ip xfrm policy flush
  [ -z "$udp" ] || encap="encap espinudp 4500 4500 0.0.0.0"
  case $esn in esn | align4) flags="flag $esn" ;; esac
  local to_east= to_west= inside=4
  case $mode in
    beet4) to_east="sel src 10.1.0.1 dst 10.2.0.1" to_west="sel src 10.2.0.1 dst 10.1.0.1" mode=beet ;;
    beet6) to_east="sel src 2001:db8:1::1 dst 2001:db8:2::1" to_west="sel src 2001:db8:2::1 dst 2001:db8:1::1" mode=beet inside=6 ;;
    tunnel) [ "$esn" = ipcomp ] || flags="$flags flag af-unspec" ;;
  esac
  local around=$mode; [ "$esn" != ipcomp ] || around=transport
  eval on east ip xfrm state add src $W dst $E proto $proto spi 0x80000e57 reqid 1 mode $around $flags replay-window 64 $(words $cipher "$K1" $I) $encap $to_east || return
  eval on east ip xfrm state add src $E dst $W proto $proto spi 0x80000be5 reqid 1 mode $around $flags replay-window 64 $(words $cipher "$K2" $I) $encap $to_west || return
  # With IPComp that has the mode, and ESP is in transport mode around it.
  local comp_out= comp_in=
  if [ "$esn" = ipcomp ]; then
    local any=; [ $mode = transport ] || any="flag af-unspec"
    on east ip xfrm state add src $W dst $E proto comp spi 0x0e57 reqid 1 mode $mode $any comp deflate || return
    on east ip xfrm state add src $E dst $W proto comp spi 0x0be5 reqid 1 mode $mode $any comp deflate || return
    comp_out="tmpl src $E dst $W proto comp reqid 1 mode $mode" comp_in="tmpl src $W dst $E proto comp reqid 1 mode $mode level use"
  fi
  local nets="10.1.0.0/24,10.2.0.0/24 2001:db8:1::/64,2001:db8:2::/64" n a b
  case $mode$inside in
    transport*) nets="$W,$E" ;;
    beet4) nets=10.1.0.1,10.2.0.1 ;;
    beet6) nets=2001:db8:1::1,2001:db8:2::1 ;;
  esac
  local args=
  for n in $nets; do a=${n%,*} b=${n#*,}
    on east ip xfrm policy add src $b dst $a dir out $comp_out tmpl src $E dst $W proto $proto reqid 1 mode $around
    on east ip xfrm policy add src $a dst $b dir in $comp_in tmpl src $W dst $E proto $proto reqid 1 mode $around
    case $n in */*) ;; *:*) a=$a/128 b=$b/128 ;; *) a=$a/32 b=$b/32 ;; esac
    args="$args net=$a,$b"
  done
  rm -f /tmp/stop; mkfifo /tmp/stop
  on west /t/manual device=cygnet0 local=$W remote=$E in=0x80000be5,$K2${I:+$comma$I} out=0x80000e57,$K1${I:+$comma$I} $keyed mode=$mode mark=7 ${udp:+udp=4500} $esn $args  </tmp/stop >/out/plane.log 2>&1 &
  local P=$!; exec 9>/tmp/stop
  within 5 grep -q ready /out/plane.log || { cat /out/plane.log; exec 9>&-; wait $P; check "$title" false; return 1; }
  on west ip link set cygnet0 mtu 1400 up
  if [ $mode = tunnel ]; then
    on west ip route add 10.2.0.0/24 dev cygnet0 src 10.1.0.1
    on west ip -6 route add 2001:db8:2::/64 dev cygnet0 src 2001:db8:1::1
    on east ip route replace 10.1.0.0/24 dev eth0 src 10.2.0.1
    on east ip -6 route replace 2001:db8:1::/64 dev eth0 src 2001:db8:2::1
    local expect=60 here=10.1.0.1 there=10.2.0.1
    if [ "$esn" = ipcomp ]; then
      # The family of the tunnel only (the kernel's ESP SAs in transport mode serve no other), and something too short.
      [ $family = 4 ] || here=2001:db8:1::1 there=2001:db8:2::1
      check "$title: from west" on west ping -q -c 20 -i 0.02 -W 2 $there
      check "$title: from west, short" on west ping -q -c 20 -i 0.02 -W 2 -s 8 $there
      check "$title: from east, large" on east ping -q -c 20 -i 0.02 -W 2 -s 1300 $here
    else
      check "$title: IPv4 from west" on west ping -q -c 20 -i 0.02 -W 2 $there
      check "$title: IPv6 from west" on west ping -q -c 20 -i 0.02 -W 2 2001:db8:2::1
      check "$title: IPv4 from east, large" on east ping -q -c 20 -i 0.02 -W 2 -s 1300 $here
    fi
  elif [ $mode = beet ]; then
    on west ip route replace 10.2.0.0/24 dev cygnet0 src 10.1.0.1
    on west ip -6 route replace 2001:db8:2::/64 dev cygnet0 src 2001:db8:1::1
    on east ip route replace 10.1.0.0/24 dev eth0 src 10.2.0.1
    on east ip -6 route replace 2001:db8:1::/64 dev eth0 src 2001:db8:2::1
    local here=10.1.0.1 there=10.2.0.1; [ $inside = 4 ] || here=2001:db8:1::1 there=2001:db8:2::1
    check "$title: from west" on west ping -q -c 20 -i 0.02 -W 2 $there
    check "$title: from east, large" on east ping -q -c 20 -i 0.02 -W 2 -s 1300 $here
    local expect=40
    if [ $inside = 4 ]; then
      # With an option: it travels behind a pseudo header.
      check "$title: with a route recorded" on west sh -c "ping -R -c 10 -i 0.05 -W 2 $there | tee /out/route.log | grep -q '10 received'"
      check "$title: the route is that of the inner addresses" grep -q "RR:.*$here" /out/route.log
      expect=50
    fi
  else
    on west ip rule add fwmark 7 table 7 2>/dev/null; on west ip -6 rule add fwmark 7 table 7 2>/dev/null
    on west ip route replace $E dev eth0 table 7 2>/dev/null
    on west ip route add $E dev cygnet0 src $W
    check "$title: from west" on west ping -q -c 20 -i 0.02 -W 2 $E
    check "$title: from east" on east ping -q -c 20 -i 0.02 -W 2 -s 1000 $W
    local expect=40
    if [ $proto$family = ah4 ]; then
      # With an option that changes on the way, so that the ICV does not cover it.
      check "$title: with a route recorded" on west sh -c "ping -R -c 10 -i 0.05 -W 2 $E | tee /out/route.log | grep -q '10 received'"
      expect=50
    fi
  fi
  # It says what it has counted a little later.
  within 10 sh -c "[ \$(tail -n 1 /out/plane.log | grep -o ': $expect packets' | wc -l) = 2 ]"
  tail -n 1 /out/plane.log
  # Packets and bytes per SPI of both ends, in the same words.
  plane() { tail -n 1 /out/plane.log | grep -oE '8000[0-9a-f]+: [0-9]+ packets [0-9]+ bytes' | sort; }
  kernel() { on east ip -s xfrm state | awk '/proto/ { spi = /proto (esp|ah)/ ? substr($4, 3, 8) : "" }
    spi && /\(bytes\), [0-9]+\(packets\)/ && !/INF/ { print spi ": " $2 + 0 " packets " $1 + 0 " bytes" }' | sort; }
  check "$title: the plane counts $expect packets each way" sh -c "[ \$(tail -n 1 /out/plane.log | grep -o ': $expect packets' | wc -l) = 2 ]"
  check "$title: the kernel counts the same packets and bytes" [ "$(plane)" = "$(kernel)" ]
  check "$title: nothing was dropped" sh -c "! tail -n 1 /out/plane.log | grep -q 'Xfrm'"
  if [ $proto$family$mode$esn = ah4tunnel ]; then
    # Without DF: AH covers the whole packet, and its sender makes the fragments.
    on west ip link set cygnet0 mtu 1500
    local before; before=$(reassembled)
    check "$title: larger than the path" on west ping -q -c 10 -i 0.05 -W 2 -M dont -s 1440 10.2.0.1
    check "$title: in fragments" [ $(reassembled) -ge $((before + 10)) ]
  fi
  exec 9>&-; wait $P; rm /tmp/stop
  on west ip rule del fwmark 7 2>/dev/null; on west ip -6 rule del fwmark 7 2>/dev/null
}

# Packets that east has put together.
reassembled() { on east awk '/^Ip:/ && ++n == 2 { print $16 }' /proc/net/snmp; }

put east /tmp/encap.py <<'EOP'
import socket, time
for family, address in ((socket.AF_INET, "192.0.2.2"), (socket.AF_INET6, "2001:db8::2")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, 4500))
    s.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
    globals()[address] = s
print("ready", flush=True)
time.sleep(1000)
EOP
bg east encap python3 /tmp/encap.py; ENCAP=$BG
within 5 grep -q ready /out/east-encap.log

run "AES-GCM-128" 20 40 4 "" tunnel
run "AES-GCM-256 in UDP" 20 72 4 udp tunnel
run "ChaCha20-Poly1305 over IPv6" 28 72 6 "" tunnel
run "AES-CBC-128 with HMAC-SHA2-256 in UDP over IPv6" 12:12 32 6 udp tunnel
run "AES-CBC-256 with HMAC-SHA2-256" 12:12 64 4 "" tunnel
run "AES-GCM-128 with extended sequence numbers" 20 40 4 "" tunnel esn
run "AES-GCM-192" 20 56 4 "" tunnel
run "AES-GCM-128 with an ICV of 8 octets" 18 40 4 "" tunnel esn
run "AES-GCM-256 with an ICV of 12 octets" 19 72 4 "" tunnel
run "AES-CCM-128 with an ICV of 16 octets" 16 38 4 "" tunnel esn
run "AES-CCM-192 with an ICV of 12 octets" 15 54 4 "" tunnel
run "AES-CCM-256 with an ICV of 8 octets" 14 70 4 "" tunnel esn
run "AES-GMAC-128" 21 40 4 "" tunnel
run "AES-GMAC-256 with extended sequence numbers" 21 72 4 "" tunnel esn
run "AES-CTR-256 with AES-CMAC" 13:8 72 4 "" tunnel esn
run "AES-CBC-192 with AES-XCBC" 12:5 48 4 "" tunnel
run "Camellia-CBC-128 with HMAC-SHA2-384" 23:13 32 4 "" tunnel esn
run "Camellia-CBC-256 with HMAC-SHA2-512" 23:14 64 4 "" tunnel
run "triple DES with HMAC-SHA-1" 3:2 48 4 "" tunnel
run "NULL with HMAC-SHA2-256" 11:12 0 4 "" tunnel esn
run "BEET, IPv4 in IPv4" 20 40 4 "" beet4
run "BEET, IPv6 in IPv4, in UDP" 20 40 4 udp beet6
run "BEET, IPv4 in IPv6" 12:12 32 6 "" beet4 esn
run "BEET, IPv6 in IPv6" 20 40 6 "" beet6
run "IPComp in a tunnel" 20 40 4 "" tunnel ipcomp
run "IPComp in a tunnel over IPv6" 12:12 32 6 "" tunnel ipcomp
run "IPComp in transport mode" 20 40 4 "" transport ipcomp
run "transport mode" 20 40 4 "" transport
run "transport mode over IPv6" 20 40 6 "" transport
run "AH with HMAC-SHA-1" ah:2 0 4 "" tunnel
run "AH with AES-XCBC over IPv6" ah:5 0 6 "" tunnel esn
run "AH with AES-CMAC" ah:8 0 4 "" tunnel esn
run "AH with HMAC-SHA2-256, aligned to 4 octets" ah:12 0 4 "" tunnel align4
run "AH with HMAC-SHA2-256 over IPv6" ah:12 0 6 "" tunnel
run "AH with HMAC-SHA2-384 over IPv6" ah:13 0 6 "" tunnel esn
run "AH with HMAC-SHA2-512" ah:14 0 4 "" tunnel
run "AH in transport mode" ah:12 0 4 "" transport esn
run "AH in transport mode, aligned to 4 octets" ah:14 0 4 "" transport align4
run "AH in transport mode over IPv6" ah:12 0 6 "" transport
run "AH in transport mode over IPv6 with extended sequence numbers" ah:14 0 6 "" transport esn
run "AH with IPComp in a tunnel" ah:12 0 4 "" tunnel ipcomp
run "AH with IPComp in a tunnel over IPv6" ah:14 0 6 "" tunnel ipcomp
run "AH with IPComp in transport mode" ah:12 0 4 "" transport ipcomp
kill $ENCAP
counters east
finish
