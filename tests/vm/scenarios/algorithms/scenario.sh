#!/bin/bash
# Every algorithm that cygnet (west) shares with strongSwan, with libreswan and with OpenIKED (east): the planes of cygnet by turns,
# and every other time the peer begins.
. /vm/lib.sh; . /vm/peers.sh
routed; step "nodes"
capture router to-west wire.pcap
lw_up() { lw_ctl east up net; }
lw_down() { lw_ctl east down net; }
# Both ends have counted the same.
counted() { local n; n=$(esp_packets east); echo "ours $(cy_packets west net), the peer's kernel $n"; [ "$(cy_packets west net)" = "20 20" ] && [ $n = 40 ]; }
echoes() { on west ping -q -c 10 -i 0.01 -W 3 -s $1 -I 10.1.0.1 10.2.0.1 && on east ping -q -c 10 -i 0.01 -W 3 -s $1 -I 10.2.0.1 10.1.0.1; }
TURN=0
# try PEER IKE ESP: with its configuration loaded, CY_IKE and CY_ESP being ours
try() {
  local title="$1, $2, $3" plane=kernel
  [ $(( TURN % 2 )) = 0 ] || plane=userspace
  cy_site dataplane=$plane || { check "$title: cygnet loads it" false; sed 's/^/# /' /out/west-reload.log; return; }
  if [ $(( TURN / 2 % 2 )) = 0 ]; then check "$title, $plane: cygnet begins" cy west up net
  else check "$title, $plane: the peer begins" ${1}_up; fi
  # OpenIKED answers before its kernel has the SAs.
  [ $1 != iked ] || sleep 0.5
  check "$title: packets cross" echoes $(( 40 + TURN * 37 % 1200 ))
  check "$title: both ends have counted them" within 2 counted
  cy west status | grep -E "SPIs|child SA" | sed "s|^|# |"
  # The peer first: libreswan brings up again what it was told to bring up and what another one ended.
  ${1}_down >/out/east-down.log 2>&1; cy west down net >/out/west-down.log 2>&1
  check "$title: nothing is left" within 5 none_left
  TURN=$((TURN + 1))
}

cy_site; cy_start west >/out/west-start.log 2>&1; check "cygnet runs on west" cy west status
SS_PLUGINS="$SS_PLUGINS kdf cmac xcbc ccm ctr"
ss_site; ss_begin
while read -r -u 3 CY_IKE SS_IKE CY_ESP SS_ESP; do
  ss_site; try ss $CY_IKE $CY_ESP
done 3<<'END'
aes_gcm128-sha2_256-dh31 aes128gcm16-prfsha256-x25519 aes_gcm128 aes128gcm16
aes_gcm256-sha2_384-dh31 aes256gcm16-prfsha384-x25519 aes_gcm256 aes256gcm16
chacha20_poly1305-sha2_512-dh31 chacha20poly1305-prfsha512-x25519 chacha20_poly1305 chacha20poly1305
aes128-sha2_256-dh19 aes128-sha256-ecp256 aes128-sha2_256 aes128-sha256
aes256-sha2_256-dh20 aes256-sha256-ecp384 aes256-sha2_256 aes256-sha256
aes256-sha2_384-dh21 aes256-sha384-ecp521 aes256-sha2_384 aes256-sha384
aes256-sha2_512-dh31 aes256-sha512-x25519 aes256-sha2_512 aes256-sha512
aes_gcm_16_192-aes_cmac-dh31 aes192gcm16-prfaescmac-x25519 aes_gcm_16_192 aes192gcm16
aes_gcm_12_256-sha2_256-dh14 aes256gcm12-prfsha256-modp2048 aes_gcm_12_256 aes256gcm12
aes_gcm_8_128-sha2_256-dh15 aes128gcm8-prfsha256-modp3072 aes_gcm_8_128 aes128gcm8
aes_ccm_16_128-sha2_256-dh16 aes128ccm16-prfsha256-modp4096 aes_ccm_16_128 aes128ccm16
aes_ccm_8_256-sha2_256-dh5 aes256ccm8-prfsha256-modp1536 aes_ccm_12_192 aes192ccm12
aes_ctr128-aes_cmac-dh31 aes128ctr-aescmac-x25519 aes_ccm_8_256 aes256ccm8
aes192-aes_xcbc-dh31 aes192-aesxcbc-x25519 aes_ctr128-sha2_256 aes128ctr-sha256
camellia256-sha2_256-dh2 camellia256-sha256-modp1024 aes_ctr256-aes_cmac aes256ctr-aescmac
3des-sha1;dh31 3des-sha1-x25519 aes192-aes_xcbc aes192-aesxcbc
aes_gcm128-sha2_256-dh17 aes128gcm16-prfsha256-modp6144 camellia128-sha2_256 camellia128-sha256
aes_gcm128-sha2_256-dh18 aes128gcm16-prfsha256-modp8192 camellia192-sha2_384 camellia192-sha384
aes_gcm128-sha2_256-dh31 aes128gcm16-prfsha256-x25519 camellia256-sha2_512 camellia256-sha512
aes_gcm128-sha2_256-dh31 aes128gcm16-prfsha256-x25519 3des-sha1 3des-sha1
aes_gcm128-sha2_256-dh31 aes128gcm16-prfsha256-x25519 null-sha2_256 null-sha256
aes_gcm128-sha2_256-dh31 aes128gcm16-prfsha256-x25519 null_auth_aes_gmac_256 aes256gmac
END
cell algorithms strongswan
peer_ends

# The two have the same words for them.
LW_IKE=aes_gcm256-sha2_256-dh19 LW_ESP=aes_gcm256 lw_site; lw_begin
while read -r -u 3 CY_IKE CY_ESP; do
  LW_IKE=$CY_IKE LW_ESP=$CY_ESP lw_site; try lw $CY_IKE $CY_ESP
done 3<<'END'
aes_gcm128-sha2_256-dh31 aes_gcm128
aes_gcm256-sha2_384-dh19 aes_gcm256
aes_gcm_16_192-sha2_512-dh20 aes_gcm_16_192
chacha20_poly1305-sha2_256-dh21 chacha20_poly1305
aes128-sha2_256-dh14 aes128-sha2_256
aes256-sha2_384-dh15 aes256-sha2_384
aes256-sha2_512-dh16 aes256-sha2_512
aes192-sha1-dh5 aes192-sha1
camellia128-sha2_256-dh31 camellia128-sha2_256
camellia256-sha2_512-dh31 camellia256-sha2_512
aes_ctr128-sha2_256-dh31 aes_ctr128-sha2_256
aes_ctr256-aes_xcbc-dh31 aes_ctr256-aes_xcbc
3des-sha1;dh31 3des-sha1
aes_gcm128-sha2_256-dh17 aes_gcm_12_256
aes_gcm128-sha2_256-dh18 aes_gcm_8_128
aes_gcm128-sha2_256-dh31 aes_ccm_16_128
aes_gcm128-sha2_256-dh31 aes_ccm_12_192
aes_gcm128-sha2_256-dh31 aes_ccm_8_256
aes_gcm128-sha2_256-dh31 aes128-aes_cmac
aes_gcm128-sha2_256-dh31 null-sha2_256
aes_gcm128-sha2_256-dh31 null_auth_aes_gmac_128
END
cell algorithms libreswan
peer_ends

# Its PF_KEY has neither an AEAD nor HMAC-SHA2-256 for the kernel; NULL encryption it agrees to, and PF_KEY refuses the SA.
iked_up() { within 20 is_up; }
iked_down() { :; }
is_up() { [ -n "$(cy_packets west net)" ]; }
while IFS='|' read -r -u 3 CY_IKE IKED_IKE CY_ESP IKED_CHILD; do
  if [ $(( TURN / 2 % 2 )) = 0 ]; then way=passive; else way=active; fi
  cy_site; iked_anew $way; try iked $CY_IKE $CY_ESP
done 3<<'END'
aes_gcm256-sha2_256-dh31|enc aes-256-gcm prf hmac-sha2-256 group curve25519|aes256-sha2_512|enc aes-256 auth hmac-sha2-512
aes_gcm128-sha2_384-dh19|enc aes-128-gcm prf hmac-sha2-384 group ecp256|aes128-sha2_384|enc aes-128 auth hmac-sha2-384
aes_gcm_12_256-sha2_512-dh20|enc aes-256-gcm-12 prf hmac-sha2-512 group ecp384|aes192-sha1|enc aes-192 auth hmac-sha1
aes_gcm_12_128-sha2_256-dh21|enc aes-128-gcm-12 prf hmac-sha2-256 group ecp521|aes_ctr128-sha2_512|enc aes-128-ctr auth hmac-sha2-512
aes128-sha2_256-dh14|enc aes-128 auth hmac-sha2-256 prf hmac-sha2-256 group modp2048|aes_ctr192-sha2_384|enc aes-192-ctr auth hmac-sha2-384
aes192-sha2_384-dh15|enc aes-192 auth hmac-sha2-384 prf hmac-sha2-384 group modp3072|aes_ctr256-sha1|enc aes-256-ctr auth hmac-sha1
aes256-sha2_512-dh16|enc aes-256 auth hmac-sha2-512 prf hmac-sha2-512 group modp4096|3des-sha1|enc 3des auth hmac-sha1
3des-sha1-dh5|enc 3des auth hmac-sha1 prf hmac-sha1 group modp1536|aes256-sha2_512|enc aes-256 auth hmac-sha2-512
aes_gcm256-sha2_256-dh2|enc aes-256-gcm prf hmac-sha2-256 group modp1024|aes256-sha2_512|enc aes-256 auth hmac-sha2-512
aes_gcm256-sha2_256-dh17|enc aes-256-gcm prf hmac-sha2-256 group modp6144|aes256-sha2_512|enc aes-256 auth hmac-sha2-512
aes_gcm256-sha2_256-dh18|enc aes-256-gcm prf hmac-sha2-256 group modp8192|aes256-sha2_512|enc aes-256 auth hmac-sha2-512
END
cell algorithms openiked
capture_end
check "nothing crossed the wire in clear" only_protected wire.pcap
tail -n 40 /out/west-cygnet.log; tail -n 20 /out/east-pluto.log
finish
