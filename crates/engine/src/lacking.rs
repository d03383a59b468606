//! Connections that cannot be loaded: what they ask for, their data plane does not have.

use cygnet_ipsec::{PlaneFeatures, Protocol};

use crate::connection::{Connection, ConnectionKind, PlaneChoice, StartAction};
use crate::engine::Engine;
use crate::io::Plane;
use crate::plane_conflict::PlaneConflict;

/// A connection wants what its data plane does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection \"{connection}\": {plane} has no {feature}")]
pub struct Lacking {
    /// The connection.
    pub connection: String,
    /// The data plane, for people.
    pub plane: &'static str,
    /// What it lacks, for people.
    pub feature: &'static str,
}

/// Why a configuration is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Two connections stand in each other's way.
    #[error(transparent)]
    PlaneConflict(#[from] PlaneConflict),
    /// A connection can never work.
    #[error(transparent)]
    Lacking(#[from] Lacking),
}

/// What a connection cannot do without and `features` do not have.
fn lack(connection: &Connection, features: &PlaneFeatures) -> Option<&'static str> {
    [
        (
            connection.kind == ConnectionKind::Transport,
            features.transport,
            "transport mode",
        ),
        (
            connection.kind == ConnectionKind::Beet,
            features.beet,
            "BEET mode",
        ),
        (connection.child.protocol == Protocol::Ah, features.ah, "AH"),
        (
            connection.child.kernel_label().is_some(),
            features.labels,
            "security labels: `label-mode=simple` only negotiates them",
        ),
        (
            connection.child.interface.is_some(),
            features.interfaces,
            "xfrm interfaces (`ipsec-interface=`)",
        ),
        (
            connection.child.tfc > 0,
            features.tfc_padding,
            "padding for traffic flow confidentiality",
        ),
    ]
    .into_iter()
    .find_map(|(wanted, there, name)| (wanted && !there).then_some(name))
}

impl Engine {
    /// What a plane has; `None` if it is not there at all.
    pub(crate) fn features_of(&self, plane: Plane) -> Option<&PlaneFeatures> {
        let capabilities = &self.options.capabilities;
        match plane {
            Plane::Kernel => capabilities.kernel.as_ref(),
            Plane::Userspace => capabilities.userspace.as_ref(),
        }
    }

    /// Where the packets of a configured connection are transformed. `dataplane=auto` is the kernel where it has all that
    /// the connection needs, else user space. Passthrough and drop are the kernel's.
    pub(crate) fn plane_for(&self, connection: &Connection) -> Plane {
        let suits = |plane: &Plane| {
            self.features_of(*plane)
                .is_some_and(|features| lack(connection, features).is_none())
        };
        match connection.plane {
            _ if !connection.negotiates() => Plane::Kernel,
            PlaneChoice::Kernel => Plane::Kernel,
            PlaneChoice::Userspace => Plane::Userspace,
            PlaneChoice::Auto => [Plane::Kernel, Plane::Userspace]
                .into_iter()
                .find(suits)
                // Neither can: the kernel's refusal is the better message.
                .unwrap_or(Plane::Kernel),
        }
    }

    /// Looks for connections that can never work. A plane that is not there at all may come, and refuses for itself.
    pub(crate) fn check_features(&self, connections: &[Connection]) -> Result<(), Lacking> {
        let loaded = connections
            .iter()
            .filter(|c| c.start != StartAction::Ignore && c.negotiates());
        for connection in loaded {
            let plane = self.plane_for(connection);
            let features = self.features_of(plane);
            if let Some(feature) = features.and_then(|features| lack(connection, features)) {
                return Err(Lacking {
                    connection: connection.name.clone(),
                    plane: match plane {
                        Plane::Kernel => "this kernel",
                        Plane::Userspace => "the data plane in user space",
                    },
                    feature,
                });
            }
        }
        Ok(())
    }
}
