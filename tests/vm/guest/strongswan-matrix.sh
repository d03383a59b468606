# The body of the two strongswan-*-plane scenarios: PLANE is set, lib.sh and peers.sh are there.
routed; step "nodes"

capture router to-west wire.pcap
check "charon runs on east" ss_start east
WEST4=192.0.2.1 EAST4=198.51.100.1 WEST6=2001:db8:a::1 EAST6=2001:db8:b::1
IN_WEST=10.1.0.0/24,2001:db8:1::/64 IN_EAST=10.2.0.0/24,2001:db8:2::/64

# run TITLE FAMILY native|udp IKE-ESP-PROPOSALS of strongSwan, of cygnet
run() {
  local title="$1 over IPv$2, $3" w e who encap_ss= encap_cy=encapsulation=no
  [ $2 = 4 ] && w=$WEST4 e=$EAST4 || w=$WEST6 e=$EAST6
  [ $3 = native ] || { encap_ss="encap = yes"; encap_cy=encapsulation=yes; }
  ss_conf east $e $w @east.example @west.example $IN_EAST $IN_WEST "$4" "$5" "$encap_ss"
  cy_conf west left=$w leftid=@west.example leftsubnet=$IN_WEST right=$e rightid=@east.example rightsubnet=$IN_EAST \
    dataplane=$PLANE ike="$6" esp="$7" $encap_cy
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy west reload >/out/west-reload.log 2>&1 || cy_start west || { check "$title: cygnet runs" false; return; }
  for who in cygnet strongSwan; do
    if [ $who = cygnet ]; then check "$title: cygnet initiates" cy west up net
    else check "$title: strongSwan initiates" ss_ctl east --initiate --child net --timeout 20; fi || { tail -n 5 /out/west-cygnet.log; continue; }
    check "$title: IPv4 crosses" on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
    check "$title: IPv6 crosses" on east ping -q -c 20 -i 0.01 -W 3 -s 1000 -I 2001:db8:2::1 2001:db8:1::1
    check "$title: both ends count the same" within 3 same_counts west east 40
    case $3 in
      native) check "$title: ESP is on the wire itself" within 3 sh -c "tcpdump -n -r /out/wire.pcap 'ip proto 50 or ip6 proto 50' 2>/dev/null | grep -q ." ;;
      udp) check "$title: ESP is in UDP" ss_udp east ;;
    esac
    if [ $who = cygnet ]; then check "$title: cygnet ends it" cy west down net
    else check "$title: strongSwan ends it" ss_ctl east --terminate --ike net --timeout 10; fi
    check "$title: nothing is left of it" within 5 gone
  done
}
ss_udp() { ss_ctl $1 --list-sas --raw | grep -q 'encap=yes'; }
gone() { [ -z "$(on east ip xfrm state)" ] && [ -z "$(cy_packets west net)" ] && ! on west ip xfrm state | grep -q 'proto esp'; }

run "AES-GCM-256, X25519"       4 native aes256gcm16-prfsha256-x25519 aes256gcm16 aes_gcm256-sha2_256-dh31 aes_gcm256
cell native-esp strongswan
run "AES-CBC-128, ECP-256"      4 udp    aes128-sha256-ecp256         aes128-sha256 aes128-sha2_256-dh19     aes128-sha2_256
cell udp-esp strongswan
run "ChaCha20-Poly1305"         6 native chacha20poly1305-prfsha384-ecp384 chacha20poly1305 chacha20_poly1305-sha2_384-dh20 chacha20_poly1305
run "AES-CBC-256, HMAC-SHA-512" 6 udp    aes256-sha512-modp2048       aes256-sha512 aes256-sha2_512-dh14     aes256-sha2_512
cell psk strongswan
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
check "SIGTERM ends cygnet" sh -c "kill $CYGNET && while kill -0 $CYGNET 2>/dev/null; do sleep 0.1; done"
wait $CYGNET; check "with status 0" [ $? = 0 ]
check "no policy of ours stays" sh -c '! ip netns exec west ip xfrm policy list nosock | grep -q .'
counters west
finish
