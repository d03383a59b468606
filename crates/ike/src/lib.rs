//! The IKEv2 protocol without I/O: endpoint, IKE SA, child SA, one module per exchange.
