#!/bin/bash
# Cygnet (west) against strongSwan 6 (east): additional key exchanges in CREATE_CHILD_SA, for further child SAs and for
# all that is rekeyed, by each end.
. /vm/lib.sh; . /vm/peers.sh; . /vm/followup-ke.sh
run "two" aes256gcm16-prfsha256-x25519-ke1_ecp256-ke2_ecp384 aes256gcm16-x25519-ke1_ecp256-ke2_ecp384 \
  'aes_gcm256-sha2_256-dh31;addke1=dh19;addke2=dh20' 'aes_gcm256-dh31;addke1=dh19;addke2=dh20' \
  'KE2_ECP_384' 'KE2_ECP_384' 2/2
run "those of the IKE SA" aes256gcm16-prfsha256-x25519-ke3_modp3072 aes256gcm16-x25519-ke3_modp3072 \
  'aes_gcm256-sha2_256-dh31;addke3=dh15' 'aes_gcm256' 'KE3_MODP_\?3072' 'KE3_MODP_\?3072' 1/1
run "none for child SAs" aes256gcm16-prfsha256-x25519-ke1_ecp256 aes256gcm16-x25519 \
  'aes_gcm256-sha2_256-dh31;addke1=dh19' 'aes_gcm256' 'KE1_ECP_256' 'AES_GCM_16' 1/0
cell followup-ke strongswan
ending
