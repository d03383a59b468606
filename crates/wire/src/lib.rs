//! IKEv2 messages: bytes to values and back. No cryptography, no state.
