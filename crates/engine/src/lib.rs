//! Connections, intents, traps and allocation above the IKE SAs, without I/O.
