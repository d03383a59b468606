#!/bin/bash
# Cygnet (west) against strongSwan 6 (east): additional key exchanges in IKE_INTERMEDIATE, each end as initiator.
. /vm/lib.sh; . /vm/peers.sh; . /vm/key-exchanges.sh
run "X25519 and ECP-256" aes256gcm16-prfsha256-x25519-ke1_ecp256 'aes_gcm256-sha2_256-dh31;addke1=dh19' \
  'X25519-KE1_ECP_256' 'KE1_ECP_256' 1
run "four" aes256-sha384-ecp384-ke1_x25519-ke2_modp3072-ke7_ecp521 'aes256-sha2_384-dh20;addke1=dh31;addke2=dh15;addke7=dh21' \
  'ECP_384-KE1_X25519-KE2_MODP3072-KE7_ECP_521' 'KE7_ECP_521' 3
run "one of them optional" aes256gcm16-prfsha256-x25519-ke1_ecp256-ke1_none 'aes_gcm256-sha2_256-dh31' 'X25519' 'CURVE_25519' 0
run "cygnet's default" aes256gcm16-prfsha256-x25519 '' 'X25519' 'CURVE_25519' 0
cell intermediate strongswan
ending
