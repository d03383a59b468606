//! Between the protocol and the planes: SPIs, installation and removal of
//! child SAs, and what the endpoint tells.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ike::{
    ChildCloseReason, ChildFailure, ChildInstall, ChildSaId, ChildSaInfo, CloseReason,
    FailureReason, Gateway, IkeSaId, Output as IkeOutput, Refusal, RefusalKind, Reserved,
};
use cygnet_ipsec::{AllocateSpi, Command, CommandError, Mark, Protocol, Reply, Selector};
use cygnet_wire::IpcompNotify;

use crate::clones::is_clone;
use crate::commands::{Path, PolicyPlan, compression, lifetimes, security_associations};
use crate::connection_state::{ConnectionId, State};
use crate::engine::{Child, Engine, KERNEL_SPIS, USERSPACE_SPIS, Waiting};
use crate::event::Event;
use crate::io::{Answer, Output, Plane, Request};
use crate::moves::Ends;
use crate::selectors::outbound_selectors;
use crate::shared_policies::OwnerId;
use crate::timers::Timer;
use crate::transaction::{Completion, Outcome, Step, Transaction};
use crate::traps::needs_protection;

impl Engine {
    /// Carries the endpoint's outputs on until it has none.
    pub(crate) fn drain_endpoint(&mut self, now: Instant) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                IkeOutput::Transmit(transmit) => self.outputs.push_back(Output::Transmit(transmit)),
                IkeOutput::Stream {
                    local,
                    remote,
                    used,
                } => self.outputs.push_back(Output::Stream {
                    local,
                    remote,
                    used,
                }),
                IkeOutput::Request { id, request } => self.on_ike_request(now, id, request),
                IkeOutput::Event(event) => self.on_ike_event(now, event),
            }
        }
    }

    fn connection_of(&self, config: &cygnet_ike::ChildConfig) -> Option<ConnectionId> {
        let id = ConnectionId(config.tag);
        self.connections
            .get(&id)
            .is_some_and(|c| !c.unloaded)
            .then_some(id)
    }

    fn refuse(&mut self, now: Instant, id: cygnet_ike::RequestId, kind: RefusalKind, text: &str) {
        let answer = cygnet_ike::Answer::Failed(Refusal::new(kind, text));
        self.endpoint
            .handle(now, cygnet_ike::Input::Answer { id, answer });
    }

    fn on_ike_request(
        &mut self,
        now: Instant,
        id: cygnet_ike::RequestId,
        request: cygnet_ike::Request,
    ) {
        use cygnet_ike::Request as R;
        match request {
            R::AllocateSpi {
                ike,
                config,
                local,
                remote,
                protocol,
                compress,
                acquire_seq,
                ..
            } => {
                let Some(connection) = self.connection_of(&config) else {
                    return self.refuse(
                        now,
                        id,
                        RefusalKind::Failed,
                        "the connection is not loaded any more",
                    );
                };
                // Known from here on: what takes the connection down takes this one along.
                self.join(now, ike, connection);
                let Some(c) = self.connections.get(&connection) else {
                    return;
                };
                let range = if c.plane == Plane::Kernel {
                    KERNEL_SPIS
                } else {
                    USERSPACE_SPIS
                };
                let spi = AllocateSpi {
                    src: remote,
                    dst: local,
                    protocol,
                    mode: config.mode,
                    reqid: c.reqid,
                    if_id: c.config.child.if_id(),
                    mark: Mark::ANY,
                    min: *range.start(),
                    max: *range.end(),
                    acquire_seq,
                };
                let cpi = compress.then(|| AllocateSpi {
                    protocol: Protocol::Comp,
                    min: (*IpcompNotify::NEGOTIATED.start()).into(),
                    max: (*IpcompNotify::NEGOTIATED.end()).into(),
                    acquire_seq: 0,
                    ..spi
                });
                let commands = [Some(spi), cpi].into_iter().flatten();
                let request = Request::Execute {
                    plane: c.plane,
                    commands: commands.map(Command::AllocateSpi).collect(),
                };
                let asked = Box::new(spi);
                self.ask(request, Waiting::Spi { request: id, asked });
            }
            R::SolvePuzzle { puzzle, time, .. } => {
                let request = Request::SolvePuzzle { puzzle, time };
                self.ask(request, Waiting::Puzzle { request: id });
            }
            R::LookForTraffic { children, .. } => self.look_for_traffic(now, id, children),
            R::InstallChild(install) => self.install_child(now, id, &install),
            R::ActivateOutbound { child, .. } => {
                self.activate_outbound(now, child);
                let answer = cygnet_ike::Answer::Done;
                self.endpoint
                    .handle(now, cygnet_ike::Input::Answer { id, answer });
            }
            R::RemoveChild { child, .. } => self.remove_child(now, Some(id), child),
            R::ReleaseSpi {
                local,
                spi,
                cpi,
                protocol,
                ..
            } => {
                self.release_reservation((spi, protocol), local, cpi);
                self.endpoint.handle(
                    now,
                    cygnet_ike::Input::Answer {
                        id,
                        answer: cygnet_ike::Answer::Done,
                    },
                );
            }
        }
    }

    pub(crate) fn on_spi(
        &mut self,
        now: Instant,
        id: cygnet_ike::RequestId,
        asked: &AllocateSpi,
        answer: Answer,
    ) {
        let answer = match answer {
            Answer::Executed(results) => match &results[..] {
                // Without a CPI there is no compression, and all else goes on.
                [Ok(Reply::Spi(spi)), cpi @ ..] => {
                    let cpi = cpi.iter().find_map(|cpi| match cpi {
                        Ok(Reply::Spi(cpi)) => u16::try_from(*cpi).ok(),
                        _ => None,
                    });
                    self.reserve(asked, *spi, cpi);
                    cygnet_ike::Answer::Spi(Reserved { spi: *spi, cpi })
                }
                [Err(e), ..] => cygnet_ike::Answer::Failed(refusal(e)),
                other => cygnet_ike::Answer::Failed(Refusal::new(
                    RefusalKind::Failed,
                    format!("no SPI in the answer: {other:?}"),
                )),
            },
            Answer::Failed(text) => {
                cygnet_ike::Answer::Failed(Refusal::new(RefusalKind::Failed, text))
            }
            other => cygnet_ike::Answer::Failed(Refusal::new(
                RefusalKind::Failed,
                format!("unexpected answer {other:?}"),
            )),
        };
        self.endpoint
            .handle(now, cygnet_ike::Input::Answer { id, answer });
    }

    pub(crate) fn on_puzzle(&mut self, now: Instant, id: cygnet_ike::RequestId, answer: Answer) {
        let failed = |text| cygnet_ike::Answer::Failed(Refusal::new(RefusalKind::Failed, text));
        let answer = match answer {
            Answer::Solution(solution) => cygnet_ike::Answer::Solution(solution),
            Answer::Failed(text) => failed(text),
            other => failed(format!("unexpected answer {other:?}")),
        };
        self.endpoint
            .handle(now, cygnet_ike::Input::Answer { id, answer });
    }

    /// The connection that a child SA is of, and what goes through it.
    fn installable(
        &self,
        install: &ChildInstall,
    ) -> Result<(ConnectionId, Vec<Selector>), Refusal> {
        let connection = self.connection_of(&install.config).ok_or_else(|| {
            Refusal::new(RefusalKind::Failed, "the connection is not loaded any more")
        })?;
        let selectors = outbound_selectors(&install.ts_local, &install.ts_remote)
            .map_err(|e| Refusal::new(RefusalKind::OutOfResources, e.to_string()))?;
        match selectors.is_empty() {
            true => Err(Refusal::new(
                RefusalKind::Invalid,
                "the traffic selectors select nothing",
            )),
            false => Ok((connection, selectors)),
        }
    }

    fn install_child(
        &mut self,
        now: Instant,
        request: cygnet_ike::RequestId,
        install: &ChildInstall,
    ) {
        let (connection, selectors) = match self.installable(install) {
            Ok(installable) => installable,
            Err(refusal) => {
                let reserved = (install.spi_in, install.protocol);
                self.release_reservation(reserved, install.local.ip(), None);
                let answer = cygnet_ike::Answer::Failed(refusal);
                let id = request;
                return self
                    .endpoint
                    .handle(now, cygnet_ike::Input::Answer { id, answer });
            }
        };
        let owner = OwnerId(self.fresh_id());
        let fuzz = self.random();
        let Some(c) = self.connections.get(&connection) else {
            return;
        };
        let (plane, config) = (c.plane, c.config.clone());
        let local_is_left = c
            .oriented
            .as_ref()
            .is_ok_and(|o| o.orientation.local_is_left);
        // Several peers may use a connection to %any at once: each child then needs a reqid of its own, which its
        // successors keep, since the policies name it.
        let shared_reqid = c.reqid;
        let many_peers = c
            .oriented
            .as_ref()
            .is_ok_and(|o| o.orientation.remote.is_none());
        let predecessor = install.replaces.and_then(|old| self.children.get_mut(&old));
        let idle_since = predecessor.as_ref().map_or(now, |old| old.idle_since);
        let has_siblings = install.replaces.is_some() || is_clone(install.resource);
        let own_reqid = match predecessor {
            Some(old) => {
                old.successor = Some(install.child);
                old.own_reqid.clone()
            }
            // Both ends have renewed it at once, and the other successor has taken its place already; or there are others.
            None if many_peers && config.child.reqid.is_none() && has_siblings => {
                let sibling = self.sibling_reqid(connection, install);
                sibling.or_else(|| Some(Arc::new(self.reqids.allocate())))
            }
            None if many_peers && config.child.reqid.is_none() => {
                Some(Arc::new(self.reqids.allocate()))
            }
            None => None,
        };
        let reqid = own_reqid.as_deref().copied().unwrap_or(shared_reqid);

        let lifetimes = lifetimes(&config.child, install.initiator, fuzz);
        let (inbound, outbound) =
            security_associations(install, selectors.first(), &config.child, reqid, lifetimes);
        let compression = compression(install, &inbound, &outbound);
        let [comp_in, comp_out] = compression.map_or([None, None], |sas| sas.map(Some));
        self.use_reservation(
            (install.spi_in, install.protocol),
            install.local.ip(),
            install.unused_cpi,
        );
        let policies = PolicyPlan {
            selectors: &selectors,
            path: Path {
                local: install.local.ip(),
                remote: install.remote.ip(),
            },
            mode: install.mode,
            protocol: install.protocol,
            compressed: install.ipcomp.is_some(),
            reqid,
            per_cpu: self.asks_for_clones(connection, install.resource),
            options: &config.child,
        }
        .protecting();

        let mut steps = Vec::new();
        let (mut protection_id, mut led) = (None, None);
        if needs_protection(plane, &config) {
            let remote = install.remote.ip();
            let protection = self.protection(&config, &selectors, local_is_left, remote);
            protection_id = Some(protection.id);
            let protection = Box::new(protection);
            led = protection.interface.is_some().then(|| protection.clone());
            steps.push(Step::Protect(protection));
        }
        let mut child = Child {
            connection,
            plane,
            owner,
            reqid,
            own_reqid,
            inbound: inbound.id,
            outbound: outbound.id,
            comp_in: comp_in.as_ref().map(|sa| sa.id),
            comp_out: None,
            installed_sas: 0,
            lifetime: lifetimes.inbound,
            deferred: None,
            deferred_comp: None,
            predecessor: install.replaces,
            successor: None,
            superseded: false,
            packets: 0,
            received: 0,
            idle_since,
            policies: policies.iter().map(|p| p.key).collect(),
            protection: protection_id,
            led,
            ends: Ends::new(install.local, install.remote, install.encapsulation),
            departure: None,
            moved: None,
        };
        // Inbound first: the peer may use its SA as soon as it has our answer.
        let mut sas = vec![inbound];
        if install.outbound {
            sas.push(outbound);
            child.comp_out = comp_out.as_ref().map(|sa| sa.id);
            sas.extend(comp_in.into_iter().chain(comp_out));
        } else {
            // Of two outbound SAs for the same policy the younger one is used (K5), and the peer may not be ready.
            child.deferred = Some(Box::new(outbound));
            child.deferred_comp = comp_out.map(Box::new);
            sas.extend(comp_in);
        }
        let install_sa = |sa| Command::InstallSa(Box::new(sa));
        let mut commands: Vec<_> = sas.into_iter().map(install_sa).collect();
        let shared = self.policies.entry(plane).or_default();
        commands.extend(policies.into_iter().map(|p| shared.add(owner, p)));
        steps.push(Step::Execute { plane, commands });
        self.by_sa.insert((plane, child.inbound), install.child);
        // The peer chose this SPI: one that is taken stays with its child, and the installation will fail.
        let outbound = (plane, child.outbound);
        self.by_sa.entry(outbound).or_insert(install.child);
        self.children.insert(install.child, child);
        if let Some(old) = install.replaces {
            self.succeed_duplicate(now, old, install.child);
        }
        let then = Completion::ChildInstalled {
            request,
            child: install.child,
        };
        self.run(now, Transaction::building(steps, then));
    }

    /// The reqid of the child SA that serves what this one would serve, under the same IKE SA: the policies, which both
    /// want, must go on to name the SAs that are sent on.
    fn sibling_reqid(&self, connection: ConnectionId, install: &ChildInstall) -> Option<Arc<u32>> {
        let same = |child: &&ChildSaId| {
            self.endpoint.child_sa(**child).is_some_and(|info| {
                (&info.ts_local, &info.ts_remote) == (&install.ts_local, &install.ts_remote)
            })
        };
        let children = self.children_under(install.ike, connection);
        let sibling = children.iter().find(same)?;
        self.children.get(sibling)?.own_reqid.clone()
    }

    pub(crate) fn on_child_installed(
        &mut self,
        now: Instant,
        request: cygnet_ike::RequestId,
        child: ChildSaId,
        outcome: Outcome,
    ) {
        let answer = match outcome {
            Outcome::Done => {
                if let Some(c) = self.children.get_mut(&child) {
                    c.installed_sas = if c.deferred.is_some() { 1 } else { 2 };
                }
                self.stop_sending_on_predecessor(child);
                cygnet_ike::Answer::Done
            }
            Outcome::Failed {
                text,
                installed_sas,
            } => {
                if let Some(c) = self.children.get_mut(&child) {
                    // The larval state of the inbound SPI is to go even if nothing was installed.
                    let wanted = if c.deferred.is_some() { 1 } else { 2 };
                    c.installed_sas = installed_sas.clamp(1, wanted);
                    // The peer chose this CPI: what was there before it is somebody else's.
                    c.comp_out = c.comp_out.filter(|_| installed_sas == 4);
                }
                self.remove_child(now, None, child);
                cygnet_ike::Answer::Failed(Refusal::new(RefusalKind::Failed, text))
            }
        };
        self.endpoint.handle(
            now,
            cygnet_ike::Input::Answer {
                id: request,
                answer,
            },
        );
        self.drain_endpoint(now);
        // Its IKE SA may have moved meanwhile.
        self.follow_with(now, child);
    }

    /// We send on the successor of a child SA now. Nothing must go out by the old one any more while its deletion is
    /// under way: the planes would turn back to it when the new one reaches a soft limit (K5), and the peer may be
    /// without it by then.
    fn stop_sending_on_predecessor(&mut self, child: ChildSaId) {
        let record = self.children.get(&child);
        let sends = record.filter(|c| c.deferred.is_none());
        let old = sends
            .and_then(|c| c.predecessor)
            .and_then(|old| self.children.get_mut(&old))
            .filter(|old| old.installed_sas == 2 && old.departure.is_none());
        if let Some(old) = old {
            old.installed_sas = 1;
            old.superseded = true;
            let sas = [Some(old.outbound), old.comp_out.take()];
            let commands = sas.into_iter().flatten().map(Command::RemoveSa).collect();
            let plane = old.plane;
            self.execute(plane, commands, "leaving an SA that was rekeyed");
        }
    }

    /// What we send goes by this child SA from now on.
    fn activate_outbound(&mut self, now: Instant, child: ChildSaId) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        let Some(outbound) = record.deferred.take() else {
            return;
        };
        record.installed_sas = 2;
        let comp = record.deferred_comp.take();
        record.comp_out = comp.as_ref().map(|sa| sa.id);
        let sas = [Some(outbound), comp].into_iter().flatten();
        let request = Request::Execute {
            plane: record.plane,
            commands: sas.map(Command::InstallSa).collect(),
        };
        self.ask(request, Waiting::Outbound(child));
        // Its IKE SA may have moved meanwhile.
        self.follow_with(now, child);
    }

    /// The plane has answered to the outbound SA of a successor.
    pub(crate) fn on_outbound(&mut self, now: Instant, child: ChildSaId, answer: Answer) {
        let installed = match &answer {
            Answer::Executed(results) => results.iter().filter(|r| r.is_ok()).count(),
            _ => 0,
        };
        let text = match answer {
            Answer::Executed(results) => match results.into_iter().find_map(Result::err) {
                Some(error) => error.to_string(),
                None => return,
            },
            Answer::Failed(text) => text,
            other => format!("unexpected answer {other:?}"),
        };
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        // Nothing can be sent on it. The peer chose its SPI: what has that may be somebody else's.
        record.installed_sas = 1 + installed.min(1);
        record.comp_out = None;
        let plane = record.plane;
        let text = format!("beginning to send on a new SA: {text}");
        self.tell(Event::CleanupFailed { plane, text });
        self.endpoint.delete_child(now, child);
    }

    pub(crate) fn remove_child(
        &mut self,
        now: Instant,
        request: Option<cygnet_ike::RequestId>,
        child: ChildSaId,
    ) {
        let moving = self.children.get_mut(&child);
        if let Some(departure) = moving.and_then(|record| record.departure.as_mut())
            && departure.under_way
        {
            // Where its SAs are is not known before it has arrived, and what is on its way to them is to arrive, too.
            departure.removal.get_or_insert(request);
            return;
        }
        let Some(record) = self.children.remove(&child) else {
            if let Some(id) = request {
                let answer = cygnet_ike::Answer::Done;
                self.endpoint
                    .handle(now, cygnet_ike::Input::Answer { id, answer });
            }
            return;
        };
        self.timers.clear(Timer::Inactivity(child));
        self.timers.clear(Timer::Duplicate(child));
        let former = record.departure.as_ref().map(|d| d.sas.clone());
        let former = former.into_iter().flatten();
        for sa in [record.inbound, record.outbound]
            .into_iter()
            .chain(former.clone())
        {
            if self.by_sa.get(&(record.plane, sa)) == Some(&child) {
                self.by_sa.remove(&(record.plane, sa));
            }
        }
        let mut sas = Vec::new();
        // What was sent on it before the peer turned to another one may be on its way: to a successor, also one that has
        // a successor by now, or to what was made under another IKE SA.
        let goes_on = self
            .connections
            .get(&record.connection)
            .into_iter()
            .flat_map(|c| &c.children)
            .filter_map(|other| self.children.get(other))
            .any(|other| record.successor.is_some() || other.policies == record.policies);
        if goes_on && record.departure.is_none() && !self.shutting_down {
            self.leave_inbound(now, child, &record);
        } else {
            sas.push(record.inbound);
            sas.extend(record.comp_in);
            if let Some(reqid) = record.own_reqid.and_then(Arc::into_inner) {
                self.reqids.release(reqid);
            }
        }
        // The peer chose the outbound SPI: one that we did not install may be somebody else's.
        if record.installed_sas >= 2 {
            sas.insert(0, record.outbound);
        }
        sas.extend(record.comp_out);
        // Of one that could not be moved, nobody knows where it is.
        sas.extend(former.filter(|id| ![record.inbound, record.outbound].contains(id)));
        let steps = self.removal_steps(
            record.plane,
            record.owner,
            record.policies,
            sas,
            record.protection,
        );
        self.run(
            now,
            Transaction::tearing_down(steps, Completion::ChildRemoved { request }),
        );
    }

    fn on_ike_event(&mut self, now: Instant, event: cygnet_ike::Event) {
        use cygnet_ike::Event as E;
        match &event {
            E::IkeEstablished { ike, info, .. } => {
                let (ike, info) = (*ike, info.clone());
                // A successor is known by the name of those whom it will serve.
                if let Some(old) = info.replaces {
                    self.inherit_users(now, old, ike);
                }
                self.note(event);
                self.end_resumption(ike);
                self.on_ike_established(now, ike, &info);
            }
            E::IkeFailed {
                ike,
                reason: FailureReason::Redirected { to },
                info,
            } => {
                let (ike, to, from) = (*ike, to.clone(), info.remote.ip());
                self.note(event);
                let sent = self.negotiating_with(ike);
                self.forget_ike(ike);
                for id in sent {
                    self.on_redirected(now, id, to.clone(), from);
                }
            }
            E::IkeFailed { ike, reason, info } => {
                let why = reason.clone();
                let (ike, name, text) = (*ike, reason.name(), reason.to_string());
                let by_name = info.config.as_ref().map(|c| c.name.clone());
                self.note(event);
                if self.on_resumption_failed(now, ike, &why) {
                    return;
                }
                self.on_ike_failed(now, ike, name, text, by_name);
            }
            E::IkeClosed {
                ike, info, ticket, ..
            } => {
                let ike = *ike;
                if let Some(ticket) = ticket {
                    let (info, ticket) = (info.clone(), ticket.clone());
                    self.keep_ticket(now, ike, &info, ticket);
                }
                self.note(event);
                let stuck = self.negotiating_with(ike);
                self.forget_ike(ike);
                for id in stuck {
                    let text = "the IKE SA was closed before a child SA stood".to_owned();
                    self.attempt_failed(now, id, "closed_early", text, true);
                }
            }
            E::ChildEstablished { ike, info, .. } => {
                let (ike, info) = (*ike, info.clone());
                self.note(event);
                self.on_child_established(now, ike, &info);
            }
            E::ChildrenMoved { from, to, .. } => {
                let (from, to) = (*from, *to);
                self.note(event);
                self.on_children_moved(now, from, to);
            }
            E::IkeRekeyFailed { ike, role, .. } | E::ChildRekeyFailed { ike, role, .. } => {
                let (ike, role) = (*ike, *role);
                self.note(event);
                // What the peer had wanted and could not have is the peer's to see to.
                if role == cygnet_ike::Role::Initiator {
                    self.replace(now, ike);
                }
            }
            // The IKE SA's own end follows and says more.
            E::ChildFailed {
                child,
                config,
                reason: ChildFailure::IkeSaEnded,
                ..
            } => {
                let (child, id) = (*child, config.as_ref().map(|c| ConnectionId(c.tag)));
                self.note(event);
                if let Some(id) = id {
                    self.end_of_clone(id, child, None);
                }
            }
            E::ChildFailed {
                ike,
                child,
                reason,
                config,
            } => {
                let (ike, child) = (*ike, *child);
                let (reason, config) = (reason.clone(), config.clone());
                self.note(event);
                let id = config.as_ref().map(|config| ConnectionId(config.tag));
                if !id.is_some_and(|id| self.end_of_clone(id, child, Some(&reason))) {
                    self.on_child_failed(now, ike, config.as_deref(), &reason);
                }
            }
            E::ChildClosed {
                ike,
                child,
                info,
                reason,
            } => {
                let (ike, child) = (*ike, *child);
                let sent_to = match &reason {
                    ChildCloseReason::IkeSaClosed(CloseReason::Redirected { to }) => {
                        Some((to.clone(), info.remote.ip()))
                    }
                    _ => None,
                };
                let peer_died = matches!(
                    reason,
                    ChildCloseReason::IkeSaClosed(
                        CloseReason::PeerUnresponsive { .. } | CloseReason::PeerCrashed
                    )
                );
                let stood = info.established.map(|at| now.saturating_duration_since(at));
                let owner = ConnectionId(info.config.tag);
                let gone = info.clone();
                self.note(event);
                if peer_died {
                    self.on_dead_peer(owner);
                }
                self.on_child_closed(now, ike, child, owner, stood, sent_to);
                self.end_clones_of(now, owner, &gone);
            }
            E::Synchronised { ike, by, .. } => {
                let (ike, by) = (*ike, *by);
                self.note(event);
                if by == cygnet_ike::Party::Us {
                    self.on_synchronised(now, ike);
                }
            }
            E::ReplayCounters { ike, by, counters } => {
                let (ike, by, counters) = (*ike, *by, *counters);
                self.note(event);
                self.on_replay_counters(now, ike, by, counters);
            }
            E::AuthLifetime { ike, lifetime } => {
                let (ike, lifetime) = (*ike, *lifetime);
                self.note(event);
                self.on_auth_lifetime(now, ike, lifetime);
            }
            // What is only said to be gone, after its failure was told.
            E::Moved { ike, .. } => {
                let ike = *ike;
                self.note(event);
                self.follow(now, ike);
            }
            E::Retransmitting { ike, .. } if !self.ikes.contains_key(ike) => {}
            // Nobody else is to come to it.
            E::Redirecting { ike, .. } => {
                self.ike_record(*ike).retiring = true;
                self.note(event);
            }
            E::Retransmitting { .. }
            | E::RedirectRefused { .. }
            | E::Puzzled { .. }
            | E::CrashTokenForged { .. }
            | E::FallingBack { .. }
            | E::PeerComplaint { .. }
            | E::Rejected { .. } => {
                self.note(event);
            }
        }
    }

    /// Passes an event on with the name of its connection.
    fn note(&mut self, event: cygnet_ike::Event) {
        use cygnet_ike::Event as E;
        let ike = match &event {
            E::IkeEstablished { ike, .. }
            | E::IkeFailed { ike, .. }
            | E::IkeClosed { ike, .. }
            | E::ChildEstablished { ike, .. }
            | E::ChildFailed { ike, .. }
            | E::ChildClosed { ike, .. }
            | E::Retransmitting { ike, .. }
            | E::Puzzled { ike, .. }
            | E::FallingBack { ike, .. }
            | E::Redirecting { ike, .. }
            | E::RedirectRefused { ike, .. }
            | E::Moved { ike, .. }
            | E::AuthLifetime { ike, .. }
            | E::ChildrenMoved { to: ike, .. }
            | E::IkeRekeyFailed { ike, .. }
            | E::ChildRekeyFailed { ike, .. }
            | E::CrashTokenForged { ike }
            | E::Synchronised { ike, .. }
            | E::ReplayCounters { ike, .. }
            | E::PeerComplaint { ike, .. } => Some(*ike),
            E::Rejected { .. } => None,
        };
        let connection = ike
            .and_then(|ike| self.ikes.get(&ike))
            .and_then(|ike| ike.users.first().copied());
        // A child SA says itself whose it is.
        let connection = match &event {
            E::ChildEstablished { info, .. } | E::ChildClosed { info, .. } => {
                Some(ConnectionId(info.config.tag))
            }
            E::ChildFailed {
                config: Some(config),
                ..
            } => Some(ConnectionId(config.tag)),
            _ => connection,
        };
        let connection = connection
            .and_then(|id| self.connections.get(&id))
            .map(|c| c.name.clone());
        self.tell(Event::Ike { connection, event });
    }

    fn on_ike_failed(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        name: &'static str,
        text: String,
        config: Option<String>,
    ) {
        let ours = self.negotiating_with(ike);
        self.forget_ike(ike);
        if !ours.is_empty() {
            for id in ours {
                self.attempt_failed(now, id, name, text.clone(), true);
            }
            return;
        }
        // As responder: keep the reason where the person who looks for it will look.
        let by_name = config.and_then(|name| self.find(&name).ok());
        let by_name = by_name.and_then(|id| self.connections.get_mut(&id));
        if let Some(c) = by_name.filter(|c| c.children.is_empty()) {
            c.last_failure = Some(crate::connection_state::LastFailure {
                name,
                text,
                at: now,
            });
        }
    }

    fn on_child_established(&mut self, now: Instant, ike: IkeSaId, info: &ChildSaInfo) {
        let child = info.id;
        let Some(id) = self.children.get(&child).map(|c| c.connection) else {
            return;
        };
        self.join(now, ike, id);
        let Some(c) = self.connections.get_mut(&id) else {
            // Its connection went while it was installed.
            return self.endpoint.delete_child(now, child);
        };
        c.children.push(child);
        let is_successor = info.replaces.is_some();
        if is_clone(info.resource) && !is_successor {
            if !self.end_of_clone(id, child, None) && info.initiator {
                // It was given up, but the peer's answer was on its way.
                return self.endpoint.delete_child(now, child);
            }
            if info.initiator && self.has_too_many_clones(id) {
                // The peer has begun one at the same time.
                return self.endpoint.delete_child(now, child);
            }
            self.ask_for_clones(id);
            return self.watch_inactivity(now, child);
        }
        let is_asked_for = info.initiator && !is_successor;
        if is_asked_for && c.negotiating != Some(ike) {
            // It was given up, but the peer's answer was on its way.
            return self.endpoint.delete_child(now, child);
        }
        c.tries = 0;
        c.last_failure = None;
        c.released = false;
        c.retry_at = None;
        let mut old = None;
        if is_asked_for {
            c.negotiating = None;
            c.pending = None;
            old = c.replacing.take();
        }
        // One that is being unloaded may have an exchange under way; it is not to come back.
        if c.config.start == crate::connection::StartAction::Keep
            && c.intent == crate::Intent::Down
            && !c.unloaded
        {
            c.intent = crate::Intent::Up;
        }
        let connection = c.name.clone();
        self.timers.clear(Timer::Retry(id));
        self.watch_inactivity(now, child);
        if !is_successor {
            self.tell(Event::ConnectionUp {
                connection,
                ike,
                child,
            });
            if let Some(old) = old {
                self.overlap(now, old, ike);
            }
            self.enforce_uniqueness(now, ike, id, child);
        }
        if info.resource == Some(cygnet_ike::Resource::Fallback) {
            self.on_fallback(now, id);
        }
        self.reconcile(now, id);
    }

    fn on_child_failed(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        config: Option<&cygnet_ike::ChildConfig>,
        reason: &ChildFailure,
    ) {
        let (name, text) = (reason.name(), reason.to_string());
        let id = config.and_then(|c| self.connection_of(c));
        let Some(c) = id.and_then(|id| self.connections.get_mut(&id)) else {
            return;
        };
        let Some(id) = id.filter(|_| c.negotiating == Some(ike)) else {
            c.last_failure = Some(crate::connection_state::LastFailure {
                name,
                text,
                at: now,
            });
            return;
        };
        if matches!(reason, ChildFailure::NoAdditionalSas) {
            // The next attempt makes an IKE SA of its own.
            self.ike_record(ike).retiring = true;
        }
        self.attempt_failed(now, id, name, text, true);
    }

    fn on_child_closed(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        child: ChildSaId,
        owner: ConnectionId,
        stood: Option<Duration>,
        sent_to: Option<(Gateway, IpAddr)>,
    ) {
        let known = self.connections.get_mut(&owner).is_some_and(|c| {
            let before = c.children.len();
            c.children.retain(|k| *k != child);
            c.children.len() < before
        });
        self.drop_out(now, ike, owner);
        let last = |c: &State| c.children.is_empty() && c.negotiating.is_none();
        match sent_to {
            Some((to, from)) if known && self.connections.get(&owner).is_some_and(last) => {
                let connection = self.connections.get(&owner).map(|c| c.name.clone());
                if let Some(connection) = connection {
                    self.tell(Event::ConnectionDown { connection });
                }
                self.on_redirected(now, owner, to, from);
            }
            _ if known => self.child_gone(now, owner, stood),
            _ => {}
        }
    }
}

fn refusal(error: &CommandError) -> Refusal {
    let kind = match error {
        CommandError::Unsupported(_) => RefusalKind::Unsupported,
        CommandError::Invalid(_) | CommandError::Exists | CommandError::NotFound => {
            RefusalKind::Invalid
        }
        CommandError::NoPermission => RefusalKind::NoPermission,
        CommandError::OutOfResources => RefusalKind::OutOfResources,
        CommandError::Failed { .. } => RefusalKind::Failed,
    };
    Refusal::new(kind, error.to_string())
}
