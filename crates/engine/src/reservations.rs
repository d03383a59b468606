//! SPIs and CPIs that the planes have reserved for child SAs that are being made. A reservation is at the address that
//! the IKE SA had then. That may have moved when the SPI is used or given back, and what is reserved is found under the
//! old address only.

use std::net::IpAddr;

use cygnet_ipsec::{AllocateSpi, Command, Mark, Protocol, SaId};

use crate::engine::{Engine, USERSPACE_SPIS};
use crate::io::Plane;

/// Larval states of an SPI and, with compression, of a CPI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    local: IpAddr,
    cpi: Option<u16>,
}

impl Engine {
    /// A plane has reserved what it was asked for.
    pub(crate) fn reserve(&mut self, request: &AllocateSpi, spi: u32, cpi: Option<u16>) {
        let local = request.dst;
        let reservation = Reservation { local, cpi };
        self.reserved.insert((spi, request.protocol), reservation);
    }

    /// A child SA is installed at an address of ours: what of its reservation will not turn into SAs is given back.
    pub(crate) fn use_reservation(
        &mut self,
        (spi, protocol): (u32, Protocol),
        local: IpAddr,
        unused_cpi: Option<u16>,
    ) {
        let Some(reserved) = self.reserved.remove(&(spi, protocol)) else {
            return;
        };
        let moved = reserved.local != local;
        let spi_left = moved.then_some((spi, protocol));
        let cpi_left = reserved.cpi.filter(|cpi| moved || Some(*cpi) == unused_cpi);
        self.give_back(plane_of(spi), reserved.local, spi_left, cpi_left);
    }

    /// No child SA is made with an SPI. `local` and `cpi` are as the IKE SA knows them.
    pub(crate) fn release_reservation(
        &mut self,
        (spi, protocol): (u32, Protocol),
        local: IpAddr,
        cpi: Option<u16>,
    ) {
        let reserved = self.reserved.remove(&(spi, protocol));
        let reserved = reserved.unwrap_or(Reservation { local, cpi });
        let spi_left = Some((spi, protocol));
        self.give_back(plane_of(spi), reserved.local, spi_left, reserved.cpi);
    }

    fn give_back(
        &mut self,
        plane: Plane,
        local: IpAddr,
        spi: Option<(u32, Protocol)>,
        cpi: Option<u16>,
    ) {
        let cpi = cpi.map(|cpi| (cpi.into(), Protocol::Comp));
        let larval = [spi, cpi].into_iter().flatten();
        let commands: Vec<_> = larval
            .map(|(spi, protocol)| SaId {
                dst: local,
                spi,
                protocol,
                mark: Mark::ANY,
            })
            .map(Command::RemoveSa)
            .collect();
        if !commands.is_empty() {
            self.execute(plane, commands, "releasing an SPI");
        }
    }
}

/// The plane that has given this SPI.
fn plane_of(spi: u32) -> Plane {
    match USERSPACE_SPIS.contains(&spi) {
        true => Plane::Userspace,
        false => Plane::Kernel,
    }
}
