#!/bin/bash
# Cygnet with the kernel's ESP (west) against strongSwan with the kernel's ESP (east): native and
# in UDP, over IPv4 and IPv6, each end as initiator.
. /vm/lib.sh; . /vm/peers.sh
PLANE=kernel
. /vm/strongswan-matrix.sh
