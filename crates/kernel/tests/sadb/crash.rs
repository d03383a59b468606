//! Death at any point, and the next start.

use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use cygnet_ipsec as ipsec;
use cygnet_kernel::Sadb;
use cygnet_kernel::ledger::{Claim, Ledger};
use cygnet_kernel::sadb::LinuxSadb;
use ipsec::{
    AllocateSpi, Command, CommandError, Direction, Mark, Mode, Policy, PolicyKey, Protocol, Reply,
    SaDatabase, SaDirection, Selector,
};

use crate::common::{Netns, ip, privileged, settle};
use crate::pair::{Recipe, addr};

const CRASH: &str = "CYGNET_TEST_CRASH";

fn numbered(n: u8) -> Policy {
    let selector = Selector::new(
        format!("10.{n}.0.0/16").parse().unwrap(),
        "10.200.0.0/16".parse().unwrap(),
    );
    let mut policy = Policy::new(PolicyKey::new(Direction::Out, selector));
    policy.action = ipsec::Action::Block;
    policy.priority = 1000 + u32::from(n);
    policy
}

/// The first life: makes things and is killed. Runs as a child of the next test.
#[test]
fn crash_child() {
    let Some(arguments) = std::env::var_os(CRASH) else {
        return;
    };
    let arguments = arguments.into_string().unwrap();
    let (ledger, recipe) = (PathBuf::from(arguments), Recipe::default());
    let mut ledger = Ledger::open(ledger).unwrap();
    // Death between the entry and the request: once for what is never made, once for what
    // somebody else has.
    ledger
        .begin([8, 9].iter().map(|n| Claim::policy(&numbered(*n).key)))
        .unwrap();
    let mut sadb = LinuxSadb::open(Some(ledger)).unwrap();
    let commands: Vec<_> = [1, 2, 3]
        .map(|n| Command::InstallPolicy(Box::new(numbered(n))))
        .into_iter()
        .chain([Command::AllocateSpi(AllocateSpi {
            src: addr("192.0.2.2"),
            dst: addr("192.0.2.1"),
            protocol: Protocol::Esp,
            mode: Mode::Tunnel,
            reqid: 77,
            if_id: 0,
            mark: Mark::ANY,
            min: 0x6000,
            max: 0x6fff,
            acquire_seq: 0,
        })])
        .collect();
    for result in sadb.execute_all(&commands) {
        result.unwrap();
    }
    // EEXIST: somebody else's, and it stays so.
    assert_eq!(
        sadb.execute(&Command::InstallPolicy(Box::new(numbered(7)))),
        Err(CommandError::Exists)
    );
    if sadb.probe().unwrap().has_esp() {
        let sa = recipe.sa(
            addr("192.0.2.9"),
            addr("192.0.2.1"),
            0x7000,
            SaDirection::In,
            1,
        );
        sadb.execute(&Command::InstallSa(Box::new(sa))).unwrap();
    }
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

#[test]
fn after_kill_9_what_was_ours_is_found_and_nothing_else_is_touched() {
    const TEST: &str = "after_kill_9_what_was_ours_is_found_and_nothing_else_is_touched";
    if !privileged(TEST) {
        return;
    }
    let ns = Netns::new("crash");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("xfrm.ledger");

    // Somebody else's things, also under keys that we will want.
    let mut other = ns.run(|| LinuxSadb::open(None)).unwrap();
    for n in [7, 9, 50] {
        other
            .execute(&Command::InstallPolicy(Box::new(numbered(n))))
            .unwrap();
    }
    let foreign_spi = Command::AllocateSpi(AllocateSpi {
        src: addr("192.0.2.2"),
        dst: addr("192.0.2.1"),
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 1,
        if_id: 0,
        mark: Mark::ANY,
        min: 0x6000,
        max: 0x6fff,
        acquire_seq: 0,
    });
    other.execute(&foreign_spi).unwrap();
    // The kernel's times have whole seconds, and a second is allowed for clocks that differ.
    std::thread::sleep(Duration::from_millis(2100));

    let exe = std::env::current_exe().unwrap();
    let status = ns
        .run(|| {
            Process::new(&exe)
                .args(["--exact", "crash::crash_child", "--nocapture"])
                .env(CRASH, &path)
                .status()
        })
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9), "{status}");

    // The next life.
    let mut sadb = ns
        .run(|| LinuxSadb::open(Some(Ledger::open(&path).unwrap())))
        .unwrap();
    let found = sadb.reconcile().unwrap();
    let mut adopted = found.adopted_policies.clone();
    adopted.sort_by_key(|k| k.selector.src);
    assert_eq!(adopted, [1, 2, 3].map(|n| numbered(n).key));
    let larval = found
        .removed_sas
        .iter()
        .filter(|id| (0x6000..=0x6fff).contains(&id.spi))
        .count();
    assert_eq!(larval, 1);
    let esp = found.removed_sas.iter().any(|id| id.spi == 0x7000);
    assert_eq!(found.removed_sas.len(), 1 + usize::from(esp));
    assert_eq!(
        found.dropped_entries, 2,
        "8 was never made, 9 is older than its entry"
    );
    assert_eq!(sadb.sas().unwrap().len(), 1, "the foreign larval state");

    // What is configured still is taken over without a gap; the rest goes.
    for n in [1, 2] {
        assert_eq!(
            sadb.execute(&Command::InstallPolicy(Box::new(numbered(n)))),
            Ok(Reply::Done)
        );
    }
    assert_eq!(
        sadb.execute(&Command::InstallPolicy(Box::new(numbered(1)))),
        Err(CommandError::Exists),
        "only once"
    );
    let removed: Vec<_> = sadb
        .remove_unclaimed()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(removed, [numbered(3).key]);
    assert_eq!(priorities(&mut sadb), [1001, 1002, 1007, 1009, 1050]);

    // What is foreign cannot be removed or replaced, not even by mistake.
    assert_eq!(
        sadb.execute(&Command::RemovePolicy(numbered(50).key)),
        Err(CommandError::NotFound)
    );
    assert_eq!(
        sadb.execute(&Command::UpdatePolicy(Box::new(numbered(50)))),
        Err(CommandError::Exists)
    );
    // Ours can, also what the same send has just made.
    let mut changed = numbered(4);
    changed.priority = 5;
    let commands = [
        Command::UpdatePolicy(Box::new(numbered(4))),
        Command::UpdatePolicy(Box::new(changed.clone())),
        Command::RemovePolicy(changed.key),
    ];
    assert_eq!(
        sadb.execute_all(&commands),
        [Ok(Reply::Done), Ok(Reply::Done), Ok(Reply::Done)]
    );

    // A polite stop.
    assert_eq!(sadb.remove_all(), []);
    assert_eq!(priorities(&mut sadb), [1007, 1009, 1050]);
    assert_eq!(sadb.sas().unwrap().len(), 1);
    assert!(sadb.ledger().unwrap().is_empty());
    settle();
    ns.run(|| ip("link set lo up"));
}

fn priorities(sadb: &mut LinuxSadb) -> Vec<u32> {
    let mut list: Vec<_> = sadb
        .policies()
        .unwrap()
        .iter()
        .map(|report| report.policy.priority)
        .collect();
    list.sort_unstable();
    list
}
