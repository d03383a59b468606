//! The MTU of the paths that outbound SAs use.

use std::net::IpAddr;

use hashbrown::HashMap;

/// No path is thought smaller than this: what every IPv4 host takes (RFC 791).
const MIN_MTU: usize = 576;

#[derive(Debug)]
struct State {
    mtu: usize,
    /// How many SAs use the path.
    users: usize,
}

/// Path MTUs by address pair, ours first.
#[derive(Debug)]
pub(super) struct Paths {
    known: HashMap<(IpAddr, IpAddr), State>,
    new: Vec<(IpAddr, IpAddr)>,
    default_mtu: usize,
}

impl Paths {
    pub(super) fn new(default_mtu: usize) -> Self {
        Self {
            known: HashMap::new(),
            new: Vec::new(),
            default_mtu,
        }
    }

    /// An SA begins to use a path; its MTU.
    pub(super) fn enter(&mut self, local: IpAddr, remote: IpAddr) -> usize {
        let state = self.known.entry((local, remote)).or_insert_with(|| {
            self.new.push((local, remote));
            State {
                mtu: self.default_mtu,
                users: 0,
            }
        });
        state.users += 1;
        state.mtu
    }

    /// An SA ends to use a path.
    pub(super) fn leave(&mut self, local: IpAddr, remote: IpAddr) {
        if let Some(state) = self.known.get_mut(&(local, remote)) {
            state.users -= 1;
            if state.users == 0 {
                self.known.remove(&(local, remote));
            }
        }
    }

    pub(super) fn mtu(&self, local: IpAddr, remote: IpAddr) -> usize {
        self.known
            .get(&(local, remote))
            .map_or(self.default_mtu, |state| state.mtu)
    }

    /// Sets an MTU; whether that has changed it.
    pub(super) fn set(&mut self, local: IpAddr, remote: IpAddr, mtu: usize) -> bool {
        let mtu = mtu.clamp(MIN_MTU, usize::from(u16::MAX));
        let Some(state) = self.known.get_mut(&(local, remote)) else {
            return false;
        };
        std::mem::replace(&mut state.mtu, mtu) != mtu
    }

    pub(super) fn take_new(&mut self) -> Option<(IpAddr, IpAddr)> {
        self.new.pop()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.known.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lives_as_long_as_its_sas() {
        let (a, b) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut paths = Paths::new(1500);
        assert!(!paths.set(a, b, 1400), "nobody uses it");
        assert_eq!(paths.enter(a, b), 1500);
        assert_eq!(paths.take_new(), Some((a, b)));
        assert!(paths.set(a, b, 1400));
        assert!(!paths.set(a, b, 1400));
        assert_eq!(paths.enter(a, b), 1400);
        assert_eq!(paths.take_new(), None);
        assert!(paths.set(a, b, 0));
        assert_eq!(
            paths.mtu(a, b),
            MIN_MTU,
            "a forged ICMP error cannot stop the tunnel"
        );
        paths.leave(a, b);
        paths.leave(a, b);
        assert_eq!(paths.iter().count(), 0);
    }
}
