#!/bin/bash
# Cygnet (west) against strongSwan 6.1 (east): ML-KEM in CREATE_CHILD_SA beside a classic key exchange, as cygnet's
# defaults have it and by name.
. /vm/lib.sh; . /vm/peers.sh; . /vm/followup-ke.sh
run "the default" aes256gcm16-prfsha256-x25519-ke1_mlkem768 aes256gcm16-x25519-ke1_mlkem768 '' '' \
  'KE1_ML_KEM_768' 'KE1_ML_KEM_768' 1/1
run "ML-KEM-512 and ML-KEM-1024" aes256-sha512-ecp256-ke1_mlkem512-ke7_mlkem1024 aes256-sha512-ecp256-ke1_mlkem512-ke7_mlkem1024 \
  'aes256-sha2_512-dh19;addke1=ml_kem_512;addke7=ml_kem_1024' 'aes256-sha2_512-dh19;addke1=ml_kem_512;addke7=ml_kem_1024' \
  'KE7_ML_KEM_1024' 'KE7_ML_KEM_1024' 2/2
cell followup-ke strongswan
ending
