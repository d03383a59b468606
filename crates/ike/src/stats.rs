//! Counters of an endpoint, by typed reason.

/// Why a datagram, or what it asked for, was dropped without an answer that a peer could rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Not an IKE message.
    Malformed,
    /// Longer than the limit.
    TooLong,
    /// Another major version of IKE.
    MajorVersion,
    /// A message for an IKE SA that is not here.
    UnknownSpi,
    /// A message that must be protected and is not, or the other way round.
    Unprotected,
    /// The integrity check failed.
    IntegrityCheck,
    /// The Message ID is not the expected one.
    MessageId,
    /// A fragment, though fragmentation was not agreed on.
    FragmentUnexpected,
    /// A fragment that is there already, or of a message that has been answered.
    FragmentRepeated,
    /// A fragment of fewer than those that are there are of.
    FragmentMismatch,
    /// A fragment of too many, or one too many for all incomplete messages together.
    FragmentLimit,
    /// Fragments of a message that has not become complete in time.
    FragmentsIncomplete,
    /// A response to nothing that we asked.
    UnexpectedResponse,
    /// A request of a type that does not fit the state.
    UnexpectedExchange,
    /// A repetition of a request that is still being worked on.
    InProgress,
    /// Half-open limit, all addresses together.
    HalfOpenLimit,
    /// Half-open limit of one address.
    HalfOpenLimitOfAddress,
    /// An IKE_SA_INIT request with impossible SPIs or flags.
    BadInit,
    /// A response whose content cannot be used.
    BadResponse,
    /// A token of quick crash detection that is not the peer's.
    CrashToken,
    /// No solution of the puzzle, a wrong one, or one that has been used.
    PuzzleUnsolved,
    /// A reply that would have exceeded the rate of replies without SA.
    RateLimited,
    /// An answer to a request that is not open.
    UnknownAnswer,
}

impl DropReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 23] = [
        Self::Malformed,
        Self::TooLong,
        Self::MajorVersion,
        Self::UnknownSpi,
        Self::Unprotected,
        Self::IntegrityCheck,
        Self::MessageId,
        Self::FragmentUnexpected,
        Self::FragmentRepeated,
        Self::FragmentMismatch,
        Self::FragmentLimit,
        Self::FragmentsIncomplete,
        Self::UnexpectedResponse,
        Self::UnexpectedExchange,
        Self::InProgress,
        Self::HalfOpenLimit,
        Self::HalfOpenLimitOfAddress,
        Self::BadInit,
        Self::BadResponse,
        Self::CrashToken,
        Self::PuzzleUnsolved,
        Self::RateLimited,
        Self::UnknownAnswer,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::MajorVersion => "major_version",
            Self::UnknownSpi => "unknown_spi",
            Self::Unprotected => "unprotected",
            Self::IntegrityCheck => "integrity_check",
            Self::MessageId => "message_id",
            Self::FragmentUnexpected => "fragment_unexpected",
            Self::FragmentRepeated => "fragment_repeated",
            Self::FragmentMismatch => "fragment_mismatch",
            Self::FragmentLimit => "fragment_limit",
            Self::FragmentsIncomplete => "fragments_incomplete",
            Self::UnexpectedResponse => "unexpected_response",
            Self::UnexpectedExchange => "unexpected_exchange",
            Self::InProgress => "in_progress",
            Self::HalfOpenLimit => "half_open_limit",
            Self::HalfOpenLimitOfAddress => "half_open_limit_of_address",
            Self::BadInit => "bad_init",
            Self::BadResponse => "bad_response",
            Self::CrashToken => "crash_token",
            Self::PuzzleUnsolved => "puzzle_unsolved",
            Self::RateLimited => "rate_limited",
            Self::UnknownAnswer => "unknown_answer",
        }
    }
}

/// The counters, and a list of them with their names: neither can be without the other.
macro_rules! counters {
    ($($(#[$doc:meta])* pub $name:ident: u64,)*) => {
        /// What an endpoint has counted since it was made.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            dropped: [u64; DropReason::ALL.len()],
        }

        impl Stats {
            /// All counters but the drops, each with its stable name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams that came in.
    pub datagrams_in: u64,
    /// Datagrams that went out.
    pub datagrams_out: u64,
    /// Octets that came in.
    pub bytes_in: u64,
    /// Octets that went out.
    pub bytes_out: u64,
    /// Requests sent again.
    pub retransmissions: u64,
    /// Requests repeated in smaller fragments than before.
    pub refragmented: u64,
    /// Fragments that came in.
    pub fragments_in: u64,
    /// Fragments that went out.
    pub fragments_out: u64,
    /// NAT keepalives sent.
    pub keepalives_sent: u64,
    /// Repeated requests answered from the cache.
    pub responses_repeated: u64,
    /// Cookies asked for.
    pub cookies_sent: u64,
    /// IKE_SA_INIT requests that brought a valid cookie.
    pub cookies_accepted: u64,
    /// Puzzles given in IKE_SA_INIT, each with a cookie that is not counted above.
    pub puzzles_sent: u64,
    /// Of those, solved.
    pub puzzles_solved: u64,
    /// INVALID_KE_PAYLOAD sent.
    pub invalid_ke_sent: u64,
    /// Peers sent to another gateway in IKE_SA_INIT.
    pub redirected: u64,
    /// Tokens of quick crash detection shown to peers of IKE SAs that are not here.
    pub crash_tokens_sent: u64,
    /// Tickets given to peers (RFC 5723).
    pub tickets_granted: u64,
    /// Tickets of peers that were refused.
    pub tickets_refused: u64,
    /// IKE SAs that resume a session, begun by either end.
    pub resumed: u64,
    /// IKE SAs that we began.
    pub initiated: u64,
    /// IKE SAs that peers began.
    pub responded: u64,
    /// IKE SAs established.
    pub established: u64,
    /// IKE SAs that failed.
    pub failed: u64,
    /// Established IKE SAs that ended.
    pub closed: u64,
}

impl Stats {
    /// How many drops there were for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// All drops, each with its reason.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.dropped(reason)))
    }

    /// Counts a drop.
    pub(crate) fn count(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}
