# The body of the scenarios with additional key exchanges in CREATE_CHILD_SA: lib.sh and peers.sh are there, and `run` is
# called after. Cygnet is west, strongSwan east.
routed; step "nodes"
capture router to-west wire.pcap
check "charon runs on east" ss_start east

# run TITLE "IKE PROPOSAL" "ESP PROPOSAL" of strongSwan  "ike=" "esp=" of cygnet (empty: the default)
#     WHAT-BOTH-SHOW-OF-THE-IKE-SA WHAT-BOTH-SHOW-OF-CHILD-SAS IKE_FOLLOWUP_KE-EXCHANGES-OF-EACH
run() {
  local title=$1 who ike=$6 esp=$7 ike_count=${8%/*} esp_count=${8#*/}
  put east /etc/swanctl/conf.d/net.conf <<END
connections { net {
    version = 2
    local_addrs = 198.51.100.1
    remote_addrs = 192.0.2.1
    proposals = $2
    fragmentation = yes
    rekey_time = 0
    local { auth = psk
      id = @east.example }
    remote { auth = psk
      id = @west.example }
    children {
      net { local_ts = 10.2.0.0/24
        remote_ts = 10.1.0.0/24
        rekey_time = 0
        esp_proposals = $3 }
      more { local_ts = 10.22.0.0/24
        remote_ts = 10.11.0.0/24
        rekey_time = 0
        esp_proposals = $3 } } } }
secrets { ike-1 { secret = "$SECRET" } }
END
  { printf 'config setup\n'
    for who in net:10.1.0.0/24:10.2.0.0/24 more:10.11.0.0/24:10.22.0.0/24; do
      printf 'conn %s\n' "${who%%:*}"
      printf '    %s\n' authby=secret auto=add dataplane=kernel left=192.0.2.1 leftid=@west.example right=198.51.100.1 \
        rightid=@east.example "leftsubnet=$(cut -d: -f2 <<<"$who")" "rightsubnet=$(cut -d: -f3 <<<"$who")" ${4:+"ike=$4"} ${5:+"esp=$5"}
    done; } | put west /etc/ipsec.conf 644
  printf ': PSK "%s"\n' "$SECRET" | put west /etc/ipsec.secrets
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy west reload >/out/west-reload.log 2>&1 || cy_start west || { check "$title: cygnet runs" false; return; }
  for who in cygnet strongSwan; do
    if [ $who = cygnet ]; then check "$title: cygnet initiates" cy west up net
    else check "$title: strongSwan initiates" ss_up net; fi || { tail -n 5 /out/west-cygnet.log; continue; }
    traffic_begins
    renew "$title: cygnet rekeys the child SA" $esp_count cy west rekey net
    check "$title: both show it" both_show "$esp" "$esp"
    renew "$title: strongSwan rekeys the child SA" $esp_count ss_ctl east --rekey --child net
    renew "$title: cygnet rekeys the IKE SA" $ike_count cy west rekey net --ike
    check "$title: both show it" both_show "$ike" "$ike"
    renew "$title: strongSwan rekeys the IKE SA" $ike_count ss_ctl east --rekey --ike net
    renew "$title: and once more the child SA" $esp_count cy west rekey net
    check "$title: no packet was lost" traffic_ends
    renew "$title: a further child SA by cygnet" $esp_count cy west up more
    check "$title: and its end" cy west down more
    renew "$title: a further child SA by strongSwan" $esp_count ss_up more
    check "$title: both show two of them" two_children
    check "$title: traffic crosses" crosses
    if [ $who = cygnet ]; then
      check "$title: cygnet ends it" sh -c 'nsenter --net=/run/netns/west --mount=/nodes/west/mnt /t/cygnet down net &&
        nsenter --net=/run/netns/west --mount=/nodes/west/mnt /t/cygnet down more'
    else check "$title: strongSwan ends it" ss_down; fi
    check "$title: nothing is left of it" within 10 no_sas
  done
}
# renew TITLE EXCHANGES CMD...: what CMD begins has so many IKE_FOLLOWUP_KE exchanges, and leaves one pair of SAs each.
renew() {
  local title=$1 count=$2 before; shift 2
  before=$(followups)
  check "$title" "$@" || { tail -n 5 /out/west-cygnet.log; return; }
  check "$title: $count IKE_FOLLOWUP_KE exchanges" within 5 followed $before $count
  check "$title: one pair of SAs for each" within 10 one_pair_each
}
# Exchanges by what strongSwan says of them: it has parsed one request or one response with KE of each.
followups() { grep -c 'parsed IKE_FOLLOWUP_KE .* \[ KE' /out/east-charon.log; }
followed() { local n=$(( $(followups) - $1 )); echo "strongSwan parsed $n"; [ $n = $2 ]; }
both_show() {
  cy west status | tee /out/west-said; grep -q -e "$1" /out/west-said || return
  ss_ctl east --list-sas | tee /out/east-said; grep -q -e "$2" /out/east-said
}
one_pair_each() {
  local ours theirs; ours=$(on west ip xfrm state | grep -c 'proto esp'); theirs=$(ss_ctl east --list-sas | grep -c INSTALLED)
  echo "$ours SAs of cygnet, $theirs child SAs of strongSwan"; [ "$ours" = $((2 * theirs)) ]
}
two_children() { ss_ctl east --list-sas; [ "$(ss_ctl east --list-sas | grep -c INSTALLED)" = 2 ]; }
no_sas() { ! on east ip xfrm state | grep -q 'proto esp' && ! on west ip xfrm state | grep -q 'proto esp'; }
# Packets both ways while SAs are renewed; each must come back but what a responder sends before its initiator can have
# the keys, which the kernel counts.
traffic_begins() {
  EARLY=$(too_early)
  bg west ping ping -q -i 0.05 -W 5 -I 10.1.0.1 10.2.0.1; PING=$BG
}
traffic_ends() {
  local sent received early
  kill -INT $PING; wait $PING 2>/dev/null
  early=$(( $(too_early) - EARLY ))
  sent=$(awk '/transmitted/ { print $1 }' /out/west-ping.log); received=$(awk '/transmitted/ { print $4 }' /out/west-ping.log)
  echo "$sent sent, $received back, $early before their keys"
  [ "$sent" -ge 40 ] && [ $(( sent - received )) -le $(( early + 1 )) ] && [ $early -le 10 ]
}
too_early() { on west awk '$1 == "XfrmAcquireError" { print $2 }' /proc/net/xfrm_stat; }
ending() {
  capture_end
  check "nothing crossed the wire in clear" only_protected wire.pcap
  counters west
  grep -h -e 'IKE_FOLLOWUP_KE' /out/east-charon.log | tail -n 12
  finish
}
