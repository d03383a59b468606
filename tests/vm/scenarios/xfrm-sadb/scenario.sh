#!/bin/bash
# The SAD and SPD of the kernel, driven by crates/kernel (tests/sadb/): SAs with every algorithm
# and traffic through them, ACQUIRE, EXPIRE, MAPPING, refusals, kill -9 and what is found after it.
# Also crates/xfrm's tests against iproute2, which is newer here than on the build host.
#
# ./prepare DIR puts the test programs into the directory that the VM gets.
. /vm/lib.sh
export CYGNET_REQUIRE_ALL=1 CYGNET_REQUIRE_ESP=1 RUST_BACKTRACE=0
modprobe -a esp4 esp6 xfrm_user 2>/dev/null

# One check per test: a failure is named, and one does not hide the others.
tests_of() { "$1" --list 2>/dev/null | sed -n 's/: test$//p'; }
for program in sadb ip_xfrm; do
  for t in $(tests_of /t/$program); do
    check "$program: $t" sh -c "/t/$program --exact $t --nocapture >/out/$program-$t.log 2>&1 || { cat /out/$program-$t.log; false; }"
    ! grep -q '^skipped' "/out/$program-$t.log" || check "$program: $t was not skipped" false
  done
done
step "tests"
check "the examples list what is there" sh -c '
  ip netns add ex && ip -n ex xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1234 reqid 5 \
    mode tunnel aead "rfc4106(gcm(aes))" 0x000102030405060708090a0b0c0d0e0f00000000 128 if_id 0x2a dir out &&
  ip netns exec ex /t/xfrm-list | tee /out/list | tr -s "\n\t" "  " | grep -q "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00001234 reqid 5 mode tunnel .*aead rfc4106(gcm(aes)) <<Keys hidden>> 128 .*if_id 0x2a dir out" &&
  ! grep -q 0001020304 /out/list'
finish
