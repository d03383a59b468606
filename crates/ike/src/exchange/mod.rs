//! The exchanges of IKEv2, each in a module of its own.

pub(crate) mod auth_lifetime;
pub(crate) mod crash_detection;
pub(crate) mod create_child_sa;
pub(crate) mod first_request;
pub(crate) mod ike_auth;
pub(crate) mod ike_intermediate;
pub(crate) mod ike_sa_init;
pub(crate) mod ike_session_resume;
pub(crate) mod informational;
pub(crate) mod message_id_sync;
pub(crate) mod mobike;
pub(crate) mod puzzle;
pub(crate) mod redirect;
pub(crate) mod replay_counter_sync;
pub(crate) mod set_window_size;
