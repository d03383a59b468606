//! ESP packet transforms: tunnel and transport mode, extended sequence numbers, replay protection. Pure.
