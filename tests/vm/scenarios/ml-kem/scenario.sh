#!/bin/bash
# Cygnet (west) against strongSwan 6.1 (east): ML-KEM beside a classic key exchange, each end as initiator.
. /vm/lib.sh; . /vm/peers.sh; . /vm/key-exchanges.sh
run "ML-KEM-768" aes256gcm16-prfsha256-x25519-ke1_mlkem768 'aes_gcm256-sha2_256-dh31;addke1=ml_kem_768' \
  'X25519-KE1_ML_KEM_768' 'KE1_ML_KEM_768' 1
run "ML-KEM-512 and ML-KEM-1024" aes256-sha512-ecp256-ke1_mlkem512-ke2_mlkem1024 'aes256-sha2_512-dh19;addke1=ml_kem_512;addke2=ml_kem_1024' \
  'ECP_256-KE1_ML_KEM_512-KE2_ML_KEM_1024' 'KE2_ML_KEM_1024' 2
run "ML-KEM-768 alone" aes256gcm16-prfsha256-mlkem768 'aes_gcm256-sha2_256-ml_kem_768' 'ML_KEM_768' 'ML_KEM_768' 0
run "another additional one is left out" aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_ecp384-ke2_none \
  'aes_gcm256-sha2_256-dh31;addke1=ml_kem_768' 'X25519-KE1_ML_KEM_768' 'KE1_ML_KEM_768' 1
cell ml-kem strongswan
ending
