//! What the plane counts besides the kernel's own counters (`/proc/net/xfrm_stat`, K10).

/// Defines a struct of counters with names for the metrics.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// Name and value of each counter.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Drops and decisions of the core that the kernel has no counter for.
    CoreCounters {
        /// Packets from a TUN device that are no IP packets, or whose headers are cut.
        not_ip,
        /// Packets from a TUN device that no policy covers.
        no_policy,
        /// Packets from a TUN device that a policy passes in clear. The kernel's policies and routes
        /// do that; the plane sends nothing in clear.
        clear_refused,
        /// Packets put in a queue while their SA is negotiated.
        held,
        /// Packets that found their queue full.
        held_full,
        /// Packets dropped because no SA came in time, or because their policy went away.
        held_expired,
        /// Waits of received packets: for the SA of their SPI, or for its policies.
        early,
        /// Such packets dropped because too many were kept already.
        early_full,
        /// Such packets dropped because their SA or policy did not come in time, or went away.
        early_expired,
        /// Packets too big for their path; an ICMP error answers them if that is allowed.
        too_big,
        /// Packets too big for their path that got no answer because there were so many.
        icmp_limited,
        /// Inbound dummy packets (next header 59), as traffic flow confidentiality sends them.
        dummies,
        /// Address or port changes of peers behind NATs.
        mappings,
    }
}

counters! {
    /// What the devices and sockets have moved and lost.
    IoCounters {
        /// Packets read from TUN devices.
        tun_received,
        /// Packets written to TUN devices.
        tun_sent,
        /// Packets that a TUN device did not take: it is down, or its queue is full.
        tun_write_failed,
        /// Packets from SAs whose if_id has no device.
        no_device,
        /// Datagrams read from UDP sockets.
        udp_received,
        /// Packets read from raw sockets.
        raw_received,
        /// ESP packets sent over UDP.
        udp_sent,
        /// ESP packets sent natively.
        raw_sent,
        /// NAT keepalives received and dropped (RFC 3948 §2.3).
        keepalives,
        /// Datagrams that the kernel dropped because the plane was behind with reading (as far as a
        /// later datagram has told).
        receive_overflow,
        /// Datagrams that are neither ESP, IKE nor a keepalive.
        malformed,
        /// Datagrams longer than a buffer.
        truncated,
        /// Datagrams that came without the address that they were sent to, or without a sender.
        unaddressed,
        /// IKE messages handed to the daemon.
        ike_received,
        /// IKE messages dropped because the daemon was behind.
        ike_dropped,
        /// Other events dropped because the daemon was far behind.
        events_dropped,
        /// ESP packets dropped for want of a socket with their source address and port.
        no_socket,
        /// ESP packets dropped: the socket's buffer was full (EAGAIN) and stayed so.
        send_would_block,
        /// ESP packets dropped: the device's queue was full (ENOBUFS, ENOMEM).
        send_no_buffers,
        /// ESP packets dropped: larger than the path's MTU (EMSGSIZE).
        send_too_big,
        /// ESP packets dropped: no route to the peer (ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL).
        send_unreachable,
        /// ESP packets dropped: a firewall or a kernel policy forbids them (EPERM, EACCES).
        send_not_permitted,
        /// ESP packets dropped for another error.
        send_failed,
        /// Errors of reading from sockets.
        receive_failed,
        /// TCP streams opened to peers.
        streams_opened,
        /// TCP streams accepted from peers.
        streams_accepted,
        /// Streams not accepted: there are too many, or too many of the same source.
        streams_refused,
        /// Streams that broke, or were closed because what came over them made no sense.
        streams_lost,
        /// Streams closed because no IKE SA used them.
        streams_unused,
        /// IKE messages and ESP packets received over streams.
        stream_received,
        /// ESP packets sent over streams.
        stream_sent,
        /// ESP packets dropped because there is no such stream now.
        no_stream,
        /// IKE messages and ESP packets dropped because the peer reads its stream too slowly.
        stream_full,
    }
}

/// All counters of the plane at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The kernel's counters under the kernel's names.
    pub xfrm: cygnet_ipsec::Counters,
    /// The core's own.
    pub core: CoreCounters,
    /// Devices and sockets.
    pub io: IoCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_by_name() {
        let counters = CoreCounters {
            held: 3,
            ..CoreCounters::default()
        };
        assert!(counters.iter().any(|entry| entry == ("held", 3)));
        assert_eq!(counters.iter().map(|(_, n)| n).sum::<u64>(), 3);
    }
}
