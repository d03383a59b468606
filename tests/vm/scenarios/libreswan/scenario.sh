#!/bin/bash
# Cygnet (west) against libreswan 5 (east), both on the kernel's ESP, then cygnet in user space;
# each end as initiator.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
put east /etc/ipsec.conf <<'END'
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
    auto=add
END
printf '@west.example @east.example : PSK "%s"\n' "$SECRET" | put east /etc/ipsec.secrets
check "pluto runs on east" lw_start east
within 10 sh -c 'nsenter --net=/run/netns/east --mount=/nodes/east/mnt ipsec whack --connectionstatus | grep -q net'
step "pluto"

counted() { echo "ours $(cy_packets west net), libreswan's kernel $(esp_packets east)"; [ "$(cy_packets west net)" = "40 40" ] && [ "$(esp_packets east)" = 80 ]; }
gone() { [ -z "$(cy_packets west net)" ] && ! on east ip xfrm state | grep -q 'proto esp'; }

for plane in kernel userspace; do
  cy_conf west left=192.0.2.1 leftid=@west.example leftsubnet=10.1.0.0/24 right=198.51.100.1 rightid=@east.example \
    rightsubnet=10.2.0.0/24 dataplane=$plane ike=aes_gcm256-sha2_256-dh19 esp=aes_gcm256
  if [ $plane = kernel ]; then check "cygnet runs on west" cy_start west; else check "reload" cy west reload; fi
  for who in cygnet libreswan; do
    if [ $who = cygnet ]; then check "$plane: cygnet initiates" cy west up net
    else check "$plane: libreswan initiates" lw_ctl east up net; fi
    check "$plane: traffic crosses" on west ping -q -c 20 -i 0.01 -W 3 -I 10.1.0.1 10.2.0.1
    check "$plane: and the other way" on east ping -q -c 20 -i 0.01 -W 3 -I 10.2.0.1 10.1.0.1
    lw_ctl east whack --trafficstatus
    check "$plane: both ends count the same" within 3 counted
    if [ $who = cygnet ]; then check "$plane: cygnet ends it" cy west down net
    else check "$plane: libreswan ends it" lw_ctl east down net; fi
    check "$plane: nothing is left of it" within 5 gone
  done
done
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
cell psk libreswan
counters east
tail -n 30 /out/west-cygnet.log
finish
