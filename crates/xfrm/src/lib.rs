//! XFRM netlink: typed messages, requests, dumps and events.
