#!/bin/bash
# Cygnet (west) on the kernel's plane and strongSwan 6.1 (east), both with traps: child SAs of single CPUs (RFC 9611), made
# for packets of either end, each carrying what its CPU sends, renewed, and no more of them than are wanted.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
W=192.0.2.1 E=198.51.100.1
check "there are two CPUs" [ "$(nproc)" = 2 ]

# How many packets the outbound SAs of a node have carried, by CPU ("none" for the first): "CPU PACKETS", one a line.
sent() {
  on $1 ip -s xfrm state | awk '
    /^src/ { if (out) print cpu, n; cpu = "none"; out = 0; n = 0 }
    /^[ \t]*dir out/ { out = 1 }
    /pcpu-num/ { for (i = 1; i < NF; i++) if ($i == "pcpu-num") cpu = $(i + 1) }
    /\(bytes\), .*\(packets\)/ { if (!n) { sub(/\(.*/, "", $2); n = $2 } }
    END { if (out) print cpu, n }' | sort
}
sent_by() { sent $1 | awk -v cpu=$2 '$1 == cpu { n += $2 } END { print n + 0 }'; }
has_cpu() { sent $1; sent $1 | grep -q "^$2 "; }
cpus() { sent $1; [ "$(sent $1 | cut -d ' ' -f 1 | tr '\n' ' ')" = "0 1 none " ]; }
from_cpu() { on $1 taskset -c $2 ping -q -c $5 -i 0.01 -W 5 -I $3 $4; }
# What one CPU sends goes by its own SA:  own_sa NODE CPU FROM TO
own_sa() { local a b; a=$(sent_by $1 $2); from_cpu $1 $2 $3 $4 20; b=$(sent_by $1 $2); echo "SA of CPU $2: $a, then $b"; [ $((b - a)) -ge 20 ]; }
cy_cpus() { cy west status | grep 'child SA \$'; [ "$(cy west status | grep -c 'child SA \$')" = $1 ]; }
# Larval states, of questions that nobody has answered, stay for 30 s.
sas() { on $1 ip xfrm state | grep 'proto esp' | grep -v 'spi 0x00000000'; }
none() { ! sas east && ! sas west; }
larval() { on $1 ip xfrm state | grep -A 12 'spi 0x00000000'; on $1 ip xfrm state | grep -A 12 'spi 0x00000000' | grep -q pcpu-num; }
# Whatever one CPU sends leaves by some SA:  leaves NODE CPU FROM TO
leaves() {
  local a b; a=$(sent $1 | awk '{ n += $2 } END { print n + 0 }')
  on $1 taskset -c $2 ping -q -c 20 -i 0.01 -W 1 -I $3 $4
  b=$(sent $1 | awk '{ n += $2 } END { print n + 0 }'); echo "packets sent: $a, then $b"; [ $((b - a)) -ge 20 ]
}
site() { # site AUTO CLONES PER_CPU_SAS [more lines of strongSwan's child]
  AUTO=$1 cy_site dataplane=kernel clones=$2 pfs=no
  ss_site "" "per_cpu_sas = $3
        ${4:-}"
}

site ondemand yes yes "start_action = none"
ss_begin; ss_ctl east --load-all >/out/east-load.log 2>&1
check "cygnet runs on west" cy_start west
check "cygnet: a packet brings the first up" within 10 from_cpu west 0 10.1.0.1 10.2.0.1 3
check "cygnet: and one for its CPU" within 10 has_cpu west 0
check "cygnet: the other CPU asks too" from_cpu west 1 10.1.0.1 10.2.0.1 3
check "cygnet: and gets one" within 10 has_cpu west 1
check "cygnet: there are three" within 5 cpus west
check "cygnet: the status tells of them" cy_cpus 3
cy west status; ss_ctl east --list-sas
check "cygnet: strongSwan has them too" [ "$(ss_ctl east --list-sas | grep -c INSTALLED)" = 3 ]
for cpu in 0 1; do check "cygnet: CPU $cpu sends by its own" own_sa west $cpu 10.1.0.1 10.2.0.1; done
check "cygnet renews them" cy west rekey net; sleep 3
check "cygnet: each on its CPU still" within 5 cpus west
check "strongSwan renews them" ss_ctl east --rekey --child net; sleep 3
check "cygnet: each on its CPU still" within 5 cpus west
for cpu in 0 1; do check "cygnet: renewed: CPU $cpu sends by its own" own_sa west $cpu 10.1.0.1 10.2.0.1; done
check "cygnet ends them" cy west down net
check "nothing is left of them" within 8 none

step "strongSwan asks"
site add 2 yes "start_action = trap"
check "strongSwan: a packet brings the first up" within 10 from_cpu east 0 10.2.0.1 10.1.0.1 3
on east sh -c 'for i in 1 2 3 4; do taskset -c 0 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; taskset -c 1 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; done' >/dev/null
check "strongSwan: its CPU has one" within 40 sh -c "nsenter --net=/run/netns/east ip xfrm state | grep -q pcpu-num"
on east sh -c 'for i in 1 2 3 4; do taskset -c 0 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; taskset -c 1 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; done' >/dev/null
sent east; cy west status; ss_ctl east --list-sas
check "strongSwan: ours are on CPUs of their own" has_cpu west 1
for cpu in 0 1; do check "strongSwan: CPU $cpu crosses" from_cpu east $cpu 10.2.0.1 10.1.0.1 10; done
check "strongSwan ends them" ss_down
check "nothing is left of them" within 8 none

step "no more than are wanted"
site add 1 yes "start_action = trap"
check "limit: a packet brings the first up" within 10 from_cpu east 0 10.2.0.1 10.1.0.1 3
on east sh -c 'for i in 1 2 3 4 5 6; do taskset -c 0 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; taskset -c 1 ping -q -c 2 -i 0.2 -I 10.2.0.1 10.1.0.1; done' >/dev/null
check "limit: the second CPU is refused" within 40 grep -q 'TS_MAX_QUE' /out/east-charon.log
check "limit: there are two" cy_cpus 2
on west ip -s xfrm state >/out/west-limit.state; on east ip -s xfrm state >/out/east-limit.state; on west ip xfrm policy >/out/west-limit.policy
on west cat /proc/net/xfrm_stat >/out/west-limit.stat; on east cat /proc/net/xfrm_stat >/out/east-limit.stat
for cpu in 0 1; do check "limit: what our CPU $cpu sends leaves" leaves west $cpu 10.1.0.1 10.2.0.1; done
on west ip -s xfrm state >/out/west-limit2.state; on west cat /proc/net/xfrm_stat >/out/west-limit2.stat; on east cat /proc/net/xfrm_stat >/out/east-limit2.stat
check "limit: at strongSwan's end a larval state stands for the refused CPU" larval east
check "limit: ours has none" eval '! larval west'
check "limit: traffic of the CPU that has one goes on" from_cpu east 0 10.2.0.1 10.1.0.1 10
check "strongSwan ends them" ss_down
check "nothing is left of them" within 8 none

step "strongSwan does not want them"
site ondemand yes no "start_action = none"
check "declined: a packet brings the first up" within 10 from_cpu west 0 10.1.0.1 10.2.0.1 3
from_cpu west 1 10.1.0.1 10.2.0.1 3 >/dev/null; sleep 2
check "declined: there is one only" cy_cpus 1
check "declined: CPU 1 crosses" from_cpu west 1 10.1.0.1 10.2.0.1 10
cell per-cpu strongswan
tail -n 40 /out/west-cygnet.log; tail -n 40 /out/east-charon.log
finish
