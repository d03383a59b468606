//! Real kernels: each scenario under `scenarios/` is a script that runs in a
//! virtual machine (software emulation is enough) and is one test here.
//!
//! `vm-build` makes the images, `run-scenario NAME` runs one by hand.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use cygnet_tests::{Need, binary, matrix, ready};

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vm")
}

/// Two emulated machines at once only make each other late.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a scenario; fails with what its checks said.
fn scenario(name: &str) {
    if !ready(
        &format!("vm scenario {name}"),
        &[Need::Program("qemu-system-x86_64")],
    ) || !images(name)
    {
        return;
    }
    let out = tempfile::Builder::new()
        .prefix("cygnet-vm-out")
        .tempdir()
        .expect("a directory");
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new(here().join("run-scenario"))
        .arg("--out")
        .arg(out.path())
        .arg(name)
        .env("CYGNET_BIN", binary())
        .output()
        .expect("to run the scenario");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let checks = |start: &str| stdout.lines().filter(|l| l.starts_with(start)).count();
    // The plan is the last line of a scenario: without it the script did not get to its end.
    let finished = stdout
        .lines()
        .any(|l| l == format!("1..{}", checks("ok") + checks("not ok")));
    let dmesg = std::fs::read(out.path().join("files/dmesg")).unwrap_or_default();
    let dmesg = String::from_utf8_lossy(&dmesg);
    let complaint = dmesg
        .lines()
        .find(|l| ["BUG:", "WARNING:", "Oops"].iter().any(|w| l.contains(w)));
    let good = output.status.success()
        && finished
        && checks("ok") > 0
        && checks("not ok") == 0
        && complaint.is_none();
    matrix::note_scenario(name, &stdout, good);
    if !good {
        let kept = out.keep();
        panic!(
            "{name}: {}; kernel: {}; everything it left is in {}\n{stdout}{}",
            output.status,
            complaint.unwrap_or("no complaint"),
            kept.display(),
            String::from_utf8_lossy(&output.stderr),
        );
    }
    println!("{name}: {} checks", checks("ok"));
}

/// Whether the images have been built that a scenario needs.
fn images(name: &str) -> bool {
    let named = |file: &str| {
        let path = here().join("scenarios").join(name).join(file);
        std::fs::read_to_string(path).map(|text| text.trim().to_owned())
    };
    if let Ok(why) = named("long")
        && std::env::var_os("CYGNET_LONG").is_none()
    {
        println!("vm scenario {name} is part of `make interop`: {why}");
        return false;
    }
    let mut build = Command::new(here().join("vm-build"));
    let mut how = "tests/vm/vm-build".to_owned();
    if let Ok(kernel) = named("kernel") {
        if std::env::var_os("CYGNET_LONG").is_none() {
            // It takes long to build.
            println!("vm scenario {name} is part of `make interop`: it needs the kernel {kernel}");
            return false;
        }
        build.env("CYGNET_VM_KERNEL", kernel);
        how = "tests/vm/kernel-build".to_owned();
    }
    if let Ok(suite) = named("root") {
        if std::env::var_os("CYGNET_LONG").is_none() {
            // A suite of Debian that moves from day to day is not what every run should depend on.
            println!("vm scenario {name} is part of `make interop`: it needs Debian {suite}");
            return false;
        }
        how = format!("CYGNET_VM_SUITE={suite} {how} rootfs");
        build.env("CYGNET_VM_SUITE", suite);
    }
    let built = build.arg("--have").status().is_ok_and(|s| s.success());
    if !built {
        let text = format!("vm scenario {name} needs the images that {how} makes");
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "{text}"
        );
        eprintln!("skipped: {text}");
    }
    built
}

macro_rules! scenarios {
    ($($test:ident => $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            scenario($name);
        })*

        #[test]
        fn every_scenario_is_a_test() {
            let mut found: Vec<String> = std::fs::read_dir(here().join("scenarios"))
                .expect("the scenarios")
                .flatten()
                .filter_map(|e| e.file_name().into_string().ok())
                .collect();
            found.sort();
            let mut known = vec![$($name),*];
            known.sort_unstable();
            assert_eq!(found, known);
        }
    };
}

scenarios! {
    the_kernels_databases => "xfrm-sadb",
    strongswan_and_changing_addresses => "mobike",
    libreswan_and_changing_addresses => "mobike-libreswan",
    user_space_esp_against_the_kernels_esp => "userspace-kernel-esp",
    strongswan_and_the_kernel_plane => "strongswan-kernel-plane",
    strongswan_and_the_user_space_plane => "strongswan-userspace-plane",
    both_planes_on_one_address => "both-planes",
    explained_faults_are_the_faults => "explain",
    the_kernel_plane_through_its_life => "kernel-plane-lifecycle",
    libreswan => "libreswan",
    cookies_asked_for_and_brought => "cookies",
    several_child_sas_under_one_ike_sa => "several-children",
    both_ends_behind_nats => "nat-both",
    clients_behind_one_nat => "nat-clients",
    libreswan_and_resumed_sessions => "resumption",
    route_based_on_xfrm_interfaces => "xfrm-interfaces",
    sas_renewed_under_traffic => "rekey",
    strongswan_and_several_key_exchanges => "multiple-key-exchanges",
    default_proposals_and_three_peers => "default-proposals",
    post_quantum_pre_shared_keys => "ppk",
    synchronisation_of_message_ids => "message-id-sync",
    strongswan_and_ml_kem => "ml-kem",
    fragments_with_strongswan_and_libreswan => "fragmentation",
    ike_sas_without_a_child_sa => "childless",
    redirected_by_peers_and_redirecting_them => "redirect",
    strongswan_and_the_modes => "modes-strongswan",
    strongswan_and_several_key_exchanges_when_rekeying => "followup-ke",
    strongswan_and_ml_kem_when_rekeying => "followup-ke-ml-kem",
    libreswan_and_the_modes => "modes-libreswan",
    tcp_encapsulation_with_libreswan => "tcp",
    strongswan_and_ip_tfs => "iptfs",
    strongswan_and_child_sas_of_single_cpus => "per-cpu",
    peers_that_are_silent => "liveness",
    reauthentication_under_traffic => "reauthentication",
    one_ike_sa_for_an_identity => "uniqueness",
    openiked_and_what_it_has => "openiked",
    every_algorithm_of_three_peers => "algorithms",
    security_labels => "labels",
}
