//! The algorithms of IKEv2 and ESP by IANA number and by name, and the IKEv2 key schedule.
