//! The two initial exchanges, read as packet traces.

use crate::sim::*;

#[test]
fn four_messages_make_two_sas() {
    let mut sim = Pair::default().sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    let nat = "N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)";
    assert_eq!(
        sim.lines(),
        [
            format!("east 500 > 500 IKE_SA_INIT request 0 SA KE Nonce {nat}"),
            format!("west 500 > 500 IKE_SA_INIT response 0 SA KE Nonce {nat} N(CHILDLESS_IKEV2_SUPPORTED)"),
            "east 500 > 500 IKE_AUTH request 1 SK".to_owned(),
            "west 500 > 500 IKE_AUTH response 1 SK".to_owned(),
        ]
    );
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);
    assert_eq!(sim.event_names(1), ["ike_established", "child_established"]);
    sim.assert_agreement(0, 1);
}
