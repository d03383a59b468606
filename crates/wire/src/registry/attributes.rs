//! Traffic selectors, configuration and EAP.

use super::registry;

registry! {
    /// Traffic selector types (RFC 7296, 3.13.1).
    pub struct TsType(u8) {
        7 IPV4_ADDR_RANGE = "TS_IPV4_ADDR_RANGE" ("RFC 7296"),
        8 IPV6_ADDR_RANGE = "TS_IPV6_ADDR_RANGE" ("RFC 7296"),
        9 FC_ADDR_RANGE = "TS_FC_ADDR_RANGE" ("RFC 4595"),
        10 SECLABEL = "TS_SECLABEL" ("RFC 9478"),
    }
}

registry! {
    /// Types of configuration payloads (RFC 7296, 3.15).
    pub struct CfgType(u8) {
        1 REQUEST = "CFG_REQUEST" ("RFC 7296"),
        2 REPLY = "CFG_REPLY" ("RFC 7296"),
        3 SET = "CFG_SET" ("RFC 7296"),
        4 ACK = "CFG_ACK" ("RFC 7296"),
    }
}

registry! {
    /// Types of configuration attributes, 15 bits (RFC 7296, 3.15.1).
    pub struct CfgAttributeType(u16) {
        1 INTERNAL_IP4_ADDRESS ("RFC 7296"),
        2 INTERNAL_IP4_NETMASK ("RFC 7296"),
        3 INTERNAL_IP4_DNS ("RFC 7296"),
        4 INTERNAL_IP4_NBNS ("RFC 7296"),
        6 INTERNAL_IP4_DHCP ("RFC 7296"),
        7 APPLICATION_VERSION ("RFC 7296"),
        8 INTERNAL_IP6_ADDRESS ("RFC 7296"),
        10 INTERNAL_IP6_DNS ("RFC 7296"),
        12 INTERNAL_IP6_DHCP ("RFC 7296"),
        13 INTERNAL_IP4_SUBNET ("RFC 7296"),
        14 SUPPORTED_ATTRIBUTES ("RFC 7296"),
        15 INTERNAL_IP6_SUBNET ("RFC 7296"),
        16 MIP6_HOME_PREFIX ("RFC 5026"),
        17 INTERNAL_IP6_LINK ("RFC 5739"),
        18 INTERNAL_IP6_PREFIX ("RFC 5739"),
        19 HOME_AGENT_ADDRESS ("3GPP TS 24.302"),
        20 P_CSCF_IP4_ADDRESS ("RFC 7651"),
        21 P_CSCF_IP6_ADDRESS ("RFC 7651"),
        22 FTT_KAT ("3GPP TS 24.302"),
        23 EXTERNAL_SOURCE_IP4_NAT_INFO ("3GPP TS 29.139"),
        24 TIMEOUT_PERIOD_FOR_LIVENESS_CHECK ("3GPP TS 24.302"),
        25 INTERNAL_DNS_DOMAIN ("RFC 8598"),
        26 INTERNAL_DNSSEC_TA ("RFC 8598"),
        27 ENCDNS_IP4 ("RFC 9464"),
        28 ENCDNS_IP6 ("RFC 9464"),
        29 ENCDNS_DIGEST_INFO ("RFC 9464"),
    }
}

registry! {
    /// EAP codes (RFC 3748, 4).
    pub struct EapCode(u8) {
        1 REQUEST = "Request" ("RFC 3748"),
        2 RESPONSE = "Response" ("RFC 3748"),
        3 SUCCESS = "Success" ("RFC 3748"),
        4 FAILURE = "Failure" ("RFC 3748"),
        5 INITIATE = "Initiate" ("RFC 6696"),
        6 FINISH = "Finish" ("RFC 6696"),
    }
}

registry! {
    /// EAP method types, those that IPsec peers are known to use (the registry "EAP Registry" has more).
    pub struct EapType(u8) {
        1 IDENTITY = "Identity" ("RFC 3748"),
        2 NOTIFICATION = "Notification" ("RFC 3748"),
        3 NAK = "Nak" ("RFC 3748"),
        4 MD5_CHALLENGE = "MD5-Challenge" ("RFC 3748"),
        5 OTP = "One-Time Password (OTP)" ("RFC 3748"),
        6 GTC = "Generic Token Card (GTC)" ("RFC 3748"),
        13 TLS = "EAP-TLS" ("RFC 5216"),
        18 SIM = "EAP-SIM" ("RFC 4186"),
        21 TTLS = "EAP-TTLS" ("RFC 5281"),
        23 AKA = "EAP-AKA" ("RFC 4187"),
        25 PEAP ("draft-josefsson-pppext-eap-tls-eap"),
        26 MSCHAPV2 = "EAP-MSCHAPv2" ("draft-kamath-pppext-eap-mschapv2"),
        29 MSCHAPV2_ALT = "EAP-MSCHAP-V2" ("draft-dpotter-pppext-eap-mschap"),
        50 AKA_PRIME = "EAP-AKA'" ("RFC 9048"),
        52 PWD = "EAP-pwd" ("RFC 5931"),
        254 EXPANDED = "Expanded" ("RFC 3748"),
    }
}
