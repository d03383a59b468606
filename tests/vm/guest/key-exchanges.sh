# The body of the scenarios with several key exchanges: lib.sh and peers.sh are there, and `run` is called after.
routed; step "nodes"
capture router to-west wire.pcap
check "charon runs on east" ss_start east

# run TITLE "IKE PROPOSALS of strongSwan" "ike= of cygnet" WHAT-CYGNET-SHOWS WHAT-STRONGSWAN-SHOWS INTERMEDIATE-EXCHANGES
# (an empty ike= stands for cygnet's default)
run() {
  local title=$1 who
  ss_conf east 198.51.100.1 192.0.2.1 @east.example @west.example 10.2.0.0/24 10.1.0.0/24 "$2" aes256gcm16 "fragmentation = yes"
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=kernel esp=aes_gcm256 ${3:+"ike=$3"}
  ss_ctl east --load-all >/out/east-load.log 2>&1
  cy west reload >/out/west-reload.log 2>&1 || cy_start west || { check "$title: cygnet runs" false; return; }
  for who in cygnet strongSwan; do
    SEEN=$(intermediate_lines)
    if [ $who = cygnet ]; then check "$title: cygnet initiates" cy west up net
    else check "$title: strongSwan initiates" ss_ctl east --initiate --child net --timeout 20; fi || { tail -n 5 /out/west-cygnet.log; continue; }
    check "$title: cygnet shows it" says "$4" cy west status
    check "$title: strongSwan shows it" says "$5" ss_ctl east --list-sas
    check "$title: $6 IKE_INTERMEDIATE exchanges" intermediates $6
    check "$title: traffic crosses" on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
    check "$title: both ends count the same" within 3 same_counts west east 20
    if [ $who = cygnet ]; then check "$title: cygnet ends it" cy west down net
    else check "$title: strongSwan ends it" ss_ctl east --terminate --ike net --timeout 10; fi
    check "$title: nothing is left of it" within 5 gone
  done
}
gone() { [ -z "$(on east ip xfrm state)" ] && [ -z "$(cy_packets west net)" ] && ! on west ip xfrm state | grep -q 'proto esp'; }
says() { local what=$1; shift; "$@" | tee /out/said; grep -q -e "$what" /out/said; }
# Exchanges by what strongSwan says of them: each is one message from us, whole or put together from fragments.
intermediate_lines() { grep -c 'parsed IKE_INTERMEDIATE .* \[ KE' /out/east-charon.log; }
intermediates() { local n=$(($(intermediate_lines) - SEEN)); echo "strongSwan parsed $n"; [ $n = $1 ]; }
ending() {
  capture_end
  check "nothing crossed the wire in clear" only_protected wire.pcap
  counters west
  grep -h -e 'IKE_INTERMEDIATE' /out/east-charon.log | tail -n 12
  finish
}
