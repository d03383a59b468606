//! ipsec.conf and ipsec.secrets, read into the engine's connections.
