//! The user-space data plane: TUN device, ESP, UDP and raw sockets.
