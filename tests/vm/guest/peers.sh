# Configurations of both ends of the scenarios' tunnels:  . /vm/peers.sh  (after lib.sh)
SECRET='a key of a test that nobody else uses, long enough for everyone'

# cy_conf NODE KEY=VALUE...: a cygnet connection "net"; AUTO: its auto= (add); CY_SETUP: KEY=VALUE... of "config setup"
cy_conf() {
  local n=$1 line; shift
  { printf 'config setup\n'; for line in ${CY_SETUP:-}; do printf '    %s\n' "$line"; done
    printf '\nconn net\n    authby=secret\n    auto=%s\n' "${AUTO:-add}"
    for line; do printf '    %s\n' "$line"; done; } | put $n /etc/ipsec.conf 644
  printf ': PSK "%s"\n' "$SECRET" | put $n /etc/ipsec.secrets
}

# ss_conf NODE LOCAL REMOTE ME PEER LOCAL-TS REMOTE-TS "IKE PROPOSAL" "ESP PROPOSAL" [more lines of the connection]; CHILD_PROTOCOL: esp or ah
ss_conf() {
  put $1 /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = $2
    remote_addrs = $3
    proposals = $8
    ${10:-}
    local { auth = psk
      id = $4 }
    remote { auth = psk
      id = $5 }
    children { net {
        local_ts = $6
        remote_ts = $7
        ${CHILD_PROTOCOL:-esp}_proposals = $9 } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
}

# What both ends count is the same, and is what was sent:  same_counts CYGNET-NODE STRONGSWAN-NODE PACKETS
same_counts() {
  local ours theirs
  read -r -a ours <<<"$(cy_packets $1 net)"; read -r -a theirs <<<"$(ss_packets $2 net)"
  echo "cygnet: in ${ours[0]:-?} out ${ours[1]:-?}; strongSwan: in ${theirs[0]:-?} out ${theirs[1]:-?}; sent $3 each way"
  [ "${ours[*]:-}" = "$3 $3" ] && [ "${theirs[*]:-}" = "$3 $3" ]
}

# Where east sees west, and west sees east: elsewhere behind NATs.
SEEN_WEST=192.0.2.1 SEEN_EAST=198.51.100.1
# cy_site KEY=VALUE...: "net" between the two of `routed`, cygnet on west; loaded anew if the daemon runs; CY_IKE, CY_ESP: its ike= and esp=
cy_site() {
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=$SEEN_EAST rightid=@east.example \
    rightsubnet=10.2.0.0/24 ike=${CY_IKE:-aes_gcm256-sha2_256-dh19} esp=${CY_ESP:-aes_gcm256} "$@"
  ! on west test -S /run/cygnet/control.sock || cy west reload >/out/west-reload.log 2>&1
}
# ss_site [lines of the connection] [lines of the child]: the same on east, for strongSwan; SS_IKE, SS_ESP: its proposals
ss_site() {
  put east /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = 198.51.100.1
    remote_addrs = $SEEN_WEST
    proposals = ${SS_IKE:-aes256gcm16-prfsha256-ecp256}
    ${1:-}
    local { auth = psk
      id = @east.example }
    remote { auth = psk
      id = @west.example }
    children { net {
        local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = ${SS_ESP:-aes256gcm16,aes256gcm16-ecp256}
        ${2:-} } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
  ! on east test -S /run/charon.vici || ss_ctl east --load-all >/out/east-load.log 2>&1
}
# lw_site KEY=VALUE...: the same on east, for libreswan; LW_SETUP: KEY=VALUE... of "config setup"; LW_IKE, LW_ESP: its ike=
# and esp=, since it takes no keyword twice
lw_site() {
  local line
  { printf 'config setup\n'; for line in ${LW_SETUP:-}; do printf '    %s\n' "$line"; done
    printf '%s\n' "conn net" "    keyexchange=ikev2" "    authby=secret" "    left=198.51.100.1" "    leftid=@east.example" \
      "    leftsubnet=10.2.0.0/24" "    right=$SEEN_WEST" "    rightid=@west.example" "    rightsubnet=10.1.0.0/24" \
      "    ike=${LW_IKE:-aes_gcm256-sha2_256-dh19}" "    esp=${LW_ESP:-aes_gcm256;none,aes_gcm256;dh19}" "    auto=add"
    for line; do printf '    %s\n' "$line"; done; } | put east /etc/ipsec.conf
  printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
  ! on east test -S /run/pluto/pluto.ctl || { lw_ctl east replace net >/out/east-replace.log 2>&1; lw_knows east; }
}
# The connection arrives a moment after whack has answered.
lw_knows() { within 10 sh -c "nsenter --net=/run/netns/$1 --mount=/nodes/$1/mnt ipsec whack --connectionstatus | grep -q ${2:-net}"; }
# iked_site WAY [lifetimes]: the same on east, for OpenIKED (WAY: active or passive); cygnet's esp= is aes256-sha2_512 then.
# IKED_SET: a global setting; IKED_FLOW: what is protected and how, instead of the two networks in tunnel mode;
# IKED_IKE, IKED_CHILD: its proposals
iked_site() {
  put east /etc/iked.conf <<END
${IKED_SET:-}
ikev2 "net" $1 ${IKED_FLOW:-esp from 10.2.0.0/24 to 10.1.0.0/24} local 198.51.100.1 peer $SEEN_WEST ${IKED_IKE:+ikesa $IKED_IKE} \\
	childsa ${IKED_CHILD:-auth hmac-sha2-512 enc aes-256} srcid east.example dstid west.example ${2:-} psk "$SECRET"
END
  on east ip route replace 10.1.0.0/24 via 198.51.100.254 src 10.2.0.1
}
# iked_anew WAY [lifetimes]: it is started with that, instead of the peer that runs
iked_anew() { [ -z "$PEER" ] || peer_ends; iked_site "$@"; iked_start east >/out/east-start.log 2>&1; PEER=$BG; }
# Starting a peer on east, and ending it.
ss_begin() { ss_start east "$@" >/out/east-start.log 2>&1; PEER=$BG; check "charon runs on east" on east test -S /run/charon.vici; }
lw_begin() { lw_start east >/out/east-start.log 2>&1; PEER=$BG; check "pluto runs on east" lw_knows east; }
iked_begin() { iked_start east "$@" >/out/east-start.log 2>&1; PEER=$BG; check "iked runs on east" iked_ctl east show sa; }
PEER=
peer_ends() { kill ${1:-} $PEER; wait $PEER 2>/dev/null; on east ip xfrm state flush; on east ip xfrm policy flush; PEER=; }
ss_up() { ss_ctl east --initiate --child ${1:-net} --timeout 20; }
ss_down() { ss_ctl east --terminate --ike net --timeout 10; }
# Traffic both ways, which the kernel's SAs at the other end have carried:  crosses [NODE]
crosses() {
  local a; a=$(esp_packets ${1:-east})
  on west ping -q -c 10 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1 && on ${1:-east} ping -q -c 10 -i 0.01 -W 3 -I 10.2.0.1 10.1.0.1 || return
  a=$(( $(esp_packets ${1:-east}) - a )); echo "$a packets in SAs"; [ $a -ge 40 ]
}
# No SA is left at either end.
none_left() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp' && ! on west ip xfrm state | grep -q 'proto esp'; }
