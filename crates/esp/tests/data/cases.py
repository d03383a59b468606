"""Writes cases.txt: what the kernel is to be captured with. The keys are made from the names."""

import hashlib
C=[
("tunnel-4in4-gcm128","tunnel",4,4,"gcm128","-",0,0,"-","-","-","-","-"),
("tunnel-6in6-gcm256-esn","tunnel",6,6,"gcm256","-",1,0,"-","-","-","-","-"),
("tunnel-4in6-chacha20","tunnel",4,6,"chacha20","-",0,0,"-","-","-","-","-"),
("tunnel-6in4-chacha20-esn","tunnel",6,4,"chacha20","-",1,0,"-","-","-","-","-"),
("tunnel-4in4-cbc128-sha256","tunnel",4,4,"cbc128","sha256",0,0,"-","-","-","-","-"),
("tunnel-6in6-cbc192-sha384","tunnel",6,6,"cbc192","sha384",0,0,"-","-","-","-","-"),
("tunnel-4in6-cbc256-sha512-esn","tunnel",4,6,"cbc256","sha512",1,0,"-","-","-","-","-"),
("tunnel-6in4-cbc128-sha256-udp","tunnel",6,4,"cbc128","sha256",0,1,"-","-","-","-","-"),
("tunnel-4in4-gcm256-udp","tunnel",4,4,"gcm256","-",0,1,"-","-","-","-","-"),
("tunnel-6in6-gcm128-udp","tunnel",6,6,"gcm128","-",0,1,"-","-","-","-","-"),
("transport-4-gcm128-udp","transport",4,4,"gcm128","-",0,1,"-","-","-","-","-"),
("transport-4-gcm128","transport",4,4,"gcm128","-",0,0,"-","-","-","-","-"),
("transport-6-cbc128-sha256","transport",6,6,"cbc128","sha256",0,0,"-","-","-","-","-"),
("transport-4-chacha20-esn","transport",4,4,"chacha20","-",1,0,"-","-","-","-","-"),
("tunnel-4in4-gcm128-esn-wrap","tunnel",4,4,"gcm128","-",1,0,"-","-","wrap","-","-"),
("tunnel-4in4-cbc128-sha256-esn-wrap","tunnel",4,4,"cbc128","sha256",1,0,"-","-","wrap","-","-"),
("tunnel-4in4-tfc300","tunnel",4,4,"gcm128","-",0,0,"-","-","-","300","-"),
("tunnel-6in6-tfc300","tunnel",6,6,"cbc128","sha256",0,0,"-","-","-","300","-"),
("tunnel-4in4-decapdscp","tunnel",4,4,"gcm128","-",0,0,"decap-dscp","-","-","-","cs1"),
("tunnel-6in6-decapdscp","tunnel",6,6,"gcm128","-",0,0,"decap-dscp","-","-","-","cs1"),
("tunnel-4in4-dontencapdscp","tunnel",4,4,"gcm128","-",0,0,"-","dont-encap-dscp","-","-","-"),
("tunnel-6in4-noecn","tunnel",6,4,"gcm128","-",0,0,"noecn","-","-","-","ce"),
("tunnel-4in4-nopmtudisc","tunnel",4,4,"gcm128","-",0,0,"nopmtudisc","-","-","-","-"),
("tunnel-4in4-ce","tunnel",4,4,"gcm128","-",0,0,"-","-","-","-","ce"),
("tunnel-6in6-ce","tunnel",6,6,"gcm128","-",0,0,"-","-","-","-","ce"),
("tunnel-4in6-ce","tunnel",4,6,"gcm128","-",0,0,"-","-","-","-","ce"),
]
KL={"gcm128":20,"gcm256":36,"chacha20":36,"cbc128":16,"cbc192":24,"cbc256":32}
AL={"-":0,"sha256":32,"sha384":48,"sha512":64}
def key(s,n):
    return hashlib.shake_128(s.encode()).hexdigest(n) if n else "-"
f=open("cases.txt", "w")
f.write("# name mode inner outer enc auth esn udp flags extra-flags sequence tfc mangle ; keys: to-east enc, auth; to-west enc, auth\n")
for c in C:
    ks=[key(c[0]+d+k,n) for d in("e","w") for k,n in(("enc",KL[c[4]]),("auth",AL[c[5]]))]
    f.write(" ".join(map(str,c))+" "+" ".join(ks)+"\n")
