//! Cygnet against strongSwan (charon with its user-space plane): every
//! algorithm, each end as initiator, over IPv4 and IPv6. One test per
//! combination, generated:
//!
//!     <what varies>::<algorithm>::<who initiates>::<outer family>
//!
//! Each brings a tunnel up, sends 1,000 packets each way through it, compares
//! what both ends count, and looks at every packet that crossed the router
//! between them. Tests share a few pairs of daemons, which only get another
//! configuration.
//!
//! `fragmentation::…`: IKE messages in pieces (RFC 7383), with pairs of their own. `rekey::…`: SAs renewed
//! under traffic. `childless::…`: child SAs after IKE_AUTH. `labels::…`: security labels. `life::…`: cookies, liveness checks, lifetimes.

mod algorithms;
mod childless;
mod fragmentation;
mod lab;
mod labels;
mod life;
mod rekey;

use std::process::ExitCode;
use std::sync::Arc;

use cygnet_tests::{Family, Swan, matrix, ready};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::algorithms::{ESP, IKE, KEY_EXCHANGE, Suite};
use crate::lab::Labs;

/// Who initiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initiator {
    Cygnet,
    StrongSwan,
}

impl Initiator {
    const ALL: [Self; 2] = [Self::Cygnet, Self::StrongSwan];

    fn name(self) -> &'static str {
        match self {
            Self::Cygnet => "cygnet_initiates",
            Self::StrongSwan => "strongswan_initiates",
        }
    }
}

/// One combination.
#[derive(Clone, Copy, Debug)]
struct Case {
    suite: Suite,
    initiator: Initiator,
    outer: Family,
}

/// The row of `docs/interop.md` that a test is about.
fn feature_of(title: &str) -> &'static str {
    let rows = [
        ("fragmentation::", "fragmentation"),
        ("childless::", "childless"),
        ("labels::", "labels"),
        ("_with_forward_secrecy", "pfs"),
        ("_rekeys_the_child", "rekey-child"),
        ("_rekeys_the_ike_sa", "rekey-ike"),
        ("_authenticates_anew", "reauthentication"),
        ("_cookie_", "cookie"),
        ("_found_dead", "liveness"),
        ("_is_there", "liveness"),
        ("_authentication_holds", "auth-lifetime"),
    ];
    let row = rows.into_iter().find(|(part, _)| title.contains(part));
    row.unwrap_or_else(|| panic!("{title} is about no row of the page"))
        .1
}

/// Notes for `docs/interop.md` what came of a test.
fn noted(feature: &str, outcome: Result<(), Failed>) -> Result<(), Failed> {
    let (peer, version) = ("strongswan-host", Swan::version());
    matrix::note(feature, peer, &version, outcome.is_ok(), "interop");
    outcome
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let able = arguments.list || ready("strongSwan interoperability", &Swan::NEEDS);
    // More pairs of daemons than processors only wait for each other.
    let labs = Arc::new(Labs::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.test_threads.get_or_insert(threads);
    let mut trials = Vec::new();
    for (group, suites) in [
        ("esp", &ESP[..]),
        ("ike", &IKE[..]),
        ("key_exchange", &KEY_EXCHANGE[..]),
    ] {
        for &(name, suite) in suites {
            for initiator in Initiator::ALL {
                for outer in Family::ALL {
                    let case = Case {
                        suite,
                        initiator,
                        outer,
                    };
                    let labs = labs.clone();
                    let title = format!("{group}::{name}::{}::{}", initiator.name(), outer.name());
                    let trial = Trial::test(title, move || {
                        noted("algorithms", labs.run(&case).map_err(Failed::from))
                    });
                    // Where it cannot run it counts as ignored, and one line has said why.
                    trials.push(trial.with_ignored_flag(!able));
                }
            }
        }
    }
    let others = [
        fragmentation::trials(),
        rekey::trials(),
        childless::trials(),
        labels::trials(),
        life::trials(),
    ];
    for (title, run) in others.into_iter().flatten() {
        let feature = feature_of(&title);
        let trial = Trial::test(title, move || noted(feature, run()));
        trials.push(trial.with_ignored_flag(!able));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the process ends, and without running anything.
    drop(labs);
    conclusion.exit_code()
}
