# Configurations of both ends of the scenarios' tunnels:  . /vm/peers.sh  (after lib.sh)
SECRET='a key of a test that nobody else uses, long enough for everyone'

# cy_conf NODE KEY=VALUE...: a cygnet connection "net"; AUTO: its auto= (add)
cy_conf() {
  local n=$1 line; shift
  { printf 'config setup\n\nconn net\n    authby=secret\n    auto=%s\n' "${AUTO:-add}"
    for line; do printf '    %s\n' "$line"; done; } | put $n /etc/ipsec.conf 644
  printf ': PSK "%s"\n' "$SECRET" | put $n /etc/ipsec.secrets
}

# ss_conf NODE LOCAL REMOTE ME PEER LOCAL-TS REMOTE-TS "IKE PROPOSAL" "ESP PROPOSAL" [more lines of the connection]
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
        esp_proposals = $9 } } } }
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
