//! A kernel in memory, for tests: the reference model of `cygnet-ipsec` with an event queue and
//! refusals on demand.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use cygnet_ipsec as ipsec;
use ipsec::reference::Databases;
use ipsec::{
    Command, CommandError, Flow, OutboundPacket, PolicyReport, Reply, Resolution, SaDatabase,
    SaReport,
};

use super::{Algorithms, Capabilities, EspSupport, Sadb, SadbError, SadbEvent};

/// SAD and SPD in memory, with the kernel's rules.
///
/// Time stands still at the instant of creation until [`MemorySadb::set_now`]; SPIs are drawn from
/// a fixed sequence: runs repeat.
#[derive(Debug)]
pub struct MemorySadb {
    databases: Databases,
    now: Instant,
    random: u32,
    events: VecDeque<SadbEvent>,
    log: Vec<Command>,
    refusal: Option<(usize, CommandError)>,
    capabilities: Capabilities,
}

impl Default for MemorySadb {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySadb {
    /// Empty, and able to do everything.
    pub fn new() -> Self {
        Self {
            databases: Databases::new(),
            now: Instant::now(),
            random: 0x9e37_79b9,
            events: VecDeque::new(),
            log: Vec::new(),
            refusal: None,
            capabilities: Capabilities::everything(),
        }
    }

    /// Empty, with other SPIs than those of another number.
    pub fn seeded(seed: u32) -> Self {
        Self {
            // The generator stands still at zero.
            random: seed | 1,
            ..Self::new()
        }
    }

    /// A kernel without ESP: policies only.
    pub fn without_esp() -> Self {
        let missing = EspSupport::Missing {
            reason: "Requested type not found".into(),
        };
        let mut sadb = Self::new();
        sadb.capabilities.esp_v4 = missing.clone();
        sadb.capabilities.esp_v6 = missing;
        sadb
    }

    /// Moves the clock. Larval SAs that have waited too long expire with their event (K11); other
    /// lifetimes are the test's to report by [`MemorySadb::emit`].
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        for state in self.databases.expire_larval(now) {
            let expire = ipsec::Expire {
                sa: state.sa.id,
                src: state.sa.src,
                reqid: state.sa.reqid,
                hard: true,
            };
            self.emit(SadbEvent::Event(ipsec::Event::Expire(expire)));
        }
    }

    /// What becomes of an outbound packet. What is missing raises ACQUIREs.
    pub fn send(&mut self, flow: &Flow) -> Resolution<u64> {
        let resolution = self.databases.output(&OutboundPacket::new(flow));
        for missing in &resolution.missing {
            if let Some(acquire) = self.databases.begin_acquire(self.now, missing) {
                self.events
                    .push_back(SadbEvent::Event(ipsec::Event::Acquire(acquire)));
            }
        }
        resolution
    }

    /// An SA reaches a limit (K11): after a soft one others are preferred to it (K5), after a hard one it is gone. Does
    /// nothing if it is not there.
    pub fn expire(&mut self, id: &ipsec::SaId, hard: bool) {
        let found = self.databases.states().find(|state| state.sa.id == *id);
        let Some(state) = found.filter(|state| state.state == ipsec::SaState::Valid) else {
            return;
        };
        let expire = ipsec::Expire {
            sa: state.sa.id,
            src: state.sa.src,
            reqid: state.sa.reqid,
            hard,
        };
        let serial = state.serial;
        if hard {
            self.databases.remove_sa(id).ok();
        } else {
            self.databases.set_dying(serial, true);
        }
        self.emit(SadbEvent::Event(ipsec::Event::Expire(expire)));
    }

    /// Queues an event.
    pub fn emit(&mut self, event: SadbEvent) {
        self.events.push_back(event);
    }

    /// Refuses one command, after `commands` others have been executed.
    pub fn refuse_after(&mut self, commands: usize, error: CommandError) {
        self.refusal = Some((commands, error));
    }

    /// The commands executed so far, refused ones included.
    pub fn log(&self) -> &[Command] {
        &self.log
    }

    /// The model inside, for lookups.
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    fn random(state: &mut u32) -> u32 {
        // xorshift32 (Marsaglia 2003); only has to spread.
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        *state
    }
}

impl SaDatabase for MemorySadb {
    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError> {
        self.log.push(command.clone());
        match &mut self.refusal {
            Some((0, _)) => {
                if let Some((_, error)) = self.refusal.take() {
                    return Err(error);
                }
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if let Command::InstallSa(sa) = command
            && !self.capabilities.has_esp_for(sa.id.dst)
        {
            return Err(CommandError::Unsupported("Requested type not found".into()));
        }
        let state = &mut self.random;
        self.databases
            .execute(self.now, &mut || Self::random(state), command)
    }
}

impl Sadb for MemorySadb {
    fn next_event(&mut self) -> Result<Option<SadbEvent>, SadbError> {
        Ok(self.events.pop_front())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn sas(&mut self) -> Result<Vec<SaReport>, SadbError> {
        Ok(self
            .databases
            .states()
            .map(|state| SaReport {
                sa: state.sa.clone(),
                state: state.state,
                counters: ipsec::SaCounters {
                    added: Some(state.added),
                    ..ipsec::SaCounters::default()
                },
            })
            .collect())
    }

    fn policies(&mut self) -> Result<Vec<PolicyReport>, SadbError> {
        Ok(self
            .databases
            .policies()
            .map(|installed| PolicyReport {
                policy: installed.policy.clone(),
            })
            .collect())
    }

    fn algorithms(&mut self) -> Result<Algorithms, SadbError> {
        Ok(if self.capabilities.has_esp() {
            Algorithms::everything()
        } else {
            Algorithms::default()
        })
    }

    fn probe(&mut self) -> Result<Capabilities, SadbError> {
        Ok(self.capabilities.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use ipsec::{
        AllocateSpi, Direction, Mark, Mode, Outbound, Policy, PolicyKey, Protocol, Selector,
        Template,
    };

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_packet_raises_an_acquire_and_the_larval_state_expires() {
        let mut kernel = MemorySadb::new();
        let selector = Selector::new(
            "10.1.0.0/24".parse().unwrap(),
            "10.2.0.0/24".parse().unwrap(),
        );
        let mut policy = Policy::new(PolicyKey::new(Direction::Out, selector));
        policy.templates.push(Template {
            src: ip("192.0.2.1"),
            dst: ip("192.0.2.2"),
            spi: 0,
            protocol: Protocol::Esp,
            reqid: 7,
            mode: Mode::Tunnel,
            optional: false,
        });
        kernel
            .execute(&Command::InstallPolicy(Box::new(policy)))
            .unwrap();

        let flow = Flow {
            src: ip("10.1.0.1"),
            dst: ip("10.2.0.1"),
            protocol: 1,
            sport: 8,
            dport: 0,
            mark: 0,
            ifindex: 2,
        };
        assert!(matches!(kernel.send(&flow).verdict, Outbound::Drop(_)));
        let Some(SadbEvent::Event(ipsec::Event::Acquire(acquire))) = kernel.next_event().unwrap()
        else {
            panic!("no acquire");
        };
        assert_eq!((acquire.template.reqid, acquire.dst), (7, ip("192.0.2.2")));
        // The larval state mutes further ones (K5).
        kernel.send(&flow);
        assert_eq!(kernel.next_event().unwrap(), None);

        let now = kernel.now + Duration::from_secs(31);
        kernel.set_now(now);
        assert!(matches!(
            kernel.next_event().unwrap(),
            Some(SadbEvent::Event(ipsec::Event::Expire(e))) if e.hard && e.sa.spi == 0
        ));
    }

    #[test]
    fn spis_repeat_from_run_to_run() {
        let request = Command::AllocateSpi(AllocateSpi {
            src: ip("192.0.2.1"),
            dst: ip("192.0.2.2"),
            protocol: Protocol::Esp,
            mode: Mode::Tunnel,
            reqid: 1,
            if_id: 0,
            mark: Mark::ANY,
            min: 0xc000_0000,
            max: 0xcfff_ffff,
            acquire_seq: 0,
        });
        let spi = |mut kernel: MemorySadb| kernel.execute(&request).unwrap();
        assert_eq!(spi(MemorySadb::new()), spi(MemorySadb::new()));
    }

    #[test]
    fn a_refusal_comes_once_and_when_asked_for() {
        let mut kernel = MemorySadb::new();
        kernel.refuse_after(0, CommandError::OutOfResources);
        let policy = Policy::new(PolicyKey::new(
            Direction::Out,
            Selector::any(ipsec::Family::V4),
        ));
        let command = Command::InstallPolicy(Box::new(policy));
        assert_eq!(kernel.execute(&command), Err(CommandError::OutOfResources));
        assert_eq!(kernel.execute(&command), Ok(Reply::Done));
        assert_eq!(kernel.execute(&command), Err(CommandError::Exists));
        assert_eq!(kernel.log().len(), 3);
    }
}
